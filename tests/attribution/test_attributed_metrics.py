"""What is differentiated: every metric against its definition in float64, and what a metric may not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers.core_inputs import NAMES, batches, fixed_sequences, relative_error, tiny
from helpers.oracle import edge_scores, float64_copy, logits
from helpers.tiny_checkpoints import Unloadable, save_checkpoint
from helpers.tiny_models import HYBRIDS, VOCABULARY, build, granularities
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits import AnswerSequence, EdgeScores, RLCircuitsError, attribute, attribute_stored, kl_to, logit_diff
from rlcircuits.attribution.attributed_metrics import make_metric
from rlcircuits.attribution.stored_runs import stored_scores
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.circuits import logit_difference

TOLERANCE = 1e-4  # float32 against float64
CASES = [(name, kind) for name in NAMES for kind in granularities(name)[:2] if (name, kind) != ("olmo2-gqa", "head")]
ANSWER, FOIL = 5, 9


@cache
def exact(name: str) -> Any:
    return float64_copy(tiny(name))


@cache
def scored(name: str) -> Any:
    """The model in float32; in float64 with mixers, which norm what is little at first, so that rounding grows."""
    return build(name, seed=3, dtype=torch.float64) if name in HYBRIDS else tiny(name)


@cache
def other(name: str) -> Any:
    """A model of the same architecture with other weights."""
    return build(name, seed=4)


def their_logprob(predicted: Tensor, answer: Tensor) -> Tensor:
    return predicted.log_softmax(-1)[range(len(answer)), answer].mean()


def their_margin(predicted: Tensor, answer: Tensor) -> Tensor:
    rows = zip(predicted, answer.tolist(), strict=True)
    return torch.stack([row[token] - torch.cat([row[:token], row[token + 1 :]]).max() for row, token in rows]).mean()


def their_difference(predicted: Tensor, _: Tensor) -> Tensor:
    return predicted[0, ANSWER] - predicted[0, FOIL]


def their_kl(reference: Any, sequence: AnswerSequence) -> Callable[[Tensor, Tensor], Tensor]:
    theirs = logits(reference, sequence)[-len(sequence.answer_ids) :].softmax(-1)

    def divergence(predicted: Tensor, _: Tensor) -> Tensor:
        ours = predicted.softmax(-1)
        return (ours * (ours / theirs).log()).sum(-1).mean()

    return divergence


@pytest.mark.parametrize(("name", "granularity"), CASES)
@settings(max_examples=3)
@given(batch=batches, metric=st.sampled_from(["logprob", "margin", "difference", "kl"]))
def test_scores_are_the_definitions(name: str, granularity: str, batch: list[AnswerSequence], metric: str) -> None:
    ours = {"logprob": "logprob", "margin": "logit_diff"}.get(metric) or {
        "difference": logit_diff(ANSWER, FOIL),
        "kl": kl_to(other(name)),
    }[metric]
    found = attribute(scored(name), batch, granularity, metric=ours)
    wanted = []
    for sequence in batch:
        theirs: Any = {"logprob": their_logprob, "margin": their_margin, "difference": their_difference}.get(metric)
        wanted.append(
            edge_scores(exact(name), [sequence], granularity, metric=theirs or their_kl(other(name), sequence))
        )
    assert relative_error(found.values, torch.cat([scores for scores, _ in wanted])) < TOLERANCE
    values = torch.cat([value for _, value in wanted])
    torch.testing.assert_close(found.metric_values.double(), values, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch.equal(found.loss, attribute(scored(name), batch, granularity).loss)
    assert found.how.metric == {"margin": "logit_diff", "difference": "logit_diff"}.get(metric, metric)


@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
def test_the_default_is_the_loss_and_its_negative_gives_negative_scores(granularity: str) -> None:
    plain = attribute(tiny("qwen2"), fixed_sequences(), granularity)
    named = attribute(tiny("qwen2"), fixed_sequences(), granularity, metric="cross_entropy")
    negative = attribute(tiny("qwen2"), fixed_sequences(), granularity, metric="logprob")
    assert torch.equal(plain.values, named.values)
    assert torch.equal(plain.metric_values, plain.loss)
    assert plain.how.changed == {}
    assert torch.equal(negative.values, -plain.values)
    assert torch.equal(negative.metric_values, -plain.loss)


def test_a_function_of_logits_and_batch_is_a_metric() -> None:
    batch = fixed_sequences()
    foils = [(sequence.answer_ids[0] + 1) % VOCABULARY for sequence in batch]
    ours = attribute(tiny("llama"), batch, metric=logit_difference(foils))
    assert torch.equal(ours.values, attribute(tiny("llama"), batch, metric=logit_diff(foil=foils)).values)
    assert "logit_difference" in ours.how.metric
    assert torch.equal(
        attribute(tiny("llama"), batch, metric=logit_difference(foils), batch_tokens=1).metric_values,
        attribute(tiny("llama"), batch, metric=logit_diff(foil=foils), batch_tokens=1).metric_values,
    )


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_divergence_from_itself_is_zero_and_so_is_every_score(name: str) -> None:
    scores = attribute(tiny(name), fixed_sequences(), metric=kl_to(tiny(name)))
    assert scores.metric_values.abs().max() < 1e-6
    # Its gradient is zero but for rounding: against another model it is not.
    assert (
        scores.values.norm() < 1e-4 * attribute(tiny(name), fixed_sequences(), metric=kl_to(other(name))).values.norm()
    )


def test_a_reference_is_a_source_a_model_or_its_logits(tmp_path: Path) -> None:
    batch = fixed_sequences()
    folder = save_checkpoint(tmp_path / "model")
    source = CheckpointSource(str(folder), device="cpu")
    scored = build("llama", seed=8)
    reference = source.load()
    if scored.config.vocab_size != reference.model.config.vocab_size:
        scored = build("llama", seed=8, vocab_size=reference.model.config.vocab_size)
    with torch.no_grad():
        table = [
            reference.model(torch.tensor([[*s.prompt_ids, *s.answer_ids[:-1]]])).logits[0, -len(s.answer_ids) :]
            for s in batch
        ]
    first, *others = (attribute(scored, batch, metric=kl_to(each)).values for each in (source, reference, table))
    assert all(relative_error(each, first) < TOLERANCE for each in others)


def test_equal_sequences_with_different_foils_are_scored_apart(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    sequence = AnswerSequence((3, 4, 5), (6, 7))
    for store in (None, tmp_path / "store"):
        found = attribute_stored(source, [sequence] * 4, metric=logit_diff(foil=[1, 2, 1, 3]), store=store)
        assert torch.equal(found.values[0], found.values[2])
        assert not torch.equal(found.values[0], found.values[1])
        assert not torch.equal(found.values[1], found.values[3])
        alone = attribute_stored(source, [sequence], metric=logit_diff(foil=3)).values[0]
        torch.testing.assert_close(found.values[3], alone)


def test_stored_scores_of_metrics_are_kept_apart_and_found_again(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    batch = fixed_sequences()
    metrics: list[Any] = ["cross_entropy", "logprob", "logit_diff", logit_diff(4, 5), logit_diff(4, 6), kl_to(source)]
    made = [attribute_stored(source, batch, metric=metric, store=tmp_path / "store") for metric in metrics]
    for metric, scores in zip(metrics, made, strict=True):
        again = attribute_stored(Unloadable(source), batch, metric=metric, store=tmp_path / "store")
        assert torch.equal(again.values, scores.values)
        assert torch.equal(again.metric_values, scores.metric_values)
        assert again.how == scores.how
    runs = stored_scores(tmp_path / "store")
    assert len(runs) == len(metrics)
    assert sum(not run.scoring for run in runs) == 1
    plain = attribute_stored(source, batch, store=tmp_path / "plain")
    (folder,) = (path for path in (tmp_path / "plain").iterdir() if path.is_dir())
    assert (tmp_path / "store" / folder.name / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert "scoring" not in (folder / "manifest.json").read_text()
    assert torch.equal(plain.values, made[0].values)


def test_scores_of_a_metric_survive_a_file(tmp_path: Path) -> None:
    scores = attribute(tiny("llama"), fixed_sequences(), metric="logit_diff")
    scores.save(tmp_path / "scores.safetensors")
    loaded = EdgeScores.load(tmp_path / "scores.safetensors")
    assert loaded.how == scores.how
    assert torch.equal(loaded.metric_values, scores.metric_values)
    assert torch.equal(loaded.loss, scores.loss)
    assert "metric logit_diff" in repr(loaded)


@pytest.mark.parametrize("how", [3, {"metric": 3}, {"unknown": 1}, ["metric"]])
def test_a_file_whose_metric_is_damaged_is_named(tmp_path: Path, how: object) -> None:
    attribute(tiny("llama"), fixed_sequences(), metric="logprob").save(file := tmp_path / "scores.safetensors")
    with safetensors.safe_open(str(file), framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        metadata = json.loads(opened.metadata()["rlcircuits"]) | {"how": how}
    safetensors.torch.save_file(tensors, str(file), metadata={"rlcircuits": json.dumps(metadata)})
    with pytest.raises(RLCircuitsError, match=r"scores\.safetensors cannot be read as edge scores"):
        EdgeScores.load(file)


def constant(logits: Tensor, batch: Any) -> Tensor:
    return torch.zeros(len(batch.indices))


def per_token(logits: Tensor, batch: Any) -> Tensor:
    return logits.sum(-1)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda: "perplexity", "metric is 'perplexity'; it must be one of cross_entropy, logprob, logit_diff, kl"),
        (lambda: "kl", "needs the other model"),
        (lambda: constant, "metric constant returned values without a gradient"),
        (lambda: per_token, r"metric per_token returned torch.float32 \[15\]; a tensor of numbers \[3\] is wanted"),
        (lambda: logit_diff(answer=3), "an answer and no foil"),
        (lambda: logit_diff(3, "4"), "foil is '4'"),
        (lambda: logit_diff(3, VOCABULARY), "foil is 61, outside the model's vocabulary of 61"),
        (lambda: logit_diff(3, 3), "answer and foil of sequence 0 are the same token 3"),
        (lambda: logit_diff([3, 4], 5), "answer has 2 tokens for 3 sequences"),
        (lambda: kl_to(3), "model is a int"),
        (lambda: kl_to([]), "one tensor of logits for each sequence"),
        (lambda: kl_to([torch.zeros(2, VOCABULARY)]), "1 tensors of logits for 3 sequences"),
        (lambda: kl_to([torch.zeros(2, 5)] * 3), r"the logits of sequence 0 are \[2, 5\]; \[4, 61\] is wanted"),
        (lambda: kl_to(build("llama", vocab_size=50)), "has logits of 50 tokens and .* of 61"),
    ],
)
def test_bad_metrics_are_refused(metric: Callable[[], Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        attribute(tiny("llama"), fixed_sequences(), metric=metric())


def test_a_metric_without_a_key_cannot_be_stored(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    for metric, message in ((constant, "the function constant"), (kl_to(source.load()), "a loaded checkpoint")):
        with pytest.raises(RLCircuitsError, match=f"{message}, which no key identifies"):
            attribute_stored(source, fixed_sequences(), metric=metric, store=tmp_path / "store")


def test_a_metric_has_a_name() -> None:
    assert make_metric(make_metric("logprob")).name == "logprob"
