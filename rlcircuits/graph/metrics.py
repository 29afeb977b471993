"""Metrics of a sequence's edge scores, taken as a distribution.

Every metric takes an :class:`~rlcircuits.graph.edge_scores.EdgeScores` of S sequences and returns one number for each
sequence, a numpy array float64 [S]. Sums are in float64 and run over the E edges of the graph (``graph.mask``) only.
Below, w is the vector of a sequence's E edge scores, in nats, and |w| their absolute values.

The gate judges three metrics, from arXiv 2509.21044:

- activation intensity: mean |w|, in nats;
- information complexity: Shannon entropy of the distribution of |w|, in nats;
- distribution kurtosis: fourth standardised moment of w (Pearson; 3 for a Gaussian).

The others help to explain them. The paper does not say how to estimate the entropy. :data:`ESTIMATORS` lists the
three estimators; the gate uses :data:`DEFAULT_ESTIMATOR`.

Every function raises :class:`RLCircuitsError`, naming the sequence, if a score is NaN or infinite, and if the graph has
no edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_scores import EdgeScores

__all__ = [
    "BLOCK_NUMBERS",
    "DEFAULT_ESTIMATOR",
    "ESTIMATORS",
    "HISTOGRAM_BINS",
    "LAYER_BANDS",
    "TOP_FRACTION",
    "Float64Array",
    "activation_intensity",
    "distribution_kurtosis",
    "edge_blocks",
    "effective_edges",
    "information_complexity",
    "intensity_by_layer_band",
    "intensity_by_reader_kind",
    "intensity_over_loss",
    "largest",
    "top_share",
]

Float64Array = NDArray[np.float64]

ESTIMATORS = ("histogram", "histogram-shared", "mass")
"""Estimators of information complexity.

``histogram``: entropy (nats) of a histogram of |w| over [0, max |w|] of that same sequence; independent of scale.
``histogram-shared``: the same over a range that the caller gives; depends on the intensity, too.
``mass``: entropy of |w| / Σ|w| divided by log E, in [0, 1]."""

DEFAULT_ESTIMATOR = "histogram"
"""The estimator of the gate."""

HISTOGRAM_BINS = 64
"""Number of bins of the histogram estimators; the entropy is at most its logarithm."""

TOP_FRACTION = 0.01
"""The fraction of edges that :func:`top_share` counts as the top."""

BLOCK_NUMBERS = 2**21
"""Most float64 numbers of one block, scores and histogram bins together: 16 MiB."""

LAYER_BANDS = ("early", "middle", "late")
"""Thirds of the depth, by the reader's layer; ``logits`` counts as late."""


@validate_arguments
def activation_intensity(scores: EdgeScores) -> Float64Array:
    """Return the mean |w| of each sequence.

    Args:
        scores: scores of S sequences.

    Returns:
        float64 [S], in nats. Source: arXiv 2509.21044.
    """
    return _each(scores, lambda w: np.abs(w).mean(axis=1))


@validate_arguments
def information_complexity(
    scores: EdgeScores,
    estimator: str = DEFAULT_ESTIMATOR,
    bins: int = HISTOGRAM_BINS,
    value_range: tuple[float, float | Float64Array] | None = None,
) -> Float64Array:
    """Return the Shannon entropy of the distribution of |w| in each sequence.

    Args:
        scores: scores of S sequences.
        estimator: one of :data:`ESTIMATORS`.
        bins: number of bins of the histogram estimators.
        value_range: for ``histogram-shared`` only: (0, hi) in nats, with hi one number or one for each sequence [S],
            at least the largest |w|.

    Returns:
        float64 [S]: nats in [0, log bins] for the histograms, a number without unit in [0, 1] for ``mass``. A sequence
        whose scores are all zero has 0. Source: arXiv 2509.21044.

    Raises:
        RLCircuitsError: an unknown estimator, ``bins`` that is not a whole number of at least 2, or a range that is
            missing, not asked for or too small.
    """
    if estimator not in ESTIMATORS:
        raise RLCircuitsError(f"estimator is {estimator!r}; it must be one of {', '.join(ESTIMATORS)}")
    if not isinstance(bins, Integral) or bins < 2:
        raise RLCircuitsError(f"bins is {bins!r}; a histogram's entropy needs a whole number of at least 2")
    if estimator != "histogram-shared":
        if value_range is not None:
            raise RLCircuitsError(f"value_range is for the histogram-shared estimator, not for {estimator}")
        if estimator == "mass":
            return _each(scores, _mass_entropy)
        return _each(scores, lambda w: _histogram(w, bins, np.abs(w).max(axis=1)), beside=bins)
    highs = _shared_highs(value_range, len(scores.values))
    return _concatenated(
        _histogram(w, bins, highs[first : first + len(w)], first) for first, w in edge_blocks(scores, beside=bins)
    )


