"""The contraction as one Triton kernel, which reads every writer and reader where it is stored.

The inner dimension pos·width is long (up to 10⁷) and the score matrix is small, so the work is split over the inner
dimension (split-K): each program sums one split of it for one tile of writers × readers of one sequence, and the
splits are added afterwards. There are no atomic additions, so the same inputs give the same bits.

The phases, in order:

1. ``NodeAddresses`` tabulates where each node's tensor starts and its strides, relative to one base address, so that
   separately allocated tensors need not be copied into one.
2. ``EdgeTiles`` lists the tiles that hold an edge; only those run.
3. ``_partial_scores`` (the kernel) computes each split's scores.
4. A sum over the splits gives the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.common.devices import KERNEL_DTYPES, on_device, to_device_async
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.triton_options import product_options
from rlcircuits.contraction.routed import contract_routed

_LOAD_BYTES = 16
"""The widest load of one thread, in bytes. It needs addresses that are known to be multiples of it."""


@dataclass(frozen=True)
class Tiles:
    """How the work is divided among programs. ``writers``, ``readers`` and ``width`` are powers of two, at least 16."""

    writers: int
    """Rows of a tile of scores."""
    readers: int
    """Columns of a tile of scores."""
    width: int
    """Features of one inner step, all at one position."""
    steps: int
    """Inner steps of a program."""
    warps: int
    """Warps (of 32 threads) of a program."""
    stages: int
    """Loads in flight (pipeline stages)."""

    @classmethod
    def fitting(cls, n_writers: int, n_readers: int, dtype: torch.dtype, shared_memory: int) -> Tiles:
        """Return tiles as large as the score matrix, up to 128 × 256, so that little is read twice.

        Float32 products run outside the tensor cores and need more registers, so their tiles end at 128 × 32. Many
        tiles already fill the device, so they take longer splits, of which fewer have to be added. A single tile is
        bound by memory, and takes wider steps, so that more is on its way. A device with less shared memory gets
        smaller tiles.

        Args:
            n_writers: rows of the score matrix.
            n_readers: its columns.
            dtype: of the writers and gradients.
            shared_memory: bytes that a program can have on the device, for the tiles in flight.
        """
        writers = min(128, max(16, triton.next_power_of_2(n_writers)))
        readers = min(32 if dtype == torch.float32 else 256, max(16, triton.next_power_of_2(n_readers)))
        single = n_writers <= writers and n_readers <= readers <= 128
        width = (256 if single else 128) // dtype.itemsize
        many = triton.cdiv(n_writers, writers) * triton.cdiv(n_readers, readers) >= 16
        steps = (32768 if many else 16384 if single else 8192) // width
        tiles = cls(writers, readers, width, steps, warps=8 if writers * readers >= 4096 else 4, stages=3)
        smaller: tuple[dict[str, int], ...] = (
            {"width": width // 2, "steps": 2 * steps},
            {"readers": readers // 2},
            {"stages": 2},
        )
        for change in smaller:
            if tiles.stages * (tiles.writers + tiles.readers) * tiles.width * dtype.itemsize > shared_memory:
                tiles = replace(tiles, **change)
        return tiles


def contract_triton(
    writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor, tiles: Tiles | None = None
) -> Tensor:
    """Return −Σ_pos,width outputs · gradients on every edge, accumulated in float32.

    Args:
        writers: tensors [nodes, batch, pos, width] of float32, bfloat16 or float16, with any strides. Float32 products
            use TF32 only if ``torch.set_float32_matmul_precision`` allows it.
        readers: gradients of the same shape and dtypes, on the same device.
        edges: bool [W, R] on the CPU; rows and columns in the order of ``writers`` and ``readers``.
        tiles: by default ``Tiles.fitting``.

    Returns:
        float32 [batch, W, R], 0 where there is no edge.

    Raises:
        RLCircuitsError: another dtype.
    """
    return Triton(tiles).contract(writers, readers, edges)


@dataclass(frozen=True)
class EdgeTiles:
    """The edges, and the tiles that hold at least one, on the device of the kernel."""

    tiles: Tiles
    edges: Tensor
    """uint8 [W, R]."""
    live: Tensor
    """int32 [n_live, 2], row and column of each tile that holds an edge."""
    n_live: int

    @classmethod
    def of(cls, edges: Tensor, tiles: Tiles, device: torch.device) -> EdgeTiles:
        """Return the tiles of ``edges``, bool [W, R] on the CPU."""
        live = _live_tiles(edges, tiles)
        return cls(tiles, to_device_async(edges.to(torch.uint8), device), to_device_async(live, device), len(live))


class Triton:
    """The backend ``triton``. It caches its address and edge tables, so that the CPU does not delay the GPU."""

    def __init__(self, tiles: Tiles | None = None) -> None:
        self._tiles = tiles
        self._prepared: tuple[Sequence[Tensor], NodeAddresses] | None = None
        # By the id of the edges' tensor. The tensor is stored as well, so that no other one can get its id.
        self._edge_tiles: dict[int, tuple[Tensor, EdgeTiles]] = {}

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the writers in one dtype, uncopied if they share it, and cache their addresses."""
        outputs = _in_common_dtype(writers)
        self._prepared = outputs, NodeAddresses.of(outputs)
        return outputs

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Contract as :func:`contract_triton` does. ``edges`` must not be changed between calls."""
        # These references keep the tensors alive until the launch; the kernel has only their addresses.
        grads = _in_common_dtype([reader.whole() for reader in readers], like=writers)
        writes = _in_common_dtype(writers, like=grads)
        device = grads[0].device
        with on_device(device):
            if id(edges) not in self._edge_tiles:
                tiles = self._tiles or Tiles.fitting(
                    edges.shape[0], edges.shape[1], grads[0].dtype, shared_memory(device)
                )
                self._edge_tiles[id(edges)] = edges, EdgeTiles.of(edges, tiles, device)
            return self._launch(writes, grads, self._edge_tiles[id(edges)][1])

    def contract_routed(self, outputs: Tensor, chosen: Tensor, experts: int, readers: Sequence[ReaderGrads]) -> Tensor:
        """Return the scores of experts, [batch, experts, R]; see :mod:`rlcircuits.contraction.routed`."""
        return contract_routed(outputs, chosen, experts, readers)

    def _launch(self, writes: Sequence[Tensor], grads: Sequence[Tensor], edge_tiles: EdgeTiles) -> Tensor:
        prepared = self._prepared
        left = prepared[1] if prepared is not None and writes is prepared[0] else NodeAddresses.of(writes)
        right = NodeAddresses.of(grads)
        batch, pos, width = grads[0].shape[1:]
        tiles, edges = edge_tiles.tiles, edge_tiles.edges
        splits = triton.cdiv(pos * triton.cdiv(width, tiles.width), tiles.steps)
        partial = left.base.new_zeros(splits, batch, *edges.shape, dtype=torch.float32)
        if edge_tiles.n_live:
            _partial_scores[(edge_tiles.n_live * splits, batch)](
                left.base,
                right.base,
                left.table,
                right.table,
                edges,
                edge_tiles.live,
                partial,
                edge_tiles.n_live,
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


# Sizes that differ between launches. Otherwise Triton compiles a variant for sizes of 1 and for multiples of 16.
@triton.jit(  # type: ignore[untyped-decorator,misc]
    do_not_specialize=["n_live", "n_batch", "n_positions", "n_writers", "n_readers"]
)
def _partial_scores(  # type: ignore[no-untyped-def]
    writes,
    grads,
    write_addresses,
    grad_addresses,
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
    """Compute one split of one tile's scores of one sequence.

    writes, grads: base addresses. write_addresses, grad_addresses: int64 [nodes, 4], relative to them. edges: uint8
    [W, R]. live: int32 [tiles with an edge, 2], rows and columns of tiles. partial: float32 [splits, batch, W, R].
    """
    tile = tl.program_id(0) % n_live
    split = tl.program_id(0) // n_live
    sequence = tl.program_id(1)
    rows = tl.load(live + 2 * tile) * WRITERS + tl.arange(0, WRITERS)
    columns = tl.load(live + 2 * tile + 1) * READERS + tl.arange(0, READERS)
    is_row = rows < n_writers
    is_column = columns < n_readers
    write_start = tl.load(write_addresses + 4 * rows, mask=is_row, other=0)
    write_start += sequence * tl.load(write_addresses + 4 * rows + 1, mask=is_row, other=0)
    write_step = tl.load(write_addresses + 4 * rows + 2, mask=is_row, other=0)
    write_stride = tl.load(write_addresses + 4 * rows + 3, mask=is_row, other=0)
    grad_start = tl.load(grad_addresses + 4 * columns, mask=is_column, other=0)
    grad_start += sequence * tl.load(grad_addresses + 4 * columns + 1, mask=is_column, other=0)
    grad_step = tl.load(grad_addresses + 4 * columns + 2, mask=is_column, other=0)
    grad_stride = tl.load(grad_addresses + 4 * columns + 3, mask=is_column, other=0)

    total = tl.zeros((WRITERS, READERS), dtype=tl.float32)
    steps_per_position = tl.cdiv(width, WIDTH)
    first = split * STEPS
    for step in range(first, tl.minimum(first + STEPS, n_positions * steps_per_position)):
        position = step // steps_per_position
        features = (step % steps_per_position) * WIDTH + tl.arange(0, WIDTH)
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

    at = (split.to(tl.int64) * n_batch + sequence) * n_writers * n_readers
    at += rows[:, None] * n_readers + columns[None, :]
    is_score = is_row[:, None] & is_column[None, :]
    is_edge = tl.load(edges + rows[:, None] * n_readers + columns[None, :], mask=is_score, other=0) != 0
    tl.store(partial + at, tl.where(is_edge, -total, 0.0), mask=is_score)


@dataclass(frozen=True)
class NodeAddresses:
    """The address and strides of each node's tensor."""

    base: Tensor
    """The tensor with the lowest address."""
    table: Tensor
    """int64 [nodes, 4] on the tensors' device: offset from ``base`` and strides over batch, positions and width. All
    but the last are in multiples of ``unit`` elements."""
    unit: int
    flat: bool
    """Whether the stride over width is 1 for all nodes."""

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> NodeAddresses:
        """Return the addresses of tensors [nodes, batch, pos, width] of one dtype and device."""
        base = min(tensors, key=Tensor.data_ptr)
        origin, size = base.data_ptr(), base.element_size()
        counts = torch.tensor([len(t) for t in tensors])
        starts = torch.tensor([[(t.data_ptr() - origin) // size, *t.stride()[1:], t.stride(0)] for t in tensors])
        # A node starts at its tensor's start plus its index times the tensor's first stride.
        nodes = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        addresses = starts.repeat_interleave(counts, dim=0)
        addresses[:, 0] += nodes * addresses[:, 4]
        table = addresses[:, :4].contiguous()
        flat = bool((table[:, 3] == 1).all())
        # Multiplying by `unit`, a constant, tells the compiler that addresses are multiples of a whole load.
        unit = _LOAD_BYTES // size
        if not flat or bool((table[:, :3] % unit).any()):
            unit = 1
        table[:, :3] //= unit
        return cls(base, to_device_async(table, base.device), unit, flat)


@cache
def shared_memory(device: torch.device) -> int:
    """Return the bytes of shared memory that a program can have."""
    if device.type != "cuda":  # Triton's interpreter, which has no limit
        return 2**30
    return int(triton.runtime.driver.active.utils.get_device_properties(device.index or 0)["max_shared_mem"])


def _live_tiles(edges: Tensor, tiles: Tiles) -> Tensor:
    """Return row and column of each tile that holds an edge: int32 [live, 2]."""
    padding = (-edges.shape[1] % tiles.readers, -edges.shape[0] % tiles.writers)
    padded = torch.nn.functional.pad(edges, (0, padding[0], 0, padding[1]))
    rows, columns = (n // size for n, size in zip(padded.shape, (tiles.writers, tiles.readers), strict=True))
    by_tile = padded.view(rows, tiles.writers, columns, tiles.readers)
    live: Tensor = by_tile.any(3).any(1).nonzero()
    return live.to(torch.int32).contiguous()


def _in_common_dtype(tensors: Sequence[Tensor], like: Sequence[Tensor] = ()) -> Sequence[Tensor]:
    """Return the tensors in the dtype that they and ``like`` promote to; the same objects if they already have it."""
    dtypes = {tensor.dtype for tensor in (*tensors, *like)}
    dtype = reduce(torch.promote_types, dtypes)
    if dtype not in KERNEL_DTYPES:
        raise RLCircuitsError(f"backend triton was given {dtype}; it supports float32, bfloat16 and float16")
    return tensors if dtypes == {dtype} else [tensor.to(dtype) for tensor in tensors]
