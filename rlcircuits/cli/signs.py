"""``rlcircuits signs``: what neighbouring studies measure of post-training, on measured pairs or stored rollouts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import DOES_NOT_HOLD, HOLDS, failure_code
from rlcircuits.cli.measured_pairs import (
    add_folder,
    add_measuring_options,
    measure_each,
    measuring_options,
)
from rlcircuits.cli.path_signs import add_path_options, path_signs
from rlcircuits.cli.rollout_signs import rollout_signs
from rlcircuits.cli.streams import log, log_error, shows_progress
from rlcircuits.common.choices import ANSWERED_ANEW
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number

if TYPE_CHECKING:
    from rlcircuits.cli.measured_pairs import PairFolder
    from rlcircuits.common.failures import Failure
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.release.stored_signs import PairSigns


def add_signs(commands: Any) -> None:
    """Add the command."""
    signs = add_command(
        commands,
        "signs",
        _signs,
        "vital signs of a post-trained checkpoint: pass@k, silent groups, formats, lengths, steps, the update's rank, "
        "the likelihood of right answers, …; from a folder that compare --output has written, by measuring a pair "
        "first, from stored rollouts, or along a training's checkpoints; exits with 1 if a gated sign fails",
        resumes_from="output",
    )
    add = signs.add_argument
    add_folder(signs)
    add(
        "--rollouts",
        metavar="FILE",
        help="stored rollouts (JSON lines): the signs that need no model; with --before and --after also the entropy "
        "after each boundary in them",
    )
    add_path_options(signs)
    add("--group", type=int, metavar="G", help="group size of the silent share (default: 8, or n if that is smaller)")
    add("--beta", type=float, metavar="B", help="weight of the training's KL penalty (default: 0)")
    add(
        "--format",
        action="append",
        default=[],
        metavar="NAME=REGEX",
        help="a format of answers, by a regular expression; give it once for each format (default: answers without "
        "their numbers)",
    )
    add("--boundary", metavar="REGEX", help="what ends a step or a tool's result, after which the entropy is measured")
    add("--sibling", metavar="DIR", help="checkpoint trained from before on its own right answers, without RL")
    add("--no-models", action="store_true", help="leave out the signs for which both models are run on the answers")
    add(
        "--answer-anew",
        metavar="LIST",
        help="signs for which the models answer the questions again, separated by commas: hints (12 times as many "
        "answers as one model gave: six kinds of hint, both models), flatness (twice as many for each noise draw), "
        "rank-1 (as many); default: none. Answers are kept in the run's store",
    )
    add(
        "--hints",
        metavar="FILE",
        help="hints (JSON lines with question_id and any of plan, knowledge, subproblem, solution) for --answer-anew "
        "hints; arithmetic and equations have their own",
    )
    add(
        "--gate",
        action="append",
        metavar="SIGN",
        help="a sign that may fail the release; give it once for each, or 'none' (default: accuracy, pass@k, right_up)",
    )
    add("--plot", metavar="FILE.png", help="plot the signs too; one file for each pair")
    add("--json", action="store_true", help="print everything as JSON")
    add_measuring_options(signs)


def _signs(options: argparse.Namespace) -> int:
    from rlcircuits.report.sign_tables import failures_line, signs_json, signs_table
    from rlcircuits.vital_signs.gate import failing_signs

    if options.batch_tokens is not None:
        check_number("batch_tokens", options.batch_tokens, "--batch-tokens")
    if options.plot is not None:
        from rlcircuits.report.figures import check_plot_file

        check_plot_file(options.plot)
    if options.path is not None:
        return path_signs(options, _given(options, without=("plot", "json", "path", "path_steps", "extrapolate")))
    if unused := [name for name in ("path_steps", "extrapolate") if getattr(options, name) is not None]:
        raise RLCircuitsError(f"--{unused[0].replace('_', '-')} is of the checkpoints of --path; leave it out")
    anew, rules = _answered_anew(options), _rules(options)
    if options.rollouts is not None:
        return rollout_signs(options, rules, lambda without: _given(options, without))
    unwritten: list[Failure] = []
    found, failures = measure_each(options, "signs", lambda pair: _measure(pair, options, rules, anew, unwritten))
    failing = failing_signs({one.name: one.signs for one in found}, rules.gate)
    if options.json:
        print(signs_json(found, failing))
    elif found:
        print("\n\n".join([*map(signs_table, found), failures_line(found, failing, rules.gate)]))
    if options.plot is not None:
        _plot(found, options.plot)
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for problem in (*failures, *unwritten):
        log_error(problem.message)
    return failure_code([*failures, *unwritten]) or (DOES_NOT_HOLD if failing else HOLDS)


def _measure(
    pair: PairFolder, options: argparse.Namespace, rules: SignRules, anew: tuple[str, ...], unwritten: list[Failure]
) -> PairSigns:
    from rlcircuits.release.measured_signs import how_to_run, measure_and_save_signs
    from rlcircuits.release.settings import check_noise_for_signs

    how = {"batch_tokens": options.batch_tokens, "device": options.device, "device_map": options.device_map}
    if pair.pair is not None and pair.settings is not None:
        check_noise_for_signs(pair.settings, f"{pair.name}: the settings")  # before it is measured
        how = how_to_run(pair.pair, pair.settings)  # which have the options, and what the pairs file says
    return measure_and_save_signs(
        pair(),
        unwritten,
        rules=rules,
        **how,
        notify=log,
        progress=shows_progress(),
        sibling=options.sibling,
        run_models=not options.no_models,
        answer_anew=anew,
        hint_file=options.hints,
        questions=None if pair.pair is None else pair.pair.questions,
    )


def _answered_anew(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the names in --answer-anew, which the other options must allow."""
    anew = tuple(name.strip() for name in (options.answer_anew or "").split(",") if name.strip())
    for name in anew:
        if name not in ANSWERED_ANEW:
            raise RLCircuitsError(f"--answer-anew: {name!r} is unknown; known: {', '.join(ANSWERED_ANEW)}")
    if options.hints is not None and "hints" not in anew:
        raise RLCircuitsError("--hints is given, and no hint is asked for; add --answer-anew hints, or leave it out")
    if options.hints is not None:
        from rlcircuits.vital_signs.hint_file import read_hints

        read_hints(options.hints)  # a file that cannot be read would waste the pair's measurement
    if anew and options.no_models:
        raise RLCircuitsError("--answer-anew lets the models answer, and --no-models runs none; leave one of them out")
    if anew and options.rollouts is not None:
        raise RLCircuitsError("--answer-anew needs a pair's models, and --rollouts has none; leave one of them out")
    return anew