@validate_arguments
def distribution_kurtosis(scores: EdgeScores) -> Float64Array:
    """Return the fourth standardised moment of w in each sequence (Pearson's, without bias correction).

    Args:
        scores: scores of S sequences.

    Returns:
        float64 [S], without unit; 3 for a Gaussian. NaN for a sequence whose scores are all equal, since its standard
        deviation is 0. Source: arXiv 2509.21044.
    """
    return _each(scores, _kurtosis)


@validate_arguments
def intensity_over_loss(scores: EdgeScores) -> Float64Array:
    """Return activation intensity divided by the sequence's loss.

    Intensity depends on confidence: a model that is more certain of an answer has smaller gradients everywhere. The
    division removes that.

    Args:
        scores: scores and losses of S sequences.

    Returns:
        float64 [S], without unit; NaN where the loss is 0.
    """
    return _ratio(activation_intensity(scores), np.asarray(scores.loss, dtype=np.float64))


@validate_arguments
def effective_edges(scores: EdgeScores) -> Float64Array:
    """Return the number of equal edges that would have the same entropy: exp of the entropy of |w| / Σ|w|.

    Args:
        scores: scores of S sequences.

    Returns:
        float64 [S] in [1, E]; 0 where all scores are zero.
    """
    return _each(scores, lambda w: np.where(w.any(axis=1), np.exp(_entropy(np.abs(w))), 0.0))


@validate_arguments
def top_share(scores: EdgeScores, fraction: float = TOP_FRACTION) -> Float64Array:
    """Return the share of Σ|w| that the largest |w| carry.

    Args:
        scores: scores of S sequences.
        fraction: the fraction of edges to count, in (0, 1]; at least one edge counts.

    Returns:
        float64 [S] in [0, 1]; NaN where all scores are zero.

    Raises:
        RLCircuitsError: a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise RLCircuitsError(f"fraction is {fraction}; it must lie in (0, 1]")

    def share(w: Float64Array) -> Float64Array:
        sizes = np.sort(np.abs(w), axis=1)
        top = max(round(fraction * w.shape[1]), 1)
        return _ratio(sizes[:, -top:].sum(axis=1), sizes.sum(axis=1))

    return _each(scores, share)


def largest(scores: EdgeScores) -> Float64Array:
    """Return the largest |w| of each sequence, float64 [S] in nats, which bounds a shared histogram's range."""
    return _each(scores, lambda w: np.abs(w).max(axis=1))


@validate_arguments
def intensity_by_reader_kind(scores: EdgeScores) -> dict[str, Float64Array]:
    """Return the mean |w| over the edges into each kind of reader.

    Args:
        scores: scores of S sequences.

    Returns:
        ``q``, ``k``, ``v``, ``mlp`` and ``logits``, each with float64 [S] in nats.
    """
    return _intensity_by(
        scores,
        [
            reader.rsplit(".", 1)[-1] if _is_attention(reader) else reader.split(".")[0]
            for reader in scores.graph.readers
        ],
    )


