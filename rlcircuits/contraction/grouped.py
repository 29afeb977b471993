"""Contract readers in groups while the backward goes on, so that their gradients need not all be kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.contraction import Contract
from rlcircuits.contraction.devices import sent, working_bytes
from rlcircuits.errors import RLCircuitsError
from rlcircuits.graph import EdgeGraph
from rlcircuits.readers import Felt
from rlcircuits.writers import Writers

# The writers are read once a group of readers, and the group's gradients are held in memory.
READERS_AT_A_TIME = 16


class GroupedContraction:
    """Takes readers' gradients as the backward makes them and fills the score matrix group by group."""

    def __init__(self, graph: EdgeGraph, contract: Contract) -> None:
        self._graph = graph
        self._contract = contract
        self._writers: list[Writers] = []
        # At head granularity one block's q, k and v heads at once: the writers' heads are made once a block.
        heads = sum(name.startswith("attn.0.") for name in graph.readers)
        self._group = max(READERS_AT_A_TIME, heads)
        self._pending: list[Felt] = []
        self._delivered: set[int] = set()
        self._values: Tensor | None = None

    def set_writers(self, writers: list[Writers]) -> None:
        """Say what the writers wrote; before the backward."""
        self._writers = sorted(writers, key=lambda w: w.indices.start)

    def deliver(self, felt: Felt) -> None:
        """Take what some readers felt; contract once a group is here."""
        # A model split over devices: a group lies on one of them, to which the writers come.
        if self._pending and self._pending[-1].grads.device != felt.grads.device:
            self._contract_pending()
        self._pending.append(felt)
        self._delivered.update(felt.indices)
        if self._enough():
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
        return self._values

    def _enough(self) -> bool:
        """Whether the readers at hand are a group. Larger ones read the writers less often, where memory allows it."""
        if sum(len(felt.indices) for felt in self._pending) < self._group:
            return False
        return sum(felt.grads.nbytes for felt in self._pending) >= working_bytes(self._pending[0].grads.device)

    def _contract_pending(self) -> None:
        readers, self._pending = self._pending, []
        seen = self._graph.mask[:, _indices(readers)].any(dim=1)
        writers = [w for w in self._writers if bool(seen[w.indices.start])]
        rows, columns = torch.tensor(_indices(writers))[:, None], torch.tensor(_indices(readers))
        scores = self._contract(writers, readers, self._graph.mask[rows, columns])
        if self._values is None:
            self._values = scores.new_zeros(scores.shape[0], *self._graph.mask.shape)
        device = self._values.device
        self._values[:, sent(rows, device), sent(columns, device)] = scores.to(device)


def _indices(nodes: Sequence[Writers] | Sequence[Felt]) -> list[int]:
    return [i for node in nodes for i in node.indices]
