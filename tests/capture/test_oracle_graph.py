"""Tests of the oracle's graph, of its errors, and of the tiny models that it is tried on."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.oracle import edge_names, edge_scores
from helpers.tiny_models import ATTENTION_ONLY, PARALLEL, VOCABULARY, TinySequence, build, random_sequences
from torch.nn import functional as F

SEQUENCE = random_sequences(1, seed=5, prompt=(6, 6), answer=(5, 5))[0]
OTHER = random_sequences(1, seed=6, prompt=(6, 6), answer=(5, 5))[0]
built = cache(build)
"""Tiny models for tests that only read them, each built once."""


# --- the graph


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_the_number_of_edges(name: str) -> None:
    model = built(name)
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    parallel = name in PARALLEL
    writers, readers, edges = edge_names(model)
    assert edges.shape == (len(writers), len(readers)) == (1 + 2 * layers, 4 * layers + 1)
    assert edges.sum() == 4 * layers**2 + 3 * layers + 1 - parallel * layers
    writers, readers, edges = edge_names(model, "head")
    assert edges.shape == (len(writers), len(readers))
    assert edges.shape == (1 + layers * (heads + 1), 3 * layers * heads + layers + 1)


def test_the_number_of_edges_of_thirty_two_layers() -> None:
    config = SimpleNamespace(model_type="llama", num_hidden_layers=32, num_attention_heads=32)
    assert edge_names(SimpleNamespace(config=config))[2].sum() == 4193  # type: ignore[arg-type]


def test_the_names_and_their_order() -> None:
    config = SimpleNamespace(model_type="llama", num_hidden_layers=2, num_attention_heads=2)
    model: Any = SimpleNamespace(config=config)
    writers, readers, edges = edge_names(model)
    assert writers == ("embed", "attn.0", "mlp.0", "attn.1", "mlp.1")
    assert readers == (
        *("attn.0.q", "attn.0.k", "attn.0.v", "mlp.0"),
        *("attn.1.q", "attn.1.k", "attn.1.v", "mlp.1", "logits"),
    )
    assert edges.int().tolist() == [
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
    writers, readers, _ = edge_names(model, "head")
    assert writers == ("embed", "attn.0.h0", "attn.0.h1", "mlp.0", "attn.1.h0", "attn.1.h1", "mlp.1")
    first = (
        "attn.0.h0.q",
        "attn.0.h1.q",
        "attn.0.h0.k",
        "attn.0.h1.k",
        "attn.0.h0.v",
        "attn.0.h1.v",
        "mlp.0",
    )
    assert readers == (*first, *(name.replace("0.h", "1.h") for name in first[:6]), "mlp.1", "logits")
    config.use_parallel_residual = True
    assert edge_names(model)[2][:, 3].int().tolist() == [1, 0, 0, 0, 0]  # mlp.0 reads the embedding alone


def test_layers_that_are_not_attention() -> None:
    """A mixer reads once. With an attention beside it (Falcon-H1), neither reads what the other writes."""
    writers, readers, edges = edge_names(built("falcon-h1"))
    assert writers == ("embed", "attn.0", "mixer.0", "mlp.0", "attn.1", "mixer.1", "mlp.1")
    assert readers[:5] == ("attn.0.q", "attn.0.k", "attn.0.v", "mixer.0", "mlp.0")
    assert edges[:4, :5].int().tolist() == [[1] * 5, [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5]
    writers, readers, edges = edge_names(built("nemotron-h"))
    assert writers == ("embed", "mixer.0", "mlp.1", "attn.2", "mlp.3", "mixer.4")
    assert readers == ("mixer.0", "mlp.1", "attn.2.q", "attn.2.k", "attn.2.v", "mlp.3", "mixer.4", "logits")
    assert edges.sum(0).tolist() == [1, 2, 3, 3, 3, 4, 5, 6]
    with pytest.raises(NotImplementedError, match="no heads"):
        edge_scores(built("falcon-h1"), [SEQUENCE], "head")


# --- errors


def test_bad_input_is_an_error() -> None:
    model: Any = build("llama", num_hidden_layers=1)
    with pytest.raises(ValueError, match="granularity: found 'neuron'"):
        edge_scores(model, [SEQUENCE], "neuron")
    with pytest.raises(ValueError, match="no prompt or no answer"):
        edge_scores(model, [TinySequence((), (4,))])
    with pytest.raises(ValueError, match="corrupted: found 12 ids, wanted 11"):
        edge_scores(model, [SEQUENCE], corrupted=[TinySequence((3, *OTHER.prompt_ids), OTHER.answer_ids)])
    with pytest.raises(NotImplementedError, match="share one norm"):
        edge_scores(build("olmo2-gqa"), [SEQUENCE], "head")
    model.config.model_type = "unheard-of"
    with pytest.raises(NotImplementedError, match="unheard-of"):
        edge_scores(model, [SEQUENCE])


# --- the tiny models


def test_tiny_models_are_their_seeds_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = build("mixtral"), build("mixtral"), build("mixtral", seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])
    half = build("mixtral", dtype=torch.bfloat16)
    assert torch.equal(half.lm_head.weight, first.lm_head.weight.bfloat16())
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("mistral-window", {"sliding_window": None}),
        ("gemma2", {"layer_types": ["full_attention"] * 2}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma3", {"layer_types": ["full_attention"] * 2}),
        ("smollm3", {"no_rope_layers": [1, 1]}),
        ("ministral", {"layer_types": ["full_attention"] * 2}),
        ("exaone4", {"layer_types": ["sliding_attention"] * 2}),
        ("olmo3", {"layer_types": ["full_attention"] * 2}),
        ("glm4", {"attention_bias": False}),
        ("gpt-oss", {"swiglu_limit": 0.5}),
        ("gpt-oss", {"layer_types": ["full_attention"] * 2}),
        ("glm4-moe", {"topk_group": 2}),
        ("glm4-moe", {"first_k_dense_replace": 0}),
        ("olmoe", {"norm_topk_prob": True}),
        ("gemma4", {"attention_k_eq_v": False}),
        ("gemma4", {"layer_types": ["full_attention"] * 3}),
        ("gemma4-moe", {"top_k_experts": 1}),
        ("granite-moe", {"num_experts_per_tok": 1}),
        ("llama4", {"no_rope_layers": [1, 1]}),
        ("llama4", {"attn_temperature_tuning": False}),
        ("llama4", {"attention_chunk_size": 64}),
        ("llama4", {"use_qk_norm": False}),
        ("gpt-neox", {"use_parallel_residual": False}),
        ("qwen3-moe", {"norm_topk_prob": True}),
        ("qwen3-moe", {"num_experts_per_tok": 1}),
        ("qwen3-next", {"norm_topk_prob": True}),
        ("granite-hybrid", {"position_embedding_type": None}),
        ("granite-hybrid", {"time_step_limit": (0.0, 9.0)}),
        ("falcon-h1", {"mamba_rms_norm": False}),
        ("falcon-h1", {"ssm_multipliers": [1.0] * 5}),
        ("falcon-h1", {"key_multiplier": 1.0}),
        ("nemotron-h", {"topk_group": 2}),
        (
            "phi3",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "partial_rotary_factor": 0.5}},
        ),
    ],
)
def test_what_sets_a_tiny_model_apart_moves_its_scores(name: str, override: dict[str, Any]) -> None:
    plain, changed = built(name), build(name, **override)
    gap = edge_scores(plain, [SEQUENCE])[0] - edge_scores(changed, [SEQUENCE])[0]
    assert gap.abs().max() > 1e-2


def test_every_expert_of_a_tiny_mixture_is_used_and_none_for_every_token() -> None:
    model = build("mixtral")
    ids = torch.randint(3, VOCABULARY, (1, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        routers = model(ids, output_router_logits=True).router_logits
    for router in routers:
        used = F.one_hot(router.topk(2).indices, 4).sum((0, 1))
        assert (used > 0).all()
        assert (used < len(router)).all()
