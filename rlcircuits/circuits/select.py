"""Find a circuit: choose edges by their scores.

    top        the n edges with the highest scores
    threshold  all edges whose score is at least a number
    greedy     from the logits backwards: n times, the edge with the highest score into a node that is already in

Greedy circuits are connected, since each edge leads to a node that leads to the logits; top circuits need not be, so
they are pruned.
"""

from __future__ import annotations

import heapq
import math
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from rlcircuits.circuits.circuit import Circuit
from rlcircuits.circuits.nodes import prune, readers_of_writers
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_scores import EdgeScores

Ranking = Literal["absolute", "signed"]
Method = Literal["top", "greedy"]


@validate_arguments
def find_circuit(
    scores: EdgeScores,
    size: int | float | None = None,
    *,
    threshold: float | None = None,
    ranking: str = "absolute",
    method: str = "top",
    pruned: bool = True,
    sequence: int | None = None,
) -> Circuit:
    """Return the circuit of the edges with the highest scores.

    Args:
        scores: the scores of the edges; their mean over the sequences counts.
        size: the number of edges before pruning (an int), or their share of all edges (a float from 0 to 1).
        threshold: instead of a size, the least score of an edge, in nats.
        ranking: ``absolute`` ranks edges by |score|, ``signed`` by score, so that edges which make the answer less
            likely come last (first, for scores of a metric that is better where it is higher).
        method: ``top`` or ``greedy``, see the module.
        pruned: leave out edges that are on no path from the embedding to the logits.
        sequence: the place of one sequence, whose scores alone count.

    Raises:
        RLCircuitsError: neither or both of size and threshold, a size outside the graph, an unknown ranking or method,
            a sequence that there is not, or scores of no sequence.
    """
    values = ranking_values(scores, ranking, sequence)
    if method not in ("top", "greedy"):
        raise RLCircuitsError(f"method is {method!r}; it must be top or greedy")
    over = f"sequence {sequence}" if sequence is not None else f"{len(scores)} sequences"
    how = f"by {'|score|' if ranking == 'absolute' else 'score'} over {over}{', pruned' if pruned else ''}"
    if (size is None) == (threshold is None):
        raise RLCircuitsError("find_circuit needs either a size or a threshold")
    if threshold is not None:
        if math.isnan(threshold):
            raise RLCircuitsError("threshold is nan, which no score is compared with; a number of nats is wanted")
        if method == "greedy":
            raise RLCircuitsError("method 'greedy' needs a size, since a threshold leaves nothing to choose")
        mask, how = (values >= threshold) & scores.graph.mask, f"at least {threshold:g} nats {how}"
    else:
        count = edge_count(scores.graph, size)
        choose = top_edges if method == "top" else greedy_edges
        mask, how = choose(scores.graph, values, count), f"{method} {count} {how}"
    return Circuit(scores.graph, prune(scores.graph, mask) if pruned else mask, how)


def ranking_values(scores: EdgeScores, ranking: str, sequence: int | None = None) -> Tensor:
    """Return what edges are ranked by: |score| or score, of one sequence or on average, float64 [writers, readers].

    Raises:
        RLCircuitsError: an unknown ranking, a sequence that there is not, scores of no sequence, or scores that are not
            finite.
    """
    if ranking not in ("absolute", "signed"):
        raise RLCircuitsError(f"ranking is {ranking!r}; it must be absolute or signed")
    if not len(scores):
        raise RLCircuitsError("scores hold no sequence, so that no edge can be ranked")
    if sequence is not None and not 0 <= sequence < len(scores):
        raise RLCircuitsError(f"sequence is {sequence}; the scores hold sequences 0 to {len(scores) - 1}")
    values = scores.values.double().mean(0) if sequence is None else scores.values[sequence].double()
    if not bool(values[scores.graph.mask].isfinite().all()):
        raise RLCircuitsError("scores hold NaN or an infinite number, so that no edge can be ranked; score again")
    return values.abs() if ranking == "absolute" else values


def edge_count(graph: EdgeGraph, size: int | float | None) -> int:
    """Return the number of edges that a size means: int(share · edges) for a share, as the MIB benchmark has it.

    Raises:
        RLCircuitsError: a size outside the graph.
    """
    edges = graph.n_edges
    is_share = not isinstance(size, Integral)  # numpy's numbers too
    if size is None or not 0 <= size <= (1 if is_share else edges):
        raise RLCircuitsError(
            f"size is {size}; a number of edges from 0 to {edges} or a share from 0.0 to 1.0 is wanted"
        )
    # A share such as 0.29 of 100 edges is 28.999…, which is meant to be 29.
    return int(size * edges + 1e-9) if is_share else int(size)


def top_edges(graph: EdgeGraph, values: Tensor, count: int) -> Tensor:
    """Return the ``count`` edges of the highest values, bool [writers, readers]; of equal ones the first."""
    places = graph.mask.nonzero()
    order = torch.sort(values[graph.mask], descending=True, stable=True).indices[:count]
    mask = torch.zeros_like(graph.mask)
    mask[tuple(places[order].T)] = True
    return mask


def greedy_edges(graph: EdgeGraph, values: Tensor, count: int) -> Tensor:
    """Return at most ``count`` edges, bool [writers, readers], each the best into a node that leads to the logits."""
    belongs = readers_of_writers(graph)
    mask = torch.zeros_like(graph.mask)
    open_edges: list[tuple[float, int, int]] = []
    reached = torch.zeros(len(graph.readers), dtype=torch.bool)

    def reach(readers: Tensor) -> None:
        for reader in (readers & ~reached).nonzero().flatten().tolist():
            reached[reader] = True
            for writer in graph.mask[:, reader].nonzero().flatten().tolist():
                heapq.heappush(open_edges, (-float(values[writer, reader]), writer, reader))

    start = torch.zeros_like(reached)
    start[graph.readers.index("logits")] = True
    reach(start)
    while open_edges and count > 0:
        _, writer, reader = heapq.heappop(open_edges)
        mask[writer, reader] = True
        count -= 1
        reach(belongs[writer])
    return mask
