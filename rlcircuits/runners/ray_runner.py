"""Run the stages of a release's pairs on Ray.

Ray decides where and when a stage runs: each is a Ray task that waits for the tasks whose results it needs. Results are
not sent to this process. They lie in the output folder, which every machine of the cluster must see under one path. A
stage that two pairs share, such as the answers of their common base, is one task. A stage whose worker or machine is
lost is tried again, and goes on from what is in the store.

A stage runs with as many threads as torch has in this process: sums on a CPU depend on their number in the last bits,
so a release has the same results, bit by bit, as in this process alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure, StageFailed, describe_failure
from rlcircuits.common.files import Notify
from rlcircuits.common.limits import check_number
from rlcircuits.release.loaded_once import keep_last_model
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.stage_memory import StageMemory
from rlcircuits.release.stages import Stage, plan_stages, run_stage
from rlcircuits.runners.cluster import LOCAL, connect

__all__ = ["RayRun"]

RETRIES = 3
"""How often a stage is tried again whose worker or machine is lost."""


class RayRun(AbstractContextManager["RayRun"]):
    """The stages of several pairs on Ray.

    Args:
        pairs: the pairs, each measured with the same settings.
        settings: how.
        output: the output folder, which all machines see under this path.
        address: ``local``, ``auto`` for the cluster that this machine is part of, or a cluster's address.
        gpus: GPUs that a model needs; by default 1 where the cluster has GPUs, and else 0.
        notify: called with one line of text for each stage that is done.

    Raises:
        RLCircuitsError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        settings: Settings,
        output: Path,
        *,
        address: str = LOCAL,
        gpus: float | None = None,
        notify: Notify,
    ) -> None:
        if gpus is not None:
            check_number("ray_gpus", gpus)
        self._ray = connect(address)
        self._output, self._notify = output.resolve(), notify
        self._tasks: dict[str, Any] = {}
        """The task of each stage, by the stage's key."""
        self._running: dict[Any, Stage] = {}
        self._failures: dict[str, Failure] = {}
        """By the stage's key; a pair that cannot be planned is there by its name."""
        self._stages: dict[str, tuple[Stage, ...]] = {}
        try:
            self._submit_all(pairs, settings, gpus)
        except BaseException:
            self.close()
            raise

    def finish(self, pair: Pair) -> None:
        """Return when the results of a pair are in its folder.

        Raises:
            RLCircuitsError: the pair cannot be measured, or a worker was lost too often.
            StageFailed: a stage met a fault of rlcircuits.
        """
        mine = [stage.key for stage in self._stages.get(pair.name, ())]
        while any(stage.key in mine for stage in self._running.values()):
            self._wait()
        failed = [self._failures[key] for key in (pair.name, *mine) if key in self._failures]
        if failed:
            raise StageFailed(failed[0])

    def close(self) -> None:
        """Leave the cluster, which ends the stages that still run."""
        self._ray.shutdown()

    def __enter__(self) -> RayRun:
        # Ray prints of lost workers to stdout, which holds what a command was asked to print.
        self._stdout = redirect_stdout(sys.stderr)
        self._stdout.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._stdout.__exit__(None, None, None)

    def _submit_all(self, pairs: Iterable[Pair], settings: Settings, gpus: float | None) -> None:
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        most_gpus = max(machine.get("GPU", 0) for machine in machines)
        if gpus is None:
            gpus = 1 if most_gpus and settings.device != "cpu" else 0
        threads = torch.get_num_threads()
        if (most := max(machine.get("CPU", 0) for machine in machines)) < threads:
            raise RLCircuitsError(
                f"Ray: a stage needs {threads} cores, as many as torch has threads here, and no machine of the cluster "
                f"has more than {most:g}; set OMP_NUM_THREADS"
            )
        if most_gpus < gpus:
            raise RLCircuitsError(f"Ray: a model needs {gpus:g} GPUs, and no machine has more than {most_gpus:g}")
        process = _Process(self._output, Path.cwd(), threads, tuple(sys.argv))
        remote = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(_do)
        for pair in pairs:
            self._submit(pair, settings, process, remote)
        cores = sum(machine.get("CPU", 0) for machine in machines)
        each = f"{threads}{f' and {gpus:g} GPUs' if gpus else ''}"
        self._notify(
            f"Ray: {len(self._tasks)} stages on {len(machines)} machine{'s' * (len(machines) > 1)} with {cores:g} "
            f"cores, {each} to a stage"
        )

    def _submit(self, pair: Pair, settings: Settings, process: _Process, remote: Any) -> None:
        try:
            stages = plan_stages(pair, settings, self._output)
        except Exception as error:  # the other pairs are measured all the same
            self._failures[pair.name] = describe_failure(error, self._output)
            return
        for stage in stages:
            if stage.key not in self._tasks:
                waits_for = [self._tasks[key] for key in stage.waits_for]
                self._tasks[stage.key] = remote.options(name=stage.words).remote(stage, process, *waits_for)
                self._running[self._tasks[stage.key]] = stage
        self._stages[pair.name] = stages

    def _wait(self) -> None:
        """Wait for the next stage that ends, and note how it ended."""
        (task,), _ = self._ray.wait(list(self._running), num_returns=1)
        stage = self._running.pop(task)
        done = len(self._tasks) - len(self._running)
        try:
            ended: _Ended = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            ended = _Ended(Failure(f"{stage.words}: {_lost(error)}; what was computed is in the store"))
        if ended.failure is None:
            self._notify(f"{stage.words}: done in {ended.seconds:.0f} s ({done} of {len(self._tasks)} stages)")
        else:
            self._failures[stage.key] = ended.failure


@dataclass(frozen=True)
class _Process:
    """What a worker takes over from the process that started the run."""

    output: Path
    folder: Path
    """The working directory; paths in a pairs file may be relative to it."""
    threads: int
    command: tuple[str, ...]
    """``sys.argv``, which a run's record has."""

    def imitate(self) -> None:
        """Make this process like that one.

        Raises:
            RLCircuitsError: the output folder is not on this machine.
        """
        torch.set_num_threads(self.threads)
        sys.argv[:] = self.command
        if self.folder.is_dir():
            os.chdir(self.folder)
        if not self.output.is_dir():
            raise RLCircuitsError(
                f"{self.output}: a machine of the cluster does not see this folder; name one that all of them share"
            )


@dataclass(frozen=True)
class _Ended:
    """How a stage ended."""

    failure: Failure | None
    seconds: float = 0.0


_memory = StageMemory()
"""What a worker keeps between its stages."""


def _do(stage: Stage, process: _Process, *waited: _Ended) -> _Ended:
    """Do a stage in a worker, unless one that it waited for failed; its failure is then this one's."""
    if (failure := next((each.failure for each in waited if each.failure is not None), None)) is not None:
        return _Ended(failure)
    start = time.perf_counter()
    try:
        process.imitate()
        keep_last_model()
        run_stage(stage, process.output, lambda _: None, _memory)
    except Exception as error:  # the other stages are done all the same
        return _Ended(describe_failure(error, process.output))
    return _Ended(None, time.perf_counter() - start)


def _lost(error: Exception) -> str:
    """Return in words how a worker was lost."""
    error = getattr(error, "cause", None) or error  # of a stage that waited for the one that was lost
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "out of memory: Ray ended its worker; give a stage more of a machine, with fewer stages at a time"
    return f"its worker was lost {RETRIES + 1} times, as when memory runs out ({kind})"
