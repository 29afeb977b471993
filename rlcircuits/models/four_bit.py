"""Check that bitsandbytes dequantises 4-bit weights by their definition.

A weight is stored as codes c, one scale s for each block of B numbers in the order of memory, and a table t: its values
are t[c] s (arXiv 2305.14314). Version 0.50 takes the blocks row by row on the CPU, so that a weight whose rows are no
whole number of blocks gets other scales. So the last blocks of each weight, whose scales would be shifted most, are
compared with the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["check_values", "last_values"]

_BLOCKS = 32
_TOLERANCE = 2.0**-6
"""How far the values may be from the definition's, relative to the largest: twice the rounding to bfloat16 and more."""


def last_values(model: nn.Module) -> dict[str, Tensor]:
    """Return the values of the last blocks of each 4-bit weight by their definition, float32, by the weight's name.

    Args:
        model: a model that transformers loaded with bitsandbytes.
    """
    return {
        name: _last_values(parameter, state)
        for name, parameter in model.named_parameters()
        if (state := getattr(parameter, "quant_state", None)) is not None
    }


def check_values(model: nn.Module, wanted: Mapping[str, Tensor]) -> None:
    """Check the dequantised weights of a model.

    Args:
        model: the dequantised model.
        wanted: what :func:`last_values` returned before.

    Raises:
        RLCircuitsError: naming the first weight whose values are others.
    """
    parameters = dict(model.named_parameters())
    for name, values in wanted.items():
        found = parameters[name].detach().reshape(-1)[-len(values) :].to(values.device, values.dtype)
        if not (found - values).abs().max() <= _TOLERANCE * values.abs().max():
            raise RLCircuitsError(
                f"weight {name} is stored in 4 bits, and bitsandbytes does not dequantise its shape "
                f"{list(parameters[name].shape)} correctly on this device; load the checkpoint on a CUDA device, or "
                f"give the unquantised checkpoint that it was made from"
            )


@torch.no_grad()
def _last_values(packed: Tensor, state: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_blockwise

    table: Tensor = state.code
    scales: Tensor = state.absmax
    if state.nested:  # the scales are quantised themselves
        scales = dequantize_blockwise(scales, state.state2) + state.offset
    size, count = state.blocksize, state.shape.numel()
    first = max(0, -(-count // size) - _BLOCKS)
    codes = packed.detach().reshape(-1).view(torch.uint8)[first * size // 2 :]
    pairs = torch.stack([codes >> 4, codes & 0xF], 1).reshape(-1)[: count - first * size]
    by_number = scales.reshape(-1)[first:].float().repeat_interleave(size)[: len(pairs)]
    return table.float()[pairs.long()] * by_number
