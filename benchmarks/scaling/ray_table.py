"""Measure a release on Ray against a run in one process, and print the tables of docs/scaling.md.

    OMP_NUM_THREADS=1 python benchmarks/scaling/ray_table.py speed
    OMP_NUM_THREADS=1 python benchmarks/scaling/ray_table.py faults --kills 10

``speed`` runs pairs of the zoo in one process, in two that do not know one another, which is what two cores can do, and
on a cluster of one and of two workers, in turns. Beside the time it prints what all processes together took of the
processors, which other work on the machine disturbs less: over that of one process, with and without what each further
process needs to start, which is the same for a long release. Ray's own services run for as long as a cluster does, and
are counted apart. ``faults`` kills a worker, a machine or the driver with SIGKILL at a random moment of a small
release, lets it go on, and compares every file of results with those of a run in one process.

``speed`` starts one Ray node with a core for each worker, and the machines of ``faults`` are Ray nodes of one core
each. Times are wall-clock seconds of the whole command. Workers get the priority of the command that starts them; by
default Ray gives them a lower one, which would measure the machine's other work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import psutil
from ray.cluster_utils import Cluster
from tabulate import tabulate

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "fixtures" / "zoo.toml"
FAULTS = """
[settings]
question_count = 120
min_questions = 5
noise_draws = 1
batch_size = 40
device = "cpu"

[settings.sampling]
n = 2
"""


def command(file: Path, output: Path, *more: str) -> list[str]:
    """The command that measures a release."""
    return [sys.executable, "-m", "rlcircuits", "compare", "--pairs", str(file), "--output", str(output), *more]


SERVICES = (
    "/ray/core/",
    "/ray/dashboard/",
    "/ray/autoscaler/",
    "/ray/_private/",
    "ray::DashboardAgent",
    "RuntimeEnvAgent",
)
"""What the command lines of Ray's own services have in them, which run for as long as a cluster does."""


class ProcessorTime:
    """The processor time of all processes that descend from this one, by looking at them again and again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], tuple[bool, float]] = {}
        self._end = threading.Event()
        self._look()
        self._before = self._sums()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> ProcessorTime:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()
        self.work, self.services = (now - then for now, then in zip(self._sums(), self._before, strict=True))

    def _sums(self) -> tuple[float, float]:
        """Seconds of the driver and its workers, and of Ray's services."""
        seen = list(self._seen.values())
        return sum(each for own, each in seen if not own), sum(each for own, each in seen if own)

    def _watch(self) -> None:
        while not self._end.wait(0.5):  # to look takes 2 ms of one core
            self._look()

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times, title = process.cpu_times(), " ".join(process.cmdline())
                service = any(each in title for each in SERVICES)
                self._seen[process.pid, process.create_time()] = service, times.user + times.system


def timed(*commands: list[str]) -> float:
    """Run commands at once; return the seconds of all. A release may hold or not: its exit code says nothing here."""
    start = time.perf_counter()
    how = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(arguments, **how) for arguments in commands]  # type: ignore[call-overload]
    for arguments, process in zip(commands, running, strict=True):
        _, said = process.communicate()
        if process.returncode not in (0, 1, 3):
            raise SystemExit(f"{' '.join(arguments)}\n{said}")
    return time.perf_counter() - start


def cluster(cores: int, nodes: int = 0) -> Cluster:
    """A cluster whose head has these cores, and as many other nodes of one core each."""
    head = {"num_cpus": cores, "include_dashboard": False}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    for _ in range(nodes):
        made.add_node(num_cpus=1)
    return made


