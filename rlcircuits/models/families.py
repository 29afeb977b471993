"""The table of supported model families: where each keeps its modules.

To support another family, add a line to ``FAMILIES``, or call :func:`register_family` from Python.
``rlcircuits.models.parts`` finds the modules by these names, and the stream check
(``rlcircuits.capture.stream_check``) then shows by numbers whether they are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import format_changed_fields, short_repr
from rlcircuits.common.sublayers import SUBLAYERS, Sublayer
from rlcircuits.models.refused import REFUSED

__all__ = ["FAMILIES", "LatentNames", "ModuleNames", "is_added", "register_family"]

FusedOrder = Literal["stacked", "interleaved", "grouped"]
GateUpOrder = Literal["rows", "columns", "alternating columns"]


@dataclass(frozen=True)
class LatentNames:
    """The names in an attention that keeps k and v in one latent. The defaults are DeepSeek-V3's."""

    q_down: str = "q_a_proj"
    """From the norm's output to q's latent. Where the config has no ``q_lora_rank``, the family's first projection
    computes q instead."""
    q_norm: str = "q_a_layernorm"
    q_up: str = "q_b_proj"
    """From q's normed latent to q, head by head."""
    kv_down: str = "kv_a_proj_with_mqa"
    """From the norm's output to the latent of k and v, followed by the rotated part of k, which all heads share."""
    kv_norm: str = "kv_a_layernorm"
    kv_up: str = "kv_b_proj"
    """From the normed latent to k's other part and to v, head by head."""

    def __post_init__(self) -> None:
        validate_fields(self)
        _check_paths(self)

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))


@dataclass(frozen=True)
class ModuleNames:
    """The names of one family's modules. The defaults are Llama's. None stands for a norm that the family lacks.

    Raises:
        RLCircuitsError: a name that cannot be a module's; a number of projections other than three and one; or kinds of
            layers with sublayers that are none, or with a mixer, but no name of one.
    """

    # Paths from the causal LM.
    layers: str = "model.layers"
    stored_prefix: str | None = None
    """The first name of paths in the checkpoint's files, where it is not that of the loaded model."""
    final_norm: str = "model.norm"
    # Names in a decoder block.
    attention: str = "self_attn"
    mlp: str = "mlp"
    attention_norm: str | None = "input_layernorm"
    mlp_norm: str | None = "post_attention_layernorm"
    """The norm before the MLP. The attention's own name stands for one norm, behind which both read the same stream."""
    attention_post_norm: str | None = None
    mlp_post_norm: str | None = None
    # Names in the attention module.
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    """The projections to q, k and v, or the one fused projection to all three."""
    fused: FusedOrder = "stacked"
    """The order of a fused projection's features: all q, all k, all v; q, k and v of one head after another; or the q
    of a group of query heads, their k and their v, one group after another."""
    output: str = "o_proj"
    latent: LatentNames | None = None
    """The projections to q, k and v of a multi-head latent attention."""
    # Names in the MLP module.
    mlp_outputs: tuple[str | tuple[str, ...], ...] = (
        "down_proj",
        "experts.down_proj",
        "experts.down_proj_bias",
        "shared_expert.down_proj",
        "shared_experts.down_proj",
    )
    """The layers and the experts' stacked weights that write the MLP's output: all of these that the MLP has. A tuple
    within stands for the first of its names that the MLP has."""
    gate_up: GateUpOrder = "rows"
    """Where a weight of both gate and up has them: in its rows, or in its columns, the gate in the first half and up in
    the second; or in alternating columns."""
    mlp_beside: str | None = None
    """A module that reads what the MLP reads, and whose output is added to the MLP's (Granite's experts)."""
    mlp_changed_after: bool = False
    """Whether the block adds the attention's output into the MLP's in place, so that a hook must copy it."""
    mlp_also_reads: tuple[str, ...] = ()
    """Modules in the block, where it has them, that read the stream as the norm before the MLP does, for the same
    output: Gemma 4's router and the norm before its experts."""
    stream_scalar: str | None = None
    """A tensor of one number in the block, by which the block multiplies the whole stream at its end."""
    split_at: tuple[str, str] | None = None
    """The norms of k and v in the attention. In a layer without a projection to v, the projection to k computes what
    both norms read."""
    experts: str = "experts"
    """The experts of a mixture, in the MLP or in what is beside it."""
    experts_out: str | None = None
    """The linear layer in the mixture through which the experts' sum is written, where there is one (Nemotron-H)."""
    weighing_router: str | None = None
    """The router of experts that are each called with every token, times its weight (Llama 4); None for experts that
    are called with the tokens, the experts that each token chose, and their weights."""
    # Names of layers that mix tokens without attention: linear attention, gated delta nets, Mamba.
    mixer: str | None = None
    mixer_output: str = "out_proj"
    layer_kinds: Mapping[str, tuple[Sublayer, ...]] | None = None
    """``layer_types`` of the config → the sublayers of such a layer; None if all have an attention and an MLP."""
    # Fields of the config.
    parallel_field: str | None = None
    """The field that is true if attention and MLP of a block, each behind a norm of its own, read the same stream; None
    if they never do."""
    gated_queries: bool = False
    """Whether the projection to q also computes a gate of the attention's output, after each head's q."""
    attention_in_field: str | None = None
    """The field that multiplies what the projections to q, k and v read; None for 1."""
    attention_out_field: str | None = None
    mixer_out_field: str | None = None
    """The fields that multiply what attention and mixer write; None for 1."""

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    def __post_init__(self) -> None:
        validate_fields(self)
        _check_paths(self)
        if len(self.projections) not in (1, 3):
            raise RLCircuitsError(
                f"ModuleNames: projections has {len(self.projections)} names; three (to q, k and v) or one (to all) is "
                "wanted"
            )
        for field, choices in (("fused", get_args(FusedOrder)), ("gate_up", get_args(GateUpOrder))):
            if (found := getattr(self, field)) not in choices:
                raise RLCircuitsError(f"ModuleNames: {field} is {found!r}; one of {', '.join(choices)} is wanted")
        for kind, sublayers in (self.layer_kinds or {}).items():
            if not isinstance(sublayers, tuple) or not sublayers or any(each not in SUBLAYERS for each in sublayers):
                raise RLCircuitsError(
                    f"ModuleNames: layer_kinds has {sublayers!r} for {kind!r}; one or more of {', '.join(SUBLAYERS)} "
                    "is wanted, as a tuple"
                )
            if "mixer" in sublayers and self.mixer is None:
                raise RLCircuitsError(f"ModuleNames: layer_kinds has a mixer in {kind!r}, but mixer, its name, is None")


