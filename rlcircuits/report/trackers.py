"""Log results where a team keeps those of its runs: TensorBoard, or Weights & Biases. Each is an extra of the package.

A pair becomes one run, with its numbers as scalars ``measure/column`` (the columns of ``rlcircuits report --csv``),
what was compared as its configuration, and the summary in Markdown as a text. To add a tracker, write a function like
`_log_to_tensorboard`, and name it in `TRACKERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.files import ensure_writable_folder, safe_file_name
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.report.measure_rows import MeasureRow, measure_rows

__all__ = ["TRACKERS", "PairRun", "Target", "log_results", "parse_target"]

_COLUMNS = ("before", "after", "change", "low", "high", "noise_change", "rose_on", "p")


@dataclass(frozen=True)
class PairRun:
    """What a tracker keeps of one pair."""

    name: str
    config: Mapping[str, str | int]
    numbers: Mapping[str, float]
    """By ``measure/column``; without what was not measured."""
    summary: str
    """The release's outcome as Markdown."""


def _log_to_tensorboard(place: str, run: PairRun) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _not_installed("tensorboard") from None
    folder = ensure_writable_folder(Path(place) / safe_file_name(run.name), "--log-to tensorboard")
    with SummaryWriter(log_dir=str(folder)) as writer:
        for name, value in run.numbers.items():
            writer.add_scalar(name, value, global_step=0)
        for name, text in {**run.config, "summary": run.summary}.items():
            writer.add_text(name, str(text), global_step=0)


def _log_to_wandb(place: str, run: PairRun) -> None:
    try:
        import wandb
    except ImportError:
        raise _not_installed("wandb") from None
    try:
        with wandb.init(project=place, name=run.name, config=dict(run.config), notes=run.summary) as kept:
            kept.log(dict(run.numbers))
    except wandb.errors.Error as error:
        raise RLCircuitsError(
            f"--log-to wandb:{place}: {one_line(error)}; log in with `wandb login`, or set WANDB_MODE=offline"
        ) from None


TRACKERS: Mapping[str, tuple[Callable[[str, PairRun], None], str]] = {
    "tensorboard": (_log_to_tensorboard, "a folder"),
    "wandb": (_log_to_wandb, "a project"),
}
"""By name, what logs one run, and what the place after the colon is."""


@dataclass(frozen=True)
class Target:
    """A tracker, and where in it results go."""

    tracker: str
    place: str


def parse_target(text: str) -> Target:
    """Return the target that ``NAME:PLACE`` names.

    Raises:
        RLCircuitsError: there is no such tracker, or the place is missing.
    """
    tracker, _, place = text.partition(":")
    if tracker not in TRACKERS or not place.strip():
        known = " or ".join(f"{name}:{what.split()[-1].upper()}" for name, (_, what) in TRACKERS.items())
        raise RLCircuitsError(f"--log-to is {truncated_repr(text)}; {known} is wanted")
    return Target(tracker, place)


def log_results(target: Target, comparisons: Sequence[Comparison], summary: str) -> None:
    """Log a run for each pair.

    Args:
        target: where to.
        comparisons: the pairs.
        summary: the release's outcome as Markdown.

    Raises:
        RLCircuitsError: the tracker's package is not installed, or it refuses the run.
    """
    log, _ = TRACKERS[target.tracker]
    for comparison in comparisons:
        log(target.place, _make_run(comparison, summary))


def _make_run(comparison: Comparison, summary: str) -> PairRun:
    rows = measure_rows(comparison)
    config: dict[str, str | int] = {
        "before": comparison.before,
        "after": comparison.after,
        "algorithm": comparison.algorithm,
        "profile": comparison.profile,
        "questions": comparison.questions,
        "granularity": comparison.granularity,
        "compared": comparison.k,
        "verdict": rows[0].verdict,
    }
    return PairRun(comparison.name, config, _numbers(rows), summary)


def _numbers(rows: Sequence[MeasureRow]) -> dict[str, float]:
    values = {f"{row.measure}/{column}": float(getattr(row, column)) for row in rows for column in _COLUMNS}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _not_installed(package: str) -> RLCircuitsError:
    return RLCircuitsError(
        f"--log-to {package} needs {package}, which is not installed: pip install 'rlcircuits[{package}]'"
    )
