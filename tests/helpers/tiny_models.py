"""Build random tiny causal LMs of every supported family from their configs, without downloads.

The default initialization (weights of 0.02, norms of exactly one, biases of exactly zero) hides mistakes: attention is
uniform, a forgotten bias or norm weight changes nothing, and every expert gets the same share. So every parameter is
drawn anew: matrices such that a sublayer's output is about as large as its input, norm weights around one, biases away
from zero, and routers sharp enough that the experts differ from token to token.

    model = build("qwen3", seed=0)                      # eval mode, float32, sdpa (Gemma 2: eager)
    model = build("llama", num_hidden_layers=1)         # anything of the config can be overridden
    for name, make in ARCHITECTURES.items(): make(seed=1, dtype=torch.float64)
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 61
_IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BASE = {
    **_IDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 96, "tie_word_embeddings": False,
}  # fmt: skip
_GQA = {"num_key_value_heads": 2}
_GEMMA = {
    **_BASE, **_GQA, "tie_word_embeddings": True, "head_dim": 12, "query_pre_attn_scalar": 16,
    "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5,
    "final_logit_softcapping": 4.0,
}  # fmt: skip
_GEMMA4 = {
    **_BASE, **_GQA, "num_hidden_layers": 3, "tie_word_embeddings": True, "head_dim": 12, "global_head_dim": 16,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"], "sliding_window": 4,
    "hidden_size_per_layer_input": 0, "final_logit_softcapping": 8.0,
}  # fmt: skip
_FALCON = {
    **_IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 48,
    "max_position_embeddings": 96, "tie_word_embeddings": False,
}  # fmt: skip
_ONE_WINDOW = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}
_PARTIAL_ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 24}
_EXPERTS = {"intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2}
_GROUPED_EXPERTS = {
    "moe_intermediate_size": 24, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
    "topk_group": 1, "routed_scaling_factor": 1.5, "norm_topk_prob": True, "first_k_dense_replace": 1,
}  # fmt: skip
_LATENT = {"kv_lora_rank": 14, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10}
_NEOX = {
    **_IDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 96, "tie_word_embeddings": False, "hidden_dropout": 0.0,
    "rope_parameters": _PARTIAL_ROTARY,
}  # fmt: skip

# name -> (model_type, config). A comment says what the entry tests.
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_BASE, "num_hidden_layers": 3, "pad_token_id": None}),  # the plain case, no pad
    "llama-gqa": ("llama", {**_BASE, **_GQA, "tie_word_embeddings": True, "attention_bias": True,
                            "mlp_bias": True}),
    "mistral": ("mistral", {**_BASE, **_GQA, "sliding_window": None}),
    "mistral-window": ("mistral", {**_BASE, **_GQA, "sliding_window": 4}),  # shorter than any test sequence
    "qwen2": ("qwen2", {**_BASE, **_GQA}),  # biases on q, k, v and none on the output
    "qwen3": ("qwen3", {**_BASE, **_GQA, "head_dim": 12}),  # q/k norms, heads * head_dim != hidden
    "gpt2": ("gpt2", {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "resid_pdrop": 0.0,
                      "embd_pdrop": 0.0, "attn_pdrop": 0.0}),  # fused Conv1D qkv, learned positions, tied
    "gpt-neox": ("gpt_neox", {**_NEOX, "use_parallel_residual": True}),  # no edge attn -> mlp inside a layer
    "gpt-neox-sequential": ("gpt_neox", {**_NEOX, "use_parallel_residual": False}),
    # One norm for attention and MLP, which read the same stream.
    "cohere": ("cohere", {**_BASE, **_GQA, "use_qk_norm": True, "logit_scale": 0.5}),  # a norm's weight for each head
    "cohere2": ("cohere2", {**_BASE, **_GQA, **_ONE_WINDOW, "tie_word_embeddings": True, "attention_bias": True,
                            "logit_scale": 1.5}),  # no positions where all tokens are seen
    "cohere2-moe": ("cohere2_moe", {  # RMSNorm; a dense layer that is rotated though it sees all tokens
        **_BASE, **_GQA, "head_dim": 12, "intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2,
        "num_shared_experts": 2, "expert_selection_fn": "sigmoid", "rms_norm_eps": 1e-5, "logit_scale": 1.5,
        "prefix_dense_intermediate_size": 48, "mlp_layer_types": ["dense", "sparse", "sparse"], "num_hidden_layers": 3,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"], "sliding_window": 4}),
    "phi": ("phi", {**_BASE, **_GQA, "qk_layernorm": True, "rope_parameters": _PARTIAL_ROTARY}),  # biases everywhere
    "gpt-j": ("gptj", {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "rotary_dim": 4,
                       "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": False}),
    # Falcon's generations: one norm and one k; two norms and grouped k; one norm, grouped k and biases; sequential.
    "falcon": ("falcon", _FALCON),
    "falcon-40b": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-11b": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True,
                              "num_ln_in_parallel_attn": 1}),
    "falcon-sequential": ("falcon", {**_FALCON, "parallel_attn": False, "multi_query": False}),
    "phi3": ("phi3", {**_BASE, **_GQA, "sliding_window": None,
                      "rope_parameters": _PARTIAL_ROTARY}),  # fused qkv and gate/up, half the width turned
    "gemma2": ("gemma2", {**_GEMMA, "attn_logit_softcapping": 2.0}),  # post-norms, scaled embedding, caps
    "gemma3": ("gemma3_text", _GEMMA),  # and q/k norms, a rotary base for each kind of layer
    "gemma4": ("gemma4_text", {  # k and v of one projection, other heads in layers that see all tokens, scaled stream
        **_GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1}),
    "gemma4-moe": ("gemma4_text", {  # experts beside a dense MLP, which read the stream at three places
        **_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}),
    "granite": ("granite", {**_BASE, **_GQA, "residual_multiplier": 0.4, "embedding_multiplier": 3.0,
                            "attention_multiplier": 0.5, "logits_scaling": 1.5}),  # all four away from one
    # NoPE beside rotated layers; windows shorter than any test sequence; another rotary base in windows (OLMo 3).
    "smollm3": ("smollm3", {**_BASE, **_GQA, "attention_bias": True, "no_rope_layers": [1, 0]}),
    "ministral": ("ministral", {**_BASE, **_GQA, **_ONE_WINDOW, "head_dim": 12}),
    "ministral3": ("ministral3", {**_BASE, **_GQA, "head_dim": 12, "sliding_window": 6, "rope_parameters": {
        **_YARN, "original_max_position_embeddings": 3, "llama_4_scaling_beta": 0.5}}),  # longer than any window
    "exaone4": ("exaone4", {**_BASE, **_GQA, **_ONE_WINDOW, "head_dim": 12}),
    "olmo3": ("olmo3", {**_BASE, **_ONE_WINDOW, "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": _YARN}}),
    "glm4": ("glm4", {**_BASE, **_GQA, "head_dim": 12, "attention_bias": True,
                      "rope_parameters": _PARTIAL_ROTARY}),  # neighbouring features rotated, post-norms, fused gate/up
    "hunyuan": ("hunyuan_v1_dense", {**_BASE, **_GQA, "head_dim": 12}),  # q/k norms after the rotation
    "gpt-oss": ("gpt_oss", {**_BASE, **_GQA, **_ONE_WINDOW, **_EXPERTS, "head_dim": 12, "swiglu_limit": 1.5,
                            "rope_parameters": _YARN}),  # sinks, biases everywhere, clamped experts
    "glm4-moe": ("glm4_moe", {**_BASE, **_GQA, **_GROUPED_EXPERTS, "head_dim": 12, "attention_bias": True,
                              "use_qk_norm": True, "rope_parameters": _PARTIAL_ROTARY}),
    "olmoe": ("olmoe", {**_BASE, **_EXPERTS}),  # q/k norms over all heads at once, weights that do not sum to one
    "granite-moe": ("granitemoe", {**_BASE, **_GQA, **_EXPERTS, "residual_multiplier": 0.4,
                                   "embedding_multiplier": 3.0, "attention_multiplier": 0.5, "logits_scaling": 1.5}),
    "llama4": ("llama4_text", {**_BASE, **_GQA, **_EXPERTS, "head_dim": 12, "intermediate_size_mlp": 48,
                               "moe_layers": [1], "no_rope_layers": [1, 0], "attention_chunk_size": 5,
                               "floor_scale": 3, "attn_scale": 0.5}),  # a dense layer in chunks, a sparse one without
    "deepseek-v3": ("deepseek_v3", {**_BASE, **_GROUPED_EXPERTS, **_LATENT, "q_lora_rank": 20, "attention_bias": True,
                                    "rope_parameters": {**_YARN, "mscale_all_dim": 1.0}}),
    "deepseek-v3-whole-q": ("deepseek_v3", {**_BASE, **_GROUPED_EXPERTS, **_LATENT, "q_lora_rank": None,
                                            "rope_interleave": False}),
    "olmo2": ("olmo2", _BASE),  # post-norms only; q/k norms over all heads at once
    "olmo2-gqa": ("olmo2", {**_BASE, **_GQA}),
    "mixtral": ("mixtral", {**_BASE, **_GQA, "intermediate_size": 24, "num_local_experts": 4,
                            "num_experts_per_tok": 2}),
    "qwen3-moe": ("qwen3_moe", {**_BASE, **_GQA, "num_hidden_layers": 3, "head_dim": 12, "num_experts": 4,
                                "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                                "norm_topk_prob": False, "mlp_only_layers": [1]}),  # dense between sparse
}  # fmt: skip

# Layers that are not attention. Chunks shorter than any test sequence; groups and heads of different numbers.
_DELTA_NET = {
    **_BASE, **_GQA, "num_hidden_layers": 3, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 6, "linear_value_head_dim": 5, "linear_conv_kernel_dim": 3,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    # A delta net norms what it reads from its state, which is little at the first tokens: rounding would grow much.
    "rms_norm_eps": 1e-2,
}  # fmt: skip
_SHARED_EXPERT = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                  "shared_expert_intermediate_size": 20}  # fmt: skip
_MAMBA = {
    **_BASE, **_GQA, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 5,
    "mamba_d_conv": 3, "mamba_expand": 2, "mamba_chunk_size": 4, "time_step_limit": (0.1, 2.0),
}  # fmt: skip
_CONFIGS |= {
    "qwen3-next": ("qwen3_next", {**_DELTA_NET, **_SHARED_EXPERT, "mlp_only_layers": [1], "norm_topk_prob": False}),
    "qwen3-5": ("qwen3_5_text", _DELTA_NET),
    "qwen3-5-moe": ("qwen3_5_moe_text", {**_DELTA_NET, **_SHARED_EXPERT}),
    "granite-hybrid": ("granitemoehybrid", {  # experts beside a shared MLP, four multipliers, rotary positions
        **_MAMBA, "num_hidden_layers": 3, "intermediate_size": 24, "shared_intermediate_size": 20,
        "num_local_experts": 4, "num_experts_per_tok": 2, "position_embedding_type": "rope",
        "layer_types": ["linear_attention", "full_attention", "linear_attention"], "residual_multiplier": 0.4,
        "embedding_multiplier": 3.0, "attention_multiplier": 0.5, "logits_scaling": 1.5}),
    "falcon-h1": ("falcon_h1", {  # attention and Mamba read one stream; every multiplier away from one
        **_MAMBA, "mamba_d_ssm": 64, "mamba_rms_norm": True, "mamba_norm_before_gate": False,
        "lm_head_multiplier": 0.7, "embedding_multiplier": 1.5, "mlp_multipliers": [0.8, 1.3], "key_multiplier": 0.6,
        "attention_out_multiplier": 0.7, "attention_in_multiplier": 1.4, "ssm_multipliers": [0.9, 1.2, 0.7, 1.1, 0.8],
        "ssm_in_multiplier": 1.2, "ssm_out_multiplier": 0.8, "projectors_bias": True, "mamba_proj_bias": True}),
    "nemotron-h": ("nemotron_h", {  # one sublayer a layer, experts without gates
        **_IDS, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 12, "max_position_embeddings": 96, "tie_word_embeddings": False,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
        "ssm_state_size": 5, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2, "conv_kernel": 3,
        "chunk_size": 4, "time_step_min": 0.1, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 20,
        "moe_latent_size": 16, "routed_scaling_factor": 1.5, "use_bias": True, "mlp_bias": True,
        "layer_norm_epsilon": 1e-2}),  # as for the delta nets: a mixer norms what it reads from its state
}  # fmt: skip


HYBRIDS = frozenset({"qwen3-next", "qwen3-5", "qwen3-5-moe", "granite-hybrid", "falcon-h1", "nemotron-h"})
"""The models with layers that are not attention, which have no graph of heads."""
ATTENTION_ONLY = sorted(_CONFIGS.keys() - HYBRIDS)
"""The models whose layers all have an attention and an MLP."""

MIXTURES = (
    *("cohere2-moe", "deepseek-v3", "deepseek-v3-whole-q", "glm4-moe", "gpt-oss", "granite-hybrid", "granite-moe"),
    *("llama4", "mixtral", "nemotron-h", "olmoe", "qwen3-5-moe", "qwen3-moe", "qwen3-next"),
)
"""The models with mixtures of experts, which have a graph of experts."""

_AFTER_BOTH = ("post_attention_layernorm", "post_feedforward_layernorm")
POST_NORMS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("gemma2", "gemma3", "gemma4", "gemma4-moe", "olmo2", "olmo2-gqa", "olmo3", "exaone4"), _AFTER_BOTH
    ),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm"),
}
"""The norms between attention and stream, and between MLP and stream, of the models that have them."""
NO_PRE_NORM = frozenset({"olmo2", "olmo2-gqa", "olmo3", "exaone4"})
"""The models whose attention and MLP read the stream itself."""
PARALLEL = frozenset(
    {"gpt-neox", "cohere", "cohere2", "cohere2-moe", "phi", "gpt-j", "falcon", "falcon-40b", "falcon-11b"}
)
"""The models whose attention and MLP read the same stream."""
JOINT_KEY_NORM = frozenset({"olmo2", "olmo2-gqa", "olmo3", "olmoe"})
"""The models with one norm over all heads' queries and one over all heads' keys."""


@dataclass(frozen=True)
class TinySequence:
    """A prompt and an answer, with the attributes of `rlcircuits.AnswerSequence` but without importing it."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> PreTrainedModel:
    """Return a model with random weights, on the CPU and in eval mode.

    The same name, seed and overrides give the same weights in every dtype, rounded from float32. Buffers, such as
    rotary frequencies, stay float32, as in a loaded checkpoint. The global random state does not change.

    Args:
        name: a key of `ARCHITECTURES`.
        seed: seed of the weights.
        dtype: dtype of the weights.
        overrides: config fields, and `attn_implementation`.
    """
    model_type, fields = _CONFIGS[name]
    fields = copy.deepcopy({**fields, **overrides})  # a config keeps the lists that it is given
    # SDPA ignores the soft-cap, so that Gemma 2 would silently compute something else; it has no sinks for gpt-oss; and
    # GPT-J has none.
    attention = fields.pop("attn_implementation", "eager" if model_type in ("gemma2", "gpt_oss", "gptj") else "sdpa")
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(model_type, **fields), attn_implementation=attention, dtype=torch.float32
        )
    draw(model, torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    if dtype == torch.float64 and has_experts(model):
        model.set_experts_implementation("eager")  # the default grouped matmul does not support float64
    return model.eval()


def config_fields(name: str) -> dict[str, Any]:
    """Return a copy of the config fields that a model of `ARCHITECTURES` is built from."""
    return copy.deepcopy(_CONFIGS[name][1])


def has_experts(model: nn.Module) -> bool:
    """Return whether a model is a mixture of experts."""
    return any(type(module).__name__.endswith("Experts") for module in model.modules())


def stored_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a checkpoint's files hold of a model: its parameters, and what its routers add to scores."""
    kept = model.state_dict().keys()
    return {
        **dict(model.named_parameters()),
        **{name: buffer for name, buffer in model.named_buffers() if name in kept},
    }


def random_sequences(
    count: int, seed: int = 0, prompt: tuple[int, int] = (3, 9), answer: tuple[int, int] = (1, 7)
) -> list[TinySequence]:
    """Return `count` sequences of random ids in [3, VOCABULARY), with lengths drawn from the inclusive ranges."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return tuple(torch.randint(3, VOCABULARY, (length,), generator=generator).tolist())

    return [TinySequence(ids(*prompt), ids(*answer)) for _ in range(count)]


def granularities(name: str) -> tuple[str, ...]:
    """Return the granularities of a model's graph; heads beside mixers cannot be nodes."""
    return ("sublayer",) if name in HYBRIDS else ("sublayer", "head", "kv-head")


def padding_sides(name: str) -> tuple[str, ...]:
    """Return the sides on which padding does not change what a model computes."""
    return ("right",) if name == "llama4" else ("left", "right")


@torch.no_grad()
def draw(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Draw all weights of a model anew, such that no part of it hides."""
    tied = bool(model.config.tie_word_embeddings)
    seen: set[int] = set()  # a tied matrix is drawn once, as the embedding, which comes first
    for module in model.modules():
        kind = type(module).__name__
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            noise = torch.randn(parameter.shape, generator=generator)
            if isinstance(module, nn.Embedding):
                parameter.copy_(noise * (0.5 if tied else 1.0))
            elif parameter.ndim > 1 and not kind.endswith("Norm"):
                fan_in = parameter.shape[0] if kind == "Conv1D" else parameter.shape[-1]
                gain = 2.0 if "Router" in kind else 1.4
                parameter.copy_(noise * gain * fan_in**-0.5)
            elif name == "weight":  # a norm's; Gemma and Qwen 3.5 store most of them less one
                parameter.copy_(noise * 0.3 + (0.0 if _LESS_ONE.fullmatch(kind) else 1.0))
            elif name == "A_log":  # a mixer's decay of about a half a token
                parameter.copy_(noise * 0.5 - 0.5)
            else:
                parameter.copy_(noise * 0.3)
        for name, buffer in module.named_buffers(recurse=False):
            if name == "e_score_correction_bias":  # a part of the checkpoint, beside the router's weight
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
            elif name == "layer_scalar":  # Gemma 4's, one number a layer
                buffer.copy_(1.0 + torch.randn(buffer.shape, generator=generator) * 0.3)


_LESS_ONE = re.compile(r"(Gemma[23]?|Qwen3(Next|_5|_5Moe))RMSNorm")
"""The classes of norms that store their weights less one."""

ARCHITECTURES: dict[str, Callable[..., PreTrainedModel]] = {name: partial(build, name) for name in _CONFIGS}
MODEL_TYPES: dict[str, str] = {name: model_type for name, (model_type, _) in _CONFIGS.items()}
"""The family of each of `ARCHITECTURES`."""
