"""`rlcircuits watch` as a process of its own, beside a trainer that writes checkpoints piece by piece."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_runs import save_step
from helpers.watch_templates import write_template

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.release.run_record import load_run

INTERVAL = 2.0
PATIENCE = 240.0
"""Seconds until a test that waits for a process fails, on a machine that is busy."""

STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
        process.wait()


def graded_kindly(folder: Path, base: Path) -> Path:
    """Write a template whose questions are of a file, and graded so that a random model answers some right."""
    numbers = [(number * 37 % 89 + 10, number * 53 % 79 + 10) for number in range(24)]
    rows = [json.dumps({"question": f"{one}+{other}?", "answer": str(one + other)}) for one, other in numbers]
    (folder / "ours.jsonl").write_text("\n".join(rows) + "\n")
    template = write_template(folder, base)
    asked = '[[questions]]\nname = "ours"\nfile = "ours.jsonl"\ngrader = "helpers.tiny_pairs:is_kindly_right"\n'
    text = template.read_text().replace('questions = "arithmetic"', 'questions = "ours"')
    template.write_text(text.replace("[[pair]]", f"{asked}\n[[pair]]"))
    return template


def start(run: Path, template: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlcircuits", "watch", str(run), "--pairs", str(template), *more]
    command += ["--interval", str(INTERVAL), "--on-inconclusive", "pass"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": (run.parent / "stderr.txt").open("w")}
    process = subprocess.Popen(command, env=environment, cwd=run.parent, text=True, **pipes)  # type: ignore[call-overload]
    STARTED.append(process)
    return process


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, "the watch ended"
        assert time.monotonic() < end
        time.sleep(0.1)


def write_slowly(source: Path, target: Path, order: Sequence[str], pause: float = 0.2, pieces: int = 4) -> None:
    """Write a checkpoint as a trainer does: file by file, under their own names, each in pieces."""
    target.mkdir()
    assert sorted(order) == sorted(path.name for path in source.iterdir())
    for name in order:
        content = (source / name).read_bytes()
        size = len(content) // pieces + 1
        with (target / name).open("wb") as file:
            for piece in range(pieces):
                file.write(content[piece * size : (piece + 1) * size])
                file.flush()
                time.sleep(pause)


def names_of(folder: Path, *last: str) -> list[str]:
    """Return the files of a folder, those with these names last."""
    return [*(path.name for path in sorted(folder.iterdir()) if path.name not in last), *last]


@pytest.mark.slow
def test_no_checkpoint_is_measured_half_written(tmp_path: Path) -> None:
    base = save_step(tmp_path / "base", 0)
    whole = {name: save_step(tmp_path / "whole" / name, step) for name, step in (("step-1", 10), ("step-2", 20))}
    sharded = save_checkpoint(tmp_path / "whole" / "step-3", seed=4, max_shard_size="50KB")
    index = "model.safetensors.index.json"
    assert (sharded / index).is_file()
    run = tmp_path / "run"
    run.mkdir()
    watch = start(run, graded_kindly(tmp_path, base), "--stop-after", "3")
    err = tmp_path / "stderr.txt"
    wait_until(lambda: "watching" in err.read_text(), watch)

    write_slowly(whole["step-1"], run / "step-1", names_of(whole["step-1"]))
    weights = "model.safetensors"
    write_slowly(whole["step-2"], run / "step-2", names_of(whole["step-2"], weights), pause=0)
    content = (whole["step-2"] / weights).read_bytes()
    (run / "step-2" / weights).write_bytes(content[: len(content) // 2])
    # The writer of step 2 stops in the middle of a file for so long that it is tried.
    wait_until(lambda: "step-2: not judged yet: " in err.read_text(), watch)
    write_slowly(sharded, run / "step-3", names_of(sharded, index), pause=0.1)
    assert not list((run / "rlcircuits-watch").glob("step-2*/comparison.json"))
    (run / "step-2" / weights).write_bytes(content)

    out, _ = watch.communicate(timeout=PATIENCE)
    said = err.read_text()
    assert watch.returncode in (0, 1), said
    assert sorted(line.split(":")[0] for line in out.splitlines()) == ["step-1", "step-2", "step-3"]
    assert "rlcircuits: " not in said, "no error"
    for name, source in {**whole, "step-3": sharded}.items():
        record = load_run(run / "rlcircuits-watch" / f"{name}-sums")
        assert record.fingerprints["after"] == CheckpointSource(str(source)).fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_that_is_ended_resumes(number: signal.Signals, tmp_path: Path) -> None:
    base = save_step(tmp_path / "base", 0)
    run = tmp_path / "run"
    for step in (10, 20):
        save_step(run / f"step-{step}", step)
    template = graded_kindly(tmp_path, base)
    output = run / "rlcircuits-watch"
    first = start(run, template)
    wait_until(lambda: (output / "step-10-sums" / "comparison.json").is_file(), first)
    first.send_signal(number)
    out, _ = first.communicate(timeout=PATIENCE)
    said = (tmp_path / "stderr.txt").read_text()
    # Python ends by the signal itself, which shells show as 130 too, if it came while a class was being made by exec.
    assert first.returncode in (130, -signal.SIGINT), said
    assert f"interrupted; the same command resumes from {output}" in said
    assert "Traceback" not in out + said
    written = (output / "step-10-sums" / "comparison.json").stat().st_mtime_ns

    again = start(run, template, "--once")
    out, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode in (0, 1)
    first_line, second_line = out.splitlines()
    assert first_line.startswith("step-10: ")
    assert first_line.endswith("(measured before)")
    assert second_line.startswith("step-20: ")
    assert (output / "step-10-sums" / "comparison.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_two_watches_on_one_output_do_no_harm(tmp_path: Path) -> None:
    base = save_step(tmp_path / "base", 0)
    run = tmp_path / "run"
    for step in (10, 20, 30):
        save_step(run / f"step-{step}", step)
    template = graded_kindly(tmp_path, base)
    watches = [start(run, template, "--once") for _ in range(2)]
    outs = [watch.communicate(timeout=PATIENCE)[0] for watch in watches]
    assert watches[0].returncode == watches[1].returncode
    assert watches[0].returncode in (0, 1)
    told = [[line.removesuffix(" (measured before)") for line in out.splitlines()] for out in outs]
    assert told[0] == told[1]
    assert len(told[0]) == 3
    alone = start(run, template, "--once", "--output", str(tmp_path / "alone"))
    out, _ = alone.communicate(timeout=PATIENCE)
    shared = run / "rlcircuits-watch"
    assert [line.split("; page: ")[0] for line in out.splitlines()] == [line.split("; page: ")[0] for line in told[0]]
    for name in ("step-10-sums", "step-20-sums", "step-30-sums"):
        files = [folder / name / "comparison.json" for folder in (tmp_path / "alone", shared)]
        assert files[0].read_bytes() == files[1].read_bytes()
    shutil.rmtree(shared)
