"""``rlcircuits compare``: measure pairs of checkpoints and judge them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command, add_only, add_options, settings_table
from rlcircuits.cli.exit_codes import BAD_INPUT, DOES_NOT_HOLD, HOLDS, INCONCLUSIVE, failure_code
from rlcircuits.cli.gated_signs import check_signs_output, measure_gated_signs
from rlcircuits.cli.ray_connection import ray_connection
from rlcircuits.cli.remote_output import mirrored_output
from rlcircuits.cli.streams import log, log_error, shows_progress
from rlcircuits.common import defaults
from rlcircuits.common.choices import SCORE_ON
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count
from rlcircuits.common.stage_times import record_stages, stage
from rlcircuits.release.options import find_option, options_in

if TYPE_CHECKING:
    from rlcircuits.common.choices import OnInconclusive
    from rlcircuits.common.failures import Failure
    from rlcircuits.common.files import Notify
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.report.gated_signs import GatedSigns
    from rlcircuits.report.headline import Headline
    from rlcircuits.report.pools import Pool
    from rlcircuits.runners.ray_runner import RayRun

_ALL = "all"
"""Value of ``--score-on`` that measures a pair once with each of the other values."""


def add_compare(commands: Any) -> None:
    """Add the command."""
    compare = add_command(
        commands,
        "compare",
        _compare,
        "measure pairs and judge them as one release; exits with 0 if it holds, 1 if it does not, 3 if it is "
        "inconclusive (see --on-inconclusive), 2 if bad input or the environment kept a pair from being measured, 70 "
        "if a fault of rlcircuits did",
        resumes_from="output",
        urls=("output",),
    )
    score_on = find_option("score_on", "settings")
    changes = {"score_on": {"help": f"{score_on.help}; {_ALL}: each of them, with one table of all"}}
    add_options(
        compare, "files", "report", "pair", "comparison", "answers", "scoring", "model", "runner", changes=changes
    )
    add_only(compare)
    compare.add_argument(
        "--circuits",
        action="store_true",
        help="measure and report the circuits of both checkpoints too, as an empty table [circuits] of a pairs file",
    )
    compare.add_argument(
        "--stage-times",
        action="store_true",
        help="print where the time went at the end, by stage (with --json on stderr); each pair's run.json has it too",
    )
    compare.add_argument(
        "--json",
        action="store_true",
        help="print one pair's comparison, verdict and release outcome as JSON, or a list of those of several",
    )


def _compare(options: argparse.Namespace) -> int:
    from rlcircuits.report.stage_table import stage_table

    if options.stage_times and options.ray is not None:
        raise RLCircuitsError("--stage-times is of this process, and with --ray others do the work; leave one out")
    with record_stages(options.stage_times) as times:
        code = _compare_pairs(options)
    if times is not None:
        print(f"\n{stage_table(times.table())}", file=sys.stderr if options.json else sys.stdout)
    return code


def _compare_pairs(options: argparse.Namespace) -> int:
    if options.ray is not None and options.output is None:
        raise RLCircuitsError("--ray needs --output DIR: the folder through which its workers give their results")
    if options.ray is not None and options.score_on == _ALL:
        raise RLCircuitsError("--ray measures one choice of --score-on, and 'all' was given; name one")
    with mirrored_output(options), ray_connection(options):
        return _compared(options)


def _compared(options: argparse.Namespace) -> int:
    from rlcircuits.common.files import ensure_output_folder, ensure_writable_file
    from rlcircuits.release.toy_notice import pair_notice

    all_variants = options.score_on == _ALL
    if all_variants:
        options.score_on = None
    file = pairs_of(options)
    settings = file.make_settings(settings_table(options))
    check_signs_output(file, options.output)
    if options.output is not None:
        ensure_output_folder(options.output, "--output")
    if options.mirror is not None:
        options.mirror.fetch_results(_result_names(file, all_variants))
    if options.summary is not None:
        ensure_writable_file(options.summary, "--summary")
    for notice in dict.fromkeys(pair_notice(pair, settings.trust_remote_code) for pair in file.pairs):
        if notice is not None:
            log(notice)
    measured, failures = measure_pairs(file, settings, options, all_variants)
    with stage("statistics"):
        headline = headline_of(file, measured, failures) if measured else None
    with stage("report"):
        return _report(file, settings, options, measured, failures, headline, all_variants)


def _report(
    file: PairsFile,
    settings: Settings,
    options: argparse.Namespace,
    measured: Sequence[tuple[Comparison, ...]],
    failures: Mapping[str, Failure],
    headline: Headline | None,
    all_variants: bool,
) -> int:
    """Print what was measured. Return the exit code."""
    from rlcircuits.report.release_json import release_json

    names = {variants[0].name for variants in measured}
    with stage("signs"):
        signs = measure_gated_signs(file, [pair for pair in file.pairs if pair.name in names], settings, options.output)
    # The arguments decide whether JSON is a list, so that a pair that fails does not change the form of the output.
    if options.json:
        pools = _pools(file, measured)
        as_list = all_variants or len(file.pairs) > 1
        print(release_json(measured, tuple(failures), pools, as_list, signs), end="")
        if signs is not None:
            log(signs.line)  # the exit code may come from it
    elif headline is not None:
        if signs is not None and signs.failing:
            print(signs.line)
        _print_tables(headline, measured, _pools(file, measured), with_variants=all_variants)
        if signs is not None:
            print(f"\n{signs.tables}")
    if options.summary is not None:
        _write_summary(options.summary, headline, measured, failures, _pools(file, measured), signs)
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for name, failure in failures.items():
        log_error(f"pair {name!r}: {failure.message}")
    for problem in () if signs is None else signs.problems:
        log_error(problem.message)
    if headline is None or headline.outcome is None:
        return failure_code(failures.values()) or BAD_INPUT
    code = outcome_code(headline, options.on_inconclusive or defaults.ON_INCONCLUSIVE)
    return code if signs is None else _with_signs(code, signs)


def measure_pairs(
    file: PairsFile, settings: Settings, options: argparse.Namespace, all_variants: bool, notify: Notify = log
) -> tuple[list[tuple[Comparison, ...]], dict[str, Failure]]:
    """Return each pair's comparison, or those of all variants, and by its name why another pair has none."""
    from rlcircuits.common.failures import describe_failure
    from rlcircuits.comparison.verdict import judge
    from rlcircuits.release.finished import of_pair_just_measured
    from rlcircuits.release.run import SAME_CHECKPOINT, run_pair, run_variants

    how = {"output": options.output, "notify": notify, "progress": shows_progress()}
    measured: list[tuple[Comparison, ...]] = []
    failures: dict[str, Failure] = {}
    with _runner(file, settings, options, notify) as runner:
        for pair in file.pairs:
            try:
                if runner is not None:
                    how["notify"] = of_pair_just_measured(notify) if runner.finish(pair) else notify
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", SAME_CHECKPOINT)  # the log says it
                    if all_variants:
                        variants = run_variants(pair, settings, **how)
                    else:
                        variants = (run_pair(pair, settings, **how),)
                with stage("statistics"):
                    judge(variants[0])
                measured.append(variants)
            except BrokenPipeError:  # the reader of the messages has gone
                raise
            except Exception as error:  # the other pairs are measured all the same
                failures[pair.name] = describe_failure(error, options.output)
    return measured, failures


