"""Measure the vital signs of the pairs of ``rlcircuits compare``, if their file has a table ``[signs]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.common.failures import Failure
    from rlcircuits.common.files import Notify
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.report.gated_signs import GatedSigns


def check_signs_output(file: PairsFile, output: str | None) -> None:
    """Raise RLCircuitsError if signs are asked for, and there is no folder of results that they are read from."""
    if file.signs is not None and output is None:
        raise RLCircuitsError(
            f"{file.path}: [signs] is given, and signs are read from the results' folder; give --output DIR, or take "
            "the table [signs] away"
        )


def measure_gated_signs(
    file: PairsFile, pairs: Sequence[Pair], settings: Settings, output: str | None, notify: Notify = log
) -> GatedSigns | None:
    """Return the signs of measured pairs, or None if their file has no table ``[signs]``.

    Args:
        file: the pairs file.
        pairs: those of its pairs that were measured.
        settings: how.
        output: the run's output folder.
        notify: called with one line of text for each stage.
    """
    if file.signs is None or output is None:
        return None
    from rlcircuits.release.measured_signs import try_to_measure_signs
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.report.gated_signs import judge_gated_signs

    rules = SignRules.model_validate(file.signs)
    problems: list[Failure] = []
    how = {"rules": rules, "notify": notify, "progress": shows_progress()}
    measured = [try_to_measure_signs(pair, settings, output, problems, **how) for pair in pairs]
    return judge_gated_signs([signs for signs in measured if signs is not None], problems, rules)
