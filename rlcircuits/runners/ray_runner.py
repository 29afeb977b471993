"""Run the stages of a release's pairs on Ray.

Ray decides where and when a stage runs: each is a Ray task that waits for the tasks whose results it needs. Results are
not sent to this process. They lie in the output folder, which every machine of the cluster must see under one path, or
at a URL that a folder of each machine mirrors (:mod:`rlcircuits.common.mirror`). A stage that two pairs share, such as
the answers of their common base, is done once. Where there are many pairs, most of them are one task each, which keeps
in memory what it makes; only stages that pairs share remain tasks before it. Where there is room for more tasks than
there are stages, several tasks share a stage's batches: each takes the next batch that nobody makes. Both need locks
among machines, which a URL has not: there each stage is one task. A task whose worker or machine is lost is tried
again, and goes on from what is in the store.

A stage runs with as many threads as torch has in this process: sums on a CPU depend on their number in the last bits,
so a release has the same results, bit by bit, as in this process alone.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure, StageFailed, describe_failure
from rlcircuits.common.files import Notify
from rlcircuits.common.limits import check_number
from rlcircuits.release.loaded_once import keep_last_model
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.stage_memory import StageMemory
from rlcircuits.release.stages import Stage, in_one, plan_stages, run_stage
from rlcircuits.runners.cluster import LOCAL, connect

if TYPE_CHECKING:
    from rlcircuits.common.mirror import Mirror

__all__ = ["RayRun"]

RETRIES = 3
"""How often a stage is tried again whose worker or machine is lost."""

BATCHES_PER_TASK = 4
"""Fewest batches, on average, for which a further task on the same stage is worth the loading of a model."""

PAIRS_PER_SLOT = 2
"""The last pairs, for each task that can run at once, whose stages are tasks of their own even where pairs are a task
each, so that no slot is empty for long while the last tasks end."""

TASKS_PER_SLOT = 2
"""Tasks that can run at once for each that does, so that no slot is empty for long while the last ones end."""


class RayRun(AbstractContextManager["RayRun"]):
    """The stages of several pairs on Ray.

    Args:
        pairs: the pairs, each measured with the same settings.
        settings: how.
        output: the output folder, which all machines see under this path.
        address: ``local``, ``auto`` for the cluster that this machine is part of, or a cluster's address.
        gpus: GPUs that a model needs; by default 1 where the cluster has GPUs, and else 0.
        notify: called with one line of text for each stage that is done.
        mirror: what makes the output folder that of a URL; None for a folder that all machines see.

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
        mirror: Mirror | None = None,
    ) -> None:
        if gpus is not None:
            check_number("ray_gpus", gpus)
        self._ray = connect(address)
        self._output, self._notify, self._mirror = output.resolve(), notify, mirror
        self._tasks: dict[str, list[Any]] = {}
        """The tasks of each stage, by the stage's key: one, or several that share its batches."""
        self._running: dict[Any, Stage] = {}
        self._left: dict[str, int] = {}
        """How many tasks of a stage still run or wait, by its key; stages that have ended are left out."""
        self._failed_tasks: dict[str, list[Failure]] = {}
        """Of each stage's tasks, by its key."""
        self._done: dict[str, float] = {}
        """By the key of a stage of which a task succeeded, so that all its results are there: that task's seconds."""
        self._lost: set[str] = set()
        """The keys of stages of which a task was lost; Ray then starts no task that waits for it."""
        self._unstarted: list[tuple[Stage, Failure]] = []
        """Tasks that Ray may not have started for that reason."""
        self._again: set[Any] = set()
        """Tasks that were started again, each once."""
        self._failures: dict[str, Failure] = {}
        """By the key of a stage whose tasks all failed; a pair that cannot be planned is there by its name."""
        self._stages: dict[str, tuple[Stage, ...]] = {}
        try:
            self._submit_all(pairs, settings, gpus)
        except BaseException:
            self.close()
            raise

    def finish(self, pair: Pair) -> bool:
        """Return when the results of a pair are in its folder: whether stages of this run have made them.

        Raises:
            RLCircuitsError: the pair cannot be measured, or a worker was lost too often.
            StageFailed: a stage met a fault of rlcircuits.
        """
        mine = [stage.key for stage in self._stages.get(pair.name, ())]
        while not self._left.keys().isdisjoint(mine):
            self._wait()
        failed = [self._failures[key] for key in (pair.name, *mine) if key in self._failures]
        if failed:
            raise StageFailed(failed[0])
        if self._mirror is not None:
            self._mirror.fetch_results([pair.name])
        return bool(mine)

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
        url = None if self._mirror is None else self._mirror.url
        self._process = _Process(self._output, url, Path.cwd(), threads, tuple(sys.argv))
        self._remote = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(_do)
        slots = sum(_slots(machine, threads, gpus) for machine in machines)
        if not slots:
            raise RLCircuitsError(
                f"Ray: no machine has {threads} cores, as many as torch has threads here, and also {gpus:g} GPUs, as a "
                "stage needs; set OMP_NUM_THREADS"
            )
        self._submit_pairs(list(pairs), settings, slots)
        cores = sum(machine.get("CPU", 0) for machine in machines)
        if idle := _idle_gpus(machines, threads, gpus):
            self._notify(
                f"Ray: {idle:g} GPUs stay idle, since a stage takes {threads} cores, as many as torch has threads "
                "here; set OMP_NUM_THREADS to the cores for each GPU"
            )
        each = f"{threads}{f' and {gpus:g} GPUs' if gpus else ''}"
        self._notify(
            f"Ray: {len(self._tasks)} stages on {len(machines)} machine{'s' * (len(machines) > 1)} with {cores:g} "
            f"cores, {each} to a stage"
        )

    def _submit_pairs(self, pairs: Sequence[Pair], settings: Settings, slots: int) -> None:
        """Plan and submit pairs, each parted or as one task.

        A pair as one task waits for what it shares with any other, so that all are planned first, which reads their
        checkpoints. The first pairs are parted and submitted at once, to have work for every slot meanwhile.
        """
        one_by_one = slots == 1 and self._mirror is None  # each finds in the store what an earlier one has made
        none_is_one_task = self._mirror is not None or len(pairs) <= PAIRS_PER_SLOT * slots
        plans, later = list[tuple[Stage, ...]](), list[tuple[Stage, ...]]()
        for pair in pairs:
            if not (plan := self._plan(pair, settings)):
                continue
            plans.append(plan)
            if one_by_one or none_is_one_task or len(plans) <= slots:
                self._submit(in_one(plan, ()) if one_by_one else plan, slots, len(pairs))
            else:
                later.append(plan)
        of_several = _of_several(plans)
        for place, plan in enumerate(later):
            whole = len(later) - place > PAIRS_PER_SLOT * slots
            self._submit(in_one(plan, of_several) if whole else plan, slots, len(pairs))

    def _plan(self, pair: Pair, settings: Settings) -> tuple[Stage, ...]:
        """Return a pair's stages; none if it is finished, or if it cannot be planned."""
        try:
            return plan_stages(pair, settings, self._output)
        except Exception as error:  # the other pairs are measured all the same
            self._failures[pair.name] = describe_failure(error, self._output)
            return ()

    def _submit(self, stages: Sequence[Stage], slots: int, pairs: int) -> None:
        """Submit the stages of one pair, but for those that an earlier one has too."""
        for stage in stages:
            if stage.key in self._tasks:
                continue
            waits_for = [task for key in stage.waits_for for task in self._tasks[key]]
            at_once = pairs * sum(bool(each.waits_for) == bool(waits_for) for each in stages)
            parts = _parts(stage, slots, at_once) if self._mirror is None else 1
            self._tasks[stage.key], self._left[stage.key] = [], parts
            for part in range(1, parts + 1):
                name = stage.words if parts == 1 else f"{stage.words} ({part} of {parts})"
                task = self._start(stage, name, waits_for, shared=parts > 1)
                self._tasks[stage.key].append(task)
                self._running[task] = stage
        self._stages[stages[-1].pair.name] = tuple(stages)

    def _start(self, stage: Stage, name: str | None = None, waits_for: Sequence[Any] = (), shared: bool = False) -> Any:
        return self._remote.options(name=name or stage.words).remote(stage, self._process, shared, *waits_for)

    def _wait(self) -> None:
        """Wait for the next tasks that end, and note how they ended."""
        running = list(self._running)
        self._ray.wait(running, num_returns=1, fetch_local=False)
        ended, _ = self._ray.wait(running, num_returns=len(running), timeout=0, fetch_local=False)
        for task in ended:
            self._note(self._running.pop(task), task)

    def _note(self, stage: Stage, task: Any) -> None:
        """Note how a task ended."""
        try:
            self._end(stage, self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            failure = Failure(f"{stage.words}: {_lost(error)}; what was computed is in the store")
            self._lost.add(stage.key)
            if task in self._again:
                self._end(stage, _Ended(stage.key, failure))
            else:
                self._unstarted.append((stage, failure))
        self._settle()

    def _end(self, stage: Stage, ended: _Ended) -> None:
        """Count a task that ended, and say so if it was the last of its stage.

        A task that succeeds has seen all batches of its stage in the store. So the stage is done then, whatever became
        of the tasks that it was shared with.
        """
        if ended.failure is None:
            self._done[stage.key] = ended.seconds
        else:
            self._failed_tasks.setdefault(stage.key, []).append(ended.failure)
        self._left[stage.key] -= 1
        if self._left[stage.key]:
            return
        del self._left[stage.key]
        if stage.key not in self._done:
            self._failures[stage.key] = self._failed_tasks[stage.key][0]
            return
        seconds, ended_stages = self._done[stage.key], len(self._tasks) - len(self._left)
        self._notify(f"{stage.words}: done in {seconds:.0f} s ({ended_stages} of {len(self._tasks)} stages)")

    def _settle(self) -> None:
        """Start again what Ray did not start for a lost task, if the lost task's stage is done all the same."""
        before = None
        while before != len(self._unstarted):  # a task that ends may settle those that wait for it
            before = len(self._unstarted)
            waiting, self._unstarted = self._unstarted, []
            for stage, failure in waiting:
                if not self._left.keys().isdisjoint(stage.waits_for):
                    self._unstarted.append((stage, failure))
                elif self._lost.isdisjoint(stage.waits_for) or not self._done.keys() >= set(stage.waits_for):
                    self._end(stage, _Ended(stage.key, failure))
                else:
                    task = self._start(stage, shared=len(self._tasks[stage.key]) > 1)
                    self._running[task] = stage
                    self._again.add(task)


def _slots(machine: Mapping[str, float], threads: int, gpus: float) -> int:
    """Return how many tasks a machine has room for."""
    cores = machine.get("CPU", 0) // threads
    return int(min(cores, machine.get("GPU", 0) // gpus) if gpus else cores)


def _idle_gpus(machines: Sequence[Mapping[str, float]], threads: int, gpus: float) -> float:
    """Return how many GPUs have no stage because their machine has too few cores for it."""
    if not gpus:
        return 0
    fitting = sum(int(machine.get("GPU", 0) // gpus) for machine in machines)
    return gpus * (fitting - sum(_slots(machine, threads, gpus) for machine in machines))


def _of_several(plans: Iterable[Iterable[Stage]]) -> set[str]:
    """Return the keys of the stages that several pairs have."""
    pairs_with = Counter(key for plan in plans for key in {stage.key for stage in plan})
    return {key for key, pairs in pairs_with.items() if pairs > 1}


def _parts(stage: Stage, slots: int, at_once: int) -> int:
    """Return the number of tasks that share a stage's batches.

    Where there are more slots than stages, or hardly fewer, one stage would run long after all others. But each task
    loads the model, so that a stage of few batches is not shared, and no stage where there are many.
    """
    return max(1, min(slots, math.ceil(TASKS_PER_SLOT * slots / at_once), stage.batches // BATCHES_PER_TASK))


@dataclass(frozen=True)
class _Process:
    """What a worker takes over from the process that started the run."""

    output: Path
    """The output folder; where it is at a URL, each machine has another."""
    url: str | None
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
        if self.url is None and not self.output.is_dir():
            raise RLCircuitsError(
                f"{self.output}: a machine of the cluster does not see this folder; name one that all of them share"
            )


@dataclass(frozen=True)
class _Ended:
    """How a task ended."""

    of: str
    """The key of its stage."""
    failure: Failure | None
    seconds: float = 0.0


_memory = StageMemory()
"""What a worker keeps between its stages."""


def _do(stage: Stage, process: _Process, shared: bool, *waited: _Ended) -> _Ended:
    """Do a stage, or some batches of a shared one, unless all tasks of one that it waited for failed."""
    done = {each.of for each in waited if each.failure is None}
    if failures := [each.failure for each in waited if each.of not in done]:
        return _Ended(stage.key, failures[0])
    start = time.perf_counter()
    output: Path | None = None
    try:
        process.imitate()
        keep_last_model()
        mirror = None if process.url is None else _mirror(process.url)
        output = process.output if mirror is None else mirror.folder
        with mirror or nullcontext():
            run_stage(stage, output, lambda _: None, _memory, shared=shared)
    except Exception as error:  # the other stages are done all the same
        return _Ended(stage.key, describe_failure(error, output or process.output))
    return _Ended(stage.key, None, time.perf_counter() - start)


@cache
def _mirror(url: str) -> Mirror:
    """Return this machine's mirror of a URL."""
    from rlcircuits.common.mirror import Mirror

    return Mirror(url)


def _lost(error: Exception) -> str:
    """Return in words how a worker was lost."""
    error = getattr(error, "cause", None) or error  # of a stage that waited for the one that was lost
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "out of memory: Ray ended its worker; give a stage more of a machine, with fewer stages at a time"
    return f"its worker was lost {RETRIES + 1} times, as when memory runs out ({kind})"
