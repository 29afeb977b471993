"""The edge graph of a residual stream: its writers, its readers, and the edges between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.choices import GRANULARITIES, Granularity
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.common.sublayers import Experts, LayerReads

_EXPERT = re.compile(r"mlp\.\d+\.e\d+")


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """The writers and readers of a residual stream and the edges between them.

    A writer adds its output to the residual stream; a reader takes the residual stream as its input. Other libraries
    call them source and destination, or sender and receiver.
    """

    writers: tuple[str, ...]
    """``embed``, ``attn.0``, ``mlp.0``, …; a layer that mixes tokens without attention has ``mixer.0``; a head is
    ``attn.0.h3``, an expert of a mixture ``mlp.0.e5``, and ``mlp.0.shared`` what none of its experts writes."""
    readers: tuple[str, ...]
    """``attn.0.q``, ``attn.0.k``, ``attn.0.v``, ``mlp.0``, …, ``logits``; a mixer has the one reader ``mixer.0``; a
    head's are ``attn.0.h3.q``, …, those that a key/value head shares ``attn.0.kv1.k``, …."""
    mask: Tensor
    """bool [writers, readers], true where there is an edge: the writer comes before the reader."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        nodes = format_count(len(self.writers), "writer"), format_count(len(self.readers), "reader")
        return short_repr(self, self.granularity, *nodes, format_count(self.n_edges, "edge"))

    @property
    def n_edges(self) -> int:
        """The number of edges."""
        return int(self.mask.sum())

    @cached_property
    def granularity(self) -> Granularity:
        """``sublayer``; ``head`` or ``kv-head`` where each attention head is a node; ``expert`` where experts are."""
        if any(".kv" in name for name in self.readers):
            return "kv-head"
        if any(_EXPERT.fullmatch(name) for name in self.writers):
            return "expert"
        return "head" if any(".h" in name for name in self.writers) else "sublayer"

    @property
    def has_heads(self) -> bool:
        """Whether each attention head is a node."""
        return self.granularity in ("head", "kv-head")

    @validate_arguments
    def same_as(self, other: EdgeGraph) -> bool:
        """Return whether both graphs have the same writers, readers and edges."""
        return self.writers == other.writers and self.readers == other.readers and torch.equal(self.mask, other.mask)


def build_graph(
    n_layers: int,
    n_heads: int,
    granularity: str,
    *,
    parallel: bool = False,
    n_kv_heads: int | None = None,
    experts: Experts | None = None,
) -> EdgeGraph:
    """Build the graph of a decoder.

    A sequential model of L layers has 4L² + 3L + 1 edges at sublayer granularity.

    Args:
        n_layers: number of blocks, each an attention and an MLP.
        n_heads: number of query heads in a block.
        granularity: ``sublayer``; ``head``, where each query head reads its own copy of the k and v that it uses;
            ``kv-head``, where each key/value head has one reader k and one reader v; or ``expert``, the sublayer graph
            with a writer for each expert of a mixture.
        parallel: whether attention and MLP of a block read the same stream (GPT-NeoX, GPT-J), so that there is no
            edge from the one to the other.
        n_kv_heads: number of key/value heads in a block, by default ``n_heads``.
        experts: the experts of every block's MLP; for ``expert`` only.

    Raises:
        RLCircuitsError: an unknown granularity, or ``expert`` without experts.
    """
    layer: LayerReads = (("attn", "mlp"),) if parallel else (("attn",), ("mlp",))
    return build_layered_graph(
        [layer] * n_layers, n_heads, granularity, n_kv_heads=n_kv_heads, experts=[experts] * n_layers
    )


def build_layered_graph(
    layers: Sequence[LayerReads],
    n_heads: int,
    granularity: str,
    *,
    n_kv_heads: int | Sequence[int] | None = None,
    experts: Sequence[Experts | None] = (),
) -> EdgeGraph:
    """Build the graph of a decoder whose layers may differ in their sublayers.

    Args:
        layers: the sublayers of each block, in groups that read the same stream. There is no edge within a group.
        n_heads: number of query heads of an attention.
        granularity: see :func:`build_graph`. Only attentions have heads: a mixer or an MLP is one node.
        n_kv_heads: number of key/value heads of an attention, or one number for each block; by default ``n_heads``.
        experts: for each block the experts of its MLP, or None where it is no mixture. Granularity ``expert`` needs
            them, and no other uses them.

    Raises:
        RLCircuitsError: an unknown granularity, or ``expert`` without experts.
    """
    check_granularity(granularity)
    if granularity == "expert" and not any(experts):
        raise RLCircuitsError("granularity is 'expert', which only a mixture of experts has; use 'sublayer'")
    heads = [f".h{h}" for h in range(n_heads)] if granularity in ("head", "kv-head") else [""]
    by_layer = kv_heads_by_layer(n_kv_heads, n_heads, len(layers))
    # Each node has a time step: a writer of step s has an edge to every reader of a step > s.
    writers: list[tuple[str, int]] = [("embed", -1)]
    readers: list[tuple[str, int]] = []
    step = 0
    for layer, groups in enumerate(layers):
        kv_heads = [f".kv{h}" for h in range(by_layer[layer])] if granularity == "kv-head" else heads
        for group in groups:
            for sublayer in group:
                if sublayer == "attn":
                    writers += [(f"attn.{layer}{head}", step) for head in heads]
                    for kind, nodes in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                        readers += [(f"attn.{layer}{head}.{kind}", step) for head in nodes]
                else:
                    split = experts[layer] if sublayer == "mlp" and granularity == "expert" else None
                    writers += [(name, step) for name in _mlp_writers(f"{sublayer}.{layer}", split)]
                    readers += [(f"{sublayer}.{layer}", step)]
            step += 1
    readers += [("logits", step)]
    write_steps = torch.tensor([step for _, step in writers])
    read_steps = torch.tensor([step for _, step in readers])
    return EdgeGraph(
        writers=tuple(name for name, _ in writers),
        readers=tuple(name for name, _ in readers),
        mask=write_steps[:, None] < read_steps[None, :],
    )


def kv_heads_by_layer(n_kv_heads: int | Sequence[int] | None, n_heads: int, n_layers: int) -> Sequence[int]:
    """Return the number of key/value heads of each block: that of all blocks, ``n_heads`` for None, or each its own."""
    if n_kv_heads is None or isinstance(n_kv_heads, int):
        return [n_kv_heads or n_heads] * n_layers
    return n_kv_heads


def _mlp_writers(sublayer: str, experts: Experts | None) -> list[str]:
    """Return the writers of a sublayer that has no heads: itself, or its experts."""
    if experts is None:
        return [sublayer]
    return [*(f"{sublayer}.e{e}" for e in range(experts.count)), *([f"{sublayer}.shared"] if experts.shared else [])]


def check_granularity(granularity: str) -> None:
    """Raise RLCircuitsError unless ``granularity`` is one of GRANULARITIES."""
    if granularity not in GRANULARITIES:
        raise RLCircuitsError(f"granularity is {granularity!r}; it must be one of {', '.join(GRANULARITIES)}")
