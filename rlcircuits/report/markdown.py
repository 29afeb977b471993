"""Write a release's outcome as Markdown: for a CI job's summary and a pull request's comment.

The outcome, why, and what to do next come first, then a table with one row for each pair, then a fold with every
measure. The text is GitHub's Markdown, which GitLab reads too. All that comes from outside (names, paths, notes,
errors) is escaped, so that it can neither break the table nor mention a person.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import AccuracyEffect, Effect
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.headline import Headline
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.pools import Pool
from rlcircuits.report.terminal import arrow, format_change, format_points, summary_table

if TYPE_CHECKING:
    from rlcircuits.report.gated_signs import GatedSigns

__all__ = ["escape_markdown", "summary_markdown", "write_summary"]

_MARKS: Mapping[Outcome | None, str] = {"holds": "✅", "does not hold": "❌", "inconclusive": "❔", None: "⚠️"}
"""A mark for each outcome, beside its words: a reviewer finds it in a long list of checks."""

_NO_PAIR = "no pair was measured"

_SPECIAL = re.compile(r"[\\`*_~|\[\]$]|(?<=:)//|(?<=www)\.", re.I)
"""What Markdown may read as markup, a formula, or the start of a link."""

_MENTION = re.compile(r"([@#])")


def summary_markdown(
    headline: Headline | None,
    comparisons: Sequence[Comparison],
    failures: Mapping[str, str] | None = None,
    pools: Sequence[Pool] = (),
    signs: GatedSigns | None = None,
) -> str:
    """Return the outcome of a release as Markdown.

    Args:
        headline: what the release is judged as; None if no pair could be measured.
        comparisons: the pairs that were measured, of each its first variant.
        failures: why other pairs could not be measured, by the pair's name.
        pools: effects that are pooled over pairs.
        signs: the pairs' vital signs; None if none is gated.
    """
    failures = failures or {}
    outcome = None if headline is None else headline.outcome
    blocks = [f"### {_MARKS[outcome]} rlcircuits: {outcome or 'no verdict'}"]
    if signs is not None and (signs.failing or signs.problems):
        words = "vital signs fail" if signs.failing else "vital signs not measured"
        mark = _MARKS["does not hold" if signs.failing else None]
        blocks = [f"### {mark} rlcircuits: {words}; outcome of the pairs: {outcome or 'none'}"]
        said = [*([signs.line] if signs.failing else []), *(problem.message for problem in signs.problems)]
        blocks += [f"**Signs:** {escape_markdown(line)}" for line in said]
    if headline is not None:
        blocks += [f"**Why:** {escape_markdown(headline.why)}", f"**Next:** {escape_markdown(headline.next_step)}"]
    elif not failures:
        blocks.append(f"**Why:** {_NO_PAIR}")
    if comparisons or failures:
        blocks.append(_table(comparisons, failures))
    notes = [(one.name, one.note) for one in comparisons if one.note] + list(failures.items())
    if notes:
        blocks.append("\n".join(f"- **{escape_markdown(name)}**: {escape_markdown(note)}" for name, note in notes))
    if comparisons:
        blocks.append(_fold(comparisons, pools))
    return "\n\n".join(blocks) + "\n"


def write_summary(text: str, path: str | Path) -> Path:
    """Write a summary, and replace an older file atomically.

    The file that the variable ``GITHUB_STEP_SUMMARY`` names is added to instead: other commands of the step write it.

    Returns:
        The file's path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if str(path) == os.environ.get("GITHUB_STEP_SUMMARY"):
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    else:
        write_text_atomically(path, text)
    return path


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it stands, on one line: in a table's cell, a list, or a paragraph.

    GitHub looks for mentions and references after Markdown is read, so an invisible space follows each ``@`` and ``#``.
    """
    one_line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    plain = _SPECIAL.sub(lambda found: "".join(f"&#{ord(each)};" for each in found[0]), escape(one_line, quote=False))
    return _MENTION.sub("\\1\u200b", plain.replace("&#", "\0")).replace("\0", "&#")


def _table(comparisons: Sequence[Comparison], failures: Mapping[str, str]) -> str:
    headers = ("pair", "verdict", "accuracy", *GATE_METRICS, "questions")
    rows = [_row(comparison) for comparison in comparisons]
    rows += [[name, f"{_MARKS[None]} could not be measured", *[""] * (len(headers) - 2)] for name in failures]
    cells = [[escape_markdown(cell) for cell in row] for row in rows]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)


def _row(comparison: Comparison) -> list[str]:
    verdict = judge(comparison)
    moved = [_moved(comparison.effects[metric]) for metric in GATE_METRICS]
    asked = f"{comparison.k} of {comparison.accuracy.asked}"
    words = f"{_MARKS[verdict.outcome]} {verdict_words(verdict)}"
    return [comparison.name, words, _accuracy(comparison.accuracy), *moved, asked]


def _accuracy(effect: AccuracyEffect) -> str:
    both = arrow(effect.before, effect.after, ".3f")
    change = format_points(effect.after - effect.before, "points")
    return f"{both} ({change})" if change else both


def _moved(effect: Effect) -> str:
    if math.isnan(effect.before):
        return "not measured"
    change = format_change(effect.before, effect.after)
    return arrow(effect.before, effect.after) + (f" ({change})" if change else "")


def _fold(comparisons: Sequence[Comparison], pools: Sequence[Pool]) -> str:
    """Return every measure of every pair as the terminal shows it, which a reader opens with a click."""
    text = "\n".join([summary_table(comparisons), *(line for pool in pools for line in ("", *pool.lines))])
    title = f"Every measure of {format_count(len(comparisons), 'pair')}"
    return f"<details><summary>{title}</summary>\n\n<pre>\n{escape(text, quote=False)}\n</pre>\n\n</details>"