def _plot(found: list[PairSigns], path: str) -> None:
    from rlcircuits.report.figures import plot_files
    from rlcircuits.report.sign_plots import plot_signs

    for one, file in zip(found, plot_files(path, [one.name for one in found]), strict=True):
        log(f"plot of {one.name}: {plot_signs(one, file)}")


_OWN = (
    "folder",
    "rollouts",
    "group",
    "beta",
    "format",
    "boundary",
    "sibling",
    "no_models",
    "answer_anew",
    "hints",
    "gate",
    "plot",
    "json",
)
"""The command's own arguments, beside those of how a pair is measured."""


def _given(options: argparse.Namespace, without: Sequence[str]) -> list[str]:
    """Return the arguments that were given, but for these."""
    values = {name: getattr(options, name) for name in _OWN if name not in without}
    own = [name for name, value in values.items() if value is not None and value is not False and value != []]
    return [
        *("DIR" if name == "folder" else f"--{name.replace('_', '-')}" for name in own),
        *measuring_options(options, without=without),
    ]


def _rules(options: argparse.Namespace) -> SignRules:
    """Return the rules of the pairs file's ``[signs]``, over which the options go."""
    from rlcircuits.release.pair import validate_table
    from rlcircuits.release.pairs_file import load_pairs_file
    from rlcircuits.release.sign_rules import SignRules

    stated = load_pairs_file(options.pairs).signs if options.pairs else None
    given = {
        "gate": _gate(options),
        "group": options.group,
        "beta": options.beta,
        "formats": _formats(options.format),
        "boundary": options.boundary,
    }
    table = {**(stated or {}), **{key: value for key, value in given.items() if value is not None}}
    return validate_table(SignRules, table, "signs")


def _gate(options: argparse.Namespace) -> list[str] | None:
    given: list[str] | None = options.gate
    if given is not None and "none" in given and given != ["none"]:
        raise RLCircuitsError("--gate none stands alone; leave it out, or the other signs that are gated")
    return [] if given == ["none"] else given


def _formats(formats: list[str]) -> dict[str, str] | None:
    patterns: dict[str, str] = {}
    for text in formats:
        name, found, pattern = text.partition("=")
        if not (found and name and pattern):
            raise RLCircuitsError(f"--format is {text!r}; NAME=REGEX is wanted, such as code='def \\w+'")
        if name in patterns:
            raise RLCircuitsError(f"--format: {name!r} is given twice; each format has one name")
        patterns[name] = pattern
    return patterns or None
