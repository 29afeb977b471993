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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.graph.metrics import Float64Array

_AT_A_TIME = 2**24
"""Numbers of resampled scores that are computed at a time, which bounds the memory."""


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


def overlap_at(
    size: float,
    count: int,
    before: Float64Array,
    after: Float64Array,
    noise: Sequence[Float64Array],
    resampled: Sequence[tuple[float, float]],
) -> Overlap:
    """Return the overlap of the circuits of ``count`` edges.

    Args:
        size: the share of the edges that was asked for.
        count: the edges of each circuit.
        before: before's ranking values [edges].
        after: after's, of the same edges.
        noise: those of each noise draw.
        resampled: for each resampling of the questions, the Jaccard index of before with after, and of before with
            before on all questions.
    """
    ours, theirs = top(before, count), top(after, count)
    either = ours | theirs
    shared = int((ours & theirs).sum())
    correlation = float("nan")
    if either.sum() > 2:
        correlation = float(stats.spearmanr(before[either], after[either]).statistic)
    mean_shared = count * count / len(before)
    low, high = np.percentile([one for one, _ in resampled], (2.5, 97.5))
    return Overlap(
        size=size,
        n_edges=count,
        jaccard=jaccard(ours, theirs),
        interval=(float(low), float(high)),
        rank_correlation=correlation,
        expected=mean_shared / (2 * count - mean_shared) if count else 1.0,
        p_chance=float(stats.hypergeom.sf(shared - 1, len(before), count, count)),
        noise=tuple(jaccard(ours, top(draw, count)) for draw in noise),
        itself=float(np.mean([one for _, one in resampled])),
    )


def top(values: Float64Array, count: int) -> NDArray[np.bool_]:
    """Return which entries of the last axis are among the ``count`` highest; of equal ones the first."""
    order = np.argsort(-values, axis=-1, kind="stable")[..., :count]
    chosen = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen


def jaccard(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Return |A ∩ B| / |A ∪ B|; 1 for two circuits of no edge."""
    either = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / either if either else 1.0


def resampled_weights(questions: int, resamples: int, edges: int, seed: int) -> Iterator[Float64Array]:
    """Yield how often each question is drawn in each resampling, as shares, [some resamplings, questions]."""
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _AT_A_TIME // max(edges, 1))
    for first in range(0, resamples, at_a_time):
        some = min(at_a_time, resamples - first)
        yield generator.multinomial(questions, np.full(questions, 1 / questions), size=some) / questions
