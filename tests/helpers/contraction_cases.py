"""Writers, readers and edges as Hypothesis draws them for the contraction's backends, and how far off a result is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.contraction.backends import BACKENDS, Backend

Layout = Callable[[Tensor], Tensor]

# A tensor [nodes, batch, pos, width] again, with its elements elsewhere in memory.
LAYOUTS: dict[str, Layout] = {
    "contiguous": lambda t: t.contiguous(),
    "width strided": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "batch first": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "a slice at an odd address": lambda t: torch.cat([t[..., :3], t, t[..., :2]], dim=-1)[..., -t.shape[-1] - 2 : -2],
    "one tensor for all nodes": lambda t: t[:1].expand(t.shape),
    "one position for all": lambda t: t[:, :, :1].expand(t.shape),
}


@dataclass(frozen=True)
class Case:
    """One contraction: what a backend is given."""

    writers: list[Tensor]
    readers: list[ReaderGrads]
    edges: Tensor

    def run(self, backend: Callable[[], Backend]) -> Tensor:
        return backend().contract(self.writers, self.readers, self.edges)

    def to(self, device: str) -> Case:
        """The same on another device."""
        return self._changed(lambda nodes: nodes.to(device), lambda direction: direction.to(device))

    def of_sequence(self, index: int) -> Case:
        """The same of one sequence of the batch."""
        here = slice(index, index + 1)
        return self._changed(lambda nodes: nodes[:, here], lambda direction: direction[here])

    def absolute(self) -> Case:
        """The same with every term of every sum made negative, as the scores' sign makes it: none cancels."""
        readers = []
        for f in self.readers:
            size = f.grads.double().abs()
            if f.direction is not None:
                size = size + (size * f.direction.abs()).mean(-1, keepdim=True) * f.direction.abs()
            readers.append(reader_grads(f.indices.start, size))
        return Case([writes.abs() for writes in self.writers], readers, self.edges)

    def _changed(self, nodes: Layout, direction: Layout) -> Case:
        writers = [nodes(writes) for writes in self.writers]
        shared = {id(f.direction): direction(f.direction) for f in self.readers if f.direction is not None}
        readers = [reader_grads(f.indices.start, nodes(f.grads), shared.get(id(f.direction))) for f in self.readers]
        return Case(writers, readers, self.edges)


def reader_grads(first: int, tensor: Tensor, direction: Tensor | None = None) -> ReaderGrads:
    return ReaderGrads(range(first, first + len(tensor)), tensor, direction)


def make_case(
    *,
    writers: Sequence[tuple[int, str]],
    readers: Sequence[tuple[int, str, int]],
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    edges: str = "triangle",
    seed: int = 0,
) -> Case:
    """Random writers and readers.

    writers: (nodes, layout) each. readers: (nodes, layout, direction) each: 0 for none, or the number of the one
    they share. shape: batch, pos, width. edges: triangle, scattered or all.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    made_writers = [LAYOUTS[layout](draw(nodes, *shape).to(dtype)) for nodes, layout in writers]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    directions = {number: draw(*shape).to(wide) for _, _, number in readers if number}
    made_readers: list[ReaderGrads] = []
    for nodes, layout, number in readers:
        tensor = LAYOUTS[layout](draw(nodes, *shape).to(dtype))
        made_readers.append(reader_grads(sum(len(f.indices) for f in made_readers), tensor, directions.get(number)))
    size = sum(n for n, _ in writers), sum(n for n, _, _ in readers)
    if edges == "triangle":  # a writer is seen by those after it; the first by all, the last perhaps by none
        moments = [torch.arange(n) / n for n in size]
        mask = moments[0][:, None] <= moments[1][None, :]
    else:
        mask = draw(*size) > (-9 if edges == "all" else 0)
    return Case(made_writers, made_readers, mask)


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[torch.dtype], nodes: int = 17) -> Case:
    """Any sizes: one writer, one token, one sequence, one feature, and tails of every tile."""
    layout = st.sampled_from(sorted(LAYOUTS))
    some = st.integers(1, nodes)
    return make_case(
        writers=draw(st.lists(st.tuples(some, layout), min_size=1, max_size=2)),
        readers=draw(st.lists(st.tuples(some, layout, st.integers(0, 2)), min_size=1, max_size=2)),
        shape=draw(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 36))),
        dtype=draw(st.sampled_from(list(dtypes))),
        edges=draw(st.sampled_from(["triangle", "scattered", "all"])),
        seed=draw(st.integers(0, 99)),
    )


def error(found: Tensor, case: Case) -> float:
    """‖found − definition‖ over the norm that the scores have without cancellation; infinite for NaN.

    A sum that happens to cancel is as uncertain as its terms, so terms set the scale.
    """
    wanted = case.run(BACKENDS["reference"])
    terms = case.absolute().run(BACKENDS["reference"])
    if not found.isfinite().all():
        return float("inf")
    difference = (found.double().to(wanted.device) - wanted).norm()
    return float(difference / terms.norm()) if difference > 0 else 0.0
