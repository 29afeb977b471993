"""Identities of the ablated forward on every architecture. Hypothesis searches for a mask that breaks one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers import oracle
from helpers.core_inputs import NAMES, WITH_HEADS, fixed_sequences
from helpers.tiny_models import JOINT_KEY_NORM, POST_NORMS, VOCABULARY, build, granularities
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits import AnswerSequence, Checkpoint, RLCircuitsError
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.capture.recording import recorded
from rlcircuits.circuits import ablated
from rlcircuits.circuits.ablated_forward import ablated_logits
from rlcircuits.circuits.edge_mask import EdgeMask
from rlcircuits.graph.sequences import make_batch

GRANULARITIES = ("sublayer", "head", "kv-head")
CASES = [(name, granularity) for name in NAMES for granularity in granularities(name)]
# The oracle has no kv-head graph, and no heads of a norm that grouped keys share.
ORACLE_CASES = [
    (name, granularity)
    for name, granularity in CASES
    if granularity != "kv-head" and (name, granularity) != ("olmo2-gqa", "head")
]
# Hugging Face computes norms, rotary tables and routers in float32, whatever the weights are.
TOLERANCE = 2e-5


@cache
def checkpoint_of(name: str) -> Checkpoint:
    return Checkpoint(build(name, seed=3, dtype=torch.float64))


def some_sequences(seed: int = 11) -> list[AnswerSequence]:
    return fixed_sequences(3, seed)


@st.composite
def masks(draw: st.DrawFn, graph: Any) -> Tensor:
    """Draw a mask that keeps between no and all edges, or a share of each."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from((0.0, 0.1, 0.5, 0.9, 0.98, 1.0)))
    kept = torch.rand(graph.mask.shape, generator=generator) < share
    return kept * torch.rand(kept.shape, generator=generator, dtype=torch.float64) if draw(st.booleans()) else kept


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_a_full_mask_gives_the_models_logits_bit_for_bit(name: str, granularity: str) -> None:
    checkpoint, sequences = checkpoint_of(name), some_sequences()
    graph = graph_of(checkpoint, granularity)
    found = ablated(checkpoint, sequences, graph.mask, "resample", corrupted=some_sequences(12))
    batch = make_batch(sequences, [2, 1, 0])
    with torch.no_grad(), recorded(checkpoint.model, checkpoint.parts, graph, batch) as recording:
        wanted = recording.logits
    assert torch.equal(torch.cat([found.logits[i] for i in (2, 1, 0)]), wanted)


