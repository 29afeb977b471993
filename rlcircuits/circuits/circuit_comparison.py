"""Compare two checkpoints' circuits: overlap with its nulls, stability, and the edges that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.circuits.by_question import scores_by_question
from rlcircuits.circuits.changed_edges import ChangedEdges, change_by_part, make_changed_edges
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES, check_sizes
from rlcircuits.circuits.overlap import Overlap, default_resamples, find_overlaps, resample_overlaps
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
    edges: ChangedEdges
    """Every edge, the one that changed most first: a sequence of ``ChangedEdge``, made when they are read."""
    parts: Mapping[str, float]
    """The share of the summed absolute change by kind of reader (``q`` to ``logits``) and by layer (``layer 0``, …)."""
    questions: int
    """The number of questions."""
    ranking: str
    """``absolute`` or ``signed``."""
    resamples: int
    """How often the questions were resampled."""

    def __repr__(self) -> str:
        changed = self.edges.n_changed(0.05)
        return short_repr(
            self, format_count(self.questions, "question"), f"{changed} of {len(self.edges)} edges changed"
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each edge, the one that changed most first.

        Raises:
            RLCircuitsError: pandas is not installed.
        """
        return self.edges.to_pandas()


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
    resamples: int | None = None,
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
        resamples: how often the questions are resampled; by default 1,000 times, on graphs of more than 268,000 edges
            less often, so that a comparison takes seconds, and 100 times at least.
        seed: seed of the resampling.

    Raises:
        RLCircuitsError: scores of different graphs or numbers of sequences, no sequence, or fewer than one resample.
    """
    resamples = default_resamples(before.graph.n_edges) if resamples is None else resamples
    _check(before, after, noise, questions, resamples)
    check_number("seed", seed)
    graph = before.graph
    counts = {size: edge_count(graph, float(size)) for size in check_sizes(sizes)}
    counts = {size: count for size, count in counts.items() if count}
    ours, theirs = (scores_by_question(scores, questions) for scores in (before, after))
    overlaps, stability = _overlaps(ours, theirs, counts, _draws(noise, noise_questions), ranking, resamples, seed)
    edges = make_changed_edges(graph, ours, theirs, stability)
    return CircuitComparison(
        overlaps=overlaps,
        edges=edges,
        parts=change_by_part(graph, theirs.mean(0) - ours.mean(0)),
        questions=len(ours),
        ranking=ranking,
        resamples=resamples,
    )


def overlap_at_size(
    before: EdgeScores,
    after: EdgeScores,
    size: float,
    *,
    noise: Sequence[EdgeScores] = (),
    questions: Sequence[int] | None = None,
    noise_questions: Sequence[Sequence[int]] | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> Overlap:
    """Return the overlap of two checkpoints' circuits of one size, ranked by |score|.

    Args:
        before: before's scores; row i is compared with row i of ``after``.
        after: after's scores.
        size: the share of the edges; a circuit has at least one edge.
        noise: as in :func:`compare_circuits`, like the other arguments.
        questions: the question of each row.
        noise_questions: the same for each noise draw.
        resamples: how often the questions are resampled; by default as in :func:`compare_circuits`.
        seed: seed of the resampling.

    Raises:
        RLCircuitsError: what :func:`compare_circuits` refuses.
    """
    resamples = default_resamples(before.graph.n_edges) if resamples is None else resamples
    _check(before, after, noise, questions, resamples)
    ours, theirs = (scores_by_question(scores, questions) for scores in (before, after))
    counts = {size: max(1, edge_count(before.graph, size))}
    draws = _draws(noise, noise_questions)
    (found,), _ = _overlaps(ours, theirs, counts, draws, "absolute", resamples, seed, with_stability=False)
    return found


def _overlaps(
    ours: Float64Array,
    theirs: Float64Array,
    counts: Mapping[float, int],
    draws: Sequence[Float64Array],
    ranking: str,
    resamples: int,
    seed: int,
    *,
    with_stability: bool = True,
) -> tuple[tuple[Overlap, ...], Float64Array]:
    """Return the overlap at each size, and the stability of each edge, [2, edges].

    Args:
        ours: before's scores by question, [questions, edges].
        theirs: after's.
        counts: the edges of each circuit, by size.
        draws: each noise draw's mean scores, [edges].
        ranking: ``absolute`` or ``signed``.
        resamples: how often the questions are resampled.
        seed: seed of the resampling.
        with_stability: whether the stability is wanted; else it is zero.
    """
    if ranking not in ("absolute", "signed"):
        raise RLCircuitsError(f"ranking is {ranking!r}; it must be absolute or signed")
    rank = np.abs if ranking == "absolute" else np.asarray
    stable_count = int(_STABILITY_SIZE * ours.shape[1] + 1e-9) if with_stability else 0
    resampled = resample_overlaps(ours, theirs, list(counts.values()), stable_count, rank, resamples, seed)
    whole = rank(ours.mean(0)), rank(theirs.mean(0))
    return find_overlaps(counts, *whole, [rank(draw) for draw in draws], resampled), resampled.stability


def _draws(noise: Sequence[EdgeScores], questions: Sequence[Sequence[int]] | None) -> list[Float64Array]:
    """Return the mean scores of each noise draw, each question with the same weight."""
    rows: Sequence[Sequence[int] | None] = questions or [None] * len(noise)
    if [len(scores) for scores, of_it in zip(noise, rows, strict=False) if of_it is not None] != [
        len(of_it) for of_it in rows if of_it is not None
    ]:
        raise RLCircuitsError("noise_questions must have one entry for each row of each noise draw")
    return [scores_by_question(scores, of_it).mean(0) for scores, of_it in zip(noise, rows, strict=True)]


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