def _check_paths(names: object) -> None:
    """Raise RLCircuitsError, naming the field, for a text that is no dotted path of Python names."""
    for field, value in vars(names).items():
        if field in ("fused", "gate_up"):
            continue
        for path in _flat(value):
            if isinstance(path, str) and not all(name.isidentifier() or name.isdigit() for name in path.split(".")):
                raise RLCircuitsError(
                    f"{type(names).__name__}: {field} has {truncated_repr(path)}; names of modules, joined by dots, "
                    "are wanted, such as 'model.layers'"
                )


def _flat(value: object) -> Iterator[object]:
    """Yield what is in a tuple, and in the tuples in it; or the value itself."""
    if isinstance(value, tuple):
        for each in value:
            yield from _flat(each)
    else:
        yield value


_LLAMA = ModuleNames()
_GEMMA = ModuleNames(
    mlp_norm="pre_feedforward_layernorm",
    attention_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_GEMMA4 = replace(
    _GEMMA,
    mlp_also_reads=("router", "pre_feedforward_layernorm_2"),
    stream_scalar="layer_scalar",
    split_at=("k_norm", "v_norm"),
)
_OLMO2 = ModuleNames(
    attention_norm=None,
    mlp_norm=None,
    attention_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_GLM4 = ModuleNames(attention_post_norm="post_self_attn_layernorm", mlp_post_norm="post_mlp_layernorm")
_GPT2 = ModuleNames(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    projections=("c_attn",),
    output="c_proj",
    mlp_outputs=("c_proj",),
)
_GPT_NEOX = ModuleNames(
    layers="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attention="attention",
    projections=("query_key_value",),
    fused="interleaved",
    output="dense",
    mlp_outputs=("dense_4h_to_h",),
    parallel_field="use_parallel_residual",
)
_COHERE = ModuleNames(mlp_norm="input_layernorm")
_PHI = ModuleNames(final_norm="model.final_layernorm", mlp_norm="input_layernorm", output="dense", mlp_outputs=("fc2",))
_GPT_J = ModuleNames(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    attention_norm="ln_1",
    mlp_norm="ln_1",
    output="out_proj",
    mlp_outputs=("fc_out",),
)
_FALCON = ModuleNames(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    attention="self_attention",
    mlp_norm="input_layernorm",
    projections=("query_key_value",),
    output="dense",
    mlp_outputs=("dense_4h_to_h",),
    mlp_changed_after=True,
)
_ATTENTION_OR_MIXER: dict[str, tuple[Sublayer, ...]] = {
    "full_attention": ("attn", "mlp"),
    "linear_attention": ("mixer", "mlp"),
}
_QWEN3_NEXT = ModuleNames(mixer="linear_attn", layer_kinds=_ATTENTION_OR_MIXER, gated_queries=True)
_GRANITE_HYBRID = ModuleNames(
    mlp="shared_mlp",
    mlp_beside="block_sparse_moe",
    mlp_outputs=("output_linear", "experts.down_proj"),
    mixer="mamba",
    layer_kinds=_ATTENTION_OR_MIXER,
)
_FALCON_H1 = ModuleNames(
    final_norm="model.final_layernorm",
    mlp="feed_forward",
    mlp_norm="pre_ff_layernorm",
    mixer="mamba",
    layer_kinds={"hybrid": ("attn", "mixer", "mlp")},
    attention_in_field="attention_in_multiplier",
    attention_out_field="attention_out_multiplier",
    mixer_out_field="ssm_out_multiplier",
)
_NEMOTRON_H = ModuleNames(
    experts_out="fc2_latent_proj",
    final_norm="model.norm_f",
    attention="mixer",
    mlp="mixer",
    mlp_outputs=("down_proj", ("fc2_latent_proj", "experts.down_proj"), "shared_experts.down_proj"),
    stored_prefix="backbone",
    attention_norm="norm",
    mlp_norm="norm",
    mixer="mixer",
    layer_kinds={
        "full_attention": ("attn",),
        "linear_attention": ("mixer",),
        "mlp": ("mlp",),
        "moe": ("mlp",),
    },
)

FAMILIES: dict[str, ModuleNames] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "granite"), _LLAMA),
    **dict.fromkeys(("smollm3", "ministral", "ministral3", "hunyuan_v1_dense"), _LLAMA),
    **dict.fromkeys(("glm4_moe", "olmoe"), _LLAMA),
    "deepseek_v3": ModuleNames(latent=LatentNames()),
    "granitemoe": ModuleNames(mlp="block_sparse_moe"),
    "gpt_oss": ModuleNames(gate_up="alternating columns"),
    "llama4_text": ModuleNames(mlp="feed_forward", gate_up="columns", weighing_router="router"),
    "phi3": ModuleNames(projections=("qkv_proj",)),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gemma4_text": _GEMMA4,
    **dict.fromkeys(("olmo2", "olmo3", "exaone4"), _OLMO2),
    "glm4": _GLM4,
    "gpt2": _GPT2,
    "gpt_neox": _GPT_NEOX,
    # Attention and MLP share one norm.
    **dict.fromkeys(("cohere", "cohere2", "cohere2_moe"), _COHERE),
    "phi": _PHI,
    "gptj": _GPT_J,
    "falcon": _FALCON,  # its generations differ: rlcircuits.models.falcon
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _QWEN3_NEXT),
    "granitemoehybrid": _GRANITE_HYBRID,
    "falcon_h1": _FALCON_H1,
    "nemotron_h": _NEMOTRON_H,
    # The language models of the vision-language models below.
    **dict.fromkeys(("qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"), _LLAMA),
}
"""``model_type`` of a Hugging Face config → the names of its modules."""

