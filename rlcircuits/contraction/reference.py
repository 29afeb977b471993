"""The definition of the contraction, in float64: slow, and what every other backend is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads


class Reference:
    """The backend ``reference``: one writer and one reader after the other, in float64."""

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the writers as they are."""
        return writers

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Return −Σ_pos,width outputs · gradients on every edge.

        Args:
            writers: tensors [nodes, batch, pos, width] of any floating dtype.
            readers: gradients [nodes, batch, pos, width] of any floating dtype.
            edges: bool [W, R]; rows and columns in the order of ``writers`` and ``readers``.

        Returns:
            float64 [batch, W, R], 0 where there is no edge.
        """
        rows = []
        for writer in writers:
            row = []
            for reader in readers:
                grads = reader.grads.double()
                if reader.direction is not None:
                    direction = reader.direction.double()
                    grads = grads - (grads * direction).mean(-1, keepdim=True) * direction
                row.append(-torch.einsum("wbtd,rbtd->bwr", writer.to(grads), grads))
            rows.append(torch.cat(row, dim=2))
        scores = torch.cat(rows, dim=1)
        return scores * edges.to(scores.device)

    def contract_routed(self, outputs: Tensor, chosen: Tensor, experts: int, readers: Sequence[ReaderGrads]) -> Tensor:
        """Return the scores of experts, float64 [batch, experts, R], from each expert's output at every token.

        Args:
            outputs: What each choice of a token adds, [choices, batch, pos, width].
            chosen: int64 [choices, batch, pos], the expert of each choice.
            experts: The number of experts.
            readers: As in :meth:`contract`.
        """
        writers = [(outputs.double() * (chosen == e)[..., None]).sum(0, keepdim=True) for e in range(experts)]
        columns = sum(len(reader.grads) for reader in readers)
        return self.contract(writers, readers, torch.ones(experts, columns, dtype=torch.bool))
