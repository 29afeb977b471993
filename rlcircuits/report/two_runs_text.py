"""Write how two runs differ: as tables in the terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict

from tabulate import tabulate

from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.comparison.significance import format_p
from rlcircuits.report.markdown import escape_markdown
from rlcircuits.report.terminal import format_share
from rlcircuits.report.two_runs import MeasureDifference, PairDifference, RunDifference

__all__ = ["changes_line", "differences_json", "differences_markdown", "differences_text", "measure_cells"]

HEADERS = ("measure", "first → second", "difference", "p", "corrected", "shared", "changed")

_SAME = "the two hold the same results"


def differences_text(found: RunDifference) -> str:
    """Return the tables that the terminal shows."""
    lines = [f"first:  {found.first}", f"second: {found.second}", *_outcomes(found), changes_line(found)]
    for pair in found.pairs:
        lines += ["", *_pair_lines(pair)]
        if not pair.same:
            rows = [measure_cells(measure) for measure in pair.measures]
            lines += [*(f"  {each}" for each in pair.differs), tabulate(rows, HEADERS, disable_numparse=True)]
            lines += list(_notes(pair))
    return "\n".join([*lines, *_unmatched(found)])


def differences_markdown(found: RunDifference) -> str:
    """Return the same as GitHub's Markdown, with all that comes from outside escaped."""
    blocks = [
        f"### rlcircuits: {escape_markdown(changes_line(found))}",
        f"first: {escape_markdown(found.first)}, second: {escape_markdown(found.second)}",
        *(f"**{escape_markdown(line)}**" for line in _outcomes(found)),
    ]
    for pair in found.pairs:
        blocks.append("\n".join(escape_markdown(line) for line in _pair_lines(pair)))
        if pair.same:
            continue
        rows = [[escape_markdown(cell) for cell in measure_cells(measure)] for measure in pair.measures]
        if pair.differs:
            blocks.append("\n".join(f"- {escape_markdown(each)}" for each in pair.differs))
        blocks.append(tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True))
        blocks += [escape_markdown(note) for note in _notes(pair)]
    return "\n\n".join([*blocks, *(escape_markdown(line) for line in _unmatched(found) if line)]) + "\n"


def differences_json(found: RunDifference) -> str:
    """Return the same as a JSON document, with NaN as null; its schema is ``differences``."""
    return json.dumps(without_nan(asdict(found)), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def changes_line(found: RunDifference) -> str:
    """Return in one line what changed."""
    if found.same:
        return _SAME
    changed = [
        f"{measure.label} of {pair.first}" if len(found.pairs) > 1 else measure.label
        for pair in found.pairs
        for measure in pair.measures
        if measure.changed
    ]
    return f"changed: {', '.join(changed)}" if changed else "no measure clearly changed"


def measure_cells(measure: MeasureDifference) -> tuple[str, ...]:
    """Return one measure's row of a table."""
    if measure.measure == ACCURACY:
        values = f"{measure.first:.3f} → {measure.second:.3f}"
    else:
        values = f"{format_share(measure.first) or 'undefined'} → {format_share(measure.second) or 'undefined'}"
    if measure.not_compared is not None:
        return measure.label, values, "not compared", "", "", "", ""
    unit = "points" if measure.measure == ACCURACY else "% of before"
    difference = f"{measure.difference:+.1f} {unit} [{measure.low:+.1f}, {measure.high:+.1f}]"
    tests = format_p(measure.p), format_p(measure.p_corrected)
    return measure.label, values, difference, *tests, str(measure.questions), _direction(measure)


def _direction(measure: MeasureDifference) -> str:
    if not measure.changed or math.isnan(measure.difference):
        return "no clear change"
    return "higher" if measure.difference > 0 else "lower"


def _outcomes(found: RunDifference) -> Iterator[str]:
    before, after = (outcome or "no verdict" for outcome in found.outcomes)
    yield f"outcome: {before} → {after}" if before != after else f"outcome of both: {before}"


def _pair_lines(pair: PairDifference) -> Iterator[str]:
    name = pair.first if pair.first == pair.second else f"{pair.first} → {pair.second}"
    if pair.same:
        yield f"{name}: the same in both ({pair.words[0]})"
    elif pair.words[0] == pair.words[1]:
        yield f"{name}: {pair.words[0]} in both"
    else:
        yield f"{name}: {pair.words[0]} → {pair.words[1]}"


def _notes(pair: PairDifference) -> Iterator[str]:
    """Yield why measures could not be compared, and which vital signs have other outcomes."""
    whys: dict[str, list[str]] = {}
    for measure in pair.measures:
        if measure.not_compared is not None:
            whys.setdefault(measure.not_compared, []).append(measure.label)
    for why, labels in whys.items():
        yield f"not compared, {', '.join(labels)}: {why}"
    for name, before, after in pair.signs:
        yield f"vital sign {name}: {before} → {after}"


def _unmatched(found: RunDifference) -> Iterator[str]:
    for where, names in (("first", found.only_in_first), ("second", found.only_in_second)):
        if names:
            yield ""
            yield f"only in the {where}: {', '.join(names)}"
