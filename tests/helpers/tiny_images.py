"""Tiny vision-language checkpoints with their processors, pictures, and question files with images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from helpers.tiny_checkpoints import TOKENS, tiny_tokenizer
from helpers.tiny_vision import vision_and_text
from rlcircuits.questions import QuestionSource

IMAGE_TOKEN = 50
_NAMES = {"qwen2_5_vl": "<|image_pad|>", "gemma3": "<img>"}
IMAGE_FAMILIES = tuple(_NAMES)
"""The families with a tiny processor, which takes no torchvision."""


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
        for parameter in model.model.language_model.layers.parameters():
            parameter.add_(moved * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer = image_tokenizer(family)
    if family == "gemma3":
        size = {"height": 16, "width": 16}
        Gemma3Processor(Gemma3ImageProcessorPil(size=size), tokenizer, image_seq_length=4).save_pretrained(folder)
    else:
        size = {"shortest_edge": 64, "longest_edge": 1024}
        Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=size).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def image_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return the tiny tokenizer with the family's image token in the place of a letter, and a chat template."""
    tokens = list(TOKENS)
    tokens[IMAGE_TOKEN : IMAGE_TOKEN + 4] = [_NAMES[family], "<video>", "<start>", "<end>"]
    options: dict[str, Any] = {}
    marker = f"<start>{_NAMES[family]}<end>"
    if family == "gemma3":
        marker = "<start>"  # which its processor replaces by the image's tokens, between two markers
        options["extra_special_tokens"] = {"boi_token": "<start>", "eoi_token": "<end>", "image_token": _NAMES[family]}
    tokenizer = tiny_tokenizer(tuple(tokens), **options)
    tokenizer.add_special_tokens({"additional_special_tokens": [_NAMES[family], "<start>", "<end>"]})
    tokenizer.chat_template = (
        "<bos>{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{% if part.type == 'image' %}" + marker + "{% else %}{{ part.text }}"
        "{% endif %}{% endfor %}{% endif %}{% endfor %}>"
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