def _result_names(file: PairsFile, all_variants: bool) -> list[str]:
    """Return the names of the pairs' folders of results."""
    variants = [f"-on-{choice}" for choice in SCORE_ON if choice != "own"] if all_variants else []
    return [f"{pair.name}{variant}" for pair in file.pairs for variant in ("", *variants)]


def _runner(
    file: PairsFile, settings: Settings, options: argparse.Namespace, notify: Notify
) -> AbstractContextManager[RayRun | None]:
    """Return what does the stages of the pairs elsewhere; None where this process does them."""
    if options.ray is None:
        return nullcontext()
    from rlcircuits.runners.ray_runner import RayRun

    how = {"address": options.ray, "gpus": options.ray_gpus, "notify": notify, "mirror": options.mirror}
    return RayRun(file.pairs, settings, Path(options.output), **how)


def _with_signs(code: int, signs: GatedSigns) -> int:
    """Return the exit code of a release whose gated signs may fail it, or may not have been measured."""
    return failure_code(signs.problems) or (DOES_NOT_HOLD if signs.failing else code)


def headline_of(
    file: PairsFile, measured: Sequence[tuple[Comparison, ...]], failures: Mapping[str, Failure]
) -> Headline:
    """Return the outcome of the pairs of a file, one of which was measured at least."""
    from rlcircuits.report.headline import make_headline

    known = {pair.name: tuple(pair.does_not_hold) for pair in file.pairs}
    # The first variant scores each model on its own answers, as in the paper: that is the pair's verdict.
    return make_headline([variants[0] for variants in measured], tuple(failures), known)


