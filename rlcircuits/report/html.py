"""Write a self-contained HTML page: the outcome, the table of all pairs, each pair's details and plot.

Needs matplotlib.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rlcircuits.common.files import write_text_atomically
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.headline import make_headline
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.plots import plot_png
from rlcircuits.report.sign_plots import signs_png
from rlcircuits.report.sign_tables import signs_table
from rlcircuits.report.terminal import detail, summary_table
from rlcircuits.report.variants import first_variants

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.8rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: 0.85rem; }
img { max-width: 100%; }
"""


def write_page(
    comparisons: Sequence[Comparison],
    path: str | Path,
    unfinished: Sequence[str] = (),
    signs: Sequence[PairSigns] = (),
) -> Path:
    """Write the page, pictures included, and replace an older file atomically.

    Args:
        comparisons: what to show, in this order.
        path: the file to write; its folder is created if it does not exist.
        unfinished: names of the pairs that were not finished, which leave the release without an outcome.
        signs: the vital signs of pairs for which they were measured.

    Returns:
        The file's path.

    Raises:
        RLCircuitsError: matplotlib is not installed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_html(comparisons, unfinished, signs)
    write_text_atomically(path, text)
    return path


def to_html(comparisons: Sequence[Comparison], unfinished: Sequence[str] = (), signs: Sequence[PairSigns] = ()) -> str:
    """Return the page as HTML; see :func:`write_page`."""
    headline = make_headline(first_variants(comparisons), unfinished=unfinished)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>rlcircuits</title>',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>rlcircuits</h1>",
        f"<pre>{escape(chr(10).join(headline.lines))}</pre>",
        # Not escaped here, because tabulate escapes its cells.
        summary_table(comparisons, tablefmt="html"),
    ]
    for comparison in comparisons:
        verdict = judge(comparison)
        asserted = [finding.message for finding in verdict.all_findings.values() if finding.holds is not None]
        parts += [
            f"<h2>{escape(comparison.name)}: {escape(verdict_words(verdict))}</h2>",
            _picture(plot_png(comparison), f"{comparison.name}, question by question"),
            f"<pre>{escape(detail(comparison))}</pre>",
            f"<pre>{escape(chr(10).join(asserted))}</pre>",
        ]
    for one in signs:
        parts += [
            f"<h2>{escape(one.name)}: vital signs</h2>",
            _picture(signs_png(one), f"{one.name}, vital signs"),
            f"<pre>{escape(signs_table(one))}</pre>",
        ]
    return "\n".join([*parts, "</body></html>", ""])


def _picture(png: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
