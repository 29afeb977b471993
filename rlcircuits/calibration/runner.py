"""Make the runs of a calibration, in several processes, and keep each as soon as it is made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Thread

from rlcircuits.calibration.execute import execute
from rlcircuits.calibration.run_record import Run, append_run, read_runs
from rlcircuits.calibration.tasks import Task
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, ensure_output_folder, write_lock
from rlcircuits.common.progress import progress_bar

RUNS = "runs.jsonl"
"""File of the finished runs within the output folder."""


def make_runs(
    tasks: Sequence[Task], output: Path, *, jobs: int = 1, notify: Notify | None = None, progress: bool = False
) -> list[Run]:
    """Make the runs that the output folder lacks, and return all of them in the order of the tasks.

    Args:
        tasks: the runs.
        output: the folder of the runs, and of the store of answers and scores that they share.
        jobs: number of processes. Each computes with one thread if there are several.
        notify: called with one line of text for each finished run, and where another process is waited for.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: a run cannot be made. Those that were finished stay in the folder.
    """
    ensure_output_folder(output, "--output")
    file = output / RUNS
    with write_lock(file, notify):
        known = read_runs(file)
        keys = [task.key for task in tasks]
        missing = [task for task, key in zip(tasks, keys, strict=True) if key not in known]
        with progress_bar(progress) as bar:
            shown = bar.add_task("runs", total=len(tasks), completed=len(tasks) - len(missing))
            for run in _made(missing, output / "store", jobs):
                append_run(file, run)
                known[run.key] = run
                bar.advance(shown)
                if notify is not None:
                    notify(f"{run.part}: {run.name}, seed {run.seed}: {run.outcome} ({run.seconds:.0f} s)")
    return [known[key] for key in keys]


def _made(tasks: Sequence[Task], store: Path, jobs: int) -> Iterator[Run]:
    """Yield the runs as they are finished."""
    before = set(active_children())
    # Spawned, because a forked process inherits torch's threads in an unusable state.
    with ProcessPoolExecutor(
        max(1, min(jobs, len(tasks))), get_context("spawn"), _prepare_worker, (os.getpid(),)
    ) as pool:
        waiting: set[Future[Run]] = {pool.submit(execute, task, store) for task in tasks}
        failed: Exception | None = None
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        run = future.result()
                    except Exception as error:  # the runs that the other processes are making are not lost
                        failed = failed or error
                        waiting = {other for other in waiting if not other.cancel()}
                    else:
                        yield run
        except BaseException:  # interrupted, or a run cannot be kept: nobody takes another
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - before:
                process.terminate()
            raise
        if isinstance(failed, BrokenProcessPool):
            raise RLCircuitsError(
                "a process of the calibration was ended from outside, perhaps because memory ran out; the finished "
                "runs are kept: give the same command again, with fewer --jobs if memory is short"
            ) from None
        if failed is not None:
            raise failed


def _prepare_worker(parent: int) -> None:
    """Compute with one thread, and end with the parent, even if that was killed."""
    import torch

    torch.set_num_threads(1)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