@validate_arguments
def intensity_by_layer_band(scores: EdgeScores) -> dict[str, Float64Array]:
    """Return the mean |w| over the edges into each third of the depth.

    Args:
        scores: scores of S sequences.

    Returns:
        The names of :data:`LAYER_BANDS`, each with float64 [S] in nats. A model of fewer than three layers has only
        the bands that its layers fall into.
    """
    layers = [int(reader.split(".")[1]) if "." in reader else None for reader in scores.graph.readers]
    depth = 1 + max((layer for layer in layers if layer is not None), default=0)
    groups = _intensity_by(
        scores, [LAYER_BANDS[-1 if layer is None else len(LAYER_BANDS) * layer // depth] for layer in layers]
    )
    return {band: groups[band] for band in LAYER_BANDS if band in groups}


def edge_blocks(scores: EdgeScores, beside: int = 0) -> Iterator[tuple[int, Float64Array]]:
    """Yield the scores of the graph's edges, in blocks of sequences of at most :data:`BLOCK_NUMBERS` numbers.

    All scores of a large model at head granularity would not fit the memory in float64.

    Args:
        scores: scores of S sequences.
        beside: how many numbers the caller allocates for each sequence besides its scores.

    Yields:
        The index of a block's first sequence, and the block's scores, float64 [n, E] in nats.

    Raises:
        RLCircuitsError: the graph has no edges, or a score is NaN or infinite.
    """
    mask = np.asarray(scores.graph.mask, dtype=bool)
    edges = int(mask.sum())
    if not edges:
        raise RLCircuitsError("the graph has no edges; a metric needs at least one")
    rows = max(BLOCK_NUMBERS // (edges + beside), 1)
    for first in range(0, len(scores.values), rows):
        w = np.asarray(scores.values[first : first + rows])[:, mask].astype(np.float64)
        bad = np.count_nonzero(~np.isfinite(w), axis=1)
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            raise RLCircuitsError(
                f"sequence {first + place} has {bad[place]} scores of {edges} that are NaN or infinite; "
                f"metrics need finite scores"
            )
        yield first, w


def _each(scores: EdgeScores, metric: Callable[[Float64Array], Float64Array], beside: int = 0) -> Float64Array:
    return _concatenated(metric(w) for _, w in edge_blocks(scores, beside))


def _concatenated(blocks: Iterable[Float64Array]) -> Float64Array:
    return np.concatenate([np.empty(0), *blocks])


def _ratio(above: Float64Array, below: Float64Array) -> Float64Array:
    """Return above / below, NaN where ``below`` is 0."""
    ratio: Float64Array = np.full(below.shape, np.nan)
    np.divide(above, below, out=ratio, where=below != 0)
    return ratio


def _is_attention(reader: str) -> bool:
    return reader.startswith("attn.")


def _intensity_by(scores: EdgeScores, group_of_reader: list[str]) -> dict[str, Float64Array]:
    """Return the mean |w| over the edges into each group of readers, in the order of the groups' first readers."""
    mask = np.asarray(scores.graph.mask, dtype=bool)
    group_of_edge = np.broadcast_to(np.asarray(group_of_reader), mask.shape)[mask]
    members = {group: group_of_edge == group for group in dict.fromkeys(group_of_reader)}
    rows: dict[str, list[Float64Array]] = {group: [] for group, edges in members.items() if edges.any()}
    for _, w in edge_blocks(scores):
        for group, row in rows.items():
            row.append(np.abs(w[:, members[group]]).mean(axis=1))
    return {group: _concatenated(row) for group, row in rows.items()}


def _entropy(weights: Float64Array) -> Float64Array:
    """Return the Shannon entropy in nats of each row over its sum: [n, any] → [n]; 0 for a row of zeros."""
    entropy = np.zeros(len(weights))
    live = weights.any(axis=1)
    if live.any():
        entropy[live] = stats.entropy(weights[live], axis=1)
    return entropy


def _histogram(w: Float64Array, bins: int, highs: Float64Array, first: int = 0) -> Float64Array:
    """Return the entropy in nats of the histogram of |w| over [0, high], row by row: [n, E] and [n] → [n].

    The bins are those of :func:`numpy.histogram`. ``first`` is the index of the first row's sequence, for errors.
    """
    sizes = np.abs(w)
    tops = sizes.max(axis=1)
    if (tops > highs).any():
        row = int(np.flatnonzero(tops > highs)[0])
        raise RLCircuitsError(
            f"value_range ends at {highs[row]:g} but sequence {first + row} has |w| up to {tops[row]:g}"
        )
    counts = np.zeros((len(w), bins))
    live = np.flatnonzero(tops)
    # Normalised first: a range of subnormal numbers is too small to be divided into bins.
    shares = sizes[live] / highs[live, None]
    places = np.minimum(np.searchsorted(np.linspace(0.0, 1.0, bins + 1), shares, side="right") - 1, bins - 1)
    cells = np.arange(len(live))[:, None] * bins + places
    counts[live] = np.bincount(cells.ravel(), minlength=len(live) * bins).reshape(len(live), bins)
    return _entropy(counts)


def _shared_highs(value_range: tuple[float, float | Float64Array] | None, sequences: int) -> Float64Array:
    if value_range is None:
        raise RLCircuitsError("the histogram-shared estimator needs value_range=(0, hi), the range to share")
    wanted = f"(0, hi) with hi one finite number ≥ 0, or one for each of the {sequences} sequences"
    try:
        low, highs = (np.asarray(end, dtype=np.float64) for end in value_range)
    except (TypeError, ValueError):
        raise RLCircuitsError(f"value_range is {value_range!r}; it must be {wanted}") from None
    starts_at_0 = low.shape == () and low == 0
    if not starts_at_0 or highs.shape not in ((), (sequences,)) or not np.isfinite(highs).all() or (highs < 0).any():
        raise RLCircuitsError(f"value_range must be {wanted}")
    return np.broadcast_to(highs, (sequences,))


def _mass_entropy(w: Float64Array) -> Float64Array:
    """Return the entropy of |w| / Σ|w| over log E, in [0, 1] for a graph of any size: [n, E] → [n]."""
    if w.shape[1] == 1:
        return np.zeros(len(w))
    entropy: Float64Array = _entropy(np.abs(w)) / np.log(w.shape[1])
    # Rounding can put equal scores slightly above 1.
    return entropy.clip(max=1.0)


def _kurtosis(w: Float64Array) -> Float64Array:
    """Return the kurtosis of each row: [n, E] → [n]; NaN for a row of equal scores."""
    kurtosis: Float64Array = np.full(len(w), np.nan)
    spread = np.ptp(w, axis=1) > 0
    if spread.any():
        # Kurtosis does not depend on scale, but the fourth power of a tiny score underflows.
        scaled = w[spread] / np.abs(w[spread]).max(axis=1, keepdims=True)
        kurtosis[spread] = stats.kurtosis(scaled, axis=1, fisher=False)
    return kurtosis
