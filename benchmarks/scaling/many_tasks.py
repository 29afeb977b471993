"""Schedule many small tasks by the runner of docs/scaling.md, and print how long that takes and what the driver keeps.

    OMP_NUM_THREADS=1 python benchmarks/scaling/many_tasks.py

Each task sleeps for 10 ms, as one that waits for a GPU does, and stores ten answers in a file, as tasks that share a
stage do. The stages are those of no pair; how they are submitted, waited for and noted is the runner's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil
from ray.cluster_utils import Cluster
from tabulate import tabulate

from rlcircuits.answers.answer_file import Line, format_answer
from rlcircuits.common.files import content_hash, write_atomically
from rlcircuits.release.pair import make_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.stages import Stage
from rlcircuits.runners import ray_runner

SLEEP_S = 0.01
ANSWERS = 10
"""Answers that each task stores."""

_BASE = Path(__file__).parents[2] / "fixtures" / "llama-sums" / "seed-8"


def sleep_and_store(stage: Stage, process: Any, shared: bool, *waited: Any) -> Any:
    """Do what a task does here, in a worker."""
    start = time.perf_counter()
    time.sleep(SLEEP_S)
    prompt, answer = tuple(range(1, 13)), tuple(range(1, 8))
    lines = [
        Line(
            question_id=f"question-{stage.of}",
            prompt_ids=prompt,
            answer_ids=answer,
            text="12+34=46",
            correct=True,
            finished=True,
            sample=sample,
            place=int(stage.of),
        )
        for sample in range(ANSWERS)
    ]

    def write(partial: Path) -> None:
        partial.write_bytes(b"".join(format_answer(line) for line in lines))

    write_atomically(process.output / f"batch-{int(stage.of):06d}.jsonl", write)
    return ray_runner._Ended(stage.key, None, time.perf_counter() - start)


def measure(folder: Path, tasks: int, workers: int) -> dict[str, Any]:
    """Run the tasks on a cluster of one machine; return seconds, and the driver's memory by the tasks that are done."""
    pair = make_pair(name="many", before=str(_BASE / "sft"), after=str(_BASE / "grpo"), algorithm="grpo")
    settings = Settings(device="cpu")
    stages = tuple(
        Stage(pair, settings, "answers", str(number), "", content_hash(number), 1) for number in range(tasks)
    )
    ray_runner.plan_stages = lambda *_: stages  # type: ignore[assignment]
    ray_runner._do = sleep_and_store
    driver, memory = psutil.Process(), dict[int, int]()
    done = 0

    def note(line: str) -> None:
        nonlocal done
        done += "done in" in line
        if done % max(1, tasks // 10) == 0:
            memory[done] = driver.memory_info().rss

    made = Cluster(
        initialize_head=True, connect=False, head_node_args={"num_cpus": workers, "include_dashboard": False}
    )
    try:
        start = time.perf_counter()
        with ray_runner.RayRun([pair], settings, folder, address=made.address, notify=note) as run:
            submitted = time.perf_counter() - start
            run.finish(pair)
            end = time.perf_counter()
    finally:
        made.shutdown()
    stored = sum(file.read_bytes().count(b"\n") for file in folder.glob("batch-*.jsonl"))
    assert stored == tasks * ANSWERS, f"{stored} answers are stored"
    seconds = {"seconds": end - start, "submitted_s": submitted, "after_that_s": end - start - submitted}
    return {**seconds, "answers": stored, "driver_bytes": memory}


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4, help="tasks at a time (default: 4)")
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray spells it so)
    folder = Path(mkdtemp(prefix="rlcircuits-tasks-"))
    try:
        found = measure(folder, options.tasks, options.workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    least = options.tasks * SLEEP_S / options.workers
    spent = [least, found["submitted_s"], found["after_that_s"], found["seconds"]]
    rows = [[f"{options.tasks:,}", options.workers, *(f"{seconds:.0f}" for seconds in spent)]]
    headers = [
        "tasks of 10 ms",
        "workers",
        "s of sleep",
        "to submit all",
        "from then to the last",
        "in all",
    ]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    memory = found["driver_bytes"]
    lines = [[f"{done * ANSWERS:,}", f"{size / 2**20:.0f}"] for done, size in memory.items()]
    print()
    print(tabulate(lines, ["answers stored", "MiB of the driver"], tablefmt="github", disable_numparse=True))
    if options.json is not None:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "workers": options.workers}
        options.json.write_text(json.dumps({**about, "tasks": options.tasks, **found}, indent=1) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
