"""A pair of mixtures whose experts are writers: measured, stored, verified, found again, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits import EdgeScores
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.release.pair import make_pair
from rlcircuits.release.result_files import scores_file
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SETTINGS = Settings(
    device="cpu", granularity="expert", question_count=24, min_questions=2, noise_draws=1, noise_groups=False,
    sampling=Sampling(n=1, max_new_tokens=6), alpha=0.5, balance=2.0,
    stop_early=False,
)  # fmt: skip


def test_a_pair_of_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)
    base, tuned = save_tiny_pair(tmp_path, architecture="mixtral")
    pair = make_pair(name="experts", before=str(base), after=str(tuned), algorithm="grpo")
    output, store = tmp_path / "output", tmp_path / "store"
    comparison = run_pair(pair, SETTINGS, output=output, store=store)
    assert comparison.is_measured
    assert comparison.granularity == "expert"
    scores = EdgeScores.load(scores_file(output / "experts", "before"))
    assert scores.graph.granularity == "expert"
    assert "mlp.0.e3" in scores.graph.writers

    monkeypatch.setattr(CheckpointSource, "load", lambda self: pytest.fail(f"{self.name} was loaded"))
    again = run_pair(pair, SETTINGS, store=store)
    assert again.effects == comparison.effects
    page = tmp_path / "page.html"
    assert main(["report", str(output), "--html", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    assert "expert graph" in html
    assert "mlp.1.e2" in html
