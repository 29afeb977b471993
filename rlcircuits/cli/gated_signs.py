"""Measure the vital signs of the pairs of ``rlcircuits compare``, if their file has a table ``[signs]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.common.failures import Failure
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.release.stored_signs import PairSigns
    from rlcircuits.report.gated_signs import GatedSigns


def check_signs_output(file: PairsFile, output: str | None) -> None:
    """Raise RLCircuitsError if signs are asked for, and there is no folder of results that they are read from."""
    if file.signs is not None and output is None:
        raise RLCircuitsError(
            f"{file.path}: [signs] is given, and signs are read from the results' folder; give --output DIR, or take "
            "the table [signs] away"
        )


def measure_gated_signs(
    file: PairsFile, pairs: Sequence[Pair], settings: Settings, output: str | None
) -> GatedSigns | None:
    """Return the signs of measured pairs, or None if their file has no table ``[signs]``.

    Args:
        file: the pairs file.
        pairs: those of its pairs that were measured.
        settings: how.
        output: the run's output folder.
    """
    if file.signs is None or output is None:
        return None
    from rlcircuits.common.failures import describe_failure
    from rlcircuits.release.measured_signs import how_to_run, measure_and_save_signs
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.report.gated_signs import judge_gated_signs

    rules = SignRules.model_validate(file.signs)
    how = {"rules": rules, "notify": log, "progress": shows_progress()}
    found: list[PairSigns] = []
    problems: list[Failure] = []
    for pair in pairs:
        try:
            folder = Path(output) / pair.name
            found.append(measure_and_save_signs(folder, problems, **how, **how_to_run(pair, settings)))
        except BrokenPipeError:  # the reader of the messages has gone
            raise
        except Exception as error:  # the pairs' verdicts, and the other pairs' signs, are told all the same
            problems.append(describe_failure(error, output).of(f"signs of {pair.name!r}"))
    return judge_gated_signs(found, problems, rules)
