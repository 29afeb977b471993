"""Measure a release on Ray against a run in one process, and print the tables of docs/scaling.md.

    OMP_NUM_THREADS=1 python benchmarks/scaling/ray_table.py speed
    OMP_NUM_THREADS=1 python benchmarks/scaling/ray_table.py faults --kills 10

``speed`` runs pairs of the zoo in one process, on a cluster of one worker, and on one of two, in turns. ``faults``
kills a worker, a machine or the driver with SIGKILL at a random moment of a small release, lets it go on, and compares
every file of results with those of a run in one process.

Machines are Ray nodes on this machine, of one core each. Times are wall-clock seconds of the whole command.
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
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import psutil
from ray.cluster_utils import Cluster
from tabulate import tabulate

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "fixtures" / "zoo.toml"
SPEED = ("llama-sums-seed-7-grpo", "llama-sums-seed-8-grpo", "llama-sums-seed-9-grpo", "qwen2-equations-seed-7-grpo")
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


def timed(arguments: list[str]) -> float:
    """Run a command; return its seconds. A release may hold or not: its exit code says nothing here."""
    start = time.perf_counter()
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")
    return time.perf_counter() - start


def cluster(nodes: int) -> Cluster:
    """A cluster whose head does no stage, and as many other nodes of one core each."""
    head = {"num_cpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    for _ in range(nodes):
        made.add_node(num_cpus=1)
    return made


def results(output: Path) -> dict[str, bytes]:
    """Every file of results and of the store, but for what tells of the run itself."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name not in ("run.json", "pace.jsonl")]
    return {str(path.relative_to(output)): path.read_bytes() for path in files if not path.name.startswith(".")}


def speed(folder: Path, rounds: int) -> dict[str, object]:
    """Time the same pairs in one process and on one and two workers, in turns."""
    only = [argument for name in SPEED for argument in ("--only", name)]
    seconds: dict[str, list[float]] = {"one process": [], "Ray, 1 worker": [], "Ray, 2 workers": []}
    for number in range(rounds):
        for how, found in seconds.items():
            output = folder / f"{number}-{how[-9:].strip()}"
            if how == "one process":
                found.append(timed(command(ZOO, output, *only)))
                continue
            made = cluster(1 if "1" in how else 2)
            found.append(timed(command(ZOO, output, *only, "--ray", made.address)))
            made.shutdown()
            shutil.rmtree(output)
    middle = {how: statistics.median(found) for how, found in seconds.items()}
    rows = [
        [how, f"{each:.0f}", f"{middle['one process'] / each:.2f}", f"{middle['Ray, 1 worker'] / each:.2f}"]
        for how, each in middle.items()
    ]
    headers = [f"{len(SPEED)} pairs", "s", "one process over it", "one worker over it"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    return {"seconds": seconds, "pairs": SPEED}


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
    made = cluster(2)
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
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and the victims (default: 0)")
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    options = parser.parse_args()
    folder = Path(mkdtemp(prefix="rlcircuits-scaling-"))
    try:
        found = (
            speed(folder, options.rounds) if options.what == "speed" else faults(folder, options.kills, options.seed)
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json is not None:
        threads = os.environ.get("OMP_NUM_THREADS")
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "omp_num_threads": threads}
        options.json.write_text(json.dumps({"what": options.what, **about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
