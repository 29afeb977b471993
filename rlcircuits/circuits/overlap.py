"""How far two circuits are the same: Jaccard index and rank correlation, against chance and against noise.

At each size n, the two circuits are the n edges of the highest mean score, not pruned, so that both have n edges.

- Jaccard: |A ∩ B| / |A ∪ B|.
- Rank correlation: Spearman's, of the two rankings, over the edges of A ∪ B.
- Chance: of two circuits of n among E edges drawn at random, the overlap is hypergeometric. p is P(|A ∩ B| ≥ observed).
- Noise: the Jaccard index of before with before plus random noise that matches the update's size, for each draw. An
  overlap within these is no more change than noise of that size makes.
- Questions: before's and after's circuits are found again on resampled questions, the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.graph.metrics import Float64Array

_AT_A_TIME = 2**22
"""Numbers of resampled scores that are computed at a time, which bounds the memory."""


_MOST_RESAMPLED = 2**28
"""Numbers of resampled scores that are computed at most by default, which bounds the time."""

_RESAMPLES = 1000, 100
"""Most and fewest resamplings by default."""


def default_resamples(edges: int) -> int:
    """Return how often the questions are resampled by default: 1,000 times, less often on graphs of many edges."""
    most, fewest = _RESAMPLES
    return max(fewest, min(most, _MOST_RESAMPLED // max(edges, 1)))


@dataclass(frozen=True)
class Overlap:
    """The overlap of two circuits of one size."""

    size: float
    """The share of all edges."""
    n_edges: int
    """The edges of each circuit."""
    jaccard: float
    interval: tuple[float, float]
    """The percentiles 2.5 and 97.5 of the Jaccard index over resampled questions."""
    rank_correlation: float
    """Spearman's rank correlation over the edges of either circuit; NaN if there are fewer than three."""
    expected: float
    """The Jaccard index of two random circuits whose overlap is the expected one."""
    p_chance: float
    """The chance that two random circuits overlap as much or more."""
    noise: tuple[float, ...]
    """The Jaccard index of before with each noise draw."""
    itself: float
    """The mean Jaccard index of before's circuit with that found on resampled questions: the most that can be
    expected of circuits that are the same."""

    @property
    def is_below_noise(self) -> bool | None:
        """Whether the overlap is below that of every noise draw, which noise does not make. None without draws."""
        return self.jaccard < min(self.noise) if self.noise else None


