"""Contract readers in groups, window by window, so that neither all of their gradients nor all heads are ever made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice, batch_slices
from rlcircuits.capture.reader_grads import PendingReaderGrads
from rlcircuits.capture.writers import WriterOutputs
from rlcircuits.common.devices import contraction_bytes, pending_grads_bytes, readers_per_contraction, to_device_async
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction.backends import Backend
from rlcircuits.graph.edge_graph import EdgeGraph


@dataclass(frozen=True)
class BatchShape:
    """What is contracted, [batch, positions] of ``width`` features of ``itemsize`` bytes."""

    batch: int
    positions: int
    width: int
    itemsize: int

    def batch_slices(self, nodes: int, nbytes: int) -> Iterator[BatchSlice]:
        """Windows in which tensors of so many nodes take at most so many bytes, if a token's do."""
        return batch_slices(self.batch, self.positions, nbytes // (nodes * self.width * self.itemsize))


class GroupedContraction:
    """Takes readers' gradients as the backward makes them and fills the score matrix group by group.

    What readers felt is held while the backward goes on and lets go of what the forward kept, as far as memory
    allows: each time that it is contracted, the writers' heads are made anew.
    """

    def __init__(self, graph: EdgeGraph, backend: Backend, size: BatchShape) -> None:
        self._graph = graph
        self._backend = backend
        self._size = size
        self._writers: list[WriterOutputs] = []
        self._held: list[PendingReaderGrads] = []
        self._delivered: set[int] = set()
        self._values: Tensor | None = None

    def set_writers(self, writers: list[WriterOutputs]) -> None:
        """Say what the writers wrote; before the backward."""
        self._writers = sorted(writers, key=lambda w: w.indices.start)

    def on_reader_grads(self, readers: PendingReaderGrads) -> None:
        """Take what some readers felt; contract once enough is held."""
        # A model split over devices: a group lies on one of them, to which the writers come.
        if self._held and self._held[-1].device != readers.device:
            self._contract_held()
        self._held.append(readers)
        self._delivered.update(readers.indices)
        if sum(held.nbytes for held in self._held) >= pending_grads_bytes(readers.device):
            self._contract_held()

    def finish(self) -> Tensor:
        """Contract what is left. Returns scores [batch, writers, readers], 0 where there is no edge.

        Raises RLCircuitsError if no gradient reached a reader.
        """
        if self._held:
            self._contract_held()
        missing = [name for i, name in enumerate(self._graph.readers) if i not in self._delivered]
        if missing or self._values is None:
            raise RLCircuitsError(f"no gradient reached reader {missing[0]}: the model's output does not depend on it")
        return self._values

    def _contract_held(self) -> None:
        held, self._held = self._held, []
        device = held[0].device
        seen = self._graph.mask[:, _indices(held)].any(dim=1)
        writers = [w for w in self._writers if bool(seen[w.indices.start])]
        rows = torch.tensor(_indices(writers))[:, None]
        groups = _grouped(held, readers_per_contraction(device))
        columns = [torch.tensor(_indices(group)) for group in groups]
        edges = [self._graph.mask[rows, places] for places in columns]
        nodes = len(rows) + max(map(len, columns))
        rows, columns = to_device_async(rows, device), [to_device_async(places, device) for places in columns]
        for batch_slice in self._size.batch_slices(nodes, contraction_bytes(device)):
            written = self._backend.prepare([w.outputs(batch_slice).to(device) for w in writers])
            for group, places, between in zip(groups, columns, edges, strict=True):
                felt = [readers.felt(batch_slice) for readers in group]
                self._add(batch_slice.sequences, rows, places, self._backend.contract(written, felt, between))

    def _add(self, sequences: slice, rows: Tensor, columns: Tensor, scores: Tensor) -> None:
        if self._values is None:
            self._values = scores.new_zeros(self._size.batch, *self._graph.mask.shape)
        device = self._values.device
        # Indexing with a slice first gives a view, which indexing with tensors then adds to.
        self._values[sequences][:, rows.to(device), columns.to(device)] += scores.to(device)


def _grouped(readers: Sequence[PendingReaderGrads], size: int) -> list[list[PendingReaderGrads]]:
    """Groups of at most ``size``, where one delivery is no larger."""
    groups: list[list[PendingReaderGrads]] = []
    for some in readers:
        if not groups or len(_indices(groups[-1])) + len(some.indices) > size:
            groups.append([])
        groups[-1].append(some)
    return groups


def _indices(nodes: Sequence[WriterOutputs] | Sequence[PendingReaderGrads]) -> list[int]:
    return [i for node in nodes for i in node.indices]
