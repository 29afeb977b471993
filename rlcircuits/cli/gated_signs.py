"""Measure the vital signs of measured pairs, in ``rlcircuits compare`` those of a file with a table ``[signs]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.streams import log
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    import argparse

    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.release.stored_signs import PairSigns


@dataclass(frozen=True)
class GatedSigns:
    """Signs of the pairs that were measured."""

    found: tuple[PairSigns, ...]
    failing: tuple[tuple[str, str], ...]
    """The pair and the name of each sign that fails the release."""
    line: str
    """What fails, in one line."""
    problems: tuple[str, ...]
    """Why pairs have no signs."""

    @property
    def tables(self) -> str:
        """Return the tables of all pairs, and below them what fails."""
        from rlcircuits.report.sign_tables import signs_table

        return "\n\n".join([*map(signs_table, self.found), f"signs: {self.line}"])


def measure_signs(
    folder: Path, rules: SignRules, options: argparse.Namespace, problems: list[str], **more: Any
) -> PairSigns:
    """Measure the signs of a pair, write them to its folder of results, and return them.

    Args:
        folder: the pair's folder of results.
        rules: how signs are measured and judged.
        options: the options of a command that measures pairs.
        problems: gets a line if they cannot be written; they are returned all the same.
        more: further arguments of :func:`~rlcircuits.release.pair_signs.measure_pair_signs`.
    """
    from rlcircuits.release.pair_signs import measure_pair_signs
    from rlcircuits.release.stored_signs import SIGNS_FILE, save_signs

    found = measure_pair_signs(
        folder,
        rules=rules,
        batch_tokens=options.batch_tokens,
        device=options.device,
        device_map=options.device_map,
        notify=log,
        progress=sys.stderr.isatty(),
        **more,
    )
    try:
        save_signs(found, folder)
    except OSError as error:
        problems.append(f"{folder / SIGNS_FILE}: cannot be written: {error.strerror or error}")
    return found


def check_signs_output(file: PairsFile, output: str | None) -> None:
    """Raise RLCircuitsError if signs are asked for, and there is no folder of results that they are read from."""
    if file.signs is not None and output is None:
        raise RLCircuitsError(
            f"{file.path}: [signs] is given, and signs are read from the results' folder; give --output DIR, or take "
            "the table [signs] away"
        )


def measure_gated_signs(file: PairsFile, names: Sequence[str], options: argparse.Namespace) -> GatedSigns | None:
    """Return the signs of the pairs with these names, or None if the file has no table ``[signs]``."""
    if file.signs is None:
        return None
    from rlcircuits.common.failures import describe_failure
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.report.sign_tables import failures_line
    from rlcircuits.vital_signs.gate import failing_signs

    rules = SignRules.model_validate(file.signs)
    found: list[PairSigns] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(measure_signs(Path(options.output) / name, rules, options, problems))
        except BrokenPipeError:  # the reader of the messages has gone
            raise
        except Exception as error:  # the pairs' verdicts, and the other pairs' signs, are told all the same
            problems.append(f"signs of {name!r}: {describe_failure(error, options.output).message}")
    failing = failing_signs({one.name: one.signs for one in found}, rules.gate)
    return GatedSigns(tuple(found), tuple(failing), failures_line(found, failing, rules.gate), tuple(problems))
