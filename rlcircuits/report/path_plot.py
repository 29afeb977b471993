"""Plot how straight a training's path is, beside random walks. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.report.figures import check_ending, new_figure, save_figure, set_title
from rlcircuits.vital_signs.sign import Sign

__all__ = ["plot_path"]


@validate_arguments
def plot_path(sign: Sign, before: str, path: str | Path) -> Path:
    """Plot the R² of a path and of its random walks on one axis.

    Args:
        sign: what :func:`~rlcircuits.vital_signs.training_path.linearity` returned.
        before: the checkpoint before the training, for the title.
        path: the file to write, ending in .png, .pdf or .svg.

    Returns:
        The file's path.

    Raises:
        RLCircuitsError: matplotlib is not installed, or the file has another ending.
    """
    path = Path(path)
    check_ending(path)
    figure = new_figure(8.0, 2.5)
    axes = figure.subplots()
    axes.plot(sign.noise, [0.0] * len(sign.noise), "|", color="0.4", markersize=22, label="random walks")
    if sign.change is not None:
        axes.plot([sign.change], [0.0], "D", color="tab:orange", markersize=9, label="the path")
    axes.axvline(1, color="0.7", linewidth=1, linestyle="--", label="a straight line")
    axes.set(xlabel="R² of checkpoints that were left out", yticks=[], ylim=(-1, 1))
    axes.margins(x=0.08)
    axes.legend(fontsize="small", loc="upper left", markerscale=0.5)
    set_title(figure, f"{before}: linearity")
    return save_figure(figure, path)
