"""``rlcircuits report``: show stored comparisons again, without a model."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import BAD_INPUT, HOLDS
from rlcircuits.cli.remote_output import mirrored_results
from rlcircuits.cli.streams import log, log_error

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.release.stored_signs import PairSigns
    from rlcircuits.report.headline import Headline
    from rlcircuits.report.pools import Pool


def add_report(commands: Any) -> None:
    """Add the command."""
    report = add_command(commands, "report", _report, "show stored comparisons again", urls=("folder", "other"))
    report.add_argument("folder", metavar="DIR", help="output folder or URL of a run, or one pair's folder in it")
    report.add_argument(
        "other", nargs="?", metavar="DIR2", help="another such folder: show how the two differ, on shared questions"
    )
    form = report.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="print what compare --json prints, instead of tables: an object for a pair's folder, a list for a run's",
    )
    form.add_argument("--csv", action="store_true", help="print a line of numbers for each pair and measure instead")
    form.add_argument(
        "--markdown", action="store_true", help="print the outcome and a table of the pairs as Markdown instead"
    )
    report.add_argument("--plot", metavar="FILE.png", help="plot every question too; one file for each pair")
    report.add_argument(
        "--html",
        metavar="FILE.html",
        help="write one page of verdict, effects, edges and answers, and print where it is (with -v the tables too)",
    )
    report.add_argument(
        "--log-to",
        action="append",
        default=[],
        metavar="TRACKER:PLACE",
        help="log each pair as a run of tensorboard:FOLDER, wandb:PROJECT or mlflow:EXPERIMENT too; repeatable",
    )


@dataclass(frozen=True)
class _Results:
    """What a folder of results holds."""

    comparisons: list[Comparison]
    folders: list[Path]
    """Of the comparisons."""
    signs: tuple[PairSigns, ...]
    """Of the pairs of which signs were measured."""
    problems: tuple[str, ...]
    """Why stored signs cannot be shown."""
    unfinished: tuple[str, ...]
    """Names of the pairs that a stopped run left half done."""
    headline: Headline
    of_one_pair: bool
    """Whether the folder is that of one pair."""


def _report(options: argparse.Namespace) -> int:
    with mirrored_results(options, "folder", "other"):
        return _reported(options)


def _reported(options: argparse.Namespace) -> int:
    if options.other is not None:
        from rlcircuits.cli.two_runs import report_two_runs

        return report_two_runs(options)
    if options.plot:
        from rlcircuits.report.figures import check_plot_file

        check_plot_file(options.plot)
    if options.html:
        from rlcircuits.common.files import ensure_writable_file

        ensure_writable_file(options.html, "--html")
    targets = []
    if options.log_to:
        from rlcircuits.report.trackers import log_results, parse_target

        targets = [parse_target(text) for text in options.log_to]
    found = _read(options.folder)
    if (text := _as_data(found, options)) is not None:
        print(text, end="")
    elif options.verbose or not options.html:
        _print_tables(found)
    say = print if text is None else log  # standard output is the data's alone
    if options.plot:
        from rlcircuits.report.figures import plot_files
        from rlcircuits.report.plots import plot_comparison

        files = plot_files(options.plot, [comparison.name for comparison in found.comparisons])
        for comparison, file in zip(found.comparisons, files, strict=True):
            say(f"plot of {comparison.name}: {plot_comparison(comparison, file)}")
    if options.html:
        from rlcircuits.report.page.write import write_page

        say(f"page: {write_page(found.comparisons, options.html, found.unfinished, found.signs, found.folders)}")
    for target in targets:
        log_results(target, found.comparisons, _markdown(found))
        say(f"logged to {target.tracker}: {target.place}")
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for problem in found.problems:
        log_error(problem)
    return BAD_INPUT if found.problems else HOLDS


def _markdown(found: _Results) -> str:
    from rlcircuits.report.markdown import summary_markdown
    from rlcircuits.report.variants import first_variants

    unfinished = dict.fromkeys(found.unfinished, "was not finished")
    return summary_markdown(found.headline, first_variants(found.comparisons), unfinished, _pools(found))


def _pools(found: _Results) -> list[Pool]:
    from rlcircuits.report.pools import stored_pools

    return stored_pools(found.comparisons, found.folders)


def _read(folder: str) -> _Results:
    from rlcircuits.comparison.storage import check_names, find_comparisons, find_unfinished, load_comparison
    from rlcircuits.release.stored_signs import find_signs
    from rlcircuits.report.headline import make_headline
    from rlcircuits.report.variants import first_variants

    paths = find_comparisons(folder)
    comparisons = [load_comparison(path) for path in paths]
    check_names(comparisons, paths)
    unfinished = tuple(path.name for path in find_unfinished(folder))
    headline = make_headline(first_variants(comparisons), unfinished=unfinished)
    of_one_pair = paths[0].parent == Path(folder)
    folders = [path.parent for path in paths]
    return _Results(comparisons, folders, *find_signs(folders), unfinished, headline, of_one_pair)


def _as_data(found: _Results, options: argparse.Namespace) -> str | None:
    """Return the results in the form that an option names; None for the tables."""
    if options.json:
        from rlcircuits.report.release_json import release_json
        from rlcircuits.report.variants import group_variants

        return release_json(
            group_variants(found.comparisons), found.unfinished, _pools(found), as_list=not found.of_one_pair
        )
    if options.csv:
        from rlcircuits.report.measure_rows import rows_as_csv

        return rows_as_csv(found.comparisons)
    return _markdown(found) if options.markdown else None


def _print_tables(found: _Results) -> None:
    from rlcircuits.report.sign_tables import signs_table
    from rlcircuits.report.terminal import detail, summary_table, variants_table
    from rlcircuits.report.variants import group_variants

    print(*found.headline.lines, "", summary_table(found.comparisons), sep="\n")
    for comparison in found.comparisons:
        print(f"\n{comparison.name}\n{detail(comparison)}")
    for variants in group_variants(found.comparisons):
        if len(variants) > 1:
            print(f"\n{variants[0].name}, by whose answers are scored\n{variants_table(variants)}")
    for pool in _pools(found):
        print("", *pool.lines, sep="\n")
    for signs in found.signs:
        print(f"\n{signs_table(signs)}")
    print(f"\n{found.headline.line}")
