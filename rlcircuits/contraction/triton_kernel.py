"""The contraction as one Triton kernel: every writer and reader is read where it lies, once a tile of scores.

The inner dimension pos·width is long (up to 10⁷) and the score matrix small, so the work is split over the inner
dimension: each program sums a piece of it for one tile of writers × readers of one sequence (first stage), and
the pieces are added (second stage). No atomics: the same inputs give the same bits.

The phases, in order:

1. ``Places`` says where each node's tensor starts and how it strides, relative to one base address: tensors of
   separate allocations need no copy into one.
2. ``_partial_scores`` (the kernel) runs for those tiles only that hold an edge.
3. A sum over the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.common.devices import KERNEL_DTYPES, on_device, to_device_async
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.triton_options import product_options

# Widest load of one thread, in bytes. Addresses known to be multiples of it are loaded that way.
_LOAD_BYTES = 16


@dataclass(frozen=True)
class Tiles:
    """How the work is cut; all but ``steps``, ``warps`` and ``stages`` are powers of two of at least 16.

    writers, readers: rows and columns of a tile of scores. width: features of an inner step, all at one
    position. steps: inner steps a program. warps, stages: threads a program (by 32), and loads in flight.
    """

    writers: int
    readers: int
    width: int
    steps: int
    warps: int
    stages: int

    @classmethod
    def fitting(cls, n_writers: int, n_readers: int, dtype: torch.dtype) -> Tiles:
        """Tiles as large as the score matrix up to 128 × 128, so that as little as can be is read twice.

        Float32 products run outside the tensor cores and need the registers: 128 × 32. Where there are many tiles,
        longer pieces keep the device as busy and leave fewer of them to add.
        """
        writers = min(128, max(16, triton.next_power_of_2(n_writers)))
        readers = min(32 if dtype == torch.float32 else 128, max(16, triton.next_power_of_2(n_readers)))
        width = 128 // dtype.itemsize
        many = triton.cdiv(n_writers, writers) * triton.cdiv(n_readers, readers) >= 16
        steps = (32768 if many else 8192) // width
        return cls(writers, readers, width, steps, warps=8 if writers * readers >= 4096 else 4, stages=3)


def contract_triton(
    writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor, tiles: Tiles | None = None
) -> Tensor:
    """−Σ_pos,width writes · grads on every edge, with float32 accumulation.

    writers, readers: tensors [nodes, batch, pos, width] of float32, bfloat16 or float16, with any strides. Float32 is
    multiplied as such unless torch was told otherwise (``torch.set_float32_matmul_precision``). edges: bool
    [W, R], in their order. tiles: by default those that fit. Returns float32 [batch, W, R].

    Raises RLCircuitsError for another dtype.
    """
    return Triton(tiles).contract(writers, readers, edges)


@dataclass(frozen=True)
class Mask:
    """Edges, uint8 [W, R], and the tiles that hold one, int32 [n_live, 2], both where the kernel runs."""

    tiles: Tiles
    edges: Tensor
    live: Tensor
    n_live: int

    @classmethod
    def of(cls, edges: Tensor, tiles: Tiles, device: torch.device) -> Mask:
        """edges: bool [W, R], on the CPU."""
        live = _live_tiles(edges, tiles)
        return cls(tiles, to_device_async(edges.to(torch.uint8), device), to_device_async(live, device), len(live))


class Triton:
    """Launches the kernel, and keeps the tables of what it is given again: the CPU must not hold up the GPU."""

    def __init__(self, tiles: Tiles | None = None) -> None:
        self._tiles = tiles
        self._prepared: tuple[Sequence[Tensor], Places] | None = None
        # By a mask's id, with the mask itself, so that its id stays its own.
        self._masks: dict[int, tuple[Tensor, Mask]] = {}

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """The writers where they are, of one dtype, their places in a table."""
        written = _of_one_dtype(writers)
        self._prepared = written, Places.of(written)
        return written

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """As :func:`contract_triton`; ``edges`` given again must be as they were."""
        # Kept until the launch: the kernel has their addresses only.
        grads = _of_one_dtype([felt.whole() for felt in readers], like=writers)
        writes = _of_one_dtype(writers, like=grads)
        device = grads[0].device
        with on_device(device):
            if id(edges) not in self._masks:
                tiles = self._tiles or Tiles.fitting(edges.shape[0], edges.shape[1], grads[0].dtype)
                self._masks[id(edges)] = edges, Mask.of(edges, tiles, device)
            return self._launch(writes, grads, self._masks[id(edges)][1])

    def _launch(self, writes: Sequence[Tensor], grads: Sequence[Tensor], mask: Mask) -> Tensor:
        prepared = self._prepared
        left = prepared[1] if prepared is not None and writes is prepared[0] else Places.of(writes)
        right = Places.of(grads)
        batch, pos, width = grads[0].shape[1:]
        tiles, edges = mask.tiles, mask.edges
        splits = triton.cdiv(pos * triton.cdiv(width, tiles.width), tiles.steps)
        partial = left.base.new_zeros(splits, batch, *edges.shape, dtype=torch.float32)
        if mask.n_live:
            _partial_scores[(mask.n_live * splits, batch)](
                left.base,
                right.base,
                left.table,
                right.table,
                edges,
                mask.live,
                partial,
                mask.n_live,
                batch,
                pos,
                width,
                *edges.shape,
                LEFT_UNIT=left.unit,
                RIGHT_UNIT=right.unit,
                LEFT_FLAT=left.flat,
                RIGHT_FLAT=right.flat,
                **product_options(grads[0].dtype),
                WRITERS=tiles.writers,
                READERS=tiles.readers,
                WIDTH=tiles.width,
                STEPS=tiles.steps,
                num_warps=tiles.warps,
                num_stages=tiles.stages,
            )
        return partial.sum(0)


# Sizes that differ from launch to launch: a kernel is not compiled anew for each that is 1 or a multiple of 16.
@triton.jit(  # type: ignore[untyped-decorator,misc]
    do_not_specialize=["n_live", "n_batch", "n_positions", "n_writers", "n_readers"]
)
def _partial_scores(  # type: ignore[no-untyped-def]
    writes,
    grads,
    write_places,
    grad_places,
    edges,
    live,
    partial,
    n_live,
    n_batch,
    n_positions,
    width,
    n_writers,
    n_readers,
    LEFT_UNIT: tl.constexpr,
    RIGHT_UNIT: tl.constexpr,
    LEFT_FLAT: tl.constexpr,
    RIGHT_FLAT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    WRITERS: tl.constexpr,
    READERS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEPS: tl.constexpr,
):
    """One piece of one tile's scores of one sequence.

    writes, grads: base addresses; the nodes' places, int64 [nodes, 4], are relative to them. edges: uint8 [W, R].
    live: int32 [tiles with an edge, 2], rows and columns of tiles. partial: float32 [pieces, batch, W, R].
    """
    tile = tl.program_id(0) % n_live
    piece = tl.program_id(0) // n_live
    sequence = tl.program_id(1)
    rows = tl.load(live + 2 * tile) * WRITERS + tl.arange(0, WRITERS)
    columns = tl.load(live + 2 * tile + 1) * READERS + tl.arange(0, READERS)
    is_row = rows < n_writers
    is_column = columns < n_readers
    write_start = tl.load(write_places + 4 * rows, mask=is_row, other=0)
    write_start += sequence * tl.load(write_places + 4 * rows + 1, mask=is_row, other=0)
    write_step = tl.load(write_places + 4 * rows + 2, mask=is_row, other=0)
    write_stride = tl.load(write_places + 4 * rows + 3, mask=is_row, other=0)
    grad_start = tl.load(grad_places + 4 * columns, mask=is_column, other=0)
    grad_start += sequence * tl.load(grad_places + 4 * columns + 1, mask=is_column, other=0)
    grad_step = tl.load(grad_places + 4 * columns + 2, mask=is_column, other=0)
    grad_stride = tl.load(grad_places + 4 * columns + 3, mask=is_column, other=0)

    total = tl.zeros((WRITERS, READERS), dtype=tl.float32)
    steps_a_position = tl.cdiv(width, WIDTH)
    first = piece * STEPS
    for step in range(first, tl.minimum(first + STEPS, n_positions * steps_a_position)):
        position = step // steps_a_position
        features = (step % steps_a_position) * WIDTH + tl.arange(0, WIDTH)
        is_feature = features < width

        write_at = ((write_start + position * write_step) * LEFT_UNIT)[:, None]
        write_at += features[None, :] if LEFT_FLAT else features[None, :] * write_stride[:, None]
        write = tl.load(writes + write_at, mask=is_row[:, None] & is_feature[None, :], other=0.0)

        grad_at = ((grad_start + position * grad_step) * RIGHT_UNIT)[:, None]
        grad_at += features[None, :] if RIGHT_FLAT else features[None, :] * grad_stride[:, None]
        grad = tl.load(grads + grad_at, mask=is_column[:, None] & is_feature[None, :], other=0.0)

        if WIDEN:
            write = write.to(tl.float32)
            grad = grad.to(tl.float32)
        total = tl.dot(write, tl.trans(grad), total, input_precision=PRECISION)

    at = (piece.to(tl.int64) * n_batch + sequence) * n_writers * n_readers
    at += rows[:, None] * n_readers + columns[None, :]
    is_score = is_row[:, None] & is_column[None, :]
    is_edge = tl.load(edges + rows[:, None] * n_readers + columns[None, :], mask=is_score, other=0) != 0
    tl.store(partial + at, tl.where(is_edge, -total, 0.0), mask=is_score)


@dataclass(frozen=True)
class Places:
    """Where nodes' tensors lie.

    base: the first of them in memory. table: int64 [nodes, 4] on their device: start from ``base``, strides over
    batch, positions and width, all but the last in ``unit`` elements. flat: the last stride is 1 for all.
    """

    base: Tensor
    table: Tensor
    unit: int
    flat: bool

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Places:
        """tensors: of one dtype and device, each [nodes, batch, pos, width]."""
        base = min(tensors, key=Tensor.data_ptr)
        origin, size = base.data_ptr(), base.element_size()
        counts = torch.tensor([len(t) for t in tensors])
        starts = torch.tensor([[(t.data_ptr() - origin) // size, *t.stride()[1:], t.stride(0)] for t in tensors])
        # A node is so many of its tensor's first strides behind the tensor's start.
        nodes = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        lying = starts.repeat_interleave(counts, dim=0)
        lying[:, 0] += nodes * lying[:, 4]
        table = lying[:, :4].contiguous()
        flat = bool((table[:, 3] == 1).all())
        # By `unit` the compiler knows that addresses are multiples of a whole load.
        unit = _LOAD_BYTES // size
        if not flat or bool((table[:, :3] % unit).any()):
            unit = 1
        table[:, :3] //= unit
        return cls(base, to_device_async(table, base.device), unit, flat)


def _live_tiles(edges: Tensor, tiles: Tiles) -> Tensor:
    """The tiles that hold an edge: int32 [live, 2]."""
    beyond = (-edges.shape[1] % tiles.readers, -edges.shape[0] % tiles.writers)
    padded = torch.nn.functional.pad(edges, (0, beyond[0], 0, beyond[1]))
    rows, columns = (n // size for n, size in zip(padded.shape, (tiles.writers, tiles.readers), strict=True))
    by_tile = padded.view(rows, tiles.writers, columns, tiles.readers)
    live: Tensor = by_tile.any(3).any(1).nonzero()
    return live.to(torch.int32).contiguous()


def _of_one_dtype(tensors: Sequence[Tensor], like: Sequence[Tensor] = ()) -> Sequence[Tensor]:
    """The tensors in the dtype that they and ``like`` have in common; themselves if it is theirs already."""
    dtypes = {tensor.dtype for tensor in (*tensors, *like)}
    dtype = reduce(torch.promote_types, dtypes)
    if dtype not in KERNEL_DTYPES:
        raise RLCircuitsError(f"backend triton was given {dtype}; it multiplies float32, bfloat16 and float16")
    return tensors if dtypes == {dtype} else [tensor.to(dtype) for tensor in tensors]
