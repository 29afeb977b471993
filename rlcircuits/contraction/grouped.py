"""Contract the readers' gradients group by group, while the backward makes them.

Neither all gradients nor all heads' outputs of a batch fit the memory at once. So the score matrix is filled in parts:

1. Collect (``on_reader_grads``). Gradients are kept pending while the backward goes on and frees what the forward
   kept, up to ``pending_grads_bytes``. The fewer contractions, the fewer times the heads' outputs are computed anew.
2. Choose writers. Only those with an edge to a pending reader take part.
3. Group readers, at most ``readers_per_contraction`` a group. Each group reads the writers once. A sublayer's readers
   stay in one group, since they have edges to the same writers.
4. Cut the batch into slices of sequences and positions, such that writers and one group fit ``contraction_bytes``.
5. Contract: for each slice compute the writers' outputs once, then for each group the gradients and their scores.
6. Add each group's scores to its rows and columns of the score matrix (``finish`` returns it).

The experts of a mixture are contracted apart, one mixture after another (``rlcircuits.contraction.routed``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice, batch_slices
from rlcircuits.capture.expert_outputs import ExpertOutputs
from rlcircuits.capture.reader_grads import PendingReaderGrads
from rlcircuits.capture.writers import AnyOutputs, WriterOutputs
from rlcircuits.common.devices import (
    contraction_bytes,
    expert_grads_bytes,
    pending_grads_bytes,
    readers_per_contraction,
    to_device_async,
)
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.stage_times import stage
from rlcircuits.contraction.backends import Backend
from rlcircuits.graph.edge_graph import EdgeGraph


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch's activations: [batch, positions, width], of ``itemsize`` bytes each."""

    batch: int
    positions: int
    width: int
    itemsize: int

    @property
    def node_bytes(self) -> int:
        """The bytes of one node at one token."""
        return self.width * self.itemsize

    def batch_slices(self, nodes: int, nbytes: int) -> Iterator[BatchSlice]:
        """Yield slices in which ``nodes`` tensors take at most ``nbytes`` bytes, or one token where none do."""
        return batch_slices(self.batch, self.positions, nbytes // (nodes * self.node_bytes))

    @property
    def rows(self) -> int:
        """The number of score matrices: one a sequence."""
        return self.batch

    def rows_of(self, batch_slice: BatchSlice) -> slice:
        """Return the score matrices that a slice's scores are added to."""
        return batch_slice.sequences


@dataclass(frozen=True)
class _ReaderGroup:
    """Readers of one contraction.

    columns: int64 [R], their places in the graph, on the device of the gradients. edges: bool [writers, R], on the CPU.
    """

    readers: Sequence[PendingReaderGrads]
    columns: Tensor
    edges: Tensor


class GroupedContraction:
    """Takes readers' gradients as the backward makes them and fills the score matrix group by group."""

    def __init__(self, graph: EdgeGraph, backend: Backend, shape: BatchShape) -> None:
        self._graph = graph
        self._backend = backend
        self._shape = shape
        self._writers: list[WriterOutputs] = []
        self._pending: list[PendingReaderGrads] = []
        self._experts: list[ExpertOutputs] = []
        self._pending_experts: list[PendingReaderGrads] = []
        self._received: set[int] = set()
        self._values: Tensor | None = None

    def set_writers(self, writers: Sequence[AnyOutputs]) -> None:
        """Set the outputs of all writers; call it before the backward."""
        everywhere = [each for each in writers if isinstance(each, WriterOutputs)]
        self._writers = sorted(everywhere, key=lambda w: w.indices.start)
        self._experts = [each for each in writers if isinstance(each, ExpertOutputs)]

    def on_reader_grads(self, readers: PendingReaderGrads) -> None:
        """Take some readers' gradients; contract all that are pending once they take their share of memory."""
        # A model split over devices: the gradients of one contraction are on one device, and the writers move there.
        if self._pending and self._pending[-1].device != readers.device:
            self._contract_pending()
        if self._pending_experts and self._pending_experts[-1].device != readers.device:
            self._contract_experts()
        self._pending.append(readers)
        self._received.update(readers.indices)
        if _nbytes(self._pending) >= pending_grads_bytes(readers.device):
            self._contract_pending()
        if self._experts:
            self._pending_experts.append(readers)
            if _nbytes(self._pending_experts) >= expert_grads_bytes(readers.device):
                self._contract_experts()

    def finish(self) -> Tensor:
        """Contract what is still pending and return the scores [batch, writers, readers], 0 where there is no edge.

        Raises:
            RLCircuitsError: no gradient reached a reader.
        """
        if self._pending:
            self._contract_pending()
        if self._pending_experts:
            self._contract_experts()
        missing = [name for i, name in enumerate(self._graph.readers) if i not in self._received]
        if missing or self._values is None:
            raise RLCircuitsError(f"no gradient reached reader {missing[0]}: the model's output does not depend on it")
        return self._values

    @stage("contract")
    def _contract_pending(self) -> None:
        """Phases 2 to 6 of the module's docstring."""
        pending, self._pending = self._pending, []
        device = pending[0].device
        writers = self._writers_with_edges(pending)
        groups = self._group_readers(pending, writers, device)
        rows = to_device_async(torch.tensor(_indices(writers))[:, None], device)
        nodes = len(rows) + max(len(group.columns) for group in groups)
        for batch_slice in self._shape.batch_slices(nodes, contraction_bytes(device, nodes * self._shape.node_bytes)):
            outputs = self._backend.prepare([w.outputs(batch_slice).to(device) for w in writers])
            for group in groups:
                grads = [readers.reader_grads(batch_slice) for readers in group.readers]
                scores = self._backend.contract(outputs, grads, group.edges)
                self._add(self._shape.rows_of(batch_slice), rows, group.columns, scores)

    @stage("contract")
    def _contract_experts(self) -> None:
        """Contract one mixture after another, so that the outputs of one are there at a time."""
        pending, self._pending_experts = self._pending_experts, []
        device = pending[0].device
        for experts in self._experts:
            first = experts.indices.start
            readers = [each for each in pending if bool(self._graph.mask[first, each.indices.start])]
            if not readers:  # all are before the mixture, whose outputs need no forward then
                continue
            for outer in self._large_slices(2 * experts.choices, pending_grads_bytes(device)):
                self._contract_outputs(experts, readers, outer, device)

    def _contract_outputs(
        self, experts: ExpertOutputs, readers: Sequence[PendingReaderGrads], outer: BatchSlice, device: torch.device
    ) -> None:
        """Compute the outputs of experts in the slice ``outer``, and contract them in small pieces."""
        rows = to_device_async(torch.tensor(list(experts.indices))[:, None], device)
        outputs, chosen = experts.outputs(outer).to(device), experts.chosen_in(outer).to(device)
        for group in _grouped(readers, readers_per_contraction(device), self._sublayer):
            columns = to_device_async(torch.tensor(_indices(group)), device)
            nodes = len(columns) + len(outputs)
            for piece in self._shape.batch_slices(nodes, contraction_bytes(device, nodes * self._shape.node_bytes)):
                if (overlap := piece.overlap(outer)) is None:
                    continue
                inner = overlap.relative_to(outer)
                grads = [each.reader_grads(overlap) for each in group]
                scores = self._backend.contract_routed(
                    inner.of(outputs), inner.of(chosen[..., None])[..., 0], len(experts.indices), grads
                )
                self._add(self._shape.rows_of(overlap), rows, columns, scores)

    def _large_slices(self, nodes: int, nbytes: int) -> Iterator[BatchSlice]:
        """Yield slices that are not cut along spans: each takes another forward of the experts."""
        shape = self._shape
        return batch_slices(shape.batch, shape.positions, nbytes // (nodes * shape.node_bytes))

    def _writers_with_edges(self, readers: Sequence[PendingReaderGrads]) -> list[WriterOutputs]:
        """Return the writers that have an edge to one of the readers."""
        has_edge = self._graph.mask[:, _indices(readers)].any(dim=1)
        return [w for w in self._writers if bool(has_edge[w.indices.start])]

    def _group_readers(
        self, readers: Sequence[PendingReaderGrads], writers: Sequence[WriterOutputs], device: torch.device
    ) -> list[_ReaderGroup]:
        rows = torch.tensor(_indices(writers))[:, None]
        groups = []
        for members in _grouped(readers, readers_per_contraction(device), self._sublayer):
            columns = torch.tensor(_indices(members))
            groups.append(_ReaderGroup(members, to_device_async(columns, device), self._graph.mask[rows, columns]))
        return groups

    def _sublayer(self, readers: PendingReaderGrads) -> object:
        """Return what the readers of one sublayer share: its name, or ``logits``."""
        return self._graph.readers[readers.indices.start].split(".")[:2]

    def _add(self, matrices: slice, rows: Tensor, columns: Tensor, scores: Tensor) -> None:
        """Add scores [matrices, rows, columns] to the score matrices, which are on the device of the first ones."""
        if self._values is None:
            self._values = scores.new_zeros(self._shape.rows, *self._graph.mask.shape)
        device = self._values.device
        # Indexing with a slice first gives a view, which indexing with tensors then adds to.
        self._values[matrices][:, rows.to(device), columns.to(device)] += scores.to(device)


def _grouped(
    readers: Sequence[PendingReaderGrads], size: int, together: Callable[[PendingReaderGrads], object] = id
) -> list[list[PendingReaderGrads]]:
    """Group consecutive entries, up to ``size`` readers a group.

    Entries for which ``together`` returns the same stay in one group, even if these alone are more than ``size``.
    """
    groups: list[list[PendingReaderGrads]] = []
    for _, entries in groupby(readers, together):
        members = list(entries)
        if not groups or len(_indices(groups[-1])) + len(_indices(members)) > size:
            groups.append([])
        groups[-1] += members
    return groups


def _nbytes(readers: Sequence[PendingReaderGrads]) -> int:
    return sum(pending.nbytes for pending in readers)


def _indices(nodes: Sequence[WriterOutputs] | Sequence[PendingReaderGrads]) -> list[int]:
    """Return the nodes' places in the graph."""
    return [i for node in nodes for i in node.indices]
