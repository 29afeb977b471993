"""Tiny vision-language models, each beside the text model that its language model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from helpers.tiny_models import VOCABULARY, build, draw

_QWEN_VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
                "patch_size": 4, "spatial_merge_size": 2}  # fmt: skip
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
_SIGLIP = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
           "image_size": 16, "patch_size": 4}  # fmt: skip
_LLAMA4_VISION = {
    **_SIGLIP,
    "intermediate_size": 64,
    "vision_output_dim": 16,
    "projector_input_dim": 16,
    "projector_output_dim": 16,
}
_IDS = {"image_token_id": 50, "video_token_id": 51, "vision_start_token_id": 52, "vision_end_token_id": 53}


@dataclass(frozen=True)
class _Kind:
    """A vision-language family.

    Args:
        text: the text model in `tiny_models` with the same arithmetic.
        text_type: the model_type of the language model within the family, where it is another.
        vision: fields of the vision tower's config.
        fields: fields of the whole config.
        text_fields: fields of the language model's config besides those of the text model.
    """

    text: str
    text_type: str | None
    vision: dict[str, Any]
    fields: dict[str, Any]
    text_fields: dict[str, Any]


_KINDS = {
    "qwen2_5_vl": _Kind("qwen2", "qwen2_5_vl_text", {**_QWEN_VISION, "fullatt_block_indexes": [1], "window_size": 16},
                        _IDS, {"rope_parameters": {**_MROPE, "mrope_section": [2, 1, 1]}}),
    "qwen3_vl": _Kind("qwen3", "qwen3_vl_text", {**_QWEN_VISION, "deepstack_visual_indexes": [0],
                                                 "num_position_embeddings": 16}, _IDS, {"rope_parameters": _MROPE}),
    "qwen3_5": _Kind("qwen3-5", "qwen3_5_text", {**_QWEN_VISION, "num_position_embeddings": 16}, _IDS, {}),
    "gemma3": _Kind("gemma3", "gemma3_text", _SIGLIP, {"image_token_index": 50, "mm_tokens_per_image": 4},
                    {"final_logit_softcapping": None}),
    "gemma4": _Kind("gemma4", "gemma4_text", {**_SIGLIP, "num_key_value_heads": 2, "head_dim": 8,
                                              "position_embedding_size": 16}, {"audio_config": None},
                    {"use_bidirectional_attention": "vision"}),  # it concerns the tokens of images alone
    # Its attention temperature counts padding on the left as positions.
    "llama4": _Kind("llama4", "llama4_text", _LLAMA4_VISION, {"image_token_index": 50},
                    {"attn_temperature_tuning": False}),
    "mistral3": _Kind("mistral", "mistral", {**_SIGLIP, "model_type": "pixtral"}, {"image_token_index": 50}, {}),
}  # fmt: skip
_IN_BOTH = ("final_logit_softcapping", "attn_temperature_tuning")
VISION_MODELS = tuple(sorted(_KINDS))


def vision_and_text(family: str, seed: int = 3) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return a vision-language model and the text model that its language model is, with the same weights."""
    kind = _KINDS[family]
    text = build(kind.text, seed=seed, **_shared(kind))
    fields = {**text.config.to_dict(), **kind.text_fields, "model_type": kind.text_type}
    config = AutoConfig.for_model(
        family, text_config=fields, vision_config=kind.vision, tie_word_embeddings=text.config.tie_word_embeddings,
        **kind.fields,
    )  # fmt: skip
    whole = _whole(config)
    if family == "llama4":  # its head is the language model's
        whole.language_model.load_state_dict(text.state_dict())
    else:
        whole.model.language_model.load_state_dict(text.model.state_dict())
        whole.lm_head.load_state_dict(text.lm_head.state_dict())
    return whole.eval(), text


class LanguageModel(nn.Module):
    """The language model within a whole as a causal LM, for the oracle, which takes its weights apart."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.config = whole.config.get_text_config()
        self.model, self.lm_head = whole.model.language_model, whole.lm_head

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of the tokens."""
        return self.model.embed_tokens  # type: ignore[no-any-return]


def qwen3_vl_moe(seed: int = 3) -> tuple[PreTrainedModel, LanguageModel]:
    """Return a Qwen3-VL of experts with random weights, and its language model. No text model is one of its kind."""
    text = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 24,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "num_experts": 4,
        "num_experts_per_tok": 2, "mlp_only_layers": [1], "decoder_sparse_step": 1, "max_position_embeddings": 96,
        "pad_token_id": 0, "rope_parameters": _MROPE,
    }  # fmt: skip
    vision = {**_QWEN_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    whole = _whole(AutoConfig.for_model("qwen3_vl_moe", text_config=text, vision_config=vision, **_IDS)).eval()
    draw(whole, torch.Generator().manual_seed(seed))
    return whole, LanguageModel(whole)


def _shared(kind: _Kind) -> dict[str, Any]:
    """Return what the text model must have as the language model has it."""
    return {name: kind.text_fields[name] for name in _IN_BOTH if name in kind.text_fields}


def _whole(config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