def results(output: Path) -> dict[str, bytes]:
    """Every file of results and of the store, but for what tells of the run itself."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name not in ("run.json", "pace.jsonl")]
    return {str(path.relative_to(output)): path.read_bytes() for path in files if not path.name.startswith(".")}


HOWS = {"one process": 0, "two processes, half each": 1, "Ray, 1 worker": 1, "Ray, 2 workers": 2}
"""How a release is measured, and how many processes that import torch start beside the first one."""


def speed(folder: Path, rounds: int, pairs: int) -> dict[str, object]:
    """Time the same pairs in one process, in two that do not know one another, and on one and two workers, in turns."""
    names = [pair["name"] for pair in tomllib.loads(ZOO.read_text())["pair"]]
    chosen = names[:: max(1, len(names) // pairs)][:pairs]
    seconds: dict[str, list[float]] = {how: [] for how in HOWS}
    work: dict[str, list[float]] = {how: [] for how in HOWS}
    services: dict[str, list[float]] = {how: [] for how in HOWS}
    starts = []
    for number in range(rounds):
        wanted = None
        with ProcessorTime() as start:
            timed([sys.executable, "-c", "import ray, rlcircuits.runners.ray_runner"])
        starts.append(start.work)
        for place, how in enumerate(HOWS):
            output, made = folder / f"{number}-{place}", None
            more: list[str] = []
            if how.startswith("Ray"):
                made = cluster(HOWS[how])
                more = ["--ray", made.address]
            middle = len(chosen) // 2 if how.startswith("two") else len(chosen)
            parts = [part for part in (chosen[:middle], chosen[middle:]) if part]
            only = [[argument for name in part for argument in ("--only", name)] for part in parts]
            with ProcessorTime() as cpu:
                seconds[how].append(timed(*(command(ZOO, output, *each, *more) for each in only)))
            work[how].append(cpu.work)
            services[how].append(cpu.services)
            if made is not None:
                made.shutdown()
            wanted = wanted or results(output)
            assert results(output) == wanted, f"{how}: other results"
            shutil.rmtree(output)
            print(
                f"{how}: {seconds[how][-1]:.1f} s, processors {cpu.work:.1f} and {cpu.services:.1f} s", file=sys.stderr
            )
    print_speed(seconds, work, services, statistics.median(starts), len(chosen))
    spent_s = {"processor_seconds": work, "service_seconds": services, "start_of_a_worker_s": starts}
    return {"seconds": seconds, **spent_s, "pairs": chosen}


def print_speed(
    seconds: dict[str, list[float]],
    work: dict[str, list[float]],
    services: dict[str, list[float]],
    start_s: float,
    pairs: int,
) -> None:
    """Print the table of :func:`speed`."""
    rows = []
    for how, started in HOWS.items():
        took, spent, own = (statistics.median(kept[how]) for kept in (seconds, work, services))
        alone, one = (statistics.median(seconds[each]) for each in ("one process", "Ray, 1 worker"))
        without = (spent - started * start_s) / statistics.median(work["one process"])
        more_work = spent / statistics.median(work["one process"])
        ratios = (alone / took, one / took, more_work, without)
        rows.append([how, f"{took:.0f}", *(f"{ratio:.2f}" for ratio in ratios), f"{own:.0f}"])
    headers = [
        f"{pairs} pairs", "s", "one process over it", "one worker over it", "processors, over one process",
        "without the workers' start", "s of Ray's services",
    ]  # fmt: skip
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def busy(names: tuple[str, ...]) -> list[psutil.Process]:
    """Processes that do a stage of these pairs."""
    titles = tuple(f"ray::{name}: " for name in names)
    return [p for p in psutil.process_iter(["cmdline"]) if " ".join(p.info["cmdline"] or ()).startswith(titles)]


def kill_a_worker(made: Cluster, driver: subprocess.Popen[bytes], names: tuple[str, ...]) -> None:
    """Kill a process that does a stage, as soon as there is one."""
    while driver.poll() is None:
        if found := busy(names):
            random.choice(found).send_signal(signal.SIGKILL)
            return
        time.sleep(0.01)


def kill_a_machine(made: Cluster, driver: subprocess.Popen[bytes], names: tuple[str, ...]) -> None:
    """Kill a node with all that runs on it; another one joins the cluster."""
    made.remove_node(random.choice(list(made.worker_nodes)), allow_graceful=False)
    made.add_node(num_cpus=1)


def kill_the_driver(made: Cluster, driver: subprocess.Popen[bytes], names: tuple[str, ...]) -> None:
    """Kill the command itself, which is called again afterwards."""
    driver.send_signal(signal.SIGKILL)


def faults(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill at random moments, and compare the finished results with those of one process."""
    random.seed(seed)
    pairs = {"grpo": "grpo", "ppo": "ppo"}
    base = ROOT / "fixtures" / "llama-sums" / "seed-8"
    file = folder / "release.toml"
    tables = [
        f'[[pair]]\nname = "{name}"\nbefore = "{base / "sft"}"\nafter = "{base / after}"\nalgorithm = "grpo"\n'
        for name, after in pairs.items()
    ]
    file.write_text(FAULTS + "\n".join(tables))
    timed(command(file, folder / "alone"))
    wanted = results(folder / "alone")
    made = cluster(0, nodes=2)
    whole = timed(command(file, folder / "undisturbed", "--ray", made.address))
    assert results(folder / "undisturbed") == wanted, "an undisturbed run differs"
    kinds: dict[str, Callable[[Cluster, subprocess.Popen[bytes], tuple[str, ...]], None]] = {
        "a worker": kill_a_worker,
        "a machine": kill_a_machine,
        "the driver": kill_the_driver,
    }
    rows, record = [], []
    for kind, kill in kinds.items():
        same = 0
        for number in range(kills):
            output, start = folder / f"{kind[-7:].strip()}-{number}", time.perf_counter()
            moment = random.uniform(0.1, 0.9) * whole
            arguments = command(file, output, "--ray", made.address)
            driver = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(moment)
            kill(made, driver, tuple(pairs))
            if driver.wait() == -signal.SIGKILL:
                timed(arguments)
            same += (identical := results(output) == wanted)
            record.append(
                {"killed": kind, "after_s": moment, "seconds": time.perf_counter() - start, "identical": identical}
            )
            print(f"{kind} killed after {moment:.0f} s of {whole:.0f}: identical {identical}", file=sys.stderr)
            shutil.rmtree(output)
        rows.append([kind, kills, same])
    made.shutdown()
    print(tabulate(rows, ["killed", "times", "same results, bit by bit"], tablefmt="github"))
    return {"undisturbed_s": whole, "kills": record}


def main() -> None:
    """Measure what the command line names, and write it to a JSON file if that is named too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "faults"])
    parser.add_argument("--rounds", type=int, default=2, help="rounds of speed (default: 2)")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of the zoo for speed (default: 4)")
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and the victims (default: 0)")
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray spells it so)
    folder = Path(mkdtemp(prefix="rlcircuits-scaling-"))
    try:
        if options.what == "speed":
            found = speed(folder, options.rounds, options.pairs)
        else:
            found = faults(folder, options.kills, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json is not None:
        threads = os.environ.get("OMP_NUM_THREADS")
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "omp_num_threads": threads}
        options.json.write_text(json.dumps({"what": options.what, **about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
