"""Integrated gradients against their definition in float64, and the identities that define them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, fixed_sequences, relative_error, sequences, tiny, tokens
from helpers.oracle import float64_copy, path_scores
from helpers.slow_cases import slow_unless
from helpers.tiny_checkpoints import Unloadable, save_checkpoint
from helpers.tiny_models import HYBRIDS, build, granularities, has_experts
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import (
    AnswerSequence,
    EdgeScores,
    RLCircuitsError,
    ablated,
    attribute,
    attribute_stored,
    logit_diff,
)
from rlcircuits.attribution.options import Estimator
from rlcircuits.checkpoints.source import CheckpointSource

TOLERANCE = 1e-4  # float32 against float64
CASES = [
    (name, kind)
    for name in NAMES
    for kind in ("sublayer", "head")
    if kind in granularities(name) and (name, kind) != ("olmo2-gqa", "head")
]
ROUTED = {name for name in NAMES if has_experts(tiny(name))}
STEEP = {"falcon-h1": 4, "gemma4": 2, "qwen3-5": 4}
"""The models whose loss bends so much on the path that so many times the steps are needed."""
METHODS: list[dict[str, Any]] = [
    {"method": "eap-ig", "steps": 3},
    {"method": "eap-ig", "steps": 4, "points": "left"},
    {"method": "eap-ig", "steps": 2, "points": "right"},
    {"method": "clean-corrupted"},
]


@cache
def exact(name: str) -> Any:
    return float64_copy(tiny(name))


@cache
def scored(name: str) -> Any:
    """The model in float32; in float64 with mixers, which norm what is little at first, so that rounding grows."""
    return build(name, seed=3, dtype=torch.float64) if name in HYBRIDS else tiny(name)


def alphas_of(options: dict[str, Any]) -> list[float]:
    """The points of the path, written out once more."""
    if options["method"] == "clean-corrupted":
        return [0, 1]
    shift = {"left": 0, "midpoint": 1 / 2, "right": 1}[options.get("points", "midpoint")]
    return [(k + shift) / options["steps"] for k in range(options["steps"])]


@st.composite
def patched(draw: Any) -> tuple[AnswerSequence, AnswerSequence]:
    """A sequence and another one of its lengths, whose first token differs."""
    clean = draw(sequences())
    prompt, answer = (
        draw(st.lists(tokens, min_size=len(ids), max_size=len(ids))) for ids in (clean.prompt_ids, clean.answer_ids)
    )
    prompt[0] = (clean.prompt_ids[0] + 1) % 61
    return clean, AnswerSequence(tuple(prompt), tuple(answer))


@pytest.mark.parametrize(("name", "granularity"), CASES)
@settings(max_examples=3)
@given(pairs=st.lists(patched(), min_size=1, max_size=3), options=st.sampled_from(METHODS))
def test_scores_are_the_definitions(
    name: str, granularity: str, pairs: list[tuple[AnswerSequence, AnswerSequence]], options: dict[str, Any]
) -> None:
    clean, corrupted = map(list, zip(*pairs, strict=True))
    found = attribute(scored(name), clean, granularity, corrupted=corrupted, **options)
    for place, pair in enumerate(pairs):
        wanted, _ = path_scores(exact(name), *pair, alphas_of(options), granularity)
        error = (found.values[place].double() - wanted).norm()
        # Where every difference lies outside what the answer depends on, both are zero up to rounding.
        assert error < TOLERANCE * max(float(wanted.norm()), 1e-2)
    torch.testing.assert_close(found.loss, attribute(scored(name), clean, granularity).loss)


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "gpt2", "mixtral"])
def test_query_heads_sum_to_the_key_value_head_they_share(name: str) -> None:
    clean, corrupted = fixed_sequences(2), fixed_sequences(2, seed=12)
    how: dict[str, Any] = {"corrupted": corrupted, "method": "eap-ig", "steps": 3}
    heads, shared = (attribute(tiny(name), clean, kind, **how) for kind in ("head", "kv-head"))
    group = len([r for r in heads.graph.readers if r.startswith("attn.0.") and r.endswith(".k")]) // len(
        [r for r in shared.graph.readers if r.startswith("attn.0.") and r.endswith(".k")]
    )
    summed = torch.zeros_like(shared.values)
    for column, reader in enumerate(heads.graph.readers):
        if reader[-1] in "kv":
            sublayer, head = reader[:-2].split(".h")
            reader = f"{sublayer}.kv{int(head) // group}.{reader[-1]}"
        summed[:, :, shared.graph.readers.index(reader)] += heads.values[:, :, column]
    assert relative_error(summed, shared.values) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "granularity"),
    slow_unless(
        lambda name, granularity: granularity == "sublayer" and name not in HYBRIDS,
        [(name, kind) for name in NAMES if name not in ROUTED for kind in granularities(name)],
    ),
)
def test_the_embeddings_edges_sum_to_the_change_of_the_loss(name: str, granularity: str) -> None:
    """Completeness: the embedding enters through readers only, so its edges carry the whole difference of the runs.

    Where a router chooses other experts on the way, the loss jumps, and no gradient shows it.
    """
    model = build(name, seed=3, dtype=torch.float64)
    clean = fixed_sequences(2)
    corrupted = [AnswerSequence(s.prompt_ids[::-1], s.answer_ids) for s in clean]
    # The same inputs but for the prompt, so that the corrupted run is scored on the clean answer.
    wanted = (attribute(model, corrupted).loss - attribute(model, clean).loss).double()
    errors = []
    for steps in (4, 16, 64):
        more = steps * STEEP.get(name, 1)
        scores = attribute(model, clean, granularity, corrupted=corrupted, method="eap-ig", steps=more)
        errors.append(float((scores.values[:, 0].double().sum(1) - wanted).abs().max()))
    assert errors[-1] < 1e-2 * float(wanted.abs().max()), errors
    assert errors[-1] < errors[0] / 4, errors


@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt-neox", "olmo2"])
def test_one_step_at_the_clean_end_is_attribution_patching(name: str, granularity: str) -> None:
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    plain = attribute(tiny(name), clean, granularity, corrupted=corrupted)
    one = attribute(tiny(name), clean, granularity, corrupted=corrupted, method="eap-ig", steps=1, points="right")
    assert relative_error(one.values, plain.values) < 1e-5
    assert torch.equal(one.loss, plain.loss)


def test_clean_corrupted_is_the_mean_of_both_ends() -> None:
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    ends = [
        attribute(tiny("llama"), clean, corrupted=corrupted, method="eap-ig", steps=1, points=end).values
        for end in ("left", "right")
    ]
    both = attribute(tiny("llama"), clean, corrupted=corrupted, method="clean-corrupted")
    assert relative_error(both.values, sum(ends) / 2) < 1e-5


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_in_a_linear_model_every_method_is_exact(granularity: str) -> None:
    """A norm with a huge epsilon, attention that does not depend on its input and no activation: all is linear."""
    model: Any = linear_model()
    clean = fixed_sequences(2)
    corrupted = fixed_sequences(2, seed=12)
    metric = logit_diff(5, 9)
    found = [
        attribute(model, clean, granularity, corrupted=corrupted, metric=metric, **how)
        for how in ({"method": "eap"}, *METHODS)
    ]
    exact_change = [
        attribute(model, [AnswerSequence(c.prompt_ids, s.answer_ids)], metric=metric).metric_values
        - attribute(model, [s], metric=metric).metric_values
        for s, c in zip(clean, corrupted, strict=True)
    ]
    for scores in found:
        assert relative_error(scores.values, found[0].values) < 1e-6
        torch.testing.assert_close(scores.values[:, 0].sum(1), torch.cat(exact_change), rtol=1e-4, atol=1e-6)
    graph = found[0].graph
    edges = graph.mask.nonzero()
    for writer, reader in edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(0))[:8]].tolist():
        kept = graph.mask.clone()
        kept[writer, reader] = False
        without = ablated(model, clean, kept, "resample", corrupted=corrupted).logits
        change = [float(each[0, 5] - each[0, 9]) for each in without] - found[0].metric_values.double().numpy()
        assert found[0].values[:, writer, reader].tolist() == pytest.approx(change.tolist(), rel=1e-3, abs=1e-5)


def linear_model() -> Any:
    model: Any = build("gpt2", seed=3, dtype=torch.float64, activation_function="linear", layer_norm_epsilon=1e16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name and name.endswith("weight"):
                parameter.fill_(1e8)  # times 1/√(variance + 1e16): each norm only takes off the mean
            if "c_attn" in name:
                parameter[..., : 2 * model.config.n_embd] = 0  # every key is attended to alike
    return model


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gpt2"])
def test_scores_do_not_depend_on_the_batch_or_on_recomputing(name: str, granularity: str) -> None:
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    how: dict[str, Any] = {"corrupted": corrupted, "method": "eap-ig", "steps": 3}
    whole = attribute(tiny(name), clean, granularity, **how)
    for more in ({"batch_tokens": 1}, {"padding_side": "left"}, {"recompute": True}, {"backend": "reference"}):
        assert relative_error(attribute(tiny(name), clean, granularity, **how, **more).values, whole.values) < 1e-5


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_half_precision_stays_near(granularity: str) -> None:
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    how: dict[str, Any] = {"corrupted": corrupted, "method": "eap-ig", "steps": 3}
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
        model = build("llama-gqa", seed=3, dtype=dtype)
        wanted = attribute(float64_copy(model), clean, granularity, **how)
        assert relative_error(attribute(model, clean, granularity, **how).values, wanted.values) < tolerance


def test_methods_are_recorded_and_stored_apart(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    for options in ({}, *METHODS, {"method": "eap-ig", "steps": 4}):
        made = attribute_stored(source, clean, corrupted=corrupted, store=tmp_path / "store", **options)
        again = attribute_stored(Unloadable(source), clean, corrupted=corrupted, store=tmp_path / "store", **options)
        assert torch.equal(made.values, again.values)
        assert made.how == again.how
        made.save(tmp_path / "scores.safetensors")
        assert EdgeScores.load(tmp_path / "scores.safetensors").how == made.how
    with pytest.raises(AssertionError, match="loaded"):
        attribute_stored(Unloadable(source), clean, corrupted=corrupted[::-1], store=tmp_path / "store")
    with pytest.raises(AssertionError, match="loaded"):
        attribute_stored(Unloadable(source), clean, store=tmp_path / "store")
    twice = attribute_stored(source, [clean[0]] * 3, corrupted=[corrupted[0], clean[0], corrupted[0]])
    assert torch.equal(twice.values[0], twice.values[2])
    assert twice.values[1].abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "eap-ig"}, "needs corrupted sequences .* a path from zero embeddings"),
        ({"method": "clean-corrupted"}, "needs corrupted sequences"),
        ({"method": "ig"}, "method is 'ig'; it must be one of eap, eap-ig, clean-corrupted"),
        ({"method": "eap-ig", "points": "centre"}, "points is 'centre'; it must be one of midpoint, left, right"),
        ({"method": "eap-ig", "steps": 0}, "steps is 0; a whole number from 1 to 1,000 is wanted"),
        ({"method": "eap", "steps": 5}, "steps is 5, and the method is 'eap', which takes no steps on a path; leave"),
        ({"points": "midpoint"}, "points is 'midpoint', and the method is 'eap'"),
        ({"method": "clean-corrupted", "steps": 2}, "steps is 2, and the method is 'clean-corrupted'"),
    ],
)
def test_bad_methods_are_refused(options: dict[str, Any], message: str) -> None:
    for run in (attribute, attribute_stored):
        with pytest.raises(RLCircuitsError, match=message):
            run(tiny("llama"), fixed_sequences(), **options) if run is attribute else run(
                CheckpointSource("nowhere"), fixed_sequences(), **options
            )


def test_the_points_of_a_path() -> None:
    assert Estimator().alphas() == (1.0,)
    assert Estimator(method="eap-ig").how(True) == Estimator(method="eap-ig", steps=5, points="midpoint").how(True)
    assert Estimator(method="eap-ig").alphas() == pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))
    for options in METHODS:
        assert list(Estimator(**options).alphas()) == pytest.approx(alphas_of(options))
