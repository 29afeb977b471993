"""Tiny vision-language checkpoints with their processors, pictures, and question files with images."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from helpers.tiny_checkpoints import TOKENS, tiny_tokenizer
from helpers.tiny_vision import vision_and_text
from rlcircuits.questions import QuestionSource

IMAGE_TOKEN = 50
_SPECIAL = {  # the tokens from IMAGE_TOKEN on
    "qwen2_5_vl": ("<|image_pad|>", "<video>", "<start>", "<end>"),
    "qwen3_5": ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "gemma3": ("<img>", "<video>", "<start>", "<end>"),
    "mistral3": ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    "llama4": ("<|patch|>", "<|image|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>",
               "<|tile_y_separator|>"),
}  # fmt: skip
_MARKERS = {  # what the chat template writes for an image
    "qwen2_5_vl": "<start><|image_pad|><end>", "qwen3_5": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "<start>", "mistral3": "[IMG]", "llama4": "<|image|>",
}  # fmt: skip
_needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="the family's processor needs torchvision"
)
IMAGE_FAMILIES = [
    "qwen2_5_vl",
    "qwen3_5",
    "gemma3",
    *(pytest.param(family, marks=_needs_torchvision) for family in ("mistral3", "llama4")),
]
"""The families with a tiny processor."""


def save_with_processor(folder: Path, family: str, seed: int = 3, moved: float = 0.0) -> Path:
    """Save a tiny vision-language checkpoint with its tokenizer and processor.

    Args:
        folder: where.
        family: one of `IMAGE_FAMILIES`.
        seed: seed of the weights.
        moved: how far random numbers move the language model's weights, as another checkpoint of the same base.
    """
    model, _ = vision_and_text(family, seed=seed)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        if family == "gemma3":  # zeros in a new model, with which no picture is seen
            torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, generator=generator)
        body = model.language_model.model if family == "llama4" else model.model.language_model
        for parameter in body.layers.parameters():
            parameter.add_(moved * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    _save_processor(folder, family, image_tokenizer(family))
    return folder


def _save_processor(folder: Path, family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    square = {"height": 16, "width": 16}
    tokenizer.save_pretrained(folder)
    if family == "gemma3":
        Gemma3Processor(Gemma3ImageProcessorPil(size=square), tokenizer, image_seq_length=4).save_pretrained(folder)
    elif family in (
        "qwen2_5_vl",
        "qwen3_5",
    ):  # as its checkpoints have it: its processor as a whole would need torchvision
        size = {"shortest_edge": 64, "longest_edge": 1024}
        Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=size).save_pretrained(folder)
    elif family == "mistral3":
        images = transformers.PixtralImageProcessor(size={"longest_edge": 16}, patch_size={"height": 4, "width": 4})
        processor = transformers.PixtralProcessor(images, tokenizer, patch_size=4, spatial_merge_size=2)
        processor.save_pretrained(folder)
    else:
        images = transformers.Llama4ImageProcessor(size=square, max_patches=2)
        template = tokenizer.chat_template  # in the place of the class's own
        transformers.Llama4Processor(images, tokenizer, 4, chat_template=template).save_pretrained(folder)


def image_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return the tiny tokenizer with the family's tokens in the places of letters, and a chat template."""
    special = _SPECIAL[family]
    tokens = list(TOKENS)
    tokens[IMAGE_TOKEN : IMAGE_TOKEN + len(special)] = special
    options: dict[str, Any] = {}
    if family == "gemma3":
        options["extra_special_tokens"] = {"boi_token": "<start>", "eoi_token": "<end>", "image_token": special[0]}
    tokenizer = tiny_tokenizer(tuple(tokens), **options)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = (
        "<bos>{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{% if part.type == 'image' %}" + _MARKERS[family] + "{% else %}"
        "{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}>"
    )
    return tokenizer


def picture(seed: int, width: int = 16, height: int = 16) -> Image.Image:
    """Return a picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def question_file(folder: Path, count: int = 3) -> QuestionSource:
    """Write a question file with pictures of several sizes: none, one, or two in marked places, in turn."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        shown = [f"pictures/{number}-{which}.png" for which in range(number % 3)]
        for which, name in enumerate(shown):
            picture(10 * number + which, 16 + 8 * which, 16 + 8 * (number % 2)).save(folder / name)
        text = f"{number}+<image>{number}=<image>?" if len(shown) == 2 else f"{number}+{number}?"
        lines.append({"question": text, "answer": "1", "images": shown})
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return QuestionSource(name="pictures", file=file, images="images", grader="exact")