@pytest.mark.parametrize(("name", "granularity"), CASES)
@settings(max_examples=3)
@given(data=st.data())
def test_any_mask_gives_the_models_logits_when_the_corrupted_run_is_the_run_itself(
    name: str, granularity: str, data: Any
) -> None:
    checkpoint, sequences = checkpoint_of(name), some_sequences()
    mask = data.draw(masks(graph_of(checkpoint, granularity)))
    found = ablated(checkpoint, sequences, mask, "resample", corrupted=sequences)
    wanted = ablated(checkpoint, sequences, torch.ones_like(mask))
    for one, other in zip(found.logits, wanted.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_an_empty_mask_under_resample_gives_the_corrupted_runs_logits(name: str, granularity: str) -> None:
    checkpoint, sequences, corrupted = checkpoint_of(name), some_sequences(), some_sequences(12)
    empty = torch.zeros_like(graph_of(checkpoint, granularity).mask)
    found = ablated(checkpoint, sequences, empty, "resample", corrupted=corrupted)
    wanted = ablated(checkpoint, corrupted, ~empty)
    for one, other in zip(found.logits, wanted.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "granularity"), ORACLE_CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_any_mask_gives_the_loss_that_the_definition_gives(name: str, granularity: str, data: Any) -> None:
    checkpoint, (sequence, corrupted) = checkpoint_of(name), (some_sequences()[1], some_sequences(12)[1])
    mask = data.draw(masks(graph_of(checkpoint, granularity)))
    for ablation, other in (("zero", None), ("resample", corrupted)):
        found = ablated(checkpoint, [sequence], mask, ablation, corrupted=[other] if other else None).loss
        wanted = oracle.loss_only(checkpoint.model, sequence, mask, granularity, other, own_post_norm=True)
        assert found.item() == pytest.approx(wanted, rel=TOLERANCE * 10)


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_a_reader_that_gets_nothing_reads_no_rounding_errors(granularity: str) -> None:
    """The norms of Gemma 4, before and behind every sublayer, would scale them up to the size of a stream."""
    checkpoint, sequence = checkpoint_of("gemma4-moe"), some_sequences()[1]
    edges, generator = graph_of(checkpoint, granularity).mask, torch.Generator().manual_seed(0)
    for share in (0.02, 0.1, 0.3, 0.4) * 4:
        mask = edges & (torch.rand(edges.shape, generator=generator) < share)
        found = ablated(checkpoint, [sequence], mask).loss
        wanted = oracle.loss_only(checkpoint.model, sequence, mask, granularity, None, own_post_norm=True)
        assert found.item() == pytest.approx(wanted, rel=TOLERANCE * 10)


@pytest.mark.parametrize(
    ("name", "granularity"), [("gemma4-moe", "sublayer"), ("gemma4-moe", "head"), ("gpt2", "head")]
)
def test_one_reader_that_gets_nothing_reads_no_rounding_errors(name: str, granularity: str) -> None:
    """Each reader is beside others that get all, and each sequence beside others of its batch."""
    exact, rounded = (Checkpoint(build(name, seed=3, dtype=dtype)) for dtype in (torch.float64, torch.float32))
    for block in (*exact.parts.blocks, *rounded.parts.blocks):
        # Behind heads, these are all that such a reader reads.
        if (bias := getattr(block.output, "bias", None)) is not None:
            bias.data.mul_(1e-3)
    edges = graph_of(exact, granularity).mask
    masks = edges.expand(len(edges.T), -1, -1).clone()
    for reader, mask in enumerate(masks):
        mask[:, reader] = False
    sequences = [some_sequences()[1]] * len(masks)
    found, wanted = (ablated(each, sequences, masks).loss.double() for each in (rounded, exact))
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE / 10, atol=0)


@pytest.mark.parametrize(("name", "granularity"), ORACLE_CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_a_small_share_of_one_edge_changes_the_loss_as_the_derivative_says(
    name: str, granularity: str, data: Any
) -> None:
    checkpoint, sequence = checkpoint_of(name), some_sequences()[0]
    graph = graph_of(checkpoint, granularity)
    scores = _derivatives(name, granularity)
    edge = data.draw(st.sampled_from(graph.mask.nonzero().tolist()))
    # The loss jumps where a router chooses another expert, which a step of 0.02 can reach; with one of 0.002 what norms
    # and mixers round in float32 is as large as the tolerance.
    step = 0.005

    def loss(share: float) -> float:
        mask = torch.ones(graph.mask.shape, dtype=torch.float64)
        mask[tuple(edge)] -= share
        return ablated(checkpoint, [sequence], mask).loss.item()

    # A one-sided difference whose error is of the step's second order.
    found = (4 * loss(step) - loss(2 * step) - 3 * loss(0)) / (2 * step)
    largest = float(scores.abs().max())
    assert found == pytest.approx(float(scores[tuple(edge)]), rel=0.02, abs=2e-3 * largest)


@cache
def _derivatives(name: str, granularity: str) -> Tensor:
    model = checkpoint_of(name).model
    return oracle.edge_scores(model, [some_sequences()[0]], granularity, own_post_norm=True)[0][0]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "nemotron-h"]
)  # whose layers have one sublayer each
@settings(max_examples=4)
@given(data=st.data())
def test_removals_into_disjoint_readers_of_the_last_layer_add_up(name: str, data: Any) -> None:
    """Attention (or mixer) and MLP of the last layer add to the final stream, if the MLP does not read the former."""
    checkpoint = checkpoint_of(name)
    graph = graph_of(checkpoint, "sublayer")
    last = len(checkpoint.parts.blocks) - 1
    base, before_mlp = graph.mask.clone(), (f"attn.{last}", f"mixer.{last}")
    base[[w in before_mlp for w in graph.writers], graph.readers.index(f"mlp.{last}")] = False
    into_attention = [i for i, reader in enumerate(graph.readers) if reader.startswith(before_mlp)]
    _check_additive(checkpoint, base, data.draw(masks(graph)), (into_attention, [graph.readers.index(f"mlp.{last}")]))


