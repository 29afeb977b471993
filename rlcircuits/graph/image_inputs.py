"""What a vision-language model reads of a prompt's images, beside the prompt's token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from pydantic_core import core_schema

__all__ = ["ImageInputs", "batched_images"]

_BY_TOKEN = frozenset({"mm_token_type_ids", "token_type_ids"})
"""Inputs with an entry for each token of the prompt, of which 0 is text."""


class ImageInputs:
    """The images of one prompt, as inputs of its model.

    Two are equal if their keys are. The tensors are made anew for each batch, since those of a whole question set
    would not fit the memory.

    Attributes:
        key: hex sha256 of the images' bytes and of the settings of the processor that prepares them.
    """

    def __init__(self, key: str, make: Callable[[], dict[str, Tensor]] | None = None) -> None:
        """Keep the key.

        Args:
            key: what identifies the images and how they are prepared.
            make: returns the inputs by name: those with an entry for each token [1, pos], and others whose first
                dimension counts images, or parts of images. None for images of which the key alone is known, as in
                stored answers.
        """
        self.key = key
        self._make = make

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageInputs) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"ImageInputs({self.key[:12]}…)"

    def tensors(self) -> dict[str, Tensor]:
        """Return the inputs by name.

        Raises:
            RLCircuitsError: only the key is known.
        """
        if self._make is None:
            raise RLCircuitsError(
                "these answers are to questions with images, and stored answers hold the images' sha256 only; measure "
                "the pair with its question file, or score answers that answer_questions returned"
            )
        return self._make()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Store the key alone."""
        # Pydantic calls this, so it is there. The core, which this module belongs to, runs without it.
        from pydantic_core import core_schema

        from_key = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_key,
            python_schema=core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda images: images.key, return_schema=core_schema.str_schema()
            ),
        )


def batched_images(images: Sequence[ImageInputs | None], starts: Sequence[int], positions: int) -> dict[str, Tensor]:
    """Return the inputs of a batch's images by name, on the CPU; nothing if no row has images.

    Args:
        images: the images of each row; None for a row of text alone.
        starts: the position of each row's first token.
        positions: the positions of the batch.

    Returns:
        Inputs by token, int64 [batch, positions], which are 0 in padding and answers; and the others, one row's behind
        another's. Where pictures differ in size, the smaller are padded with zeros at their ends.
    """
    by_token: dict[str, Tensor] = {}
    others: dict[str, list[Tensor]] = {}
    for row, (one, start) in enumerate(zip(images, starts, strict=True)):
        if one is None:
            continue
        for name, tensor in one.tensors().items():
            if name in _BY_TOKEN:
                whole = by_token.setdefault(name, torch.zeros(len(images), positions, dtype=torch.int64))
                whole[row, start : start + tensor.shape[-1]] = tensor[0]
            else:
                others.setdefault(name, []).append(tensor)
    return {**by_token, **{name: _joined(tensors) for name, tensors in others.items()}}


def _joined(tensors: list[Tensor]) -> Tensor:
    sizes = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    whole = tensors[0].new_zeros(sum(len(tensor) for tensor in tensors), *sizes)
    first = 0
    for tensor in tensors:
        whole[(slice(first, first + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        first += len(tensor)
    return whole
