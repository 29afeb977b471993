"""EAP-IG's JSON file of a graph: a score for every edge, and which edges are in a circuit.

The format is what ``Graph.to_json`` and ``Graph.from_json`` of https://github.com/hannamw/EAP-IG write and read; MIB's
circuit track calls the same file ``importances.json``:

    {"cfg":   {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, …, "logits": {"in_graph": true}},
     "edges": {"input->a0.h0<q>": {"score": 0.01, "in_graph": false}, …}}

A score there is (corrupted − clean) · ∂L of a *loss* L, so that an edge that the answer needs is positive. What we add
for our own reading stands under the key ``rlcircuits``, which EAP-IG's loader passes over. Its other format, ``.pt``,
is a pickle, which can run code when it is opened, and is not read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.json_files import read_json_object
from rlcircuits.common.validation import StrictModel, describe_error
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.node_names import eap_ig_name

_LARGEST = torch.finfo(torch.float32).max
"""The largest score: scores are float32."""

OURS = "rlcircuits"
"""The key under which we keep what EAP-IG has no place for."""


@dataclass(frozen=True, eq=False)
class EapIgGraph:
    """What a file holds."""

    graph: EdgeGraph
    """The head graph."""
    scores: Tensor
    """float64 [writers, readers], in EAP-IG's sign; 0 where there is no edge."""
    in_graph: Tensor
    """bool [writers, readers], true where the edge is in the file's circuit."""
    ours: dict[str, Any] | None
    """What :func:`write_eap_ig` was given as ``ours``; None in a file of EAP-IG's own."""


class _Config(StrictModel):
    """The entry ``cfg``. EAP-IG may put more keys there, which say nothing of the graph."""

    model_config = ConfigDict(extra="ignore", strict=True)

    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    parallel_attn_mlp: bool

    @property
    def n_edges(self) -> int:
        """The number of edges of this graph, without building it."""
        per_layer, before = self.n_heads + 1, self.n_layers * (self.n_layers - 1) // 2
        earlier = self.n_layers + per_layer * before  # writers before a layer, summed over layers
        to_mlp = earlier + (0 if self.parallel_attn_mlp else self.n_layers * self.n_heads)
        return 3 * self.n_heads * earlier + to_mlp + 1 + self.n_layers * per_layer


def write_eap_ig(
    path: Path, graph: EdgeGraph, scores: Tensor, in_graph: Tensor | None, d_model: int, ours: dict[str, Any]
) -> None:
    """Write a file that EAP-IG's ``Graph.from_json`` reads.

    Args:
        path: the file, which is replaced if it exists.
        graph: a head graph.
        scores: [writers, readers], in EAP-IG's sign.
        in_graph: bool [writers, readers], the edges of a circuit; None for no circuit.
        d_model: the width of the residual stream.
        ours: what is kept for our own reading; JSON types.

    Raises:
        RLCircuitsError: EAP-IG has no such graph, a score is not finite, or the file cannot be written.
    """
    config = _config_of(graph)
    chosen = torch.zeros_like(graph.mask) if in_graph is None else in_graph
    if chosen.dtype != torch.bool or chosen.shape != graph.mask.shape or bool((chosen & ~graph.mask).any()):
        raise RLCircuitsError(
            f"in_graph is {chosen.dtype} {list(chosen.shape)}; bool {list(graph.mask.shape)} is wanted, true at edges "
            "only"
        )
    values = scores[graph.mask].double()
    if not bool(values.isfinite().all()):
        raise RLCircuitsError(f"{path} is not written: a score is not finite, and JSON has no such number")
    names = _edge_names(graph)
    edges = {
        name: {"score": score, "in_graph": kept}
        for name, score, kept in zip(names, values.tolist(), chosen[graph.mask].tolist(), strict=True)
    }
    nodes = {eap_ig_name(name): {"in_graph": has} for name, has in zip(graph.writers, _nodes_in(chosen), strict=True)}
    cfg = {**config.model_dump(), "d_model": d_model}
    document = {"cfg": cfg, "nodes": {**nodes, "logits": {"in_graph": True}}, "edges": edges, OURS: ours}
    try:
        write_text_atomically(path, json.dumps(document) + "\n")
    except OSError as error:
        raise RLCircuitsError(f"{path} cannot be written: {error}") from error


