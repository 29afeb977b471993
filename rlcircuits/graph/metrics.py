"""A sequence's edge scores as a distribution: the three metrics, and those that explain them.

Every metric takes an :class:`~rlcircuits.graph.edge_scores.EdgeScores` and returns one float64 number a sequence
(a numpy array of shape [S]), computed in float64 over the edges that exist (``graph.mask``) and nothing
else: w is the vector of a sequence's E edge scores, |w| its size. Scores are in nats of the sequence's loss.

The three the gate judges, from arXiv 2509.21044:

- activation intensity: mean |w|, in nats;
- information complexity: Shannon entropy of the distribution of |w|, in nats;
- distribution kurtosis: fourth standardised moment of w (Pearson; 3 for a Gaussian).

The paper leaves the entropy's estimator open. :data:`ESTIMATORS` names the three on offer; the gate uses
:data:`DEFAULT_ESTIMATOR`.

Every function raises :class:`RLCircuitsError` where a score is NaN or infinite, naming the sequence.
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

``histogram``: entropy (nats) of a histogram of |w| over [0, max |w|] of that same sequence, blind to scale.
``histogram-shared``: the same over a range the caller gives, which mixes intensity into it.
``mass``: entropy of |w| / Σ|w| divided by log E, in [0, 1]."""

DEFAULT_ESTIMATOR = "histogram"
"""The estimator the gate judges by."""

HISTOGRAM_BINS = 64
"""Bins of the histogram estimators; the entropy is at most log of this."""

TOP_FRACTION = 0.01
"""The share of edges that :func:`top_share` calls the top."""

BLOCK_NUMBERS = 2**21
"""Scores taken at a time, in float64, a histogram's bins with them: 16 MiB."""

LAYER_BANDS = ("early", "middle", "late")
"""Thirds of the depth, by the reader's layer; the reader of the final residual counts as late."""


@validate_arguments
def activation_intensity(scores: EdgeScores) -> Float64Array:
    """Mean |w| of each sequence, in nats: float64 [S]."""
    return _each(scores, lambda w: np.abs(w).mean(axis=1))


@validate_arguments
def information_complexity(
    scores: EdgeScores,
    estimator: str = DEFAULT_ESTIMATOR,
    bins: int = HISTOGRAM_BINS,
    value_range: tuple[float, float | Float64Array] | None = None,
) -> Float64Array:
    """Shannon entropy of the distribution of |w| in each sequence: float64 [S].

    `estimator` is one of :data:`ESTIMATORS`. ``histogram-shared`` needs `value_range` = (0, hi), hi one
    number or one a sequence [S], at least the largest |w|; the others take none. The histograms give nats
    in [0, log bins], ``mass`` a number in [0, 1]. A sequence whose scores are all zero has complexity 0.

    Raises RLCircuitsError for an unknown estimator, bins that are no whole number of at least 2, or a range that does
    not fit.
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
    """Fourth standardised moment of w in each sequence (Pearson, biased): float64 [S].

    A sequence whose scores are all the same, all zero included, has no spread to standardise by: NaN.
    """
    return _each(scores, _kurtosis)


@validate_arguments
def intensity_over_loss(scores: EdgeScores) -> Float64Array:
    """Activation intensity divided by the sequence's loss: float64 [S], no unit; NaN where the loss is 0.

    Raw intensity follows surprise: a surer model has smaller gradients everywhere. This takes that out.
    """
    return _ratio(activation_intensity(scores), np.asarray(scores.loss, dtype=np.float64))


@validate_arguments
def effective_edges(scores: EdgeScores) -> Float64Array:
    """How many equal edges would have this entropy of |w| / Σ|w|: exp of it, in [1, E], float64 [S].

    0 where all scores are zero.
    """
    return _each(scores, lambda w: np.where(w.any(axis=1), np.exp(_entropy(np.abs(w))), 0.0))


@validate_arguments
def top_share(scores: EdgeScores, fraction: float = TOP_FRACTION) -> Float64Array:
    """Share of Σ|w| that the top `fraction` of edges (at least one edge) carries: float64 [S] in [0, 1].

    NaN where all scores are zero. Raises RLCircuitsError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise RLCircuitsError(f"fraction is {fraction}; it must lie in (0, 1]")

    def share(w: Float64Array) -> Float64Array:
        sizes = np.sort(np.abs(w), axis=1)
        top = max(round(fraction * w.shape[1]), 1)
        return _ratio(sizes[:, -top:].sum(axis=1), sizes.sum(axis=1))

    return _each(scores, share)


