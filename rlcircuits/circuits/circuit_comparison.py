"""Compare two checkpoints' circuits: overlap with its nulls, stability, and the edges that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.circuits.changed_edges import ChangedEdge, change_by_part, edge_p_values
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES, check_sizes
from rlcircuits.circuits.overlap import Overlap, jaccard, overlap_at, resampled_weights, top
from rlcircuits.circuits.select import edge_count
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    import pandas as pd

_STABILITY_SIZE = 0.1
"""The share of the edges in the circuits whose stability is told."""


@dataclass(frozen=True, eq=False)
class CircuitComparison:
    """What two checkpoints' circuits have in common, and what changed."""

    overlaps: tuple[Overlap, ...]
    """One for each size at which a circuit has an edge."""
    edges: tuple[ChangedEdge, ...]
    """Every edge, the one that changed most first."""
    parts: Mapping[str, float]
    """The share of the summed absolute change by kind of reader (``q`` to ``logits``) and by layer (``layer 0``, …)."""
    questions: int
    """The number of questions."""
    ranking: str
    """``absolute`` or ``signed``."""

    def __repr__(self) -> str:
        changed = sum(edge.q <= 0.05 for edge in self.edges)
        return short_repr(
            self, format_count(self.questions, "question"), f"{changed} of {len(self.edges)} edges changed"
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each edge, the one that changed most first."""
        import pandas as pd

        rows = [{**asdict(edge), "change": edge.change} for edge in self.edges]
        table = pd.DataFrame(rows)
        table[["stability_before", "stability_after"]] = table.pop("stability").tolist()
        return table


@validate_arguments
def compare_circuits(
    before: EdgeScores,
    after: EdgeScores,
    *,
    noise: Sequence[EdgeScores] = (),
    questions: Sequence[int] | None = None,
    noise_questions: Sequence[Sequence[int]] | None = None,
    ranking: str = "absolute",
    sizes: Sequence[float] = MIB_SIZES,
    resamples: int = 1000,
    seed: int = 0,
) -> CircuitComparison:
    """Compare the circuits of two checkpoints by their edge scores on the same questions.

    Args:
        before: before's scores; row i is compared with row i of ``after``.
        after: after's scores, of the same graph and number of sequences.
        noise: the scores of before with noise that matches the update, one for each draw; their sequences may differ.
        questions: the question of each row, as a number; by default each row is a question of its own.
        noise_questions: the same for each noise draw's rows, so that each question has one weight there too.
        ranking: ``absolute`` or ``signed``, see ``find_circuit``.
        sizes: the shares of the edges, ascending; sizes of less than one edge are left out.
        resamples: how often the questions are resampled.
        seed: seed of the resampling.

    Raises:
        RLCircuitsError: scores of different graphs or numbers of sequences, no sequence, or fewer than one resample.
    """
    _check(before, after, noise, questions, resamples)
    of_noise: Sequence[Sequence[int] | None] = noise_questions or [None] * len(noise)
    if [len(scores) for scores, rows in zip(noise, of_noise, strict=False) if rows is not None] != [
        len(rows) for rows in of_noise if rows is not None
    ]:
        raise RLCircuitsError("noise_questions must have one entry for each row of each noise draw")
    check_number("seed", seed)
    if ranking not in ("absolute", "signed"):
        raise RLCircuitsError(f"ranking is {ranking!r}; it must be absolute or signed")
    graph = before.graph
    ours, theirs = (_by_question(scores, questions) for scores in (before, after))
    counts = {size: edge_count(graph, float(size)) for size in check_sizes(sizes)}
    counts = {size: count for size, count in counts.items() if count}
    rank = np.abs if ranking == "absolute" else np.asarray
    whole = rank(ours.mean(0)), rank(theirs.mean(0))
    draws = [rank(_by_question(scores, rows).mean(0)) for scores, rows in zip(noise, of_noise, strict=True)]
    found: dict[float, list[tuple[float, float]]] = {size: [] for size in counts}
    stable_count = edge_count(graph, _STABILITY_SIZE)
    stability = np.zeros((2, graph.n_edges))
    for weights in resampled_weights(len(ours), resamples, graph.n_edges, seed):
        again = rank(weights @ ours), rank(weights @ theirs)
        stability += [top(each, stable_count).sum(0) / resamples for each in again]
        for size, count in counts.items():
            first, second = (top(each, count) for each in again)
            itself = top(whole[0], count)
            found[size] += [(jaccard(a, b), jaccard(a, itself)) for a, b in zip(first, second, strict=True)]
    p, q = edge_p_values(ours, theirs)
    change = theirs.mean(0) - ours.mean(0)
    names = [(graph.writers[u], graph.readers[v]) for u, v in graph.mask.nonzero().tolist()]
    edges = [
        ChangedEdge(
            writer=names[i][0],
            reader=names[i][1],
            before=float(ours[:, i].mean()),
            after=float(theirs[:, i].mean()),
            p=float(p[i]),
            q=float(q[i]),
            stability=(float(stability[0, i]), float(stability[1, i])),
        )
        for i in np.argsort(-np.abs(change), kind="stable")
    ]
    return CircuitComparison(
        overlaps=tuple(overlap_at(size, count, *whole, draws, found[size]) for size, count in counts.items()),
        edges=tuple(edges),
        parts=change_by_part(graph, change),
        questions=len(ours),
        ranking=ranking,
    )


def _by_question(scores: EdgeScores, questions: Sequence[int] | None) -> Float64Array:
    """Return the scores of the graph's edges, the mean over each question's rows, [questions, edges]."""
    rows: Float64Array = scores.values[:, scores.graph.mask].double().numpy()
    if questions is None:
        return rows
    _, places, counts = np.unique(np.asarray(questions), return_inverse=True, return_counts=True)
    total = np.zeros((len(counts), rows.shape[1]))
    np.add.at(total, places, rows)
    return total / counts[:, None]


def _check(
    before: EdgeScores,
    after: EdgeScores,
    noise: Sequence[EdgeScores],
    questions: Sequence[int] | None,
    resamples: int,
) -> None:
    """Raise RLCircuitsError for scores that cannot be compared."""
    if not all(before.graph.same_as(each.graph) for each in (after, *noise)):
        raise RLCircuitsError("the scores are of different graphs; score the same granularity of the same architecture")
    if len(before) != len(after) or not len(before) or not all(map(len, noise)):
        raise RLCircuitsError(
            f"before has {len(before)} scored sequences and after {len(after)}; the same sequences, at least one, are "
            "wanted"
        )
    if questions is not None and len(questions) != len(before):
        raise RLCircuitsError(f"questions has {len(questions)} entries for {len(before)} rows")
    if resamples < 1:
        raise RLCircuitsError(f"resamples is {resamples}; at least one is needed")
