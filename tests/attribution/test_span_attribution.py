"""Scores by span: they add up to the whole, agree with float64, do not depend on batches, and may lie in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error, sequences, tiny
from helpers.full_disk import largest_file
from helpers.oracle import edge_names, float64_copy
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits import AnswerSequence, AnswerSpans, EdgeScores, RLCircuitsError, SpanScores, attribute, attribute_spans
from rlcircuits.attribution import span_attribution
from rlcircuits.capture.recording import forward_logits
from rlcircuits.contraction import grouped
from rlcircuits.graph.image_inputs import ImageInputs
from rlcircuits.graph.sequences import make_batch

CASES = [("llama", "sublayer"), ("llama", "head"), ("gpt2", "head"), ("gemma2", "head"), ("llama", "kv-head")]


@st.composite
def spanned(draw: Any) -> tuple[AnswerSequence, AnswerSpans]:
    """A sequence, with its answer cut anywhere."""
    sequence = draw(sequences())
    length = len(sequence.answer_ids)
    cuts = sorted(draw(st.sets(st.integers(1, length - 1)))) if length > 1 else []
    steps = [stop - start for start, stop in zip([0, *cuts], [*cuts, length], strict=True)]
    return sequence, AnswerSpans(len(sequence.prompt_ids), tuple(steps))


def halved(sequence: AnswerSequence) -> AnswerSpans:
    half = len(sequence.answer_ids) // 2
    return AnswerSpans(len(sequence.prompt_ids), (half, len(sequence.answer_ids) - half))


def test_images_of_a_model_without_a_vision_tower_are_refused() -> None:
    images = ImageInputs("key", lambda: {"pixel_values": torch.zeros(1, 3)})
    sequence = AnswerSequence((1, 2, 3), (4, 5), images)
    model = build("llama-gqa", seed=3)
    with pytest.raises(RLCircuitsError, match="has no vision tower"):
        attribute_spans(model, [sequence], [halved(sequence)])
    with pytest.raises(RLCircuitsError, match="has no vision tower"):
        forward_logits(model, make_batch([sequence], [0]))


SEQUENCES = fixed_sequences()
SPANS = [halved(sequence) for sequence in SEQUENCES]
OTHERS = [AnswerSequence(tuple((i + 5) % 61 for i in s.prompt_ids), s.answer_ids) for s in SEQUENCES]


@pytest.mark.parametrize(("name", "granularity"), CASES)
@settings(max_examples=6)
@given(batch=st.lists(spanned(), min_size=1, max_size=4), batch_tokens=st.sampled_from([None, 12]))
def test_spans_add_up_to_the_whole(
    name: str, granularity: str, batch: list[tuple[AnswerSequence, AnswerSpans]], batch_tokens: int | None
) -> None:
    model = build(name, seed=3, dtype=torch.float64)
    items, spans = [sequence for sequence, _ in batch], [each for _, each in batch]
    found = attribute_spans(model, items, spans, granularity, batch_tokens)
    whole = attribute(model, items, granularity)
    assert found.sequence.tolist() == [i for i, each in enumerate(spans) for _ in range(len(each))]
    assert found.span.tolist() == [s for each in spans for s in range(len(each))]
    torch.testing.assert_close(found.whole().values, whole.values, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.loss, whole.loss)
    assert found.whole().how == whole.how


def oracle(model: Any, sequence: AnswerSequence, spans: AnswerSpans) -> Tensor:
    """Scores [spans, writers, readers] of a sublayer graph, in float64, by autograd alone.

    The model's own forward, with hooks that add a leaf of zeros to each reader's input. The gradient at the leaf is
    that at the reader. Each of q, k and v has a forward of its own, in which the others read without the leaf.
    """
    exact = float64_copy(model)
    writers, readers, mask = edge_names(exact)
    ids = torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids][:-1]])
    answer, layers = torch.tensor(sequence.answer_ids), exact.model.layers
    outputs: dict[str, Tensor] = {}
    grads: dict[str, Tensor] = {}

    def run(reader: str) -> None:
        leaf = torch.zeros(1, ids.shape[1], exact.config.hidden_size, dtype=torch.float64, requires_grad=True)
        handles = []

        def keep(name: str) -> Any:
            return lambda module, inputs, output: outputs.__setitem__(
                name, (output[0] if isinstance(output, tuple) else output).detach()[0]
            )

        handles.append(exact.model.embed_tokens.register_forward_hook(keep("embed")))
        for i, layer in enumerate(layers):
            handles.append(layer.self_attn.register_forward_hook(keep(f"attn.{i}")))
            handles.append(layer.mlp.register_forward_hook(keep(f"mlp.{i}")))
        kind, _, rest = reader.partition(".")
        if reader == "logits":
            handles.append(exact.model.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] + leaf,)))
        elif kind == "mlp":
            norm = layers[int(rest)].post_attention_layernorm
            handles.append(norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] + leaf,)))
        else:
            layer, _, which = rest.partition(".")
            norm, attention = layers[int(layer)].input_layernorm, layers[int(layer)].self_attn
            stream: list[Tensor] = []
            handles.append(norm.register_forward_pre_hook(lambda module, inputs: stream.append(inputs[0])))
            projection = getattr(attention, f"{which}_proj")

            def moved(module: Any, inputs: Any) -> Any:
                return (norm.forward(stream[-1] + leaf),)

            handles.append(projection.register_forward_pre_hook(moved))
        try:
            logits = exact(ids).logits[0, -len(answer) :]
        finally:
            for handle in handles:
                handle.remove()
        loss = torch.nn.functional.cross_entropy(logits, answer)
        grads[reader] = torch.autograd.grad(loss, leaf)[0][0]

    for reader in readers:
        run(reader)
    products = torch.stack([torch.stack([-(outputs[u] * grads[v]).sum(-1) for v in readers]) for u in writers])
    by_span = [products[..., list(positions)].sum(-1) for positions in spans.positions]
    return torch.stack(by_span) * mask


@pytest.mark.parametrize("backend", ["matmul", "reference"])
def test_the_definition_in_float64(backend: str) -> None:
    found = attribute_spans(tiny("llama"), SEQUENCES, SPANS, backend=backend)
    wanted = torch.cat([oracle(tiny("llama"), *pair) for pair in zip(SEQUENCES, SPANS, strict=True)])
    assert relative_error(found.values, wanted) < 1e-4


@pytest.mark.parametrize("options", [
    {"corrupted": OTHERS},
    {"corrupted": OTHERS, "method": "eap-ig", "steps": 3},
    {"metric": "logit_diff"},
    {"rules": ("norm_scale",)},
    {"recompute": True},
])  # fmt: skip
def test_all_options_add_up(options: dict[str, Any]) -> None:
    model = build("llama", seed=3, dtype=torch.float64)
    found = attribute_spans(model, SEQUENCES, SPANS, "head", **options)
    whole = attribute(model, SEQUENCES, "head", **options)
    torch.testing.assert_close(found.whole().values, whole.values, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.metric_values, whole.metric_values)
    assert found.how == whole.how


def test_small_memory_changes_nothing() -> None:
    """Slices of a token, one reader at a time, and a batch for each sequence."""
    model = build("llama", seed=3, dtype=torch.float64)
    wanted = attribute_spans(model, SEQUENCES, SPANS, "head")
    with (
        mock.patch.object(grouped, "contraction_bytes", return_value=1),
        mock.patch.object(grouped, "pending_grads_bytes", return_value=1),
        mock.patch.object(span_attribution, "SPAN_BYTES", 1),
    ):
        found = attribute_spans(model, SEQUENCES, SPANS, "head")
    torch.testing.assert_close(found.values, wanted.values)


def test_a_file_holds_what_memory_would(tmp_path: Path) -> None:
    path = tmp_path / "spans.safetensors"
    wanted = attribute_spans(tiny("llama"), SEQUENCES, SPANS, metric="logprob")
    written = attribute_spans(tiny("llama"), SEQUENCES, SPANS, metric="logprob", out=path)
    saved = tmp_path / "saved.safetensors"
    wanted.save(saved)
    for found in (written, SpanScores.load(path), SpanScores.load(saved)):
        for name in ("values", "sequence", "span", "positions", "loss", "metric_values"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name
        assert found.graph.same_as(wanted.graph)
        assert (found.how, found.backend) == (wanted.how, wanted.backend)
    assert path.read_bytes() == saved.read_bytes()
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["saved.safetensors", "spans.safetensors"]


def test_files_that_are_not_of_spans(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    attribute(tiny("llama"), SEQUENCES).save(path)
    with pytest.raises(RLCircuitsError, match="scores of whole sequences"):
        SpanScores.load(path)
    spans = tmp_path / "spans.safetensors"
    attribute_spans(tiny("llama"), SEQUENCES, SPANS, out=spans)
    with pytest.raises(RLCircuitsError, match="scores of spans, which"):
        EdgeScores.load(spans)
    spans.write_bytes(spans.read_bytes()[:-50])
    with pytest.raises(RLCircuitsError, match="cannot be read as scores of spans"):
        SpanScores.load(spans)


def test_the_last_token_alone_is_read_nowhere() -> None:
    sequence = AnswerSequence((5, 6, 7), (8, 9, 10))
    found = attribute_spans(tiny("llama"), [sequence], [AnswerSpans(3, (2, 1))])
    assert found.positions.tolist() == [3, 2, 0]
    assert not found.values[2].any()
    assert found.values[1].any()


@pytest.mark.parametrize(("spans", "words"), [
    ([], "spans are those of 0 sequences; there are 1"),
    ([AnswerSpans(3, (2,))], "have 3 tokens of prompt and 2 of answer; it has 3 and 3"),
    ([AnswerSpans(2, (2, 2))], "have 2 tokens of prompt and 4 of answer"),
])  # fmt: skip
def test_spans_of_other_sequences_are_refused(spans: list[AnswerSpans], words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        attribute_spans(tiny("llama"), [AnswerSequence((5, 6, 7), (8, 9, 10))], spans)


def test_a_loss_that_is_not_finite_names_its_sequence() -> None:
    model = build("llama", seed=3)
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = float("nan")
    items = [AnswerSequence((5, 6), (8, 9)), AnswerSequence((5, 7), (8, 9))]
    with pytest.raises(RLCircuitsError, match="sequence 1 has a non-finite loss"):
        attribute_spans(model, items, [AnswerSpans(2, (1, 1))] * 2)


def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    """Room is taken before the work: writing into mapped memory without room would end the process."""
    with largest_file(1000), pytest.raises(RLCircuitsError, match=r"spans\.safetensors cannot be written"):
        attribute_spans(tiny("llama"), SEQUENCES, SPANS, out=tmp_path / "spans.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_metric_cannot_read_is_not_said_to_be_one_that_cannot_be_written(tmp_path: Path) -> None:
    def metric(logits: Tensor, batch: Any) -> Tensor:
        raise FileNotFoundError(2, "No such file or directory", "reward.json")

    with pytest.raises(FileNotFoundError, match=r"reward\.json"):
        attribute_spans(tiny("llama"), SEQUENCES, SPANS, metric=metric, out=tmp_path / "spans.safetensors")
    assert not list(tmp_path.iterdir())
