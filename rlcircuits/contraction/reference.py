"""The definition of the contraction, in float64. Slow, and what every other backend is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads


class Reference:
    """The definition, as it stands."""

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """The writers as they are."""
        return writers

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """−Σ_pos,width writes · grads on every edge.

        writers, readers: tensors [nodes, batch, pos, width] of any floating dtype. edges: bool [W, R], in their order.
        Returns float64 [batch, W, R].
        """
        rows = []
        for writer in writers:
            row = []
            for felt in readers:
                grads = felt.grads.double()
                if felt.direction is not None:
                    direction = felt.direction.double()
                    grads = grads - (grads * direction).mean(-1, keepdim=True) * direction
                row.append(-torch.einsum("wbtd,rbtd->bwr", writer.to(grads), grads))
            rows.append(torch.cat(row, dim=2))
        scores = torch.cat(rows, dim=1)
        return scores * edges.to(scores.device)
