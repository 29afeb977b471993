"""Which vision-language models read images, what their processors make of them, and at which positions they stand.

The pictures' features take the places of the image tokens' embeddings before the first block. So they are part of what
``embed`` writes. A model whose tower also adds to the stream later has a writer that the graph lacks, and is refused.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.models.families import LANGUAGE_MODELS
from rlcircuits.models.find_family import why_not_mapped
from rlcircuits.models.quiet import quiet

__all__ = [
    "IMAGE_FAMILIES",
    "WITHOUT_IMAGES",
    "ImageProcessor",
    "as_model_inputs",
    "check_reads_images",
    "image_positions",
]

IMAGE_FAMILIES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("qwen2_5_vl", "qwen3_5"), frozenset({"pixel_values", "image_grid_thw", "mm_token_type_ids"})),
    "gemma3": frozenset({"pixel_values", "token_type_ids"}),
    "mistral3": frozenset({"pixel_values", "image_sizes"}),
    "llama4": frozenset({"pixel_values"}),
}
"""``model_type`` → what its processor makes of images and the model's forward takes, beside token ids and mask."""

_WITH_TORCHVISION = frozenset({"mistral3", "llama4"})
"""The families that transformers prepares images of with torchvision only."""

_DEEPSTACK = (
    "its vision tower also adds to the stream behind early layers (DeepStack), which is no writer of the edge graph, "
    "so that the stream would not be the sum of the writers"
)
_NOT_CHECKED = "what its processor makes of them has not been checked against scores"
WITHOUT_IMAGES: dict[str, str] = {
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), _DEEPSTACK),
    **dict.fromkeys(("qwen3_5_moe", "gemma4"), _NOT_CHECKED),
}
"""``model_type`` of vision-language models that are scored on text only → why."""


def check_reads_images(config: Any, name: str) -> None:
    """Check that a model reads images, by its config.

    Args:
        config: The model's Hugging Face config.
        name: What the error calls the model.

    Raises:
        RLCircuitsError: The model has no vision tower, or one whose images cannot be scored.
    """
    family = config.model_type
    if family in IMAGE_FAMILIES:
        return
    families = ", ".join(IMAGE_FAMILIES)
    if family in WITHOUT_IMAGES:
        raise RLCircuitsError(
            f"{name} (model_type {family!r}) cannot be asked questions with images: {WITHOUT_IMAGES[family]}; ask it "
            f"questions of text alone, or use a model of one of {families}"
        )
    if family in LANGUAGE_MODELS:
        raise RLCircuitsError(f"{name}: {why_not_mapped(config)}")
    raise RLCircuitsError(
        f"{name} (model_type {family!r}) has no vision tower and cannot be asked questions with images; leave images "
        f"out of the table [[questions]], or use a model of one of {families}"
    )


class ImageProcessor:
    """What makes a prompt with images into the inputs of one model."""

    def __init__(self, folder: Path, tokenizer: Any, config: Any, name: str) -> None:
        """Load the processor of a folder, without its part for videos, around a tokenizer.

        Args:
            folder: The checkpoint's folder.
            tokenizer: The checkpoint's tokenizer.
            config: The checkpoint's config.
            name: What errors call the checkpoint.

        Raises:
            RLCircuitsError: The model does not read images, or the folder has no processor that loads.
        """
        check_reads_images(config, name)
        if config.model_type in _WITH_TORCHVISION and importlib.util.find_spec("torchvision") is None:
            raise RLCircuitsError(
                f"{name} (model_type {config.model_type!r}) has a processor of images that needs torchvision, which is "
                "not installed; pip install torchvision, in the version that fits the installed torch"
            )
        self.tokenizer = tokenizer
        self.name = name
        self._inputs = IMAGE_FAMILIES[config.model_type]
        try:
            with quiet():
                self._processor = _without_videos(config.model_type, tokenizer).from_pretrained(str(folder))
        except Exception as error:  # the processors raise errors of many classes for a missing or damaged file
            raise RLCircuitsError(
                f"{name} has no processor of images that loads ({one_line(error)}); the preprocessor_config.json or "
                f"processor_config.json of the model that it was trained from is wanted in {folder}"
            ) from error

    @property
    def chat_template(self) -> Any:
        """The processor's own chat template, where the tokenizer has none."""
        return self._processor.chat_template

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how images are prepared, as JSON types: it is part of the keys of results."""
        images = self._processor.image_processor
        own = {name: value for name, value in vars(self._processor).items() if isinstance(value, int | str | float)}
        own.pop("chat_template", None)
        fields: dict[str, Any] = json.loads(json.dumps(images.to_dict(), default=str, sort_keys=True))
        return {"class": type(images).__name__, **fields, **{f"processor {name}": own[name] for name in sorted(own)}}

    def prepare(self, text: str, images: Sequence[Any]) -> tuple[tuple[int, ...], dict[str, Tensor]]:
        """Return a prompt's token ids, with those of its images, and the inputs of the images by name.

        Args:
            text: The prompt, with the model's own marker for each image, as the chat template writes it.
            images: The images, as Pillow opened them.

        Raises:
            RLCircuitsError: The processor fails, for example for an image that is too narrow; or it makes inputs that
                are not known.
        """
        try:
            with quiet():
                found = self._processor(
                    text=[text], images=[list(images)], return_tensors="pt", add_special_tokens=False
                )
        except Exception as error:  # the processors raise errors of many classes
            what = f"the processor of {self.name} cannot prepare the images: {one_line(error)}"
            raise RLCircuitsError(what) from error
        ids = tuple(found.pop("input_ids")[0].tolist())
        found.pop("attention_mask", None)
        if unknown := found.keys() - self._inputs:
            raise RLCircuitsError(
                f"the processor of {self.name} makes the input {min(unknown)}, which is not known; "
                f"{', '.join(sorted(self._inputs))} are wanted"
            )
        return ids, dict(found)


def _without_videos(model_type: str, tokenizer: Any) -> Any:
    """Return the class of a family's processor without its part for videos, which would need torchvision."""
    whole: Any = getattr(transformers, PROCESSOR_MAPPING_NAMES[model_type])

    class Processor(whole):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [each for each in super().get_attributes() if each != "video_processor"]

        @classmethod
        def _load_tokenizer_from_pretrained(cls, *_: Any, **__: Any) -> Any:
            return tokenizer

    Processor.__name__ = whole.__name__
    return Processor


def as_model_inputs(model: nn.Module, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs of images in the dtype of the model's weights: Llama 4's processor makes bfloat16 of any."""
    dtype = next(model.parameters()).dtype
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in images.items()}


def image_positions(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, images: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the positions of a batch with images: those of time, height and width, [3, batch, pos].

    A forward would compute them too, but Qwen's keeps something of them for its next call.

    Returns:
        None for a family whose positions are those of its tokens.
    """
    body: Any = getattr(model, "model", None)
    if not hasattr(body, "get_rope_index"):
        return None
    positions: Tensor = body.get_rope_index(input_ids, attention_mask=attention_mask, **images)[0]
    return positions
