"""Each part's path leads to the module that was found, with the layers' numbers taken together."""

from __future__ import annotations

import pytest
from helpers.tiny_models import build

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.models.part_paths import part_paths


def paths(name: str, **overrides: object) -> dict[str, str]:
    model = build(name, **overrides)
    return part_paths(model, Checkpoint(model).parts)


def test_of_llama() -> None:
    assert paths("llama") == {
        "embedding": "model.embed_tokens",
        "block": "model.layers.{0–2}",
        "attention": "model.layers.{0–2}.self_attn",
        "MLP": "model.layers.{0–2}.mlp",
        "attention norm": "model.layers.{0–2}.input_layernorm (RMSNorm)",
        "MLP norm": "model.layers.{0–2}.post_attention_layernorm (RMSNorm)",
        "projection to q": "model.layers.{0–2}.self_attn.q_proj",
        "projection to k": "model.layers.{0–2}.self_attn.k_proj",
        "projection to v": "model.layers.{0–2}.self_attn.v_proj",
        "output projection": "model.layers.{0–2}.self_attn.o_proj",
        "final norm": "model.norm (RMSNorm)",
        "unembedding": "lm_head",
    }


def test_of_a_fused_projection_and_of_one_layer() -> None:
    found = paths("gpt2", n_layer=1)
    assert found["projection to q, k, v"] == "transformer.h.0.attn.c_attn"
    assert found["attention norm"] == "transformer.h.0.ln_1 (LayerNorm)"


def test_says_what_is_added_to_a_norms_weight() -> None:
    assert paths("gemma2")["MLP post norm"].endswith("(RMSNorm, weight + 1)")


@pytest.mark.parametrize("name", ["olmo2", "qwen3-moe", "phi3"])
def test_every_path_is_a_modules(name: str) -> None:
    model = build(name)
    for role, path in part_paths(model, Checkpoint(model).parts).items():
        last = len(model.model.layers) - 1
        plain = path.partition(" (")[0].replace("{0–" + str(last) + "}", str(last))
        assert model.get_submodule(plain) is not None, role