# A post-norm, or a norm over all heads' keys, makes the heads' outputs depend on one another.
SEPARATE_HEADS = [name for name in WITH_HEADS if name not in POST_NORMS and name not in JOINT_KEY_NORM]


@pytest.mark.parametrize("name", SEPARATE_HEADS)
@settings(max_examples=4)
@given(data=st.data())
def test_removals_into_disjoint_heads_of_the_last_layer_add_up(name: str, data: Any) -> None:
    checkpoint = checkpoint_of(name)
    graph = graph_of(checkpoint, "head")
    last, heads = len(checkpoint.parts.blocks) - 1, range(checkpoint.parts.n_heads)
    base = graph.mask.clone()
    for head in heads:
        base[graph.writers.index(f"attn.{last}.h{head}"), graph.readers.index(f"mlp.{last}")] = False
    some = data.draw(st.sets(st.sampled_from(heads), min_size=1, max_size=len(heads) - 1))
    groups = tuple(
        [graph.readers.index(f"attn.{last}.h{head}.{kind}") for head in chosen for kind in "qkv"]
        for chosen in (some, set(heads) - some)
    )
    _check_additive(checkpoint, base, data.draw(masks(graph)), groups)


def _check_additive(checkpoint: Checkpoint, base: Tensor, drawn: Tensor, groups: tuple[list[int], ...]) -> None:
    graph = next(g for g in (graph_of(checkpoint, x) for x in GRANULARITIES) if g.mask.shape == base.shape)
    base = base.double()
    removed = [base.clone() for _ in groups]
    together = base.clone()
    for mask, readers in zip(removed, groups, strict=True):
        mask[:, readers] *= drawn[:, readers]
        together[:, readers] *= drawn[:, readers]
    start, both, *each = (_final_stream(checkpoint, graph, mask) for mask in (base, together, *removed))
    torch.testing.assert_close(both - start, sum(stream - start for stream in each), rtol=TOLERANCE, atol=TOLERANCE)


def _final_stream(checkpoint: Checkpoint, graph: Any, mask: Tensor) -> Tensor:
    """Return the stream before the final norm in the ablated run."""
    seen: list[Tensor] = []
    final = checkpoint.parts.final_norm.module
    edge_mask = EdgeMask(graph, (1 - mask)[None] * graph.mask)
    batch = make_batch(some_sequences(), [0])
    ablated_logits(checkpoint, batch, edge_mask, None, lambda hooks: hooks.observe_input(final, seen.append))
    return seen[0]


@pytest.mark.parametrize(("name", "granularity"), [("llama-gqa", "head"), ("gemma2", "head"), ("gpt2", "sublayer")])
@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-positional", "resample"])
def test_each_sequence_may_have_its_own_mask_and_the_batch_does_not_matter(
    name: str, granularity: str, ablation: str
) -> None:
    checkpoint, sequences = checkpoint_of(name), some_sequences()
    graph = graph_of(checkpoint, granularity)
    mask = torch.rand((3, *graph.mask.shape), generator=torch.Generator().manual_seed(1)) < 0.6
    corrupted = some_sequences(12) if ablation == "resample" else None
    reference = sequences if ablation.startswith("mean") else None
    together = ablated(checkpoint, sequences, mask, ablation, corrupted=corrupted)
    for i, sequence in enumerate(sequences):
        other = [corrupted[i]] if corrupted else None
        alone = ablated(checkpoint, [sequence], mask[i], ablation, corrupted=other, reference=reference)
        assert alone.loss.item() == pytest.approx(together.loss[i].item(), rel=TOLERANCE)
        torch.testing.assert_close(alone.logits[0], together.logits[i], rtol=TOLERANCE, atol=TOLERANCE)


