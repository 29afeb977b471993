"""Every rule of the backward against its definition in float64, and what holds under GIM's rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, WITH_HEADS, fixed_sequences, relative_error, sequences, tiny
from helpers.oracle import edge_scores
from helpers.oracle_rules import active
from helpers.slow_cases import slow_unless
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from rlcircuits import GIM, RELP, AnswerSequence, RLCircuitsError, attribute, logit_diff
from rlcircuits.common.choices import RULES
from rlcircuits.models.backward_rules import BackwardRules

METRIC = logit_diff(5, 9)
REFUSED = {
    "cohere2-moe", "deepseek-v3", "deepseek-v3-whole-q", "falcon-h1", "gemma4-moe", "glm4-moe", "gpt-oss",
    "granite-hybrid", "granite-moe", "llama4", "mixtral", "nemotron-h", "olmoe", "qwen3-5", "qwen3-5-moe", "qwen3-moe",
    "qwen3-next",
}  # fmt: skip
COVERED = [name for name in NAMES if name not in REFUSED]
CASES = [
    (name, granularity)
    for name in COVERED
    for granularity in ("sublayer", "head")
    if granularity == "sublayer" or (name in WITH_HEADS and name != "olmo2-gqa")
]
CONSERVING = ["llama", "phi3", "olmo2", "mistral-window"]
"""Models without biases, whose queries and keys are norm-free, or have norms that the rule covers."""


def double(name: str) -> Any:
    return build(name, seed=3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "granularity"),
    slow_unless(lambda name, granularity: name in ("gpt2", "gemma2", "qwen3"), CASES),
)
def test_every_set_of_rules_is_its_definition(name: str, granularity: str) -> None:
    model = double(name)
    for rules in (GIM, RELP, *((rule,) for rule in RULES)):
        found = attribute(model, fixed_sequences(2), granularity, rules=rules)
        with active(rules):
            wanted = edge_scores(model, fixed_sequences(2), granularity)[0]
        assert relative_error(found.values, wanted) < 1e-5, rules


@given(sequences(), st.sets(st.sampled_from(RULES)).filter(lambda rules: "attention" not in rules))
@settings(max_examples=10)
def test_any_rules_go_together(sequence: AnswerSequence, rules: set[str]) -> None:
    found = attribute(double("qwen3"), [sequence], rules=sorted(rules))
    with active(rules):
        wanted = edge_scores(double("qwen3"), [sequence])[0]
    # One token and nothing to attend to: all of q's and k's gradients are zero, or rounding.
    assert (found.values - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", CONSERVING)
def test_what_gim_conserves(name: str) -> None:
    """The metric arrives at what the logits read; v gets half of what the attention passes, and q as much as k."""
    scores = attribute(double(name), fixed_sequences(2), metric=METRIC, rules=GIM)
    values, readers, writers = scores.values.double(), scores.graph.readers, scores.graph.writers
    into, out = values.sum(1), values.sum(2)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(into[:, readers.index("logits")], -scores.metric_values.double(), **close)
    for layer in range(len(writers) // 2):
        q, k, v = (into[:, readers.index(f"attn.{layer}.{kind}")] for kind in "qkv")
        torch.testing.assert_close(v, out[:, writers.index(f"attn.{layer}")] / 2, **close)
        torch.testing.assert_close(q, k, **close)
        assert (q.abs() > 1e-4).any()


@pytest.mark.parametrize("rules", [[rule] for rule in RULES if rule != "norm_scale"])
def test_scores_into_a_reader_sum_to_zero_unless_norms_are_held(rules: list[str]) -> None:
    values = attribute(build("llama", seed=3, dtype=torch.float64, rms_norm_eps=1e-12), fixed_sequences(), rules=rules)
    assert values.values.double().sum(1).abs().max() < 1e-5
    held = attribute(double("llama"), fixed_sequences(), rules=[*rules, "norm_scale"]).values.double()
    assert held.sum(1).abs().max() > 1e-3


def test_a_hotter_softmax_has_more_gradient_where_it_is_saturated() -> None:
    model: Any = build("llama", seed=3)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= 30
    share = {}
    for rules in ((), ("softmax_temperature",)):
        scores = attribute(model, fixed_sequences(), rules=rules)
        queries = [place for place, name in enumerate(scores.graph.readers) if name.endswith(".q")]
        share[rules] = float(scores.values[:, :, queries].abs().sum() / scores.values.abs().sum())
    assert share["softmax_temperature",] > share[()]


@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
def test_both_attentions_agree_and_the_model_stays_as_it_was(granularity: str) -> None:
    fused, written_out = (build("llama-gqa", seed=3, attn_implementation=how) for how in ("sdpa", "eager"))
    functions = F.softmax, torch.softmax, Tensor.softmax, F.scaled_dot_product_attention
    plain = attribute(fused, fixed_sequences(), granularity)
    found = attribute(fused, fixed_sequences(), granularity, rules=GIM)
    torch.testing.assert_close(found.loss, plain.loss)
    assert relative_error(found.values, plain.values) > 0.1
    assert (F.softmax, torch.softmax, Tensor.softmax, F.scaled_dot_product_attention) == functions
    assert not any("forward" in vars(module) for module in fused.modules())
    assert torch.equal(attribute(fused, fixed_sequences(), granularity).values, plain.values)
    for model, more in ((written_out, {}), (fused, {"recompute": True}), (fused, {"batch_tokens": 1})):
        again = attribute(model, fixed_sequences(), granularity, rules=GIM, **more)
        assert relative_error(again.values, found.values) < 1e-5
    left = attribute(fused, fixed_sequences(), granularity, rules=GIM, padding_side="left")
    assert relative_error(left.values, found.values) < 1e-5


def test_narrower_dtypes_agree() -> None:
    exact = attribute(double("llama-gqa"), fixed_sequences(), rules=GIM).values
    assert relative_error(attribute(tiny("llama-gqa"), fixed_sequences(), rules=GIM).values, exact) < 1e-4
    narrow = build("llama-gqa", seed=3, dtype=torch.bfloat16)
    assert relative_error(attribute(narrow, fixed_sequences(), rules=GIM).values, exact) < 0.2


def test_heads_that_share_keys_add_up() -> None:
    by_head, shared = (
        attribute(double("llama-gqa"), fixed_sequences(), granularity, rules=GIM) for granularity in ("head", "kv-head")
    )
    for kind in "kv":
        for group in range(2):
            parts = [by_head.graph.readers.index(f"attn.1.h{2 * group + place}.{kind}") for place in range(2)]
            whole = shared.graph.readers.index(f"attn.1.kv{group}.{kind}")
            wanted = by_head.values[:, :, parts].sum(2)
            torch.testing.assert_close(shared.values[:, :, whole], wanted, rtol=1e-5, atol=1e-6)


def test_an_attention_whose_softmax_is_not_seen_is_refused() -> None:
    def without_softmax(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        weights = (query @ key.transpose(-1, -2)).tril().exp()
        return (weights / weights.sum(-1, keepdim=True) @ value).transpose(1, 2), None

    AttentionInterface.register("without-softmax", without_softmax)
    model = build("llama", seed=3)
    model.config._attn_implementation = "without-softmax"
    with pytest.raises(RLCircuitsError, match="LlamaAttention computes 0 softmaxes that torch shows"):
        attribute(model, fixed_sequences(), rules=GIM)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_gim_is_refused_where_relp_is(name: str) -> None:
    with pytest.raises(RLCircuitsError, match="for which no rule is defined; leave the rules out"):
        attribute(tiny(name), fixed_sequences(), rules=GIM)


def test_names_of_rules() -> None:
    assert BackwardRules.named(["gim"]).names == tuple(rule for rule in RULES if rule in GIM)
    assert BackwardRules.named(["relp", "norm_scale"]) == BackwardRules.named(RELP)
    for other in ("qkv_shares", "softmax_temperature", "gim"):
        with pytest.raises(RLCircuitsError, match=r"rules holds attention and .* leave one of them out"):
            BackwardRules.named(["attention", other])
