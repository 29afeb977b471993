"""Scores by span kept in a store: the plain numbers, found again without a model, and made anew where damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoints import Unloadable, save_checkpoint
from helpers.tiny_models import random_sequences

from rlcircuits import AnswerSequence, AnswerSpans, SpanScores, attribute_spans, attribute_spans_stored
from rlcircuits.attribution.stored_runs import read_store
from rlcircuits.attribution.stored_spans import SPANS_FILE
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError

SEQUENCES = [AnswerSequence(s.prompt_ids, s.answer_ids) for s in random_sequences(4, seed=5, answer=(2, 6))]
OTHERS = [AnswerSequence(each.prompt_ids[::-1], each.answer_ids) for each in SEQUENCES]
SPANS = [AnswerSpans(len(each.prompt_ids), (1, len(each.answer_ids) - 1)) for each in SEQUENCES]
WHOLE = [AnswerSpans(len(each.prompt_ids), (len(each.answer_ids),)) for each in SEQUENCES]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("team") / "model")), device="cpu")


def score(source: Any, store: Path | None, spans: list[AnswerSpans] = SPANS, **options: Any) -> SpanScores:
    return attribute_spans_stored(source, SEQUENCES, spans, store=store, **options)


def files(store: Path) -> list[Path]:
    return sorted(store.glob(f"*/{SPANS_FILE}"))


@pytest.mark.parametrize("options", [{}, {"granularity": "head"}, {"metric": "logprob", "corrupted": OTHERS}])
def test_stored_scores_are_the_plain_ones(source: CheckpointSource, tmp_path: Path, options: dict[str, Any]) -> None:
    wanted = attribute_spans(source.load(), SEQUENCES, SPANS, **options)
    for model, store in ((source, tmp_path), (Unloadable(source), tmp_path), (source, None), (source.load(), None)):
        found = score(model, store, **options)
        for name in ("values", "sequence", "span", "positions", "loss", "metric_values"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name
        assert (found.how, found.backend) == (wanted.how, wanted.backend)
    (file,) = files(tmp_path)
    assert file.parent.name.startswith(f"{Path(source.path).parent.name}-model-{found.graph.granularity}-spans-")


def test_what_changes_scores_or_spans_is_another_file(source: CheckpointSource, tmp_path: Path) -> None:
    score(source, tmp_path)
    for number, change in enumerate(
        ({"spans": WHOLE}, {"granularity": "head"}, {"metric": "logprob"}, {"corrupted": OTHERS}), start=2
    ):
        score(source, tmp_path, **change)
        assert len(files(tmp_path)) == number
    score(Unloadable(source), tmp_path, recompute=True)  # which changes no score
    assert read_store(tmp_path) == ()  # no scores of whole answers are taken for them


def test_a_damaged_file_is_made_anew(source: CheckpointSource, tmp_path: Path) -> None:
    wanted = score(source, tmp_path).values.clone()
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(UserWarning, match=r"spans\.safetensors is damaged; its scores are computed again"):
        assert torch.equal(score(source, tmp_path).values, wanted)
    assert torch.equal(score(Unloadable(source), tmp_path).values, wanted)


def test_what_has_no_key_is_refused(source: CheckpointSource, tmp_path: Path) -> None:
    for model, options, words in (
        (source.load(), {}, "is a loaded checkpoint"),
        (source, {"metric": lambda logits, batch: logits.sum()}, "no key"),
        (source, {"spans": SPANS[:1]}, "spans are those of 1 sequences; there are 4"),
        (source, {"method": "eap-ig"}, "corrupted"),
    ):
        with pytest.raises(RLCircuitsError, match=words):
            score(model, tmp_path, **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RLCircuitsError, match="there are no sequences"):
        attribute_spans_stored(source, [], [], store=tmp_path)
