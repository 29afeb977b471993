"""``rlcircuits verify``: recompute stored results, and say what agrees."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import BAD_INPUT, DOES_NOT_HOLD, HOLDS
from rlcircuits.cli.remote_output import mirrored_results
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
        "recompute a run's numbers and verdicts from its answers and scores; exits with 0 if every verdict is "
        "verified, 1 if something differs or a verdict depends on numbers that cannot be recomputed (as without the "
        "run's store), 2 if a file cannot be read, a pair was not finished, or a check cannot be made that was asked "
        "for",
        urls=("folder",),
    )
    verify.add_argument("folder", metavar="DIR", help="output folder or URL of a run, or one pair's folder in it")
    verify.add_argument(
        "--models",
        action="store_true",
        help="also compare the checkpoints' files with the fingerprints in the run's store and with what is said of "
        "their weights, and decode the answers again; runs no model",
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
    with mirrored_results(options, "folder", whole=True):
        return _verified(options)


def _verified(options: argparse.Namespace) -> int:
    from rlcircuits.release.pair_folders import find_pair_folders, left_out_controls
    from rlcircuits.release.verification import verify_pair

    if options.seed is not None:
        check_number("seed", options.seed, "--seed")
    found: dict[Path, Verification | RLCircuitsError] = {}
    for folder in find_pair_folders(options.folder):
        try:
            found[folder] = verify_pair(folder, models=options.models, regrade=options.regrade, seed=options.seed)
        except RLCircuitsError as error:  # the other pairs are verified all the same
            found[folder] = error
    left_out = left_out_controls(options.folder)
    verified = [one for one in found.values() if not isinstance(one, RLCircuitsError)]
    if options.json:
        print(_json(found, left_out))
    else:
        if verified:
            print(_table(verified))
        for folder, why in left_out.items():
            print(f"{folder}: left out, since {why}; give this folder to verify it")
    # One damaged file of the store may concern several pairs.
    problems = list(dict.fromkeys(str(one) for one in found.values() if isinstance(one, RLCircuitsError)))
    if missing := [f"{check.part} of {one.name}" for one in verified for check in one.missing]:
        problems.append(f"asked for, and cannot be checked for the reason given above: {', '.join(missing)}")
    for problem in problems:
        log_error(problem)
    if problems:
        return BAD_INPUT
    return HOLDS if all(one.verified for one in verified) else DOES_NOT_HOLD


def _json(found: Mapping[Path, Verification | RLCircuitsError], left_out: Mapping[Path, str]) -> str:
    document = {
        "format": "rlcircuits-verification",
        "version": 1,
        "pairs": [_pair(folder, one) for folder, one in found.items()],
        "left_out": [{"folder": str(folder), "why": why} for folder, why in left_out.items()],
    }
    return json.dumps(document, indent=1)


def _pair(folder: Path, one: Verification | RLCircuitsError) -> dict[str, object]:
    from rlcircuits.release.pair_folders import pair_name

    if isinstance(one, RLCircuitsError):
        return {"name": pair_name(folder), "folder": str(folder), "error": str(one), "verified": False}
    return {
        "name": one.name,
        "folder": str(one.folder),
        "error": None,
        "verified": one.verified,
        "agrees": one.agrees,
        "outcome": one.outcome,
        "possible": list(one.possible),
        "checks": [asdict(check) for check in one.checks],
        "taken": list(one.taken),
        "unchecked": list(one.unchecked),
    }


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
    return "\n".join([table, "", *notes, *_summary(found)])


def _summary(found: Sequence[Verification]) -> list[str]:
    """Return what came of it, in one line for each thing to know."""
    lines = []
    if differing := [one.name for one in found if not one.agrees]:
        lines.append(f"something differs: {', '.join(differing)}")
    if unverified := [one for one in found if one.agrees and not one.verified]:
        names = ", ".join(one.name for one in unverified)
        lines.append(f"verdict not verified, since it depends on what is not checked: {names}")
        lines += [f"  {one.name}: {_not_checked(one) or 'verdict'}" for one in unverified]
        lines.append("  to verify it, put the run's folder store beside the pair's folder, or measure the pair again")
    if verified := [one for one in found if one.verified]:
        rounding = any(check.agreement == "rounding" for one in verified for check in one.checks)
        names = "" if len(verified) == len(found) else f" of {', '.join(one.name for one in verified)}"
        lines.append(
            f"everything that was recomputed{names} agrees, {'but for rounding' if rounding else 'bit by bit'}"
        )
        beside = dict.fromkeys(_not_checked(one) for one in verified)
        lines += [f"not checked, which the verdict does not depend on: {parts}" for parts in beside if parts]
    return lines


def _not_checked(one: Verification) -> str:
    return ", ".join(check.part for check in one.unverified if check.part != "verdict")
