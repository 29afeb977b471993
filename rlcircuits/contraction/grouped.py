"""Contract readers in groups while the backward goes on, so that their gradients need not all be kept."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcircuits.contraction import Contract
from rlcircuits.errors import RLCircuitsError
from rlcircuits.graph import EdgeGraph
from rlcircuits.writers import Writers

# The writers are read once a group of readers, and the group's gradients are held in memory.
READERS_AT_A_TIME = 16
WRITERS_AT_A_TIME = 16


class GroupedContraction:
    """Takes readers' gradients as the backward makes them and fills the score matrix group by group."""

    def __init__(self, graph: EdgeGraph, contract: Contract) -> None:
        self._graph = graph
        self._contract = contract
        self._writers: list[Writers] = []
        # At head granularity one block's q, k and v heads at once: the writers' heads are made once a block.
        heads = sum(name.startswith("attn.0.") for name in graph.readers)
        self._group = max(READERS_AT_A_TIME, heads)
        self._pending: list[tuple[range, Tensor]] = []
        self._delivered: set[int] = set()
        self._values: Tensor | None = None

    def set_writers(self, writers: list[Writers]) -> None:
        """Say what the writers wrote; before the backward."""
        self._writers = sorted(writers, key=lambda w: w.indices.start)

    def deliver(self, readers: range, grads: Tensor) -> None:
        """Take ∂ℓ/∂x_v of some readers, [len(readers), batch, pos, width]; contract once a group is here."""
        self._pending.append((readers, grads))
        self._delivered.update(readers)
        if sum(len(indices) for indices, _ in self._pending) >= self._group:
            self._contract_pending()

    def finish(self) -> Tensor:
        """Contract what is left. Returns scores [batch, writers, readers], 0 where there is no edge.

        Raises RLCircuitsError if no gradient reached a reader.
        """
        if self._pending:
            self._contract_pending()
        missing = [name for i, name in enumerate(self._graph.readers) if i not in self._delivered]
        if missing or self._values is None:
            raise RLCircuitsError(f"no gradient reached reader {missing[0]}: the model's output does not depend on it")
        return self._values * self._graph.mask.to(self._values.device)

    def _contract_pending(self) -> None:
        columns = torch.tensor([i for indices, _ in self._pending for i in indices])
        grads = _joined([tensor for _, tensor in self._pending])
        self._pending.clear()
        seen = self._graph.mask[:, columns].any(dim=1)
        group: list[Writers] = []
        wanted = [writers for writers in self._writers if bool(seen[writers.indices.start])]
        for writers in wanted:
            group.append(writers)
            if sum(len(n.indices) for n in group) >= WRITERS_AT_A_TIME or writers is wanted[-1]:
                writes = _joined([w.tensors().to(grads.device) for w in group])
                rows = torch.tensor([i for w in group for i in w.indices])
                self._place(rows, columns, self._contract(writes, grads))
                group = []

    def _place(self, rows: Tensor, columns: Tensor, scores: Tensor) -> None:
        if self._values is None:
            self._values = scores.new_zeros(scores.shape[0], *self._graph.mask.shape)
        device = self._values.device
        self._values[:, rows[:, None].to(device), columns.to(device)] = scores.to(device)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