def largest(scores: EdgeScores) -> Float64Array:
    """Largest |w| of each sequence, in nats: float64 [S]. The range that a pair's shared histogram needs."""
    return _each(scores, lambda w: np.abs(w).max(axis=1))


@validate_arguments
def intensity_by_reader_kind(scores: EdgeScores) -> dict[str, Float64Array]:
    """Mean |w| over the edges into each kind of reader, ``q k v mlp logits`` -> float64 [S]."""
    return _intensity_by(
        scores,
        [
            reader.rsplit(".", 1)[-1] if _is_attention(reader) else reader.split(".")[0]
            for reader in scores.graph.readers
        ],
    )


@validate_arguments
def intensity_by_layer_band(scores: EdgeScores) -> dict[str, Float64Array]:
    """Mean |w| over the edges into each third of the depth (:data:`LAYER_BANDS`) -> float64 [S].

    A model with fewer than three layers has only the bands its layers fall into.
    """
    layers = [int(reader.split(".")[1]) if "." in reader else None for reader in scores.graph.readers]
    depth = 1 + max((layer for layer in layers if layer is not None), default=0)
    groups = _intensity_by(
        scores, [LAYER_BANDS[-1 if layer is None else len(LAYER_BANDS) * layer // depth] for layer in layers]
    )
    return {band: groups[band] for band in LAYER_BANDS if band in groups}


def edge_blocks(scores: EdgeScores, beside: int = 0) -> Iterator[tuple[int, Float64Array]]:
    """Yield the scores of the edges that exist, some sequences at a time: the first one's place, float64 [n, E].

    In blocks of :data:`BLOCK_NUMBERS`, since a large model's head graph in float64 has no room for all of them.
    beside: numbers that a sequence takes besides its edges', which count too.
    Raises RLCircuitsError where there is no edge, or where a score is not finite.
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
    """One array over another, NaN where the other is 0."""
    ratio: Float64Array = np.full(below.shape, np.nan)
    np.divide(above, below, out=ratio, where=below != 0)
    return ratio


def _is_attention(reader: str) -> bool:
    return reader.startswith("attn.")


def _intensity_by(scores: EdgeScores, group_of_reader: list[str]) -> dict[str, Float64Array]:
    """Mean |w| over the edges into each group of readers, in the order the groups first appear."""
    mask = np.asarray(scores.graph.mask, dtype=bool)
    group_of_edge = np.broadcast_to(np.asarray(group_of_reader), mask.shape)[mask]
    members = {group: group_of_edge == group for group in dict.fromkeys(group_of_reader)}
    rows: dict[str, list[Float64Array]] = {group: [] for group, edges in members.items() if edges.any()}
    for _, w in edge_blocks(scores):
        for group, row in rows.items():
            row.append(np.abs(w[:, members[group]]).mean(axis=1))
    return {group: _concatenated(row) for group, row in rows.items()}


def _entropy(weights: Float64Array) -> Float64Array:
    """Shannon entropy in nats of each row, divided by its sum: [n, any] -> [n]; 0 for a row of zeros."""
    entropy = np.zeros(len(weights))
    live = weights.any(axis=1)
    if live.any():
        entropy[live] = stats.entropy(weights[live], axis=1)
    return entropy


def _histogram(w: Float64Array, bins: int, highs: Float64Array, first: int = 0) -> Float64Array:
    """Entropy in nats of the histogram of |w| over [0, high], row by row: [n, E] and [n] -> [n].

    Bins are those of :func:`numpy.histogram`. `first` is the place of the first row, for errors.
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
    # Divided first, so that a range too small to be cut into bins (subnormal scores) is none.
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
    """Entropy of |w| / Σ|w| over log E, so that it lies in [0, 1] whatever the graph's size: [n, E] -> [n]."""
    if w.shape[1] == 1:
        return np.zeros(len(w))
    entropy: Float64Array = _entropy(np.abs(w)) / np.log(w.shape[1])
    # Rounding may leave equal scores a last digit above 1.
    return entropy.clip(max=1.0)


def _kurtosis(w: Float64Array) -> Float64Array:
    """[n, E] -> [n]; NaN for a row without spread."""
    kurtosis: Float64Array = np.full(len(w), np.nan)
    spread = np.ptp(w, axis=1) > 0
    if spread.any():
        # The moment is blind to scale; the fourth power of a tiny score is not.
        scaled = w[spread] / np.abs(w[spread]).max(axis=1, keepdims=True)
        kurtosis[spread] = stats.kurtosis(scaled, axis=1, fisher=False)
    return kurtosis
