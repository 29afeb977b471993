"""``rlcircuits verify``: recompute stored results, and say what agrees."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import BAD_INPUT, DOES_NOT_HOLD, HOLDS
from rlcircuits.cli.streams import log_error
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number

if TYPE_CHECKING:
    from rlcircuits.release.verification import Verification


def add_verify(commands: Any) -> None:
    """Add the command."""
    verify = add_command(
        commands,
        "verify",
        _verify,
        "recompute a run's numbers and verdicts from its answers and scores; exits with 0 if all agree, 1 if something "
        "differs, 2 if a file cannot be read or a check that was asked for cannot be made",
    )
    verify.add_argument("folder", metavar="DIR", help="output folder of a run, or one pair's folder in it")
    verify.add_argument(
        "--models",
        action="store_true",
        help="also compare the checkpoints' files with the fingerprints in the run's store, and decode the answers "
        "again; loads no weights",
    )
    verify.add_argument(
        "--regrade", action="store_true", help="also grade the answers again, if the question set needs no file"
    )
    verify.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the sample of K questions (default: the usual one, or one below 1000 that gives this sample)",
    )
    verify.add_argument("--json", action="store_true", help="print every check and every difference as JSON")


def _verify(options: argparse.Namespace) -> int:
    from rlcircuits.comparison.storage import find_comparisons
    from rlcircuits.release.verification import verify_pair

    if options.seed is not None:
        check_number("seed", options.seed, "--seed")
    found, problems = [], []
    for path in find_comparisons(options.folder):
        try:
            found.append(verify_pair(path.parent, models=options.models, regrade=options.regrade, seed=options.seed))
        except RLCircuitsError as error:  # the other pairs are verified all the same
            problems.append(str(error))
    problems += [
        f"pair {one.name!r}: {check.part} not checked: {check.words}" for one in found for check in one.missing
    ]
    if options.json:
        print(_json(found))
    elif found:
        print(_table(found))
    for problem in problems:
        log_error(problem)
    if problems:
        return BAD_INPUT
    return HOLDS if all(one.agrees for one in found) else DOES_NOT_HOLD


def _json(found: Sequence[Verification]) -> str:
    pairs = [
        {
            "name": one.name,
            "folder": str(one.folder),
            "agrees": one.agrees,
            "checks": [asdict(check) for check in one.checks],
            "taken": list(one.taken),
        }
        for one in found
    ]
    document = {"format": "rlcircuits-verification", "version": 1, "pairs": pairs}
    return json.dumps(document, indent=1)


def _table(found: Sequence[Verification]) -> str:
    from tabulate import SEPARATING_LINE, tabulate

    rows: list[list[str] | str] = []
    for one in found:
        rows += [SEPARATING_LINE] if rows else []
        for place, check in enumerate(one.checks):
            rows.append(["" if place else one.name, check.part, check.agreement, check.words])
    table = tabulate(rows, ("pair", "part", "result", "what was compared"), disable_numparse=True)
    taken = dict.fromkeys(", ".join(field.removeprefix("comparison.") for field in one.taken) for one in found)
    notes = [f"taken from comparison.json, since nothing else says it: {fields}" for fields in taken]
    return "\n".join([table, "", *notes, _summary(found)])


def _summary(found: Sequence[Verification]) -> str:
    differing = [one.name for one in found if not one.agrees]
    if differing:
        return f"something differs: {', '.join(differing)}"
    if any(check.agreement == "rounding" for one in found for check in one.checks):
        return "everything that was recomputed agrees, but for rounding"
    return "everything that was recomputed agrees, bit by bit"
