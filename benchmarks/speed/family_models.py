"""Every mapped family at the size of the CPU benchmark: the tiny models of the tests, made 8 layers of width 512."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from helpers.tiny_models import MODEL_TYPES, build, config_fields

LAYERS, WIDTH, VOCABULARY = 8, 512, 8000

_SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head"), 8),
    **dict.fromkeys(("intermediate_size", "intermediate_size_mlp", "prefix_dense_intermediate_size"), 1376),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 1024),
    **dict.fromkeys(("moe_intermediate_size", "shared_intermediate_size"), 512),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size"), 512),
    **dict.fromkeys(("mamba_d_ssm", "moe_latent_size"), 512),
    **dict.fromkeys(("sliding_window", "attention_chunk_size"), 64),
    "vocab_size": VOCABULARY,
    "head_dim": 64, "global_head_dim": 128,
    "ffn_hidden_size": 4 * WIDTH,  # Falcon's share
    # Latent attention: DeepSeek-V3's shares of its width.
    "q_lora_rank": 192, "kv_lora_rank": 64, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
    # Mixers: as wide as the stream, or twice as wide, in chunks of their families' usual lengths.
    "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
    "mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 64, "mamba_chunk_size": 64,
    "mamba_num_heads": 16, "mamba_head_dim": 64, "ssm_state_size": 64, "chunk_size": 64,
}  # fmt: skip
_NARROW_EXPERTS = ("mixtral", "gpt_oss", "olmoe", "granitemoe", "granitemoehybrid", "llama4_text")
"""The families whose ``intermediate_size`` is an expert's."""
_LISTS = ("layer_types", "layers_block_type", "no_rope_layers", "mlp_layer_types")
"""The fields with an entry for each layer, which are repeated."""


def families() -> list[str]:
    """Return the ``model_type`` of each family that has a tiny model."""
    return list(dict.fromkeys(MODEL_TYPES.values()))


def fields(family: str) -> dict[str, Any]:
    """Return the config fields of a family's model: its first tiny model's, enlarged."""
    name = next(name for name, model_type in MODEL_TYPES.items() if model_type == family)
    tiny = config_fields(name)
    sizes = _SIZES | ({"intermediate_size": 512} if family in _NARROW_EXPERTS else {})
    large = {field: sizes.get(field, value) if isinstance(value, int) else value for field, value in tiny.items()}
    if "num_key_value_heads" in tiny:
        large["num_key_value_heads"] = 8 * tiny["num_key_value_heads"] // tiny["num_attention_heads"]
    for field in set(_LISTS) & tiny.keys():
        large[field] = (tiny[field] * LAYERS)[:LAYERS]
    if family == "falcon_h1":
        large |= {"mamba_n_heads": 8}  # 8 heads of 64 make its own field, mamba_d_ssm
    if family == "gpt_neox":
        large["intermediate_size"] = 4 * WIDTH
    return large


def enlarged(family: str) -> Any:
    """Return a model of a family with random weights, on the CPU, float32 and in eval mode."""
    name = next(name for name, model_type in MODEL_TYPES.items() if model_type == family)
    return build(name, **fields(family))
