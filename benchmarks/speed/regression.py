"""Compare stored benchmark results by their ratios: to the floor, to a copy, to a matrix product.

    python benchmarks/speed/regression.py BASELINE NEW --margin 0.15

BASELINE and NEW are files that pytest-benchmark stored (``--benchmark-save``, ``--benchmark-json``), or folders of
them, of which each benchmark's latest result counts. Absolute times are never compared: they move with what else a
machine does, ratios within one run hardly. Exits with 0 if no ratio got worse by more than the margin, 1 if one did,
and 2 if there is nothing to compare with: a baseline or a result that is missing, unreadable, or of another device.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

# The ratios that benchmarks put into ``extra_info``, and whether a larger one is worse.
LARGER_IS_WORSE = {"ratio": True, "peak_memory_ratio": True, "flop_utilisation": False, "bandwidth_share": False}
DEFAULT_MARGIN = 0.15


class Unusable(Exception):
    """There is nothing to compare with; the message says what was looked for."""


@dataclass(frozen=True)
class Change:
    """One ratio of one benchmark, before and now. worse: by what share it got worse; negative if it got better."""

    benchmark: str
    measure: str
    before: float
    now: float

    @property
    def worse(self) -> float:
        """By what share of the baseline the ratio got worse."""
        change = (self.now - self.before) / self.before
        return change if LARGER_IS_WORSE[self.measure] else -change


def read(place: Path) -> dict[str, dict[str, Any]]:
    """Read each benchmark's ``extra_info``, by its file's name and its own: files may move to other folders.

    Raises Unusable for no, damaged or empty results.
    """
    files = sorted(place.rglob("*.json")) if place.is_dir() else [place]
    if not files:
        raise Unusable(f"{place} holds no stored result")
    runs = sorted((_read_run(file) for file in files), key=lambda run: str(run["datetime"]))
    found = {b["fullname"].rpartition("/")[2]: b["extra_info"] for run in runs for b in run["benchmarks"]}
    if not found:
        raise Unusable(f"{place} holds no benchmark")
    return found


def _read_run(file: Path) -> dict[str, Any]:
    try:
        run = json.loads(file.read_text())
        for benchmark in run["benchmarks"]:
            if not isinstance(benchmark["fullname"], str) or not isinstance(benchmark["extra_info"], dict):
                raise TypeError("benchmarks have a fullname and an extra_info")
        return {"datetime": run["datetime"], "benchmarks": run["benchmarks"]}
    except (OSError, ValueError) as error:
        raise Unusable(f"{file} cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise Unusable(f"{file} is no result of pytest-benchmark: {error}") from error


def changes(baseline: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> list[Change]:
    """Every ratio of the baseline and of the new results, which must be of the same benchmarks on the same device.

    Raises Unusable where a benchmark or a ratio is on one side only, is no positive number, or where devices differ.
    """
    for here, there, what in ((new, baseline, "the baseline"), (baseline, new, "the new result")):
        missing = sorted(here.keys() - there.keys())
        if missing:
            raise Unusable(f"{what} lacks {', '.join(missing)}")
    found = []
    for benchmark in sorted(baseline):
        before, now = baseline[benchmark], new[benchmark]
        if before.get("device") != now.get("device"):
            raise Unusable(f"{benchmark} ran on {before.get('device')!r} before and on {now.get('device')!r} now")
        measures = [m for m in LARGER_IS_WORSE if m in before or m in now]
        if not measures:
            raise Unusable(f"{benchmark} has none of {', '.join(LARGER_IS_WORSE)}")
        for measure in measures:
            ratios = [_ratio(info, benchmark, measure, side) for info, side in ((before, "before"), (now, "now"))]
            found.append(Change(benchmark, measure, *ratios))
    return found


def _ratio(info: dict[str, Any], benchmark: str, measure: str, side: str) -> float:
    value = info.get(measure)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise Unusable(f"{benchmark} has {measure} = {value!r} {side}; a positive number is needed")
    return float(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print every ratio, and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare stored benchmark results by their ratios.")
    parser.add_argument("baseline", type=Path, help="a stored result, or a folder of them")
    parser.add_argument("new", type=Path, help="the result to judge, or a folder")
    parser.add_argument("--margin", type=float, default=DEFAULT_MARGIN, help="by what share a ratio may get worse")
    options = parser.parse_args(arguments)
    if not 0 <= options.margin < 1:
        parser.error(f"--margin is {options.margin}; it is a share from 0 to 1")
    try:
        compared = changes(read(options.baseline), read(options.new))
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [
        [c.benchmark.rpartition("::")[2], c.measure, c.before, c.now, f"{c.worse:+.1%}", _verdict(c, options.margin)]
        for c in compared
    ]
    print(tabulate(rows, headers=["benchmark", "measure", "before", "now", "worse by", ""]))
    return int(any(c.worse > options.margin for c in compared))


def _verdict(change: Change, margin: float) -> str:
    return "REGRESSION" if change.worse > margin else "ok"


if __name__ == "__main__":
    sys.exit(main())
