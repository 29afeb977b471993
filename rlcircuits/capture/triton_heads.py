"""The gradients of heads' readers as two Triton kernels: g − mean(g·d) d with g = features · weight of each head.

These gradients are the largest tensors of an attribution: each is as large as the stream, and each layer has three for
every head. Plain tensor operations would write g, read g for its mean dot product with d, and read and write g again.

1. ``_lengths`` computes mean(g·d) without g, since ⟨features · W, d⟩ = ⟨features, W d⟩. It holds all features of a head
   at once. The latent of an attention (DeepSeek-V3) has more than fit: there plain tensor operations compute the same.
2. ``_reader_grads_by_head`` computes a tile of g, subtracts its part along d, and writes the tile once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.common.devices import on_device
from rlcircuits.common.triton_options import product_options

_TOKENS, _FEATURES = 128, 128
_MOST_AT_ONCE = 256
"""The most features of a head that ``_lengths`` can hold. With 576 it would take more shared memory than an A100 has,
with 1536 more than any GPU."""


def reader_grads_by_head(
    features: Tensor, weight: Tensor, direction: Tensor, rounding_correction: Tensor | None = None
) -> Tensor:
    """Return g − mean(g·d) d at each position, with g = features · weight of each head.

    All tensors but ``rounding_correction`` have one dtype: float32, bfloat16 or float16. Products are accumulated in
    float32.

    Args:
        features: ∂ℓ/∂(each head's features) times the norm's scale, [batch, pos, heads, head_dim].
        weight: The heads' rows of the projection, [heads, head_dim, width].
        direction: d, [batch, pos, width].
        rounding_correction: float32 [batch, pos], which multiplies mean(g·d): mean d² before d was rounded, divided by
            mean d² after. See ``rlcircuits.models.norms.Factors``.

    Returns:
        [heads, batch, pos, width], in the inputs' dtype.
    """
    batch, pos, heads, size = features.shape
    width, tokens = weight.shape[-1], batch * pos
    if rounding_correction is not None:
        rounding_correction = rounding_correction.reshape(tokens, 1)
    lengths = _wide_lengths(features, weight, direction) if size > _MOST_AT_ONCE else None
    features, direction, weight = (tensor.contiguous() for tensor in (features, direction, weight))
    result = features.new_empty(heads, batch, pos, width)
    products = product_options(features.dtype)
    step, padded = 64 if features.itemsize == 2 else 32, max(16, triton.next_power_of_2(size))
    blocks = triton.cdiv(width, _FEATURES)
    # _lengths holds all features of a head at once: for large heads, half as many tokens fit the registers.
    fewer = 2 if padded > 128 else 1
    with on_device(features.device):
        if lengths is None:
            lengths = features.new_empty(tokens, heads, dtype=torch.float32)
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
            lengths *= rounding_correction
        _reader_grads_by_head[(triton.cdiv(tokens, _TOKENS) * heads, blocks)](
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


def _wide_lengths(features: Tensor, weight: Tensor, direction: Tensor) -> Tensor:
    """Return mean(g·d), float32 [tokens, heads], by plain products; shapes as in ``reader_grads_by_head``."""
    rows = weight[:1] if weight.stride(0) == 0 else weight  # the heads of a latent attention have the same
    projected = torch.einsum("btm,hdm->bthd", direction.float(), rows.float())
    lengths: Tensor = torch.linalg.vecdot(features.float(), projected) / direction.shape[-1]
    return lengths.flatten(0, 1).contiguous()


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
    """Compute mean(g·d) of one head at TOKENS tokens, as ⟨features, W d⟩ / width.

    W d stays in float32: where one feature of the stream is much larger than the others, so is what is subtracted from
    the gradients. Shapes as in ``_reader_grads_by_head``; ``lengths`` is the result, float32 [tokens, heads].
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
    """Compute the gradients of one head at TOKENS tokens and FEATURES features of the stream.

    features: [tokens, heads, SIZE]. weight: [heads, SIZE, width]. direction: [tokens, width]. lengths: float32
    [tokens, heads]. result: [heads, tokens, width].
    """
    # Programs that run at one time have one head's rows of the weight in common.
    tiles = tl.cdiv(tokens, TOKENS)
    head = tl.program_id(0) // tiles
    rows = tl.program_id(0) % tiles * TOKENS + tl.arange(0, TOKENS)
    columns = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
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
