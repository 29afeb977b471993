"""`attribute` against the float64 edge-mask definition, on every architecture and both granularities."""

from __future__ import annotations

import copy
import gc
import weakref
from functools import cache
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, batches, fixed_sequences, relative_error, sequences, tiny, tokens
from helpers.oracle import edge_names, edge_scores, float64_copy, loss_only
from helpers.slow_cases import slow_unless
from helpers.tiny_models import build, granularities, has_experts, padding_sides
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, Checkpoint, EdgeScores, attribute
from rlcircuits.capture.stream_check import plain_gradient
from rlcircuits.contraction import grouped
from rlcircuits.graph.sequences import make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.parts import locate_parts

TOLERANCE = 1e-4  # float32 against float64, ‖W − W*‖ / ‖W*‖ of each sequence
CASES = [(name, kind) for name in NAMES for kind in granularities(name)[:2]]
# The oracle defines no copies of a norm that grouped keys share (OLMo 2 with grouped queries).
ORACLE_CASES = [case for case in CASES if case != ("olmo2-gqa", "head")]


@cache
def exact(name: str) -> Any:
    """The float64 copy of `tiny(name)` for the oracle, which would make one at each call."""
    return float64_copy(tiny(name))


@cache
def half_precision(name: str) -> tuple[Any, float]:
    """A model in bfloat16, and how far its own gradients are from float64."""
    model = build(name, seed=3, dtype=torch.bfloat16)
    return model, bfloat16_gradient_error(model, fixed_sequences())


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_graph_has_the_oracles_names_and_edges(name: str, granularity: str) -> None:
    graph = attribute(tiny(name), fixed_sequences(1), granularity).graph
    writers, readers, mask = edge_names(tiny(name), granularity)
    assert (graph.writers, graph.readers) == (writers, readers)
    assert torch.equal(graph.mask, mask)


