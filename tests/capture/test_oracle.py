"""Tests of the oracle: against Hugging Face's own forward and backward, finite differences, and identities."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from helpers.oracle import edge_names, edge_scores, logits, loss_only
from helpers.slow_cases import slow_unless
from helpers.tiny_models import (
    ARCHITECTURES,
    ATTENTION_ONLY,
    HYBRIDS,
    NO_PRE_NORM,
    POST_NORMS,
    TinySequence,
    build,
    random_sequences,
)
from torch import Tensor
from torch.nn import functional as F

NAMES = sorted(ARCHITECTURES)
# Every architecture at both granularities, less those without heads, or whose heads have no agreed definition.
CASES = [
    (name, kind)
    for name in NAMES
    for kind in (("sublayer",) if name in HYBRIDS or name == "olmo2-gqa" else ("sublayer", "head"))
]
OUTPUT_BIAS = {
    *("gpt2", "gpt-neox", "gpt-neox-sequential", "llama-gqa", "smollm3", "gpt-oss", "deepseek-v3"),
    *("cohere2", "phi", "falcon-11b"),
}
SEQUENCE = random_sequences(1, seed=5, prompt=(6, 6), answer=(5, 5))[0]
OTHER = random_sequences(1, seed=6, prompt=(6, 6), answer=(5, 5))[0]
built = cache(build)
"""Tiny models for tests that only read them, each built once."""


FALCONS = [name for name in NAMES if name.startswith("falcon") and name != "falcon-h1"]
MLPS = ("mlp", "feed_forward", "block_sparse_moe")


def body_of(model: Any) -> Any:
    """Return the part of a model that holds the layers; Llama 4's `base_model` is the whole model."""
    return getattr(model.base_model, "model", model.base_model)


def tiny_epsilon(name: str, **overrides: Any) -> Any:
    with_layer_norms = ("neox", "cohere", "phi")
    known = dict.fromkeys(("gpt2", "gpt-j", "nemotron-h", *FALCONS), "layer_norm_epsilon")
    known |= dict.fromkeys(("phi3", "cohere2-moe"), "rms_norm_eps")
    field = known.get(name, "layer_norm_eps" if any(each in name for each in with_layer_norms) else "rms_norm_eps")
    return build(name, seed=1, dtype=torch.float64, **{field: 1e-14}, **overrides)


def input_ids(sequence: TinySequence) -> Tensor:
    return torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids]])[:, :-1]


def answer_loss(predicted: Tensor, sequence: TinySequence) -> Tensor:
    return F.cross_entropy(predicted[-len(sequence.answer_ids) :], torch.tensor(sequence.answer_ids))


# --- against Hugging Face


@pytest.mark.parametrize(
    ("name", "granularity", "dtype", "tolerance"),
    slow_unless(
        lambda name, granularity, dtype, tolerance: (granularity == "head") == (dtype == torch.float64),
        [(*case, *each) for case in CASES for each in ((torch.float64, 1e-5), (torch.float32, 1e-4))],
    ),
)
def test_logits_and_loss_are_the_models_own(name: str, granularity: str, dtype: torch.dtype, tolerance: float) -> None:
    model = built(name, dtype=dtype)
    with torch.no_grad():
        theirs = model(input_ids(SEQUENCE)).logits[0].double()
    ours = logits(model, SEQUENCE, granularity)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    loss = edge_scores(model, [SEQUENCE], granularity)[1]
    assert loss.tolist() == pytest.approx([answer_loss(theirs, SEQUENCE).item()], rel=tolerance)


def test_logits_are_exact_where_hugging_face_is() -> None:
    model = build("gpt2", dtype=torch.float64)  # the one family with no float32 inside
    with torch.no_grad():
        theirs = model(input_ids(SEQUENCE)).logits[0]
    torch.testing.assert_close(logits(model, SEQUENCE), theirs, rtol=1e-12, atol=1e-12)


def writer_parameters(name: str, layer: Any) -> tuple[list[Any], list[Any]]:
    """Return the parameters in which the outputs of attention and MLP are linear."""
    if name in POST_NORMS:
        attention, mlp = ([getattr(layer, norm).weight] for norm in POST_NORMS[name])
        return attention, mlp
    if name == "gpt2":
        outputs = layer.attn.c_proj, layer.mlp.c_proj
    elif "falcon" in name:
        outputs = layer.self_attention.dense, layer.mlp.dense_4h_to_h
    elif "neox" in name:
        outputs = layer.attention.dense, layer.mlp.dense_4h_to_h
    elif name == "gpt-j":
        outputs = layer.attn.out_proj, layer.mlp.fc_out
    elif name == "phi":
        outputs = layer.self_attn.dense, layer.mlp.fc2
    else:
        mlp = next(getattr(layer, name) for name in MLPS if hasattr(layer, name))
        writing = [parameter for path, parameter in mlp.named_parameters() if "down_proj" in path]
        return list(layer.self_attn.o_proj.parameters()), writing
    attention, mlp = (list(module.parameters()) for module in outputs)
    return attention, mlp


