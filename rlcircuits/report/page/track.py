"""The page of a tracked run: where it stands, every measure along the steps, and a table of the steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.track import Track, TrackedStep
from rlcircuits.report.headline import make_headline
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.page.line_chart import Chart, make_chart
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.numbers import percent, points
from rlcircuits.report.page.release import Verdict, make_verdict
from rlcircuits.report.page.whole_page import fill_page, save_page
from rlcircuits.report.track_curves import measure_curves, sign_curves
from rlcircuits.report.track_table import trouble_of

__all__ = ["track_html", "write_track_page"]

_SCRIPTS = ("page.js", "tables.js")


@dataclass(frozen=True)
class StepRow:
    """One step in the table."""

    step: int
    checkpoint: str
    mark: Mark
    words: str
    accuracy: str
    numbers: tuple[tuple[str, float], ...]
    """The change of accuracy in points and of the metrics in percent, each with what it sorts by."""
    compared: int
    signs: str


def write_track_page(track: Track, path: str | Path) -> Path:
    """Write the page of a run of which one step at least was measured, and return the file's path."""
    return save_page(track_html(track), path)


def track_html(track: Track) -> str:
    """Return the page as HTML; see :func:`write_track_page`."""
    last = track.steps[-1]
    rows = [_row(each) for each in track.steps]
    return fill_page(
        "track.html.jinja",
        _SCRIPTS,
        base=track.base,
        last=last.step,
        verdict=_verdict(last),
        counts=_counts(track),
        measures=[make_chart(curve, track.base_step) for curve in measure_curves(track)],
        signs=_sign_charts(track, judged=True),
        reported=_sign_charts(track, judged=False),
        rows=rows,
        unmeasured=track.unmeasured,
        about=_about(last.comparison),
        folder=str(last.folder),
    )


def _verdict(last: TrackedStep) -> Verdict:
    return make_verdict(make_headline([last.comparison]))


def _counts(track: Track) -> str:
    found = Counter(judge(each.comparison).outcome for each in track.steps)
    return ", ".join(f"{count} × {outcome}" for outcome, count in found.items())


def _sign_charts(track: Track, *, judged: bool) -> list[Chart]:
    return [make_chart(curve, track.base_step) for curve in sign_curves(track) if curve.is_judged is judged]


def _row(step: TrackedStep) -> StepRow:
    comparison = step.comparison
    verdict = judge(comparison)
    change = comparison.accuracy.after - comparison.accuracy.before
    moved = [comparison.effects[metric].change for metric in (*GATE_METRICS, "loss")]
    return StepRow(
        step=step.step,
        checkpoint=comparison.after,
        mark=mark_of(verdict.outcome),
        words=verdict_words(verdict),
        accuracy=f"{comparison.accuracy.after:.3f}",
        numbers=((points(change), change), *((percent(each), each) for each in moved)),
        compared=comparison.k,
        signs="not measured" if step.signs is None else ", ".join(trouble_of(step)) or "none",
    )


def _about(comparison: Comparison) -> list[tuple[str, str]]:
    sampling = ", ".join(f"{name} = {value}" for name, value in comparison.sampling.items())
    return [
        ("base", comparison.before),
        ("algorithm, profile", f"{comparison.algorithm or 'none stated'}, held against {comparison.profile}"),
        ("questions", f"{comparison.questions} ({comparison.split}), {comparison.accuracy.asked:,} asked"),
        ("engine", comparison.engine),
        ("sampling", sampling),
        ("graph", comparison.granularity),
    ]
