"""A run that was killed (SIGKILL) and resumed gives the same bytes as an uninterrupted run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import random_sequences

from rlcircuits import AnswerSequence
from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.questions import load_questions

pytestmark = pytest.mark.slow

# Small batches, so that there are many and the run takes long enough to be killed in its middle.
QUESTIONS = 40
SEQUENCES = 60


def answer(model: str, store: str) -> Answers:
    questions = load_questions("arithmetic", count=QUESTIONS)
    source = CheckpointSource(model, device="cpu")
    return answer_questions(source, questions, Sampling(max_new_tokens=40), batch_size=2, store=store)


def score(model: str, store: str) -> torch.Tensor:
    sequences = [AnswerSequence(s.prompt_ids, s.answer_ids) for s in random_sequences(SEQUENCES, seed=5)]
    return attribute_stored(CheckpointSource(model, device="cpu"), sequences, batch_tokens=1, store=store).values


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("model")))


def kill_once(stage: str, model: str, store: Path, begun: Callable[[], bool]) -> None:
    """Run a stage in a subprocess, and kill it once it has ``begun``."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["tests", "tests/release", os.environ.get("PYTHONPATH", "")]),
    }
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", f"import test_resume; test_resume.{stage}({model!r}, {str(store)!r})"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 240
        while not begun():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def test_killed_in_the_middle_of_answers(model: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wanted = answer(model, str(whole))
    (file,) = whole.glob("*.jsonl")
    found = killed / file.name

    kill_once("answer", model, killed, lambda: found.is_file() and found.read_bytes().count(b"\n") >= 7)
    left = found.read_bytes()
    assert file.read_bytes().startswith(left)
    assert 7 <= left.count(b"\n") < 1 + QUESTIONS

    assert answer(model, str(killed)) == wanted == Answers.load(found)
    assert found.read_bytes() == file.read_bytes()


def test_killed_in_the_middle_of_attribution(model: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wanted = score(model, str(whole))

    def batches(store: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in store.glob("*/*") if not file.name.startswith(".")}

    kill_once("score", model, killed, lambda: len(list(killed.glob("*/batch-*"))) >= 5)
    left = batches(killed)
    assert left.items() <= batches(whole).items()
    assert 5 <= len(left) < 1 + SEQUENCES

    assert torch.equal(score(model, str(killed)), wanted)
    assert batches(killed) == batches(whole)