def hybrid_writer_parameters(layer: Any) -> list[list[Any]]:
    """Return the parameters in which the output of each writer of a layer is linear, in the graph's order."""
    paths = {
        "attn": ("self_attn.o_proj", "mixer.o_proj"),
        "mixer": ("linear_attn.out_proj", "mamba.out_proj", "mixer.out_proj"),
        "mlp": (
            *("mlp.down_proj", "mlp.experts.down_proj", "mlp.shared_expert.down_proj", "shared_mlp.output_linear"),
            *("block_sparse_moe.experts.down_proj", "feed_forward.down_proj", "mixer.down_proj"),
            *("mixer.fc2_latent_proj", "mixer.shared_experts.down_proj"),
        ),
    }
    named = dict(layer.named_parameters())
    found = [
        [named[name] for path in each for name in (path, f"{path}.weight", f"{path}.bias") if name in named]
        for each in paths.values()
    ]
    return [parameters for parameters in found if parameters]


@pytest.mark.parametrize("name", NAMES)
def test_a_writers_edges_sum_to_what_hugging_faces_backward_says_of_its_output(name: str) -> None:
    """The sum over v of W[u -> v] is -d loss / d s with u's output scaled by s, which is a gradient of parameters."""
    model: Any = build(name, dtype=torch.float64)
    written = model.get_input_embeddings()(input_ids(SEQUENCE)).detach()
    if name == "falcon-h1":  # it multiplies what it looks up, but not what it is given
        written = written * model.config.embedding_multiplier
    written.requires_grad_()
    torch.autograd.backward(answer_loss(model(inputs_embeds=written).logits[0], SEQUENCE))
    embedding = written.detach()
    if name == "gpt2":
        embedding = embedding + model.transformer.wpe.weight[: embedding.shape[1]]
    expected = [-(written.grad * embedding).sum()]
    body = body_of(model)
    centre = 1.0 if name in ("gemma2", "gemma3") else 0.0  # they keep their norm weights less one
    for layer in body.h if hasattr(body, "h") else body.layers:
        for parameters in hybrid_writer_parameters(layer) if name in HYBRIDS else writer_parameters(name, layer):
            expected.append(-torch.stack([(p.grad * (p + centre)).sum() for p in parameters]).sum())
    values, _ = edge_scores(model, [SEQUENCE])
    torch.testing.assert_close(values[0].sum(1), torch.stack(expected).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ATTENTION_ONLY if name not in POST_NORMS])
def test_a_heads_edges_sum_to_what_hugging_faces_backward_says_of_its_columns(name: str) -> None:
    model: Any = build(name, dtype=torch.float64)
    torch.autograd.backward(answer_loss(model(input_ids(SEQUENCE)).logits[0], SEQUENCE))
    heads = model.config.num_attention_heads
    body = body_of(model)
    writers, _, _ = edge_names(model, "head")
    totals = dict(zip(writers, edge_scores(model, [SEQUENCE], "head")[0][0].sum(1), strict=True))
    for i, layer in enumerate(body.h if hasattr(body, "h") else body.layers):
        weight = writer_parameters(name, layer)[0][0]
        product = -(weight.grad * weight).detach().sum(1 if name == "gpt2" else 0)  # Conv1D keeps [in, out]
        ours = torch.stack([totals[f"attn.{i}.h{h}"] for h in range(heads)])
        torch.testing.assert_close(ours, product.view(heads, -1).sum(1), rtol=1e-4, atol=1e-5)


# --- against the definition