def _pools(file: PairsFile, measured: Sequence[tuple[Comparison, ...]]) -> list[Pool]:
    from rlcircuits.report.pools import make_pools

    return make_pools([variants[0] for variants in measured], file.pools)


def _write_summary(
    path: str,
    headline: Headline | None,
    measured: Sequence[tuple[Comparison, ...]],
    failures: Mapping[str, Failure],
    pools: Sequence[Pool],
    signs: GatedSigns | None,
) -> None:
    from rlcircuits.report.markdown import summary_markdown, write_summary

    comparisons = [variants[0] for variants in measured]
    messages = {name: failure.message for name, failure in failures.items()}
    write_summary(summary_markdown(headline, comparisons, messages, pools, signs), path)


def outcome_code(headline: Headline, on_inconclusive: OnInconclusive) -> int:
    """Return the exit code of a release whose pairs were all measured; warn if the user wants a warning."""
    if headline.outcome != "inconclusive":
        return HOLDS if headline.outcome == "holds" else DOES_NOT_HOLD
    if on_inconclusive == "warn":
        log_error(f"warning: {headline.line}")
    return INCONCLUSIVE if on_inconclusive == "fail" else HOLDS


def _print_tables(
    headline: Headline, measured: Sequence[tuple[Comparison, ...]], pools: Sequence[Pool], with_variants: bool
) -> None:
    from rlcircuits.report.terminal import detail, summary_table, variants_table

    comparisons = [comparison for variants in measured for comparison in variants]
    print(*headline.lines, "", summary_table(comparisons), sep="\n")
    for comparison in comparisons:
        print(f"\n{comparison.name}\n{detail(comparison)}")
    for variants in measured if with_variants else []:
        print(f"\n{variants[0].name}, by whose answers are scored\n{variants_table(variants)}")
    for pool in pools:
        print("", *pool.lines, sep="\n")
    print(f"\n{headline.line}")


def pairs_of(options: argparse.Namespace) -> PairsFile:
    """Return the pairs of ``--pairs``, or the one pair of ``--before`` and ``--after``."""
    from rlcircuits.release.pair import make_pair, pair_name
    from rlcircuits.release.pairs_file import PairsFile, load_pairs_file, resolve_checkpoint

    given = {option: getattr(options, option.dest) for option in options_in("pair") if option.group}
    given = {option: value for option, value in given.items() if value}
    if options.pairs:
        if given:
            first = next(iter(given)).flag
            raise RLCircuitsError(f"--pairs and --{first} were both given; a pairs file says it of each pair")
        return _with_circuits(_chosen(load_pairs_file(options.pairs), options.only), options)
    if options.only:
        raise RLCircuitsError("--only was given without --pairs FILE.toml, of which it chooses pairs")
    if not options.before or not options.after:
        raise RLCircuitsError("compare needs --before and --after, or --pairs FILE.toml")
    fields = {option.name: value for option, value in given.items()}
    fields["name"] = options.name or pair_name(options.before, options.after)
    for name in ("before", "after", "reference", "control"):
        if name in fields:
            fields[name] = resolve_checkpoint(fields[name], Path(), f"--{name}")
    return _with_circuits(PairsFile((make_pair(**fields),)), options)


def _chosen(file: PairsFile, patterns: Sequence[str] | None) -> PairsFile:
    """Return the pairs that ``--only`` chooses, and say that they are not the whole release."""
    chosen = file.only(patterns)
    if len(chosen.pairs) < len(file.pairs):
        log(f"{len(chosen.pairs)} of the {format_count(len(file.pairs), 'pair')} of {file.path}, chosen by --only")
    return chosen


def _with_circuits(file: PairsFile, options: argparse.Namespace) -> PairsFile:
    """Return the pairs, which with ``--circuits`` all have their circuits measured."""
    if not getattr(options, "circuits", False):
        return file
    from rlcircuits.release.circuit_rules import CircuitRules

    pairs = [pair.model_copy(update={"circuits": pair.circuits or CircuitRules()}) for pair in file.pairs]
    return replace(file, pairs=tuple(pairs))
