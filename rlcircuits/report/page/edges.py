"""The edges: what the script draws as heat maps and as the circuit, those that changed most, and where the change went.

A graph at head granularity has millions of edges, most of them near zero. The page then has the strongest only, and
says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlcircuits.circuits.changed_edges import change_by_part
from rlcircuits.comparison.significance import p_in_words
from rlcircuits.report.page.data import Missing
from rlcircuits.report.page.edge_means import EdgeMeans
from rlcircuits.report.page.numbers import signed

__all__ = ["ChangedEdges", "Edge", "Part", "edge_payload", "edges_in_words", "make_changed_edges"]

MOST_EDGES = 30_000
"""Most edges on the page."""

_STEPS = 32_767
"""Scores are written as whole multiples of the largest |score| over this number."""

_FDR = 0.05
"""The false discovery rate at which edges are counted as changed."""

_LISTED = 20


@dataclass(frozen=True)
class Edge:
    """A row of the table of edges."""

    name: str
    before: str
    after: str
    change: str
    q: str
    sort: tuple[str, float, float, float, float]
    """What the columns sort by."""


@dataclass(frozen=True)
class Part:
    """A kind of reader, or a layer."""

    name: str
    percent: float
    """Its share of the summed |change|, from 0 to 100."""
    width: float
    """The same as a share of the largest part of its kind."""


@dataclass(frozen=True)
class ChangedEdges:
    """The edges that changed most, and where the change went."""

    edges: tuple[Edge, ...]
    changed: str
    kinds: tuple[Part, ...]
    layers: tuple[Part, ...]


def edges_in_words(edges: EdgeMeans | Missing) -> str | Missing:
    """Return how many edges the page has; missing if there are no scores."""
    if isinstance(edges, Missing):
        return edges
    count = len(edges.before)
    if count <= MOST_EDGES:
        return f"All {count:,} edges of the {edges.graph.granularity} graph, means over {edges.questions:,} questions."
    return (
        f"The {MOST_EDGES:,} strongest of {count:,} edges of the {edges.graph.granularity} graph, means over "
        f"{edges.questions:,} questions; the others are left white."
    )


def edge_payload(edges: EdgeMeans) -> dict[str, object]:
    """Return what the script draws: names, places as steps from one edge to the next, and scores as whole numbers."""
    kept = _strongest(edges)
    rows, columns = edges.places[kept].T
    places = rows * len(edges.graph.readers) + columns
    before, after = edges.before[kept], edges.after[kept]
    largest = max((float(np.abs(each).max(initial=0)) for each in (before, after, after - before)), default=0) or 1.0
    unit = largest / _STEPS
    return {
        "writers": list(edges.graph.writers),
        "readers": list(edges.graph.readers),
        "steps": np.diff(places, prepend=0).tolist(),
        "before": np.rint(before / unit).astype(int).tolist(),
        "after": np.rint(after / unit).astype(int).tolist(),
        "unit": unit,
        "of": len(edges.before),
    }


def make_changed_edges(edges: EdgeMeans | Missing) -> ChangedEdges | Missing:
    """Return the table of the edges that changed most, and the shares of the change by reader and by layer."""
    if isinstance(edges, Missing):
        return edges
    order = np.argsort(-np.abs(edges.change), kind="stable")[:_LISTED].tolist()
    parts = change_by_part(edges.graph, edges.change)
    layers = {name: share for name, share in parts.items() if name.startswith("layer ")}
    kinds = {name: share for name, share in parts.items() if name not in layers}
    changed = "Each edge's change was not tested, since there are too many edges; rlcircuits circuits tests them."
    if edges.q is not None:
        n_changed = int(np.count_nonzero(edges.q <= _FDR))
        changed = (
            f"{n_changed:,} of {len(edges.before):,} edges changed on {edges.questions:,} questions (Wilcoxon's "
            f"signed-rank test, false discovery rate {_FDR:g})."
        )
    return ChangedEdges(tuple(_edge(edges, place) for place in order), changed, _parts(kinds), _parts(layers))


def _strongest(edges: EdgeMeans) -> NDArray[np.int64]:
    """Return the places of the edges on the page, ascending."""
    size = np.maximum(np.maximum(np.abs(edges.before), np.abs(edges.after)), np.abs(edges.change))
    if len(size) <= MOST_EDGES:
        return np.arange(len(size))
    return np.sort(np.argpartition(-size, MOST_EDGES)[:MOST_EDGES])


def _edge(edges: EdgeMeans, place: int) -> Edge:
    writer, reader = edges.places[place].tolist()
    name = f"{edges.graph.writers[writer]} → {edges.graph.readers[reader]}"
    before, after, change = (float(each[place]) for each in (edges.before, edges.after, edges.change))
    q = float("nan") if edges.q is None else float(edges.q[place])
    shown = "" if edges.q is None else p_in_words(q)
    return Edge(name, signed(before), signed(after), signed(change), shown, (name, before, after, abs(change), q))


def _parts(shares: dict[str, float]) -> tuple[Part, ...]:
    most = max(shares.values(), default=0.0) or 1.0
    return tuple(
        Part(name, round(100 * share, 1), round(100 * share / most, 1)) for name, share in shares.items() if share
    )