@pytest.mark.parametrize(
    ("name", "granularity", "corrupted"),
    slow_unless(
        lambda name, granularity, corrupted: (granularity == "head") == (corrupted is None),
        [(*case, corrupted) for case in CASES for corrupted in (None, OTHER)],
    ),
)
def test_scores_are_finite_differences_of_the_loss(name: str, granularity: str, corrupted: TinySequence | None) -> None:
    model = built(name, seed=2, dtype=torch.float64)
    _, _, edges = edge_names(model, granularity)
    values = edge_scores(model, [SEQUENCE], granularity, [corrupted] if corrupted else None)[0][0]
    generator = torch.Generator().manual_seed(len(name))
    existing = edges.nonzero()
    directions = [torch.randn(edges.shape, generator=generator, dtype=torch.float64)]  # all edges at once
    for u, v in existing[torch.randperm(len(existing), generator=generator)[:3]].tolist():
        directions.append(torch.zeros_like(directions[0]))
        directions[-1][u, v] = 1.0
    step = 1e-5
    for direction in directions:
        up, down = (loss_only(model, SEQUENCE, 1 + s * direction, granularity, corrupted) for s in (step, -step))
        assert -(up - down) / (2 * step) == pytest.approx((values * direction).sum().item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_scores_are_zero_off_the_graph_and_far_from_trivial_on_it(name: str, granularity: str) -> None:
    model = built(name)
    edges = edge_names(model, granularity)[2]
    values = edge_scores(model, [SEQUENCE, OTHER], granularity)[0]
    assert values.shape == (2, *edges.shape)
    assert values.dtype == torch.float64
    assert (values[:, ~edges] == 0).all()
    # Behind a norm the score of a reader with one writer is about zero, since scale is undone: leave it out.
    several = edges & (edges.sum(0) > 1)
    assert (values[:, several] != 0).all()
    assert values[:, several].abs().mean() > 1e-3
    assert not torch.equal(values[0], values[1])


def test_a_sequence_scores_the_same_alone_and_among_others() -> None:
    model = build("qwen3")
    sequences = random_sequences(3, seed=8)
    together, losses = edge_scores(model, sequences)
    for i, sequence in enumerate(sequences):
        alone, loss = edge_scores(model, [sequence])
        assert torch.equal(alone[0], together[i])
        assert torch.equal(loss[0], losses[i])


# --- identities


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_behind_a_norm_has_scores_that_sum_to_zero(name: str) -> None:
    model = tiny_epsilon(name)
    _, readers, _ = edge_names(model)
    sums = dict(zip(readers, edge_scores(model, [SEQUENCE])[0][0].sum(0).abs().tolist(), strict=True))
    # OLMo 2 has no norm before a sublayer. Its q and k are normed after the projection and the scale of its v
    # is undone after attention, so they sum to zero all the same; a gated MLP of the raw stream does not.
    raw = {reader for reader in readers if name in NO_PRE_NORM and reader.startswith("mlp")}
    assert all(sums[reader] < 1e-9 for reader in readers if reader not in raw), sums
    assert all(sums[reader] > 1e-4 for reader in raw), sums


@pytest.mark.parametrize("name", [n for n in ATTENTION_ONLY if n not in OUTPUT_BIAS and n not in NO_PRE_NORM])
def test_a_heads_reader_behind_a_norm_has_scores_that_sum_to_zero(name: str) -> None:
    model = tiny_epsilon(name)
    assert edge_scores(model, [SEQUENCE], "head")[0][0].sum(0).abs().max() < 1e-9


def test_an_output_bias_is_what_a_heads_reader_is_short_of() -> None:
    model = tiny_epsilon("gpt2")
    _, readers, _ = edge_names(model, "head")
    sums = dict(zip(readers, edge_scores(model, [SEQUENCE], "head")[0][0].sum(0).abs().tolist(), strict=True))
    assert sums["attn.0.h0.q"] < 1e-9  # before any bias has been written
    assert sums["mlp.0"] > 1e-4
    assert sums["logits"] > 1e-4


@pytest.mark.parametrize("name", [name for name in ATTENTION_ONLY if name != "olmo2-gqa"])
def test_heads_sum_to_their_sublayer(name: str) -> None:
    model = built(name, dtype=torch.float64)
    whole = edge_scores(model, [SEQUENCE])[0][0]
    values = edge_scores(model, [SEQUENCE], "head")[0][0]
    coarse_writers, coarse_readers, _ = edge_names(model)
    writers, readers, _ = edge_names(model, "head")

    def sublayer(part: str) -> str:
        return ".".join(piece for piece in part.split(".") if not piece.startswith("h"))

    rows = torch.tensor([coarse_writers.index(sublayer(writer)) for writer in writers])
    columns = torch.tensor([coarse_readers.index(sublayer(reader)) for reader in readers])
    summed = torch.zeros(len(coarse_writers), len(readers), dtype=torch.float64).index_add_(0, rows, values)
    summed = torch.zeros_like(whole).index_add_(1, columns, summed)
    attention = torch.tensor([writer.startswith("attn") for writer in coarse_writers])
    torch.testing.assert_close(summed[~attention], whole[~attention], rtol=1e-9, atol=1e-12)
    if name in OUTPUT_BIAS:  # the bias belongs to the sublayer and to none of its heads
        assert (summed[attention] - whole[attention]).abs().max() > 1e-4
    else:
        torch.testing.assert_close(summed[attention], whole[attention], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_nothing_is_scored_against_itself_and_all_ablated_is_the_corrupted_run(name: str, granularity: str) -> None:
    model = built(name, dtype=torch.float64)
    assert (edge_scores(model, [SEQUENCE], granularity, [SEQUENCE])[0] == 0).all()
    other = TinySequence(OTHER.prompt_ids, SEQUENCE.answer_ids)
    nothing = torch.zeros(edge_names(model, granularity)[2].shape)
    swapped = loss_only(model, SEQUENCE, nothing, granularity, corrupted=other)
    assert swapped == pytest.approx(loss_only(model, other), rel=1e-12)
    assert abs(swapped - loss_only(model, SEQUENCE)) > 1e-3
