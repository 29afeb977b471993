"""The pytest plugin under pytest-xdist: each pair measured once, workers that wait, one table."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.held_locks import PATIENCE, wait_until
from helpers.paths import ROOT
from helpers.plugin_runs import PLUGIN
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.run import run_pair
from rlcircuits.report.terminal import summary_table

pytestmark = pytest.mark.slow

# Plugins that have nothing to do with workers and take a second of each process.
PLUGINS_LEFT_OUT = ("cacheprovider", "benchmark", "hypothesispytest", "jaxtyping", "typeguard", "anyio")
SHIPPED = ROOT / "fixtures" / "llama-sums" / "seed-7"

# Stands where run_pair does in every worker: notes who measures what, and takes as long as the pair's file says.
CONFTEST = """
import os, sys, time
from pathlib import Path
import pytest

sys.path.insert(0, {tests!r})
HERE = Path(__file__).parent

@pytest.fixture(autouse=True)
def made_up_pairs(monkeypatch):
    from helpers.synthetic_comparisons import made_up_comparison
    from rlcircuits.common.errors import RLCircuitsError
    from rlcircuits.comparison.storage import save_comparison

    def run_pair(pair, settings, *, output=None, store=None, notify=None, progress=False):
        with (HERE / "measured.txt").open("a") as file:
            file.write(f"{{pair.name}} {{os.getpid()}}\\n")
        notify(f"{{pair.name}}: a stage")
        time.sleep({seconds})
        if pair.name.startswith("bad"):
            raise RLCircuitsError("no tokenizer")
        if pair.name.startswith("fault"):
            raise KeyError("oops")
        comparison = made_up_comparison(pair.name, pair.algorithm, rise="falls" not in pair.name)
        if output is not None:
            save_comparison(comparison, Path(output) / pair.name)
        return comparison

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
"""
TESTS = """
def test_effect(effect):
    assert effect.holds, effect.message

def test_whole(pair_comparison):
    assert pair_comparison.k == 40
"""


class Ran:
    """A pytest session that has ended."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output
        self.lines = output.splitlines()
        self.table = re.search(r"^pair +measure.*?(?=^=)", output, re.M | re.S)
        self.outcomes = {word.rstrip("s"): int(n) for n, word in re.findall(r"(\d+) (\w+)", self.lines[-1])}


def start(folder: Path, *arguments: str, pairs: tuple[str, ...], seconds: float = 0.3) -> subprocess.Popen[str]:
    """Start pytest in the folder with these pairs, which take some seconds each."""
    text = "".join(
        f'[[pair]]\nname = "{name}"\nbefore = "org/base"\nafter = "org/tuned"\nalgorithm = "grpo"\n' for name in pairs
    )
    (folder / "pairs.toml").write_text(text)
    (folder / "conftest.py").write_text(CONFTEST.format(seconds=seconds, tests=str(ROOT / "tests")))
    (folder / "test_release.py").write_text(TESTS)
    (folder / "measured.txt").unlink(missing_ok=True)
    return popen(folder, "--pairs=pairs.toml", *arguments)


def run(folder: Path, *arguments: str, pairs: tuple[str, ...], seconds: float = 0.3) -> Ran:
    """Run pytest to its end."""
    return ended(start(folder, *arguments, pairs=pairs, seconds=seconds))


def popen(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *(f"-pno:{name}" for name in PLUGINS_LEFT_OUT), *PLUGIN, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    environment.pop("PYTHONUNBUFFERED", None)  # where it is set, no line is ever held back
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # A group of its own, as a shell makes one, for the test of Ctrl-C.
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    STARTED.append(process)
    return process


def ended(process: subprocess.Popen[str]) -> Ran:
    output, _ = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, output)