@pytest.mark.parametrize(("name", "granularity"), ORACLE_CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_scores_and_losses_are_the_definitions(name: str, granularity: str, data: Any) -> None:
    batch = data.draw(batches)
    found = attribute(tiny(name), batch, granularity)
    scores, losses = edge_scores(exact(name), batch, granularity)
    assert relative_error(found.values, scores) < TOLERANCE
    torch.testing.assert_close(found.loss.double(), losses, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2"])
def test_blocks_of_many_heads_are_contracted_by_themselves(name: str) -> None:
    model = build(name, seed=3, num_attention_heads=16, num_key_value_heads=4, head_dim=4)
    batch = fixed_sequences()
    scores, _ = edge_scores(model, batch, "head")
    assert relative_error(attribute(model, batch, "head").values, scores) < TOLERANCE


@pytest.mark.parametrize(("name", "granularity"), ORACLE_CASES)
@settings(max_examples=2)
@given(data=st.data())
def test_patching_scores_are_the_definitions(name: str, granularity: str, data: Any) -> None:
    clean = data.draw(sequences())
    lengths = len(clean.prompt_ids), len(clean.answer_ids)
    prompt, answer = (tuple(data.draw(st.lists(tokens, min_size=n, max_size=n))) for n in lengths)
    other = AnswerSequence(prompt, answer)
    # The last answer token is predicted, never read: without another difference there is nothing to patch.
    if (prompt, answer[:-1]) == (clean.prompt_ids, clean.answer_ids[:-1]):
        assert attribute(tiny(name), [clean], granularity, corrupted=[other]).values.abs().max() == 0
        return
    found = attribute(tiny(name), [clean], granularity, corrupted=[other]).values
    scores, _ = edge_scores(exact(name), [clean], granularity, corrupted=[other])
    # A writer's two outputs are rounded before they are subtracted, so the error grows with what they weigh themselves.
    whole, _ = edge_scores(exact(name), [clean], granularity)
    assert (found.double() - scores).norm() < TOLERANCE * max(float(scores.norm()), float(whole.norm()), 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_the_effect_of_a_small_ablation(name: str) -> None:
    sequence = fixed_sequences(1)[0]
    scores = attribute(tiny(name), [sequence])
    step = 1e-4
    strongest = scores.values[0].abs().flatten().topk(3).indices
    for edge in strongest:
        ablated, grown = torch.ones(2, *scores.graph.mask.shape, dtype=torch.float64)
        ablated.view(-1)[edge] -= step
        grown.view(-1)[edge] += step
        effect = (loss_only(exact(name), sequence, ablated) - loss_only(exact(name), sequence, grown)) / (2 * step)
        assert scores.values[0].flatten()[edge].item() == pytest.approx(effect, rel=1e-3)


@pytest.mark.parametrize(("name", "granularity"), ORACLE_CASES)
def test_half_precision_costs_no_more_than_the_models_own_rounding(name: str, granularity: str) -> None:
    model, own_error = half_precision(name)
    batch = fixed_sequences()
    scores, _ = edge_scores(model, batch, granularity)
    assert relative_error(attribute(model, batch, granularity).values, scores) < 3 * own_error


def test_backends_agree_and_are_named_in_the_result() -> None:
    batch = fixed_sequences()
    reference = attribute(tiny("llama"), batch, backend="reference")
    matmul = attribute(tiny("llama"), batch, backend="matmul")
    assert (reference.backend, matmul.backend) == ("reference", "matmul")
    assert relative_error(matmul.values, reference.values) < 1e-5


def test_scores_survive_a_round_trip_through_a_file(tmp_path: Any) -> None:
    scores = attribute(tiny("llama"), fixed_sequences())
    scores.save(tmp_path / "scores.safetensors")
    loaded = EdgeScores.load(tmp_path / "scores.safetensors")
    assert torch.equal(loaded.values, scores.values)
    assert torch.equal(loaded.loss, scores.loss)
    assert loaded.graph.same_as(scores.graph)
    assert loaded.backend == scores.backend


@pytest.mark.parametrize("wrap", [lambda model: model, Checkpoint], ids=["model", "checkpoint"])
def test_the_model_is_left_as_it_was(wrap: Any) -> None:
    model = build("qwen2", seed=5)
    model.train()
    model.model.layers[0].eval()
    model.model.norm.weight.requires_grad_(False)
    before = state_of(model)
    attribute(wrap(model), fixed_sequences(), "head")
    assert state_of(model) == before


def test_the_model_is_left_as_it_was_after_an_error() -> None:
    model = build("qwen2", seed=5)
    attribute(model, fixed_sequences())  # verified before the failure is planted
    before = state_of(model)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    handle = model.model.layers[1].mlp.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        attribute(model, fixed_sequences(), "head")
    handle.remove()
    assert state_of(model) == before
    assert torch.isfinite(attribute(model, fixed_sequences()).values).all()


@pytest.mark.parametrize(
    ("name", "granularity", "side"),
    slow_unless(
        lambda name, granularity, side: (granularity == "head") == (side == "left"),
        [(*case, side) for case in CASES for side in padding_sides(case[0])],
    ),
)
def test_slices_of_one_token_change_nothing(name: str, granularity: str, side: Any, monkeypatch: Any) -> None:
    clean, corrupted = fixed_sequences(2), fixed_sequences(2, seed=12)
    whole = attribute(tiny(name), clean, granularity, corrupted=corrupted, padding_side=side)
    monkeypatch.setattr(grouped, "contraction_bytes", lambda *_: 0)
    apart = attribute(tiny(name), clean, granularity, corrupted=corrupted, padding_side=side)
    assert relative_error(apart.values, whole.values) < 1e-5


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_recomputed_blocks_give_the_same_scores(name: str, granularity: str) -> None:
    model = build(name, seed=3)
    before = state_of(model)
    found = attribute(model, fixed_sequences(), granularity, recompute=True)
    assert state_of(model) == before
    assert torch.equal(found.values, attribute(model, fixed_sequences(), granularity).values)


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_a_batchs_memory_is_given_back_without_the_garbage_collector(granularity: str) -> None:
    model = build("llama", seed=5)
    attribute(model, fixed_sequences(), granularity)
    streams: list[Any] = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _, __, output: streams.append(weakref.ref(output)))
    gc.disable()
    try:
        attribute(model, fixed_sequences(), granularity)
        assert streams
        assert all(stream() is None for stream in streams)
    finally:
        gc.enable()


def test_a_model_may_be_trained_on_between_two_calls() -> None:
    model = build("gemma2", seed=5)
    attribute(model, fixed_sequences())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    scores, _ = edge_scores(model, fixed_sequences())
    assert relative_error(attribute(model, fixed_sequences()).values, scores) < TOLERANCE


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    attribute(tiny("llama"), fixed_sequences(), progress=True)
    assert capsys.readouterr().out == ""


def state_of(model: Any) -> Any:
    """Everything a capture could leave behind."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training, "forward" in vars(m)) for m in model.modules()
    ]
    numbers = [getattr(m, "num_key_value_groups", None) for m in model.modules()]
    return hooks, numbers, [(p.requires_grad, p.grad is None) for p in model.parameters()]


def bfloat16_gradient_error(model: Any, batch: list[AnswerSequence]) -> float:
    """How far the untouched model's own gradient at its first block is from float64, the worst sequence's."""
    exact = copy.deepcopy(model).double()
    if has_experts(model):
        exact.set_experts_implementation("eager")
    pairs = []
    for index in range(len(batch)):
        rectangle = make_batch(batch, [index])
        with frozen(model), frozen(exact):
            pairs.append([plain_gradient(m, locate_parts(m), rectangle).double() for m in (model, exact)])
    return max(float((found - wanted).norm() / wanted.norm()) for found, wanted in pairs)
