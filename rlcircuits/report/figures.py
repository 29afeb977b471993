"""Make and save matplotlib figures, without pyplot. Needs matplotlib (the ``plots`` extra)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_file, safe_file_name, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENDINGS",
    "check_ending",
    "check_plot_file",
    "new_figure",
    "plot_files",
    "save_figure",
    "set_title",
]

DPI = 150
_CHARACTERS_AN_INCH = 9
"""Characters of a title that an inch has room for."""

ENDINGS = (".png", ".pdf", ".svg")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches. Raises RLCircuitsError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise RLCircuitsError("plots need matplotlib: pip install 'rlcircuits[plots]'") from None
    # Not through pyplot, which has global state and may need a display.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str) -> None:
    """Write a title above a figure, in as many lines as its width needs."""
    width = max(20, int(_CHARACTERS_AN_INCH * figure.get_figwidth()))
    figure.suptitle(textwrap.fill(title, width), parse_math=False)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure to a file whose ending :func:`check_ending` allows, and return the file's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower().removeprefix(".")
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=DPI, format=ending))
    return path


def check_ending(path: Path) -> None:
    """Raise RLCircuitsError unless the file ends in one of :data:`ENDINGS`."""
    if path.suffix.lower() not in ENDINGS:
        raise RLCircuitsError(f"{path}: a plot's file must end in one of {', '.join(ENDINGS)}")


def check_plot_file(path: str) -> None:
    """Raise RLCircuitsError unless ``--plot`` names a file that a plot can be written to."""
    check_ending(Path(path))
    ensure_writable_file(path, "--plot")


def plot_files(path: str, names: Sequence[str]) -> list[Path]:
    """Return the plot's file of each pair: the one that ``--plot`` names, or of several pairs one with each's name."""
    file = Path(path)
    if len(names) == 1:
        return [file]
    return [file.with_stem(f"{file.stem}-{safe_file_name(name)}") for name in names]