LANGUAGE_MODELS: dict[str, str] = {
    **dict.fromkeys(
        ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "gemma3", "gemma4", "mistral3"),
        "model.language_model",
    ),
    "llama4": "language_model.model",
}
"""``model_type`` of a vision-language model → where its language model is. In ``FAMILIES`` that is ``model``."""

_BUILT_IN = dict(FAMILIES)


def is_added(config: Any) -> bool:
    """Return whether the names of a model's family, or of its language model's, are a user's, not the table's.

    Args:
        config: The model's Hugging Face config.
    """
    families = (config.model_type, config.get_text_config().model_type)
    return any(FAMILIES.get(family) != _BUILT_IN.get(family) for family in families)


@validate_arguments
def register_family(model_type: str, names: ModuleNames, *, replace: bool = False) -> None:
    """Add a model family to the table for this Python process.

    Nothing is checked of a model here. When one is loaded, each module must be there with the shape that the config
    says; the stream check compares sums and gradients with the model's own; and the projection check
    (``rlcircuits.capture.projection_check``) tells q, k and v apart. Names that are wrong or too few are an error then,
    and never a wrong score.

    Args:
        model_type: ``model_type`` of the models' config.
        names: the names of its modules.
        replace: whether to replace a family that is in the table already, or one that is refused.

    Raises:
        RLCircuitsError: a family that is in the table with other names, or is refused, without ``replace``.
    """
    if not model_type:
        raise RLCircuitsError("register_family: model_type is empty; the model_type of a config.json is wanted")
    if FAMILIES.get(model_type) == names:
        return
    if not replace and model_type in FAMILIES:
        raise RLCircuitsError(
            f"register_family: model_type {model_type!r} is in the table already, with other names; "
            "pass replace=True to replace them"
        )
    if not replace and model_type in REFUSED:
        raise RLCircuitsError(
            f"register_family: model_type {model_type!r} is not supported: {REFUSED[model_type]}; "
            "pass replace=True if yours is another model"
        )
    FAMILIES[model_type] = names
