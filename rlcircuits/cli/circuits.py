"""``rlcircuits circuits``: find the circuits of measured pairs, remove the other edges, and compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import BAD_INPUT, HOLDS, failure_code
from rlcircuits.cli.measured_pairs import add_folder, add_measuring_options, measure_each
from rlcircuits.cli.streams import log, log_error, shows_progress
from rlcircuits.common.choices import ABLATIONS
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number

if TYPE_CHECKING:
    from rlcircuits.release.pair_circuits import PairCircuits


def add_circuits(commands: Any) -> None:
    """Add the command."""
    circuits = add_command(
        commands,
        "circuits",
        _circuits,
        "find the circuits of both checkpoints of a pair, remove all other edges, and say what changed; from a folder "
        "that compare --output has written, or by measuring a pair first",
        resumes_from="output",
    )
    add = circuits.add_argument
    add_folder(circuits)
    add(
        "--ablation",
        choices=ABLATIONS,
        default="mean",
        help="what replaces a removed edge: zero, its writer's mean output, that at each position, or its output on "
        "another question of the same lengths, by which circuits are then found too (default: mean)",
    )
    add("--judged", type=int, default=200, metavar="N", help="most sequences circuits are judged on (default: 200)")
    add("--random-draws", type=int, default=20, metavar="N", help="random circuits of each size (default: 20)")
    add(
        "--resamples",
        type=int,
        metavar="N",
        help="resamplings of the questions (default: 1000, and fewer on a graph of more than 268,000 edges)",
    )
    add("--edges", type=int, default=20, metavar="N", help="how many changed edges are listed (default: 20)")
    add("--save-circuits", metavar="DIR", help="folder that each checkpoint's smallest faithful circuit is written to")
    add("--json", action="store_true", help="print everything as JSON")
    add_measuring_options(circuits)


def _circuits(options: argparse.Namespace) -> int:
    from rlcircuits.common.files import ensure_writable_folder
    from rlcircuits.report.circuit_tables import circuit_tables, circuits_json

    for name in ("judged", "resamples", "edges"):
        if getattr(options, name) is not None:
            check_number("question_count", getattr(options, name), f"--{name}")
    if options.random_draws:
        check_number("question_count", options.random_draws, "--random-draws")
    if options.batch_tokens is not None:
        check_number("batch_tokens", options.batch_tokens, "--batch-tokens")
    if options.save_circuits is not None:
        ensure_writable_folder(options.save_circuits, "--save-circuits")
    found, failures = measure_each(options, "circuits", lambda pair: _measure(pair(), options), needs_ids=True)
    if options.json:
        print(circuits_json(found))
    elif found:
        print("\n\n".join(circuit_tables(one, options.edges) for one in found))
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    problems = [failure.message for failure in failures]
    if options.save_circuits is not None:
        problems += _save(found, Path(options.save_circuits))
    for problem in problems:
        log_error(problem)
    return failure_code(failures) or (BAD_INPUT if problems else HOLDS)


def _save(found: Iterable[PairCircuits], folder: Path) -> list[str]:
    """Write the circuits, and return what went wrong: the disk may have become full since."""
    from rlcircuits.common.files import safe_file_name

    problems = []
    for one in found:
        for side, circuits in one.sides.items():
            try:
                circuits.circuit.save(folder / f"{safe_file_name(one.name, side)}.circuit.json")
            except RLCircuitsError as error:
                problems.append(f"--save-circuits: {error}")
    return problems


def _measure(folder: Path, options: argparse.Namespace) -> PairCircuits:
    from rlcircuits.release.pair_circuits import measure_pair_circuits

    return measure_pair_circuits(
        folder,
        options.ablation,
        judged=options.judged,
        random_draws=options.random_draws,
        resamples=options.resamples,
        batch_tokens=options.batch_tokens,
        device=options.device,
        device_map=options.device_map,
        notify=log,
        progress=shows_progress(),
    )