def test_the_mean_replaces_what_is_removed() -> None:
    """With one sequence, the mean at each position is what the writers write: no edge changes anything."""
    checkpoint, sequences = checkpoint_of("llama"), some_sequences()
    mask = torch.zeros_like(graph_of(checkpoint, "head").mask)
    one = ablated(checkpoint, sequences[:1], mask, "mean-positional")
    torch.testing.assert_close(one.logits[0], ablated(checkpoint, sequences[:1], ~mask).logits[0])
    # The mean over all tokens leaves every position the same.
    over_all = ablated(checkpoint, sequences, mask, "mean")
    rows = torch.cat(over_all.logits)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("made", [lambda m: m[::-1, ::-1][::-1, ::-1], lambda m: m.astype(">f8"), np.asfortranarray])
def test_an_array_is_a_mask_however_it_is_stored(made: Any) -> None:
    checkpoint, sequences = checkpoint_of("llama"), some_sequences()
    mask = graph_of(checkpoint, "sublayer").mask.clone()
    mask[0, ::2] = False
    found = ablated(checkpoint, sequences, made(mask.numpy()))
    torch.testing.assert_close(found.loss, ablated(checkpoint, sequences, mask).loss, rtol=0, atol=0)


def test_the_model_is_left_as_it_was() -> None:
    checkpoint = Checkpoint(build("llama-gqa", seed=3))
    before = [(m, dict(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in checkpoint.model.modules()]
    ablated(checkpoint, some_sequences(), torch.zeros_like(graph_of(checkpoint, "head").mask))
    for module, state, hooks, pre_hooks in before:
        assert vars(module) == state
        assert (len(module._forward_hooks), len(module._forward_pre_hooks)) == (hooks, pre_hooks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph_mask": torch.ones(3, 4)}, r"graph_mask has the shape \[1, 3, 4\]; .* sublayer \[7, 13\]"),
        ({"graph_mask": torch.ones(2, 7, 13)}, "with 3 sequences"),
        ({"graph_mask": torch.full((7, 13), 1.5)}, "outside 0 to 1"),
        ({"graph_mask": "all"}, "graph_mask is a str"),
        (
            {"graph_mask": np.full((7, 13), "kept")},
            "graph_mask is a ndarray of <U4; a dense tensor or array of numbers",
        ),
        ({"graph_mask": torch.ones(7, 13).to_sparse()}, "torch.sparse_coo on cpu"),
        ({"graph_mask": torch.ones(7, 13, device="meta")}, "on meta"),
        ({"ablation": "noise"}, "ablation is 'noise'; it must be one of zero, mean"),
        ({"ablation": "resample"}, "a corrupted sequence is needed"),
        ({"corrupted": some_sequences(12)}, "used by ablation='resample' only"),
        ({"reference": some_sequences(12)}, "used by the means only"),
        ({"ablation": "resample", "corrupted": some_sequences(12)[:1]}, "1 corrupted sequences for 3"),
        ({"ablation": "mean-positional", "reference": some_sequences(12)[:1]}, "later positions have no mean"),
        ({"sequences": [AnswerSequence((VOCABULARY,), (1,))]}, "outside the model's vocabulary"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"sequences": some_sequences(), "graph_mask": torch.ones(7, 13), "ablation": "zero", **change}
    with pytest.raises(RLCircuitsError, match=message):
        ablated(checkpoint_of("llama"), **arguments)
