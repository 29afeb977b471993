"""The sublayers of a decoder block: what reads from the residual stream and writes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Sublayer = Literal["attn", "mixer", "mlp"]
"""A part of a decoder block, by its name in the edge graph. A mixer mixes tokens without attention: linear attention, a
gated delta net, or Mamba."""

SUBLAYERS: tuple[Sublayer, ...] = get_args(Sublayer)
"""The sublayers, in the order of the edge graph."""

LayerReads = tuple[tuple[Sublayer, ...], ...]
"""The sublayers of one decoder block, in groups that read the same stream: ``(("attn",), ("mlp",))``."""


@dataclass(frozen=True)
class Experts:
    """The writers that a mixture of experts is, where each expert is one."""

    count: int
    """The number of experts that tokens are routed to."""
    shared: bool
    """Whether the mixture also writes what no routed expert does: shared experts, or a bias."""


LayerExperts = tuple[Experts | None, ...]
"""For each decoder block the experts of its MLP, or None for an MLP that is no mixture."""


def layer_reads(sublayers: tuple[Sublayer, ...], *, parallel: bool) -> LayerReads:
    """Return the sublayers of a block in groups that read the same stream.

    An attention and a mixer of one block always read one stream (Falcon-H1).

    Args:
        sublayers: The block's sublayers, in the order of ``SUBLAYERS``.
        parallel: Whether the MLP reads the same stream as they do.
    """
    before = tuple(sublayer for sublayer in sublayers if sublayer != "mlp")
    if parallel or not before or before == sublayers:
        return (sublayers,) if sublayers else ()
    return before, ("mlp",)
