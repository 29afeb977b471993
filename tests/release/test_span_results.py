"""`positions = "span"` keeps a pair's scores by span beside those of whole answers, which stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits import EdgeScores, SpanScores, span_changes
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.result_files import scores_file, spans_file
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.supervised import control_settings

SETTINGS = Settings(
    device="cpu", question_count=24, min_questions=2, noise_draws=0, noise_groups=False, alpha=1.0, balance=2.0,
    sampling=Sampling(n=1, max_new_tokens=6), stop_early=False,
)  # fmt: skip
BY_SPAN = replace(SETTINGS, positions="span", step_end="[0-9]")


@pytest.fixture(autouse=True)
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    base, tuned = save_tiny_pair(tmp_path_factory.mktemp("models"))
    return make_pair(name="p", before=str(base), after=str(tuned), algorithm="grpo")


def test_scores_by_span_lie_beside_those_of_whole_answers(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, by_span = (run_pair(pair, each, output=tmp_path / name) for each, name in ((SETTINGS, "a"), (BY_SPAN, "b")))
    assert by_span.effects == plain.effects
    assert not spans_file(tmp_path / "a" / "p", "before").exists()
    folder = tmp_path / "b" / "p"
    spans = {side: SpanScores.load(spans_file(folder, side)) for side in ("before", "after")}  # type: ignore[arg-type]
    for side, found in spans.items():
        whole = EdgeScores.load(scores_file(folder, side))  # type: ignore[arg-type]
        torch.testing.assert_close(found.whole().values, whole.values, rtol=1e-4, atol=1e-6)
        assert found.n_steps > 1
    assert span_changes(spans["before"], spans["after"]).rows[0].name == "prompt"

    # Found again; and made again, from the store, where a file is missing.
    monkeypatch.setattr(CheckpointSource, "load", lambda self: pytest.fail(f"{self.name} was loaded"))
    assert run_pair(pair, BY_SPAN, output=tmp_path / "b") == by_span
    spans_file(folder, "after").unlink()
    run_pair(pair, BY_SPAN, output=tmp_path / "b")
    assert torch.equal(SpanScores.load(spans_file(folder, "after")).values, spans["after"].values)


def test_a_plan_counts_both(pair: Pair) -> None:
    plain, by_span = (make_plan(PairsFile((pair,)), each) for each in (SETTINGS, BY_SPAN))
    assert by_span.scored_tokens == 2 * plain.scored_tokens  # type: ignore[operator]


def test_what_does_not_go_together(pair: Pair) -> None:
    with pytest.raises(RLCircuitsError, match="positions is 'span', which keeps scores by span in the output folder"):
        run_pair(pair, BY_SPAN)
    with pytest.raises(RLCircuitsError, match=r"step_end is '\.', .* and positions is 'whole'; leave step_end out"):
        replace(SETTINGS, step_end=".")
    with pytest.raises(RLCircuitsError, match="which is no regular expression"):
        replace(BY_SPAN, step_end="(")
    with pytest.raises(RLCircuitsError, match="which matches everything"):
        replace(BY_SPAN, step_end="x*")
    with pytest.raises(RLCircuitsError, match="positions is 'each'; it must be one of whole, span"):
        replace(SETTINGS, positions="each")  # type: ignore[arg-type]


def test_the_key_of_whole_answers_is_what_it_was() -> None:
    assert not {"positions", "step_end"} & SETTINGS.key_table().keys()
    assert BY_SPAN.key_table() == SETTINGS.key_table() | {"positions": "span", "step_end": "[0-9]"}
    assert control_settings(BY_SPAN) == control_settings(SETTINGS)
