"""The progress bar of every long step: on stderr, so that results on stdout stay clean."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn


def progress_bar(shown: bool, *more: ProgressColumn) -> Progress:
    """A bar with what is done, how much of how many, the time left, and ``more``; nothing if not ``shown``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *more,
        console=Console(stderr=True),
        disable=not shown,
        transient=True,
    )