def measured(folder: Path) -> list[str]:
    """The pairs that were measured, in the order they were begun."""
    return [line.split()[0] for line in (folder / "measured.txt").read_text().splitlines()]


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """End what a test that failed left running."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def table_of(*names: str) -> str:
    """The table that a session without workers shows of these pairs (see test_plugin_one_pair.py)."""
    return summary_table([made_up_comparison(name, "grpo", rise="falls" not in name) for name in names])


def test_each_pair_is_measured_once_and_shown_once(tmp_path: Path) -> None:
    ran = run(tmp_path, "-n2", "--dist=worksteal", pairs=("one", "two", "three-falls", "four"), seconds=2)
    assert ran.code == pytest.ExitCode.TESTS_FAILED, ran.output
    # One test a measure and one a pair; the falling one fails three of its.
    assert (ran.outcomes["passed"], ran.outcomes["failed"]) == (17, 3)
    assert sorted(measured(tmp_path)) == sorted(("one", "two", "three-falls", "four"))
    # A worker measures what nobody does instead of waiting.
    assert len({line.split()[1] for line in (tmp_path / "measured.txt").read_text().splitlines()}) == 2
    assert ran.table is not None
    assert table_of("one", "two", "three-falls", "four") in ran.table[0]
    assert ran.output.count("\npair  ") == 1
    assert ran.output.count("rlcircuits: pairs.toml\n") == 1
    assert len(re.findall(r"^\[gw[01]\] one: a stage$", ran.output, re.M)) == 1


def test_a_pair_that_cannot_be_measured_is_tried_once(tmp_path: Path) -> None:
    """Bad input and a fault of ours, which decides the exit code; the other pairs have their verdicts."""
    arguments = ("-n2", "--dist=load", "--rlcircuits-output=out")
    ran = run(tmp_path, *arguments, pairs=("one", "falls", "bad", "fault"))
    assert ran.code == pytest.ExitCode.INTERNAL_ERROR, ran.output
    assert (ran.outcomes["error"], ran.outcomes["failed"], ran.outcomes["passed"]) == (10, 3, 7)
    assert sorted(measured(tmp_path)) == ["bad", "falls", "fault", "one"]
    assert ran.lines.count("bad could not be measured: no tokenizer") == 5 + 1
    assert "KeyError: 'oops'" in ran.lines
    assert ran.table is not None
    assert table_of("one", "falls") in ran.table[0]
    assert (tmp_path / "out" / "one" / "comparison.json").is_file()
    for report in set(re.findall(r"the traceback is in (\S+),", ran.output)):
        Path(report).unlink()


def test_a_worker_that_has_nothing_else_waits_and_says_so(tmp_path: Path) -> None:
    """With ``each`` both workers run all tests; only the pair of those that were selected is measured, and once."""
    ran = run(tmp_path, "-n2", "--dist=each", "-k", "two", pairs=("one", "two", "three"), seconds=5)
    assert ran.code == 0
    assert ran.outcomes["passed"] == 2 * 5
    assert len(re.findall(r"^\[gw[01]\] two: waiting for another worker, which measures it$", ran.output, re.M)) == 1
    assert measured(tmp_path) == ["two"]
    assert ran.table is not None
    assert table_of("two") in ran.table[0]
    assert "one" not in ran.table[0].split()


def test_the_first_failure_ends_the_session_where_asked(tmp_path: Path) -> None:
    ran = run(tmp_path, "-n2", "-x", pairs=("falls", *(f"p{i}" for i in range(8))), seconds=1)
    assert ran.code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert ran.table is not None
    assert len(measured(tmp_path)) < 9
    assert len(set(measured(tmp_path))) == len(measured(tmp_path))


def test_the_pair_of_a_killed_worker_is_measured_by_another(tmp_path: Path) -> None:
    process = start(tmp_path, "-n2", pairs=("one", "two", "three"), seconds=4)
    log = tmp_path / "measured.txt"
    wait_until(lambda: log.is_file() and re.search(r"^one \d+\n", log.read_text(), re.M) is not None)
    (pid,) = re.findall(r"^one (\d+)\n", log.read_text(), re.M)
    os.kill(int(pid), signal.SIGKILL)
    ran = ended(process)
    # The test that the worker ran is lost; its pair's other tests are not.
    assert ran.code == 1
    assert (ran.outcomes["passed"], ran.outcomes["failed"]) == (14, 1), ran.output
    assert sorted(measured(tmp_path)) == ["one", "one", "three", "two"]
    assert ran.table is not None
    assert re.findall(r"^(one|two|three) ", ran.table[0], re.M) == ["one", "two", "three"]


@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interruption_ends_workers_that_measure_or_wait(tmp_path: Path, whole_group: bool) -> None:
    process = start(tmp_path, "-n2", pairs=("one",), seconds=600)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    patience = threading.Timer(PATIENCE, process.kill)
    patience.start()
    assert any("waiting for another worker" in line for line in lines)
    patience.cancel()
    wait_until(lambda: (tmp_path / "measured.txt").is_file())
    pids = [int(line.split()[1]) for line in (tmp_path / "measured.txt").read_text().splitlines()]
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    ran = ended(process)
    assert ran.code == pytest.ExitCode.INTERRUPTED
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_session_without_pairs_under_workers_is_a_strangers(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--before', default='x')\n"
        "def pytest_configure_node(node):\n    assert not [name for name in node.workerinput if 'rlcircuits' in name]\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_mine(request):\n    assert request.config.option.before == 'y'\n" * 1
    )
    ran = ended(popen(tmp_path, "-n2", "--before=y"))
    assert ran.code == 0, ran.output


def test_the_numbers_are_those_without_workers(tmp_path: Path) -> None:
    """Two real pairs of one base; every file has the same bytes as without pytest."""
    (tmp_path / "pairs.toml").write_text(
        "[settings]\nk = 20\nnoise_draws = 1\nnoise_groups = false\nquestion_count = 30\n[settings.sampling]\nn = 1\n"
        + "".join(
            f'[[pair]]\nname = "{name}"\nbefore = "{SHIPPED}/sft"\nafter = "{SHIPPED}/{name}"\nalgorithm = "{name}"\n'
            for name in ("grpo", "dpo")
        )
    )
    (tmp_path / "test_release.py").write_text("def test_effect(effect):\n    assert effect.message\n")
    ran = ended(popen(tmp_path, "--pairs=pairs.toml", "-n2", "--rlcircuits-output=shared"))
    assert ran.code == 0, ran.output
    declared = load_pairs_file(tmp_path / "pairs.toml")
    settings = declared.make_settings({})
    alone = [run_pair(pair, settings, output=tmp_path / "alone") for pair in declared.pairs]
    assert ran.table is not None
    assert summary_table(alone) in ran.table[0]
    files = {
        folder: {
            str(file.relative_to(tmp_path / folder)): file.read_bytes()
            for file in sorted((tmp_path / folder).rglob("*"))
            if file.is_file() and not file.name.startswith(".") and file.name not in ("pace.jsonl", "run.json")
        }
        for folder in ("alone", "shared")
    }
    assert "grpo/comparison.json" in files["alone"]
    assert files["shared"] == files["alone"]


def test_two_processes_on_one_folder_measure_each_pair_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As pytest's workers do, so do two commands at once; the second says that it waits, once a pair."""
    command = ["compare", "--before", f"{SHIPPED}/sft", "--after", f"{SHIPPED}/grpo", "--algorithm", "grpo"]
    command += ["--question-count", "60", "--k", "30", "--noise-draws", "0", "--output", str(tmp_path / "out")]
    first = subprocess.Popen(
        [sys.executable, "-m", "rlcircuits.cli.main", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    STARTED.append(first)
    assert first.stderr is not None
    begun = first.stderr.readline()
    code = main(command)
    printed, more = first.communicate(timeout=PATIENCE)
    assert (first.returncode, code) == (0, 0), begun + more
    assert (begun + more).count("after answers 60 questions") == 1  # the lines after the first may be lost
    second = capsys.readouterr()
    assert second.out == printed
    folder = tmp_path / "out" / "sft-to-grpo"
    assert second.err.splitlines() == [
        f"sft-to-grpo: waiting for another process to finish {folder}",
        "sft-to-grpo: measured before, and nothing has changed since",
    ]
