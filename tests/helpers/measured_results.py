"""Measure three pairs of tiny random checkpoints, for tests of what is stored of them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from helpers.tiny_pairs import grade_kindly, save_tiny_pair
from rlcircuits import Sampling, Settings, run_pair
from rlcircuits.release.pair import make_pair

FULL, PLAIN, TOO_FEW = "full", "plain", "too-few"
"""Names of the pairs: with every kind of control and claim; with one noise draw, on before's answers; with fewer
questions left than are wanted at least, so that no metric is measured."""


@cache
def measured_results() -> Path:
    """Return the output folder of a run over these pairs, which tests must not change."""
    folder = Path(tempfile.mkdtemp(prefix="rlcircuits-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    base, tuned = map(str, save_tiny_pair(folder / "models"))
    _, other = map(str, save_tiny_pair(folder / "other", update=0.05))
    asked = {"algorithm": "grpo", "before": base, "after": tuned}
    how = Settings(
        question_count=24,
        k=10,
        min_questions=5,
        alpha=0.5,
        balance=2.0,  # random answers differ in length
        noise_draws=2,
        sampling=Sampling(max_new_tokens=6, n=2),
        stop_early=False,
        greedy=True,
        device="cpu",
    )
    few = Settings(
        **{**vars(how), "k": 30, "noise_draws": 1, "noise_answers": "before", "noise_groups": False, "greedy": False}
    )
    full = make_pair(name=FULL, **asked, control=other, reference=other, claimed_accuracy=0.5)
    with pytest.MonkeyPatch.context() as monkeypatch:
        grade_kindly(monkeypatch)
        run_pair(full, how, output=folder / "out")
        run_pair(make_pair(name=PLAIN, **asked), few, output=folder / "out")
        hopeless = Settings(**{**vars(few), "k": None, "min_questions": 24})
        run_pair(make_pair(name=TOO_FEW, **asked, claimed_accuracy=0.5), hopeless, output=folder / "out")
    return folder / "out"
