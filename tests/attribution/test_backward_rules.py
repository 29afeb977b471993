"""Rules of the backward pass: a relevance passes through every node whole, and each rule is needed for that."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error, tiny
from helpers.tiny_checkpoints import Unloadable, save_checkpoint
from helpers.tiny_models import ARCHITECTURES, HYBRIDS, build
from helpers.tiny_vision import VISION_MODELS, vision_and_text
from torch import nn

from rlcircuits import RELP, EdgeScores, RLCircuitsError, attribute, attribute_stored, logit_diff
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.models.backward_rules import BackwardRules, check_rules
from rlcircuits.models.families import FAMILIES, ModuleNames
from rlcircuits.models.parts import locate_parts

METRIC = logit_diff(5, 9)  # linear in the logits
# Without biases, whose share of a relevance no edge carries, and without a soft-cap of the logits.
PLAIN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral-window": {},
    "qwen3": {},
    "phi3": {},
    "gemma2": {"final_logit_softcapping": None},
    "gemma3": {"final_logit_softcapping": None},
    "granite": {},
    "cohere": {"use_qk_norm": False},  # a LayerNorm for attention and MLP
    "olmo2": {},
}
# Of the tiny models, those with a part for which no rule is defined.
NO_RULES = {
    **dict.fromkeys(("deepseek-v3", "deepseek-v3-whole-q"), "through a latent"),
    **dict.fromkeys(HYBRIDS, "mixes tokens without attention"),
    **dict.fromkeys(
        ("mixtral", "qwen3-moe", "gpt-oss", "glm4-moe", "olmoe", "granite-moe", "llama4", "cohere2-moe", "gemma4-moe"),
        "mixture of exp",
    ),
}
GRANULARITIES = ["sublayer", "head", "kv-head"]


def double(name: str) -> Any:
    return build(name, seed=3, dtype=torch.float64, **PLAIN[name])


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", PLAIN)
def test_relevance_is_conserved(name: str, granularity: str) -> None:
    """It enters at the logits as the metric, passes through every node whole, and arrives at the embedding."""
    check_conservation(attribute(double(name), fixed_sequences(2), granularity, metric=METRIC, rules=RELP))


def check_conservation(scores: EdgeScores) -> None:
    values, metric = scores.values.double(), scores.metric_values.double()
    into, out = values.sum(1), values.sum(2)
    graph = scores.graph
    torch.testing.assert_close(into[:, graph.readers.index("logits")], -metric, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out[:, 0], -metric, rtol=1e-4, atol=1e-5)
    for writer, name_of in enumerate(graph.writers[1:], start=1):
        reader = name_of if name_of.startswith("mlp") else f"{name_of}.v"
        if reader in graph.readers:  # of key and value heads, several heads write what one reader reads
            torch.testing.assert_close(into[:, graph.readers.index(reader)], out[:, writer], rtol=1e-4, atol=1e-5)
    constant = [place for place, reader in enumerate(graph.readers) if reader.endswith((".q", ".k"))]
    assert not values[:, :, constant].any()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_relevance_is_conserved_or_the_rules_are_refused(name: str) -> None:
    """In every tiny model, without biases, a soft-cap of the logits, and what no rule is defined for."""
    capped = {"final_logit_softcapping": None} if name in ("gemma2", "gemma3", "gemma4") else {}
    model = build(name, seed=3, dtype=torch.float64, **capped)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.zero_()
    if name in NO_RULES:
        with pytest.raises(RLCircuitsError, match=rf"{NO_RULES[name]}.*, for which no rule is defined; leave"):
            attribute(model, fixed_sequences(2), metric=METRIC, rules=RELP)
        for rule in RELP:
            with pytest.raises(RLCircuitsError, match="leave the rules out"):
                attribute(model, fixed_sequences(2), rules=[rule])
        return
    check_conservation(attribute(model, fixed_sequences(2), metric=METRIC, rules=RELP))


def test_the_rules_are_refused_where_a_gate_or_an_activation_is_not_known() -> None:
    model = build("llama", seed=3)
    mlp = model.model.layers[1].mlp
    mlp.gate, mlp.gate_proj = mlp.gate_proj, None
    with pytest.raises(RLCircuitsError, match=r"mlp\.1 \(LlamaMLP\) is neither two layers nor a gate"):
        check_rules(BackwardRules.named(RELP), locate_parts(model), model.config)


def test_the_rules_are_refused_for_a_family_that_was_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "llama", ModuleNames(mlp_outputs=("down_proj",)))
    with pytest.raises(RLCircuitsError, match="'llama' has names that were registered"):
        attribute(build("llama", seed=3), fixed_sequences(2), rules=["attention"])


@pytest.mark.parametrize("family", VISION_MODELS)
def test_in_a_vision_language_model_the_rules_are_those_of_its_text_model(family: str) -> None:
    whole, text = vision_and_text(family)
    try:
        wanted = attribute(text, fixed_sequences(2), rules=RELP)
    except RLCircuitsError as error:
        with pytest.raises(RLCircuitsError, match=re.escape(str(error)[:40])):
            attribute(whole, fixed_sequences(2), rules=RELP)
    else:
        assert relative_error(attribute(whole, fixed_sequences(2), rules=RELP).values, wanted.values) < 1e-6


@pytest.mark.parametrize("left_out", RELP)
def test_each_rule_is_needed(left_out: str) -> None:
    some = [rule for rule in RELP if rule != left_out]
    scores = attribute(double("gemma2"), fixed_sequences(2), metric=METRIC, rules=some)
    error = (scores.values[:, 0].sum(1) + scores.metric_values).abs()
    assert (error > 1e-3 * scores.metric_values.abs()).any()
    assert scores.how.rules == tuple(some)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gpt-neox", "gemma2", "phi3", "olmo2-gqa"])
def test_the_forward_and_the_model_stay_as_they_were(name: str, granularity: str) -> None:
    model = build(name, seed=3)
    before = [(dict(vars(m)).get("forward"), len(m._forward_hooks), m.training) for m in model.modules()]
    plain = attribute(model, fixed_sequences(), granularity)
    ruled = attribute(model, fixed_sequences(), granularity, rules=RELP)
    torch.testing.assert_close(ruled.loss, plain.loss)
    assert relative_error(ruled.values, plain.values) > 0.1
    assert [(dict(vars(m)).get("forward"), len(m._forward_hooks), m.training) for m in model.modules()] == before
    assert torch.equal(attribute(model, fixed_sequences(), granularity).values, plain.values)
    for more in ({"recompute": True}, {"batch_tokens": 1}, {"backend": "reference"}):
        again = attribute(model, fixed_sequences(), granularity, rules=RELP, **more)  # type: ignore[arg-type]
        assert relative_error(again.values, ruled.values) < 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_norms_scale_is_held_as_autograd_would_with_the_scale_detached(name: str) -> None:
    model: Any = build(name, seed=3, dtype=torch.float64)
    for norm in (block.mlp_norm for block in locate_parts(model).blocks):
        assert norm is not None
        x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        grad = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        centred = x - x.mean(-1, keepdim=True) if isinstance(norm.module, nn.LayerNorm) else x
        scale = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt().detach()
        (wanted,) = torch.autograd.grad(centred * scale * norm.module.weight.detach(), x, grad)
        found = replace(norm, scale_detached=True).vjp_at(x.detach())
        torch.testing.assert_close(found.vjp(grad), wanted)


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_rules_go_with_a_path_of_inputs(granularity: str) -> None:
    clean, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    how: dict[str, Any] = {"corrupted": corrupted, "rules": RELP}
    plain = attribute(tiny("qwen3"), clean, granularity, **how)
    one = attribute(tiny("qwen3"), clean, granularity, method="eap-ig", steps=1, points="right", **how)
    assert relative_error(one.values, plain.values) < 1e-5
    several = attribute(tiny("qwen3"), clean, granularity, method="eap-ig", steps=3, **how)
    assert relative_error(several.values, plain.values) > 1e-3


def test_rules_are_recorded_and_stored_apart(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    store = tmp_path / "store"
    made = [
        attribute_stored(source, fixed_sequences(), rules=rules, store=store) for rules in ((), ("attention",), RELP)
    ]
    assert [scores.how.rules for scores in made] == [(), ("attention",), RELP]
    assert [scores.how.rules_version for scores in made] == [None, 2, 2]
    for scores in made:
        again = attribute_stored(Unloadable(source), fixed_sequences(), rules=scores.how.rules, store=store)
        assert torch.equal(again.values, scores.values)
        scores.save(tmp_path / "scores.safetensors")
        assert EdgeScores.load(tmp_path / "scores.safetensors").how == scores.how


@pytest.mark.parametrize(
    ("name", "rules", "message"),
    [
        ("llama", ["lrp"], "rules holds 'lrp'; each must be one of norm_scale, activation, gate_half, attention"),
        ("mixtral", RELP, "is a mixture of experts"),
    ],
)
def test_bad_rules_are_refused(name: str, rules: Any, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        attribute(tiny(name), fixed_sequences(), rules=rules)
