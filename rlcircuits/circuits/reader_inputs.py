"""The stream as each reader reads it once edges are removed.

With c the share of an edge that is removed, and the sum over the writers u before reader v,

    x_v = x − Σ_u c[u, v] (o_u − õ_u),

where o_u − õ_u is multiplied by the scalars of the blocks between u and v, if they have any
(``rlcircuits.capture.edge_scales``).

Behind a post-norm N, what the heads h of an attention add to the stream is not a sum over heads. Each reader then gets
the post-norm of its own sum: the attention's term in x, m N(y), becomes

    m N(y − Σ_h c[h, v] (o_h − õ_h)),      y, o_h: before the norm;  m: the residual multiplier.

Where nothing is put in (õ = 0), and most of a reader's edges are removed, what it keeps is added up instead:

    x_v = b_v + Σ_u (1 − c[u, v]) o_u,      m N(Σ_h (1 − c[h, v]) o_h),

where b_v, the biases of the attentions before v, are what no head writes.

A reader that gets next to nothing would otherwise read the difference of two equal sums. That is rounding errors, which
the norm before the reader scales up to the size of a stream. Each reader of each sequence is decided by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.circuits.edge_mask import EdgeMask
from rlcircuits.circuits.writer_differences import WriterDifferences
from rlcircuits.common.linear_product import linear_product
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.parts import ModelParts

_DENSE = 0.5
"""The share of the writers from which on they are all multiplied, since picking some out copies them."""

_MOST = 0.5
"""The share of a reader's edges beyond which so many are removed that what is kept is added up."""


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
        can_add = differences.put_in_nothing and not (mask.graph.has_heads and _has_biases_at_post_norms(parts))
        self._adds_kept = _mostly_removed(mask) & can_add  # bool [1 or batch, readers]
        shares = -mask.removed
        if bool(self._adds_kept.any()):
            shares = torch.where(self._adds_kept[:, None], mask.graph.mask + shares, shares)
        self._takes_part = (shares != 0).any(0)  # bool [writers, readers]
        self._shares = shares.transpose(1, 2)  # [1 or batch, readers, writers]
        self._scales = edge_scales(parts, mask.graph)
        self._biases = _biases(parts, mask.graph, self._scales) if bool(self._adds_kept.any()) else None
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
        nothing = 0 if self._biases is None else self._biases[list(readers), None, None].to(stream)
        result = self._begun_with(readers, stream, nothing)
        if bool((takes_part & self._linear).any()):
            result = result + self._sum(readers, takes_part & self._linear).to(stream.device)
        for layer, heads in self._normed_heads.items():
            behind = takes_part & ~self._linear
            behind[: heads.start] = behind[heads.stop :] = False
            if bool(behind.any()):
                term = self._through_post_norm(layer, readers, self._sum(readers, behind)).to(stream.device)
                if self._scales is not None:
                    scales = self._scales[heads.start, list(readers)].to(term)
                    term = term * scales.view(-1, *[1] * (term.ndim - 1))
                result = result + term
        return result

    def _begun_with(self, readers: Sequence[int], whole: Tensor, nothing: Tensor | int = 0) -> Tensor:
        """Return what each reader's sum begins with, [readers, batch, pos, width].

        It is ``whole`` [batch, pos, width] where removed edges are taken off, and ``nothing`` where kept ones are added
        up.
        """
        adds_kept = self._adds_kept[:, list(readers)]
        if not bool(adds_kept.any()):
            return whole.expand(len(readers), *whole.shape)
        return torch.where(adds_kept.T[..., None, None].to(whole.device), nothing, whole)

    def _sum(self, readers: Sequence[int], writers: Tensor) -> Tensor:
        """Return Σ_u share[u, v] (o_u − õ_u) over some writers, bool [writers]: [readers, batch, pos, width].

        A share is 1 − c where what is kept is added up, and −c where what is removed is taken off.
        """
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

    def _through_post_norm(self, layer: int, readers: Sequence[int], part: Tensor) -> Tensor:
        """Return what ``part`` [readers, batch, pos, width] of the norm's input adds to what the readers began with."""
        norm = self._parts.blocks[layer].attention_post_norm
        assert norm is not None, "the heads of this layer are behind no post-norm"
        whole = self._differences.whole[layer]
        # forward() rather than a call, which would run the hooks of this forward.
        normed = norm.module.forward(self._begun_with(readers, whole) + part.to(whole.device))
        added: Tensor = normed - self._begun_with(readers, norm.module.forward(whole))  # a norm without bias: N(0) = 0
        return added * self._parts.residual_multiplier


def _mostly_removed(mask: EdgeMask) -> Tensor:
    """Return the readers that lose most of their edges, bool [1 or sequences, readers]."""
    return mask.removed.sum(1) > _MOST * mask.graph.mask.sum(0)


def _biases(parts: ModelParts, graph: EdgeGraph, scales: Tensor | None) -> Tensor | None:
    """Return what no writer writes of each reader's stream, [readers, width]: biases behind the heads of attentions."""
    biases = {layer: _bias(block.output) for layer, block in enumerate(parts.blocks)}
    found = {layer: bias for layer, bias in biases.items() if bias is not None}
    if not graph.has_heads or not found:
        return None
    heads = [graph.writers.index(f"attn.{layer}.h0") for layer in found]
    shares = graph.mask[heads].double() if scales is None else graph.mask[heads] * scales[heads].double()
    multipliers = [parts.residual_multiplier * parts.blocks[layer].attention_multiplier for layer in found]
    shares = shares * torch.tensor(multipliers, dtype=torch.float64)[:, None]
    first = next(iter(found.values()))
    stacked = torch.stack([bias.to(first.device) for bias in found.values()])
    work = torch.promote_types(first.dtype, torch.float32)
    return shares.T.to(first.device, work) @ stacked.to(work)


def _has_biases_at_post_norms(parts: ModelParts) -> bool:
    """Return whether an attention has a post-norm, and a bias before it or in it, which is no sum over heads."""
    behind = [block for block in parts.blocks if block.attention_post_norm is not None]
    norms = [block.attention_post_norm.module for block in behind if block.attention_post_norm is not None]
    return any(_bias(module) is not None for module in (*norms, *(block.output for block in behind)))


def _bias(module: nn.Module | None) -> Tensor | None:
    found: Tensor | None = getattr(module, "bias", None)
    return found


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
