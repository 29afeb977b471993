"""Contract readers in groups while the backward goes on, so that their gradients need not all be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from rlcircuits.contraction import Contract
from rlcircuits.errors import RLCircuitsError
from rlcircuits.graph import EdgeGraph
from rlcircuits.readers import Felt, along
from rlcircuits.writers import Writers

# The writers are read once a group of readers, and the group's gradients are held in memory.
READERS_AT_A_TIME = 16
# Fewer nodes than this are laid side by side for one matrix product; more come that way already.
SIDE_BY_SIDE = 8

_Nodes = TypeVar("_Nodes", Writers, Felt)


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
        self._pending.append(felt)
        self._delivered.update(felt.indices)
        if sum(len(readers.indices) for readers in self._pending) >= self._group:
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
        readers = [(group, _joined([felt.grads for felt in group])) for group in _side_by_side(self._pending)]
        columns = [i for felt in self._pending for i in felt.indices]
        self._pending = []
        seen = self._graph.mask[:, columns].any(dim=1)
        for group in _side_by_side([w for w in self._writers if bool(seen[w.indices.start])]):
            writes = _joined([w.tensors().to(readers[0][1].device) for w in group])
            lengths: dict[int, Tensor] = {}  # by direction: q, k and v of a block have theirs in common
            for felts, grads in readers:
                scores = self._contract(writes, grads)
                start = 0
                for felt in felts:
                    stop = start + len(felt.indices)
                    for coefficients, direction in felt.less:
                        if id(direction) not in lengths:
                            lengths[id(direction)] = along(writes, direction)
                        scores[:, :, start:stop] += torch.einsum("wbt,rbt->bwr", lengths[id(direction)], coefficients)
                    start = stop
                self._place(group, felts, scores)

    def _place(self, writers: Sequence[Writers], readers: Sequence[Felt], scores: Tensor) -> None:
        if self._values is None:
            self._values = scores.new_zeros(scores.shape[0], *self._graph.mask.shape)
        device = self._values.device
        rows, columns = (
            torch.tensor([i for n in nodes for i in n.indices], device=device) for nodes in (writers, readers)
        )
        self._values[:, rows[:, None], columns] = scores.to(device)


def _side_by_side(nodes: Sequence[_Nodes]) -> list[list[_Nodes]]:
    """Nodes in groups of about SIDE_BY_SIDE; those that are so many by themselves stay alone, uncopied."""
    groups: list[list[_Nodes]] = []
    few: list[_Nodes] = []
    for node in nodes:
        if len(node.indices) >= SIDE_BY_SIDE:
            groups.append([node])
            continue
        few.append(node)
        if sum(len(n.indices) for n in few) >= SIDE_BY_SIDE:
            groups.append(few)
            few = []
    if few:
        groups.append(few)
    return groups


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
