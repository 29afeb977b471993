"""The contraction of experts' outputs with readers' gradients, at the tokens that chose an expert only.

A token's choices are few, and its experts many. With o_c[t] what choice c of token t adds to the stream, and e_c[t] the
expert of that choice,

    scores[e, r] = − Σ_t Σ_c [e_c[t] = e] ⟨ o_c[t] , g_r[t] ⟩

First each token's choices are multiplied with all readers' gradients there, [choices, width] · [width, R]. Then the
products are added up by expert. The cost is that of as many writers as a token has choices, and an expert that no token
chose gets exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads

__all__ = ["contract_routed"]


def contract_routed(outputs: Tensor, chosen: Tensor, experts: int, readers: Sequence[ReaderGrads]) -> Tensor:
    """Return −Σ output · gradient for every expert and reader, accumulated in float32.

    Args:
        outputs: What each choice adds, [choices, batch, pos, width], any floating dtype.
        chosen: int64 [choices, batch, pos], the expert of each choice, from 0.
        experts: The number of experts.
        readers: Gradients [nodes, batch, pos, width], on the device of ``outputs``.

    Returns:
        [batch, experts, R], float32 (float64 for float64 outputs).
    """
    work = torch.float64 if outputs.dtype == torch.float64 else torch.float32
    choices, batch, pos, width = outputs.shape
    sizes = [len(each.grads) for each in readers]
    # Copied one after another, since these are by far the largest numbers here and half of them are widened.
    grads = outputs.new_empty(sum(sizes), batch, pos, width, dtype=work)
    for place, each in zip(grads.split(sizes), readers, strict=True):
        place.copy_(each.whole())
    by_token = outputs.to(work).flatten(1, 2).transpose(0, 1)  # [tokens, choices, width]
    products = torch.bmm(by_token, grads.flatten(1, 2).permute(1, 2, 0)).view(batch, pos * choices, -1)
    places = chosen.permute(1, 2, 0).reshape(batch, pos * choices, 1)
    is_of = products.new_zeros(batch, pos * choices, experts).scatter_(-1, places, 1.0)
    return torch.bmm(is_of.transpose(1, 2), products).neg_()