def read_eap_ig(path: Path) -> EapIgGraph:
    """Read a file of EAP-IG, of MIB, or of :func:`write_eap_ig`.

    Raises:
        RLCircuitsError: the file is missing or damaged, is a pickle, or holds other edges than its ``cfg`` says.
    """
    if path.suffix in (".pt", ".pth"):
        raise RLCircuitsError(
            f"{path} is a pickle, which can run code when it is opened; load it in EAP-IG and write Graph.to_json"
        )
    document = read_json_object(path)
    for key in ("cfg", "nodes", "edges"):
        if not isinstance(document.get(key), dict):
            found = f"is {truncated_repr(document[key])}" if key in document else "is missing"
            raise RLCircuitsError(f"{path}: {key!r} {found}; an object is wanted, as EAP-IG's Graph.to_json writes")
    try:
        config = _Config.model_validate(document["cfg"])
    except ValidationError as error:
        raise RLCircuitsError(f"{path}{describe_error(error, before=', cfg')}") from None
    edges = document["edges"]
    # Counted first: a graph of the size that a damaged file names might not fit the memory.
    if len(edges) != config.n_edges:
        raise RLCircuitsError(
            f"{path} has {len(edges):,} edges; {config.n_layers} layers of {config.n_heads} heads have "
            f"{config.n_edges:,}, and each must be there"
        )
    graph = build_graph(config.n_layers, config.n_heads, "head", parallel=config.parallel_attn_mlp)
    scores, in_graph = graph.mask.new_zeros(graph.mask.shape, dtype=torch.float64), torch.zeros_like(graph.mask)
    each_edge = [_edge(path, edges, name) for name in _edge_names(graph)]
    scores[graph.mask] = torch.tensor([score for score, _ in each_edge], dtype=torch.float64)
    in_graph[graph.mask] = torch.tensor([kept for _, kept in each_edge])
    ours = document.get(OURS)
    return EapIgGraph(graph, scores, in_graph, ours if isinstance(ours, dict) else None)


def _edge(path: Path, edges: dict[str, Any], name: str) -> tuple[float, bool]:
    """Return the score of an edge, and whether it is in the circuit."""
    if name not in edges:
        raise RLCircuitsError(f"{path} has no edge {name!r}, which the graph that its 'cfg' describes has")
    edge = edges[name]
    score = edge.get("score") if isinstance(edge, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= _LARGEST:
        raise RLCircuitsError(
            f"{path}: edge {name!r} has the score {truncated_repr(score)}; a finite float32 is wanted (a file of a "
            "circuit without scores holds none)"
        )
    kept = edge.get("in_graph", False)
    if not isinstance(kept, bool):
        raise RLCircuitsError(f"{path}: edge {name!r} has in_graph {truncated_repr(kept)}; true or false is wanted")
    return float(score), kept


def _edge_names(graph: EdgeGraph) -> list[str]:
    """Return EAP-IG's names of all edges, in the order of the mask."""
    writers, readers = ([eap_ig_name(name) for name in names] for names in (graph.writers, graph.readers))
    return [f"{writers[u]}->{readers[v]}" for u, v in graph.mask.nonzero().tolist()]


def _nodes_in(in_graph: Tensor) -> list[bool]:
    """Return for each writer whether an edge of the circuit leaves it."""
    kept: list[bool] = in_graph.any(1).tolist()
    return kept


def _config_of(graph: EdgeGraph) -> _Config:
    """Return the config that describes a graph. Raises RLCircuitsError if none does."""
    layers = sum(name.startswith("mlp.") for name in graph.writers)
    heads = sum(name.startswith("attn.0.h") for name in graph.writers)
    if graph.granularity == "head" and layers and heads:
        for parallel in (False, True):
            if build_graph(layers, heads, "head", parallel=parallel).same_as(graph):
                return _Config(n_layers=layers, n_heads=heads, parallel_attn_mlp=parallel)
    raise RLCircuitsError(
        f"EAP-IG has no graph such as this {graph.granularity} graph: it has heads, each with a k and a v of its own, "
        "and an attention and an MLP in every layer; score with granularity 'head'"
    )
