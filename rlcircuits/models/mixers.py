"""Mixers (Mamba, linear attention) in padded batches: what stands at padding must not reach the tokens behind it.

A mixer's state and its convolution carry every position into the later ones, and no mask hides a position. So
transformers sets a mixer's input to zero at padding. But a bias of the input projection is added after that, and the
convolution carries it from padding on the left into the first tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts

__all__ = ["mask_padding"]


def mask_padding(hooks: Hooks, parts: ModelParts) -> None:
    """Make the input projection of every mixer that adds a bias write zero at padding.

    Args:
        hooks: Where the hooks are registered.
        parts: The parts of the model.
    """
    for block in parts.blocks:
        projection = getattr(block.mixer, "in_proj", None)
        if block.mixer is not None and getattr(projection, "bias", None) is not None:
            _mask(hooks, block.mixer, projection)


def _mask(hooks: Hooks, mixer: nn.Module, projection: Any) -> None:
    masks: list[Tensor | None] = []

    def keep_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        masks[:] = [kwargs.get("attention_mask")]  # bool or 0 and 1, [batch, pos]; None without padding

    def zero_padding(output: Tensor) -> Tensor:
        mask = masks.pop()
        return output if mask is None else output * mask[..., None].to(output.dtype)

    hooks.callback(mixer.register_forward_pre_hook(keep_mask, with_kwargs=True).remove)
    hooks.replace_output(projection, zero_padding)
