"""Plot the three metrics question by question, before against after. Needs matplotlib (the ``plots`` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.comparison.comparison import LABELS, Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.figures import check_ending, new_figure, save_figure
from rlcircuits.report.outcome_words import finding_words, verdict_words
from rlcircuits.report.terminal import format_change

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (12.0, 4.8)


@validate_arguments
def plot_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Plot a comparison: one panel for each metric, one point for each question.

    On points above the diagonal the metric rose. The crosshair is the mean.

    Args:
        comparison: what to plot.
        path: the file to write, ending in .png, .pdf or .svg; its folder is created if it does not exist.

    Returns:
        The file's path.

    Raises:
        RLCircuitsError: matplotlib is not installed, or the file has another ending.
    """
    path = Path(path)
    check_ending(path)
    return save_figure(_figure(comparison), path)


def _figure(comparison: Comparison) -> Figure:
    figure = new_figure(*SIZE_INCHES)
    verdict = judge(comparison)
    panels: Any = figure.subplots(1, len(GATE_METRICS))
    for axes, metric in zip(panels, GATE_METRICS, strict=True):
        _panel(axes, comparison, metric, finding_words(verdict, verdict.findings[metric]))
    asked = f"{comparison.k} questions" + (f" of {comparison.n} answers" if comparison.n > 1 else "")
    title = f"{comparison.name} ({comparison.algorithm}), {asked}: {verdict_words(verdict)}"
    figure.suptitle(title, parse_math=False)
    return figure


def _panel(axes: Axes, comparison: Comparison, metric: str, words: str) -> None:
    effect = comparison.effects[metric]
    x, y = np.array(effect.before_values), np.array(effect.after_values)
    defined = np.isfinite(x) & np.isfinite(y)
    x, y = x[defined], y[defined]
    rose = y > x
    axes.scatter(x[rose], y[rose], s=12, alpha=0.6, color="tab:red", label=f"rose ({rose.sum()})")
    axes.scatter(x[~rose], y[~rose], s=12, alpha=0.6, color="tab:blue", label=f"did not ({(~rose).sum()})")
    both = np.concatenate([x, y])
    if both.size and np.ptp(both):
        # Both axes have one range, so that the diagonal means no change.
        margin = 0.05 * float(np.ptp(both))
        limits = (float(both.min()) - margin, float(both.max()) + margin)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.plot(limits, limits, color="0.5", linewidth=1, zorder=0)
    axes.plot(effect.before, effect.after, marker="+", markersize=16, markeredgewidth=2, color="black")
    axes.set_title(
        f"{LABELS[metric]}\n{format_change(effect.before, effect.after)}: {words}", fontsize="medium", parse_math=False
    )
    axes.set_xlabel("before")
    axes.set_ylabel("after")
    axes.legend(fontsize="small")
