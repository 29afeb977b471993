"""What heads' readers felt: a product for each head, and the norm's direction taken off it.

A reader's gradient is as large as the stream, and each layer has three for each head: the largest tensors there are.
One Triton kernel finds how long they are along the direction before they are there, another writes each of them once.
In plain tensor operations they would be written, read for that length, read again and written again without it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.common.devices import on_device
from rlcircuits.common.triton_options import product_options

_TOKENS, _FEATURES = 128, 128


def reader_grads_by_head(
    features: Tensor, weight: Tensor, direction: Tensor, rounding_correction: Tensor | None = None
) -> Tensor:
    """What readers felt: g − (mean g·d) d at each position with g = features · weight of a head.

    features: [batch, pos, heads, head_dim], a head's gradient at its own features. weight: [heads, head_dim, width].
    direction: d, [batch, pos, width]. All of one dtype, float32, bfloat16 or float16; products add up in float32.
    rounding: float32 [batch, pos], d's mean square before it was rounded over that after: where one feature is far
    larger than the others, its rounding alone would leave a part of g along d that writers as large find.
    Returns [heads, batch, pos, width] of that dtype.
    """
    batch, pos, heads, size = features.shape
    width, tokens = weight.shape[-1], batch * pos
    features, direction, weight = (tensor.contiguous() for tensor in (features, direction, weight))
    lengths = features.new_empty(tokens, heads, dtype=torch.float32)
    result = features.new_empty(heads, batch, pos, width)
    products = product_options(features.dtype)
    step, padded = 64 if features.itemsize == 2 else 32, max(16, triton.next_power_of_2(size))
    blocks = triton.cdiv(width, _FEATURES)
    # Of large heads all features are summed at once: half as many tokens keep the sums in registers.
    fewer = 2 if padded > 128 else 1
    with on_device(features.device):
        _lengths[(heads, triton.cdiv(tokens, _TOKENS // fewer))](
            features,
            weight,
            direction,
            lengths,
            tokens,
            heads,
            width,
            SIZE=size,
            PADDED=padded,
            **products,
            TOKENS=_TOKENS // fewer,
            STEP=step // fewer,
            num_warps=8,
        )
        if rounding_correction is not None:
            lengths *= rounding_correction.reshape(tokens, 1)
        _reader_grads_by_head[(heads * blocks, triton.cdiv(tokens, _TOKENS))](
            features,
            weight,
            direction,
            lengths,
            result,
            tokens,
            heads,
            width,
            SIZE=size,
            **products,
            TOKENS=_TOKENS,
            FEATURES=_FEATURES,
            STEP=min(step, padded),
            num_warps=8,
        )
    return result


@triton.jit(do_not_specialize=["tokens"])  # type: ignore[untyped-decorator,misc]
def _lengths(  # type: ignore[no-untyped-def]
    features,
    weight,
    direction,
    lengths,
    tokens,
    heads,
    width,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    TOKENS: tl.constexpr,
    STEP: tl.constexpr,
):
    """How long one head's gradients at some tokens are along the direction, mean g·d, before they are there.

    ⟨g, d⟩ is ⟨features, W d⟩. W d is never rounded: where one feature of the stream is much larger than the others,
    what is taken off the gradients is, too. As in ``_reader_grads_by_head``; lengths: float32 [tokens, heads].
    """
    head = tl.program_id(0)
    rows = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    inner = tl.arange(0, PADDED)
    is_row = rows < tokens
    is_inner = inner < SIZE
    rows = rows.to(tl.int64)
    projected = tl.zeros((TOKENS, PADDED), dtype=tl.float32)
    for first in range(0, width, STEP):
        columns = first + tl.arange(0, STEP)
        is_column = columns < width
        direction_at = rows[:, None] * width + columns[None, :]
        tile = tl.load(direction + direction_at, mask=is_row[:, None] & is_column[None, :], other=0.0)
        weight_at = (head * SIZE + inner)[:, None].to(tl.int64) * width + columns[None, :]
        row = tl.load(weight + weight_at, mask=is_inner[:, None] & is_column[None, :], other=0.0)
        if WIDEN:
            tile = tile.to(tl.float32)
            row = row.to(tl.float32)
        projected = tl.dot(tile, tl.trans(row), projected, input_precision=PRECISION)
    feature_at = (rows * heads + head)[:, None] * SIZE + inner[None, :]
    feature = tl.load(features + feature_at, mask=is_row[:, None] & is_inner[None, :], other=0.0).to(tl.float32)
    tl.store(lengths + rows * heads + head, tl.sum(projected * feature, 1) / width, mask=is_row)


@triton.jit(do_not_specialize=["tokens"])  # type: ignore[untyped-decorator,misc]
def _reader_grads_by_head(  # type: ignore[no-untyped-def]
    features,
    weight,
    direction,
    lengths,
    result,
    tokens,
    heads,
    width,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    TOKENS: tl.constexpr,
    FEATURES: tl.constexpr,
    STEP: tl.constexpr,
):
    """One head's gradients at some tokens and some of the stream's features.

    features: [tokens, heads, SIZE]. weight: [heads, SIZE, width]. direction: [tokens, width]. lengths: float32
    [tokens, heads]. result: [heads, tokens, width].
    """
    head = tl.program_id(0) % heads
    rows = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    columns = tl.program_id(0) // heads * FEATURES + tl.arange(0, FEATURES)
    is_row = rows < tokens
    is_column = columns < width
    inside = is_row[:, None] & is_column[None, :]
    rows = rows.to(tl.int64)
    grad = tl.zeros((TOKENS, FEATURES), dtype=tl.float32)
    for first in range(0, SIZE, STEP):
        inner = first + tl.arange(0, STEP)
        is_inner = inner < SIZE
        feature_at = (rows * heads + head)[:, None] * SIZE + inner[None, :]
        feature = tl.load(features + feature_at, mask=is_row[:, None] & is_inner[None, :], other=0.0)
        weight_at = (head * SIZE + inner)[:, None].to(tl.int64) * width + columns[None, :]
        row = tl.load(weight + weight_at, mask=is_inner[:, None] & is_column[None, :], other=0.0)
        if WIDEN:
            feature = feature.to(tl.float32)
            row = row.to(tl.float32)
        grad = tl.dot(feature, row, grad, input_precision=PRECISION)
    tile = tl.load(direction + rows[:, None] * width + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    length = tl.load(lengths + rows * heads + head, mask=is_row, other=0.0)
    result_at = (head.to(tl.int64) * tokens + rows)[:, None] * width + columns[None, :]
    tl.store(result + result_at, grad - length[:, None] * tile, mask=inside)