def find_overlaps(
    sizes: Mapping[float, int],
    before: Float64Array,
    after: Float64Array,
    noise: Sequence[Float64Array],
    resampled: Resampled,
) -> tuple[Overlap, ...]:
    """Return the overlap of the circuits of each size.

    Args:
        sizes: the edges of each circuit, by the share of the edges that was asked for, ascending.
        before: before's ranking values [edges].
        after: after's, of the same edges.
        noise: those of each noise draw.
        resampled: the overlaps on resampled questions.
    """
    counts = list(sizes.values())
    ours, theirs, *draws = (circuits_with(values[None], counts) for values in (before, after, *noise))
    shared = count_shared(ours, theirs, counts)[0]
    of_draws = [jaccard(count_shared(ours, draw, counts)[0], counts) for draw in draws]
    found = []
    for place, (size, count) in enumerate(sizes.items()):
        either = (ours[0] >= len(counts) - place) | (theirs[0] >= len(counts) - place)
        correlation = float("nan")
        if either.sum() > 2:
            correlation = float(stats.spearmanr(before[either], after[either]).statistic)
        mean_shared = count * count / len(before)
        low, high = np.percentile(resampled.jaccard[:, place], (2.5, 97.5))
        found.append(
            Overlap(
                size=size,
                n_edges=count,
                jaccard=float(jaccard(shared, counts)[place]),
                interval=(float(low), float(high)),
                rank_correlation=correlation,
                expected=mean_shared / (2 * count - mean_shared),
                p_chance=float(stats.hypergeom.sf(shared[place] - 1, len(before), count, count)),
                noise=tuple(float(draw[place]) for draw in of_draws),
                itself=float(resampled.itself[:, place].mean()),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Resampled:
    """What circuits have in common on resampled questions, float64 [resamplings, sizes] each."""

    jaccard: Float64Array
    """Before's circuit with after's."""
    itself: Float64Array
    """Before's circuit with before's on all questions."""
    stability: Float64Array
    """The share of resamplings in which each edge is in before's and in after's circuit, float64 [2, edges]."""


def resample_overlaps(
    before: Float64Array,
    after: Float64Array,
    counts: Sequence[int],
    stable_count: int,
    rank: Callable[[Float64Array], Float64Array],
    resamples: int,
    seed: int,
) -> Resampled:
    """Find both circuits again on resampled questions, the same for both.

    Args:
        before: before's scores by question, [questions, edges].
        after: after's, of the same questions.
        counts: the edges of each circuit, ascending.
        stable_count: the edges of the circuits whose stability is told.
        rank: from mean scores to what ranks the edges.
        resamples: how often the questions are resampled.
        seed: seed of the resampling.
    """
    whole = circuits_with(rank(before.mean(0))[None], counts)
    both, itself = [], []
    stability = np.zeros((2, before.shape[1]))
    for weights in _resampled_weights(len(before), resamples, before.shape[1], seed):
        again = []
        for side, scores in enumerate((before, after)):
            values = rank(weights @ scores)
            ordered = np.sort(values, axis=-1)
            again.append(circuits_with(values, counts, ordered))
            if stable_count:
                stability[side] += circuits_with(values, [stable_count], ordered).sum(0, dtype=np.int64)
        both.append(jaccard(count_shared(again[0], again[1], counts), counts))
        itself.append(jaccard(count_shared(again[0], whole, counts), counts))
    return Resampled(np.concatenate(both), np.concatenate(itself), stability / resamples)


def circuits_with(
    values: Float64Array, counts: Sequence[int], ordered: Float64Array | None = None
) -> NDArray[np.uint8]:
    """Return in how many circuits each edge is; of equal values the first are taken.

    The circuits are nested, so that an edge in ``n`` of them is in the ``n`` largest.

    Args:
        values: what ranks the edges, [rankings, edges].
        counts: the edges of each circuit, ascending, at least 1 each and at most 255 of them.
        ordered: ``values`` sorted along the last axis, if that was done already.

    Returns:
        uint8 [rankings, edges].
    """
    ordered = np.sort(values, axis=-1) if ordered is None else ordered
    found = np.zeros(values.shape, dtype=np.uint8)
    for count in counts:
        if count == values.shape[1]:
            found += 1
            continue
        least = ordered[:, ordered.shape[1] - count]
        inside = values >= least[:, None]
        for row in np.flatnonzero(np.count_nonzero(inside, axis=-1) > count):
            equal = np.flatnonzero(values[row] == least[row])
            inside[row, equal[count - int(np.count_nonzero(inside[row])) :]] = False
        found += inside
    return found


def count_shared(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], counts: Sequence[int]) -> NDArray[np.int64]:
    """Return the number of edges that two circuits share, by size, int64 [rankings, sizes].

    Args:
        ours: what ``circuits_with`` returned.
        theirs: the same of the other circuits.
        counts: the edges of each circuit.
    """
    least = np.minimum(ours, theirs)
    shared = np.zeros((len(least), len(counts)), dtype=np.int64)
    for place in range(len(counts)):
        shared[:, place] = np.count_nonzero(least >= len(counts) - place, axis=-1)
    return shared


def jaccard(shared: NDArray[np.int64], counts: Sequence[int]) -> Float64Array:
    """Return |A ∩ B| / |A ∪ B| of two circuits of so many edges each."""
    found: Float64Array = shared / (2 * np.asarray(counts) - shared)
    return found


def _resampled_weights(questions: int, resamples: int, edges: int, seed: int) -> Iterator[Float64Array]:
    """Yield how often each question is drawn in each resampling, as shares, [some resamplings, questions]."""
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _AT_A_TIME // max(edges, 1))
    for first in range(0, resamples, at_a_time):
        some = min(at_a_time, resamples - first)
        yield generator.multinomial(questions, np.full(questions, 1 / questions), size=some) / questions
