"""The stream as each reader reads it once edges are removed.

With c the share of an edge that is removed, and the sum over the writers u before reader v,

    x_v = x − Σ_u c[u, v] (o_u − õ_u),

where o_u − õ_u is multiplied by the scalars of the blocks between u and v, if they have any
(``rlcircuits.capture.edge_scales``).

Behind a post-norm N, what the heads h of an attention add to the stream is not a sum over heads. Each reader then gets
the post-norm of its own sum: the attention's term in x, m N(y), becomes

    m N(y − Σ_h c[h, v] (o_h − õ_h)),      y, o_h: before the norm;  m: the residual multiplier.

Where nothing is put in (õ = 0) and most edges are removed, what is kept is added up instead:

    x_v = Σ_u (1 − c[u, v]) o_u,      m N(Σ_h (1 − c[h, v]) o_h).

A reader that gets next to nothing would otherwise read the difference of two equal sums. That is rounding errors, which
the norm before the reader scales up to the size of a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.circuits.edge_mask import EdgeMask
from rlcircuits.circuits.writer_differences import WriterDifferences
from rlcircuits.common.linear_product import linear_product
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.parts import ModelParts

_DENSE = 0.5
"""The share of the writers from which on they are all multiplied, since picking some out copies them."""


class ReaderInputs:
    """Computes the streams that readers read in one forward of one batch."""

    def __init__(self, parts: ModelParts, mask: EdgeMask, differences: WriterDifferences) -> None:
        """Start a forward.

        Args:
            parts: The parts of the model.
            mask: The edges that are removed, for all sequences or for each of the batch.
            differences: What the writers of this forward have written.
        """
        self._parts = parts
        self._differences = differences
        self._is_removed = (mask.removed != 0).any(0)  # bool [writers, readers]
        self._adds_kept = differences.put_in_nothing and _mostly_removed(mask) and not _has_constants(parts, mask.graph)
        shares = mask.graph.mask.to(mask.removed) - mask.removed if self._adds_kept else mask.removed
        self._takes_part = (shares != 0).any(0)  # bool [writers, readers]
        self._shares = shares.transpose(1, 2)  # [1 or batch, readers, writers]
        self._scales = edge_scales(parts, mask.graph)
        self._normed_heads = _heads_behind_post_norms(parts, mask)
        self._linear = torch.ones(len(mask.graph.writers), dtype=torch.bool)
        for heads in self._normed_heads.values():
            self._linear[heads] = False
        if self._scales is not None:  # those of heads behind a post-norm apply behind it
            linear = torch.where(self._linear[:, None], self._scales, 1)
            self._shares = self._shares * linear.T.to(self._shares.dtype)

    def is_ablated(self, readers: Sequence[int]) -> bool:
        """Return whether an edge into any of these readers is removed."""
        return bool(self._is_removed[:, list(readers)].any())

    def of(self, readers: Sequence[int], stream: Tensor) -> Tensor:
        """Return x_v of these readers, [readers, batch, pos, width], from the model's stream x [batch, pos, width]."""
        takes_part = self._takes_part[:, list(readers)].any(1)
        result = stream.expand(len(readers), *stream.shape)
        sign = -1
        if self._adds_kept:
            result, sign = torch.zeros_like(result), 1
        if bool((takes_part & self._linear).any()):
            result = result + sign * self._sum(readers, takes_part & self._linear).to(stream.device)
        for layer, heads in self._normed_heads.items():
            behind = takes_part & ~self._linear
            behind[: heads.start] = behind[heads.stop :] = False
            if bool(behind.any()):
                term = self._through_post_norm(layer, self._sum(readers, behind)).to(stream.device)
                if self._scales is not None:
                    scales = self._scales[heads.start, list(readers)].to(term)
                    term = term * scales.view(-1, *[1] * (term.ndim - 1))
                result = result + sign * term
        return result

    def _sum(self, readers: Sequence[int], writers: Tensor) -> Tensor:
        """Return Σ_u share[u, v] (o_u − õ_u) over some writers, bool [writers]: [readers, batch, pos, width]."""
        found = writers.nonzero().flatten()
        first, last = int(found[0]), int(found[-1]) + 1
        values = self._differences.values
        shares = self._shares[:, list(readers)] * writers
        if len(found) >= _DENSE * (last - first):
            chosen, shares = values[first:last], shares[..., first:last]
        else:
            chosen, shares = values[found.to(values.device)], shares[..., found]
        shares = shares.to(values.device, values.dtype)
        if len(shares) == 1:
            summed: Tensor = linear_product(shares[0], chosen.flatten(1).T).unflatten(-1, values.shape[1:])
        else:
            by_sequence = shares @ chosen.flatten(2).transpose(0, 1)  # [batch, readers, pos · width]
            summed = by_sequence.transpose(0, 1).unflatten(-1, values.shape[2:])
        return summed

    def _through_post_norm(self, layer: int, part: Tensor) -> Tensor:
        """Return what ``part`` [readers, batch, pos, width] of the norm's input adds to the stream.

        That is the norm of it alone where it is what is kept, and what the stream loses without it where it is removed.
        """
        norm = self._parts.blocks[layer].attention_post_norm
        assert norm is not None, "the heads of this layer are behind no post-norm"
        if self._adds_kept:
            kept: Tensor = norm.module.forward(part)
            return kept * self._parts.residual_multiplier
        whole = self._differences.whole[layer]
        # forward() rather than a call, which would run the hooks of this forward.
        lost: Tensor = norm.module.forward(whole) - norm.module.forward(whole - part.to(whole.device))
        return lost * self._parts.residual_multiplier


def _mostly_removed(mask: EdgeMask) -> bool:
    return bool(mask.removed.sum() > _DENSE * mask.graph.mask.sum() * len(mask.removed))


def _has_constants(parts: ModelParts, graph: EdgeGraph) -> bool:
    """Return whether the stream holds what no writer writes: biases behind the heads of an attention."""
    norms = [block.attention_post_norm.module for block in parts.blocks if block.attention_post_norm is not None]
    behind = [*(block.output for block in parts.blocks), *norms]
    return graph.has_heads and any(getattr(module, "bias", None) is not None for module in behind)


def _heads_behind_post_norms(parts: ModelParts, mask: EdgeMask) -> dict[int, slice]:
    """Return layer → its heads' places among the writers, for layers whose heads' sum goes through a post-norm."""
    if not mask.graph.has_heads:
        return {}
    index = {name: i for i, name in enumerate(mask.graph.writers)}
    firsts = {
        layer: index[f"attn.{layer}.h0"]
        for layer, block in enumerate(parts.blocks)
        if block.attention_post_norm is not None
    }
    return {layer: slice(first, first + parts.n_heads) for layer, first in firsts.items()}
