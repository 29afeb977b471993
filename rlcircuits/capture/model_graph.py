"""The edge graph of a model, from its parts."""

from __future__ import annotations

from rlcircuits.common.choices import GRANULARITIES, Granularity
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph, build_layered_graph, check_granularity
from rlcircuits.models.parts import ModelParts

__all__ = ["granularities", "model_graph"]


def model_graph(parts: ModelParts, granularity: str) -> EdgeGraph:
    """Return the edge graph of a model.

    Raises:
        RLCircuitsError: an unknown granularity, or one of heads or experts that the model's layers do not allow.
    """
    check_granularity(granularity)
    if granularity not in granularities(parts):
        reason = parts.no_experts if granularity == "expert" else parts.no_heads
        raise RLCircuitsError(
            f"granularity is {granularity!r}, which {type(parts.body).__name__} cannot have: {reason}; use 'sublayer'"
        )
    return build_layered_graph(
        parts.layers, parts.n_heads, granularity, n_kv_heads=parts.kv_heads, experts=parts.experts
    )


def granularities(parts: ModelParts) -> tuple[Granularity, ...]:
    """Return the granularities that the graph of a model can have."""
    refused = {"head": parts.no_heads, "kv-head": parts.no_heads, "expert": parts.no_experts}
    return tuple(each for each in GRANULARITIES if refused.get(each) is None)
