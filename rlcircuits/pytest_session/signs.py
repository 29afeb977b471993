"""The vital signs of a session's pairs, if their file has a table ``[signs]``.

The signs of a pair are measured once the pair is, by the process that measured it, and kept in its folder of results.
They are judged at the end of the session, over all pairs together, as ``rlcircuits compare`` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcircuits.common.failures import Failure
    from rlcircuits.pytest_session.workers import SharedFolder
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.release.stored_signs import PairSigns
    from rlcircuits.report.gated_signs import GatedSigns


class SessionSigns:
    """The signs of the pairs that were measured, and why others have none."""

    def __init__(self) -> None:
        self._found: dict[str, PairSigns] = {}
        self._problems: dict[str, list[Failure]] = {}

    def measure(
        self, pair: Pair, file: PairsFile, settings: Settings, output: Path, shared: SharedFolder | None, **how: Any
    ) -> None:
        """Measure the signs of a measured pair; do nothing if its file has no table ``[signs]``.

        Args:
            pair: the pair.
            file: its pairs file.
            settings: how it was measured.
            output: the run's output folder.
            shared: what the workers of pytest-xdist share; None without them.
            how: further arguments of :func:`~rlcircuits.release.pair_signs.measure_pair_signs`.
        """
        if file.signs is None:
            return
        from rlcircuits.release.measured_signs import try_to_measure_signs
        from rlcircuits.release.sign_rules import SignRules

        rules = SignRules.model_validate(file.signs)
        problems = self._problems[pair.name] = []
        signs = try_to_measure_signs(pair, settings, output, problems, rules=rules, **how)
        if signs is not None:
            self._found[pair.name] = signs
        if shared is not None:
            shared.record_signs(pair.name, problems)

    def read(self, pair: Pair, file: PairsFile, output: Path, shared: SharedFolder) -> None:
        """Read the signs of a pair that another worker has measured."""
        if file.signs is None or pair.name in self._problems:
            return
        from rlcircuits.common.failures import describe_failure
        from rlcircuits.release.stored_signs import load_signs

        problems = self._problems[pair.name] = shared.problems_of_signs(pair.name)
        if not problems:
            try:
                self._found[pair.name] = load_signs(output / pair.name)
            except Exception as error:
                problems.append(describe_failure(error, output).of(f"signs of {pair.name!r}"))

    def judge(self, file: PairsFile, names: Iterable[str]) -> GatedSigns | None:
        """Return what the signs of these pairs mean for the release; None if their file has no table ``[signs]``."""
        if file.signs is None:
            return None
        from rlcircuits.release.sign_rules import SignRules
        from rlcircuits.report.gated_signs import judge_gated_signs

        names = list(names)
        found = [self._found[name] for name in names if name in self._found]
        problems = [problem for name in names for problem in self._problems.get(name, ())]
        return judge_gated_signs(found, problems, SignRules.model_validate(file.signs))
