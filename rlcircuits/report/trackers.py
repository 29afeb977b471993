"""Log results where a team keeps those of its runs: TensorBoard, Weights & Biases, MLflow. Each is an extra.

A pair becomes one run, with its numbers as scalars ``measure/column`` (the columns of ``rlcircuits report --csv``),
what was compared as its configuration, and the summary in Markdown as a text. Logging the same results again leaves one
run of them in TensorBoard and MLflow, and makes a second run in Weights & Biases. To add a tracker, write a function
like `_log_to_tensorboard`, and name it in `TRACKERS`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
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

    @property
    def key(self) -> str:
        """Return a hash of the content, which is the same when the same results are logged again."""
        content = [self.name, dict(self.config), dict(self.numbers), self.summary]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_OWN = ".rlcircuits"
"""Ending of the event files of this module, of which TensorBoard would show each beside the others."""


def _log_to_tensorboard(place: str, run: PairRun) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _not_installed("tensorboard") from None
    folder = ensure_writable_folder(Path(place) / safe_file_name(run.name), "--log-to tensorboard")
    older = list(folder.glob(f"events.out.tfevents.*{_OWN}"))
    with SummaryWriter(log_dir=str(folder), filename_suffix=_OWN) as writer:
        for name, value in run.numbers.items():
            writer.add_scalar(name, value, global_step=0)
        for name, text in {**run.config, "summary": run.summary}.items():
            writer.add_text(name, str(text), global_step=0)
    for file in older:
        file.unlink()


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


def _log_to_mlflow(place: str, run: PairRun) -> None:
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise _not_installed("mlflow") from None
    try:
        client = MlflowClient()  # of MLFLOW_TRACKING_URI
        known = client.get_experiment_by_name(place)
        experiment = client.create_experiment(place) if known is None else known.experiment_id
        # The key is of this module's own making, and holds no quote.
        if client.search_runs([experiment], f"tags.`{_KEY}` = '{run.key}' and attributes.status = 'FINISHED'"):
            return
        kept = client.create_run(
            experiment, run_name=run.name, tags={_KEY: run.key, "mlflow.note.content": run.summary}
        )
        now, number = int(1000 * time.time()), kept.info.run_id
        metrics = [Metric(name, value, now, 0) for name, value in run.numbers.items()]
        client.log_batch(number, metrics, [Param(name, str(value)) for name, value in run.config.items()])
        client.set_terminated(number)
    except MlflowException as error:
        raise RLCircuitsError(
            f"--log-to mlflow:{place}: {one_line(error)}; set MLFLOW_TRACKING_URI to a server or to sqlite:///FILE.db"
        ) from None


_KEY = "rlcircuits.key"
"""The tag of MLflow by which a run is found again."""

TRACKERS: Mapping[str, tuple[Callable[[str, PairRun], None], str]] = {
    "tensorboard": (_log_to_tensorboard, "a folder"),
    "wandb": (_log_to_wandb, "a project"),
    "mlflow": (_log_to_mlflow, "an experiment"),
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
        known = ", ".join(f"{name}:{what.split()[-1].upper()}" for name, (_, what) in TRACKERS.items())
        known = " or ".join(known.rsplit(", ", 1))
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
