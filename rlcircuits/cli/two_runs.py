"""``rlcircuits report A B``: two output folders side by side."""

from __future__ import annotations

import argparse
import sys

from rlcircuits.cli.exit_codes import BAD_INPUT, HOLDS
from rlcircuits.cli.streams import log, log_error
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["report_two_runs"]

_OF_ONE_RUN = ("csv", "plot", "log_to")


def report_two_runs(options: argparse.Namespace) -> int:
    """Print how two runs differ, write what was asked for, and return the exit code.

    Args:
        options: the options of ``rlcircuits report``, with the second folder in ``other``.

    Raises:
        RLCircuitsError: as :func:`rlcircuits.report.two_runs.compare_runs`, or an option is of one run only.
    """
    from rlcircuits.report.two_runs import compare_runs
    from rlcircuits.report.two_runs_text import differences_json, differences_markdown, differences_text

    if unused := [f"--{name.replace('_', '-')}" for name in _OF_ONE_RUN if getattr(options, name)]:
        raise RLCircuitsError(f"{', '.join(unused)}: of one folder only, and two were given; leave it out")
    if options.html:
        from rlcircuits.common.files import ensure_writable_file

        ensure_writable_file(options.html, "--html")
    found = compare_runs(options.folder, options.other)
    if options.json or options.markdown:
        print(differences_json(found) if options.json else differences_markdown(found), end="")
    else:
        print(differences_text(found))
    if options.html:
        from rlcircuits.report.page.two_runs import write_two_runs_page

        say = log if options.json or options.markdown else print  # standard output is the data's alone
        say(f"page: {write_two_runs_page(found, options.html)}")
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for problem in found.problems:
        log_error(problem)
    return BAD_INPUT if found.problems else HOLDS
