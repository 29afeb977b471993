"""``rlcircuits report``: show stored comparisons again, without a model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import BAD_INPUT, HOLDS
from rlcircuits.cli.streams import log_error


def add_report(commands: Any) -> None:
    """Add the command."""
    report = add_command(commands, "report", _report, "show stored comparisons again")
    report.add_argument("folder", metavar="DIR", help="output folder of a run, or one pair's folder in it")
    report.add_argument("--plot", metavar="FILE.png", help="plot every question too; one file for each pair")
    report.add_argument("--html", metavar="FILE.html", help="write a page with the tables and plots too")


def _report(options: argparse.Namespace) -> int:
    from rlcircuits.common.files import ensure_writable_file
    from rlcircuits.comparison.storage import find_comparisons, find_unfinished, load_comparison
    from rlcircuits.release.stored_signs import find_signs
    from rlcircuits.report.headline import make_headline
    from rlcircuits.report.sign_tables import signs_table
    from rlcircuits.report.terminal import detail, summary_table, variants_table
    from rlcircuits.report.variants import first_variants, group_variants

    if options.plot:
        from rlcircuits.report.figures import check_plot_file

        check_plot_file(options.plot)
    if options.html:
        ensure_writable_file(options.html, "--html")
    paths = find_comparisons(options.folder)
    comparisons = [load_comparison(path) for path in paths]
    signs, problems = find_signs([path.parent for path in paths])
    unfinished = [path.name for path in find_unfinished(options.folder)]
    headline = make_headline(first_variants(comparisons), unfinished=unfinished)
    print(*headline.lines, "", summary_table(comparisons), sep="\n")
    for comparison in comparisons:
        print(f"\n{comparison.name}\n{detail(comparison)}")
    for variants in group_variants(comparisons):
        if len(variants) > 1:
            print(f"\n{variants[0].name}, by whose answers are scored\n{variants_table(variants)}")
    for found in signs:
        print(f"\n{signs_table(found)}")
    print(f"\n{headline.line}")
    if options.plot:
        from rlcircuits.report.figures import plot_files
        from rlcircuits.report.plots import plot_comparison

        files = plot_files(options.plot, [comparison.name for comparison in comparisons])
        for comparison, file in zip(comparisons, files, strict=True):
            print(f"plot of {comparison.name}: {plot_comparison(comparison, file)}")
    if options.html:
        from rlcircuits.report.html import write_page

        print(f"page: {write_page(comparisons, options.html, unfinished, signs)}")
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for problem in problems:
        log_error(problem)
    return BAD_INPUT if problems else HOLDS
