"""The metrics: laws they must obey, agreement with scipy, and what they say of odd scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from helpers.synthetic_comparisons import random_scores, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores

seeds = st.integers(0, 2**32 - 1)
exponents = st.integers(-20, 20)
SCALE_FREE: dict[str, Callable[[EdgeScores], metrics.Float64Array]] = {
    "histogram": metrics.information_complexity,
    "mass": lambda scores: metrics.information_complexity(scores, "mass"),
    "kurtosis": metrics.distribution_kurtosis,
    "effective_edges": metrics.effective_edges,
    "top_share": metrics.top_share,
}


def edges_of(scores: EdgeScores) -> np.ndarray:
    return scores.values[:, scores.graph.mask].numpy().astype(np.float64)


def scaled(scores: EdgeScores, factor: float) -> EdgeScores:
    return EdgeScores(scores.values * factor, scores.loss, scores.graph, scores.backend)


@given(seeds, exponents)
def test_intensity_scales_with_the_scores(seed: int, exponent: int) -> None:
    scores = random_scores(2, seed)
    factor = 2.0**exponent
    np.testing.assert_allclose(
        metrics.activation_intensity(scaled(scores, -factor)),
        factor * metrics.activation_intensity(scores),
        rtol=1e-12,
    )


@given(seed=seeds, exponent=exponents)
def test_the_others_do_not_depend_on_scale(seed: int, exponent: int) -> None:
    # Powers of two, since any other factor rounds float32 scores and so changes them.
    scores = random_scores(2, seed)
    others = scaled(scores, 2.0**exponent)
    for name, metric in SCALE_FREE.items():
        np.testing.assert_allclose(metric(others), metric(scores), rtol=1e-9, err_msg=name)


def test_a_shared_histogram_depends_on_scale() -> None:
    scores = random_scores(3, seed=0)
    top = metrics.largest(scores)
    whole = metrics.information_complexity(scores, "histogram-shared", value_range=(0, top))
    np.testing.assert_allclose(whole, metrics.information_complexity(scores), rtol=1e-12)
    halved = metrics.information_complexity(scaled(scores, 0.5), "histogram-shared", value_range=(0, top))
    assert (halved < whole).all()


@given(seed=seeds)
def test_the_order_of_edges_does_not_matter(seed: int) -> None:
    edges = np.random.default_rng(seed).standard_t(3, size=(1, 23))
    shuffled = np.random.default_rng(seed + 1).permutation(edges, axis=1)
    assert not np.array_equal(edges, shuffled)
    found, wanted = scores_of(shuffled), scores_of(edges)
    for name, metric in {**SCALE_FREE, "intensity": metrics.activation_intensity}.items():
        np.testing.assert_allclose(metric(found), metric(wanted), rtol=1e-9, err_msg=name)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=23),
    st.integers(2, 100),
)
def test_bounds(edges: list[float], bins: int) -> None:
    scores = scores_of(np.array([edges]))
    n_edges = scores.graph.n_edges
    (entropy,) = metrics.information_complexity(scores, bins=bins)
    (mass,) = metrics.information_complexity(scores, "mass")
    (effective,) = metrics.effective_edges(scores)
    (kurtosis,) = metrics.distribution_kurtosis(scores)
    assert 0 <= entropy <= math.log(bins) + 1e-12
    assert 0 <= mass <= 1
    assert 0 <= effective <= n_edges * (1 + 1e-9)
    # A kurtosis is at least 1, and at most about the number of values.
    assert math.isnan(kurtosis) or 1 - 1e-9 <= kurtosis <= n_edges + 1
    assert metrics.activation_intensity(scores)[0] <= metrics.largest(scores)[0]


@given(seeds)
@settings(max_examples=25)
def test_agrees_with_scipy(seed: int) -> None:
    scores = random_scores(3, seed)
    edges = edges_of(scores)
    sizes = np.abs(edges)
    np.testing.assert_allclose(
        metrics.distribution_kurtosis(scores), stats.kurtosis(edges, axis=1, fisher=False), rtol=1e-9
    )
    np.testing.assert_allclose(
        metrics.information_complexity(scores, "mass"),
        stats.entropy(sizes, axis=1) / math.log(sizes.shape[1]),
        rtol=1e-12,
    )
    for bins in (7, 10, metrics.HISTOGRAM_BINS):
        counts = [np.histogram(row / row.max(), bins=bins, range=(0, 1))[0] for row in sizes]
        np.testing.assert_allclose(
            metrics.information_complexity(scores, bins=bins), stats.entropy(np.array(counts), axis=1), rtol=1e-12
        )


def test_sequences_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = random_scores(7, seed=4)
    everything = {name: metric(scores) for name, metric in SCALE_FREE.items()}
    shared = (0, metrics.largest(scores))
    whole = metrics.information_complexity(scores, "histogram-shared", value_range=shared)
    monkeypatch.setattr(metrics, "BLOCK_NUMBERS", 3 * scores.graph.n_edges)
    assert [first for first, _ in metrics.edge_blocks(scores)] == [0, 3, 6]
    for name, metric in SCALE_FREE.items():
        np.testing.assert_array_equal(metric(scores), everything[name])
    in_blocks = metrics.information_complexity(scores, "histogram-shared", value_range=shared)
    np.testing.assert_array_equal(in_blocks, whole)
    broken = scores_of(np.vstack([np.ones((4, 5)), np.full((1, 5), np.nan)]))
    with pytest.raises(RLCircuitsError, match="sequence 4 has 5 scores of 23 that are NaN or infinite"):
        metrics.activation_intensity(broken)


def test_by_hand() -> None:
    # A model of two layers has 4L² + 3L + 1 = 23 edges: here four weigh 1, -1, 2, -4 and 19 nothing.
    scores = scores_of(np.array([[1.0, -1.0, 2.0, -4.0]]), loss=[0.5])
    assert scores.graph.n_edges == 23
    assert metrics.activation_intensity(scores)[0] == pytest.approx(8 / 23)
    assert metrics.intensity_over_loss(scores)[0] == pytest.approx(16 / 23)
    bits = -(2 * 1 / 8 * math.log(1 / 8) + 2 / 8 * math.log(2 / 8) + 4 / 8 * math.log(4 / 8))
    assert metrics.effective_edges(scores)[0] == pytest.approx(math.exp(bits))
    assert metrics.information_complexity(scores, "mass")[0] == pytest.approx(bits / math.log(23))
    assert metrics.top_share(scores)[0] == pytest.approx(4 / 8)
    assert metrics.top_share(scores, fraction=2 / 23)[0] == pytest.approx(6 / 8)
    # Four bins over [0, 4]: 19 zeros in the first, 1 and 1 in the second, 2 in the third, 4 in the last.
    expected = stats.entropy([19, 2, 1, 1])
    assert metrics.information_complexity(scores, bins=4)[0] == pytest.approx(expected)


def test_edges_that_do_not_exist_count_for_nothing() -> None:
    scores = random_scores(2, seed=3)
    wanted = {name: metric(scores) for name, metric in SCALE_FREE.items()}
    elsewhere = scores.values.clone()
    elsewhere[:, ~scores.graph.mask] = 1e6
    changed = EdgeScores(elsewhere, scores.loss, scores.graph, scores.backend)
    for name, metric in SCALE_FREE.items():
        np.testing.assert_array_equal(metric(changed), wanted[name])


def test_scores_that_are_all_zero() -> None:
    scores = scores_of(np.zeros((1, 1)), loss=[0.0])
    for estimator, extra in (("histogram", None), ("mass", None), ("histogram-shared", (0, 0.0))):
        assert metrics.information_complexity(scores, estimator, value_range=extra)[0] == 0
    assert metrics.activation_intensity(scores)[0] == 0
    assert metrics.effective_edges(scores)[0] == 0
    for metric in (metrics.distribution_kurtosis, metrics.top_share, metrics.intensity_over_loss):
        assert math.isnan(metric(scores)[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_name_the_sequence(bad: float) -> None:
    edges = np.ones((3, 5))
    edges[1, 2] = bad
    for metric in (metrics.activation_intensity, *SCALE_FREE.values()):
        with pytest.raises(RLCircuitsError, match=r"sequence 1 has 1 scores of 23 that are NaN or infinite"):
            metric(scores_of(edges))


def test_groups_of_edges_add_up() -> None:
    scores = random_scores(4, seed=5)
    mask = scores.graph.mask.numpy()
    readers = scores.graph.readers
    layer_of = [None if "." not in reader else int(reader.split(".")[1]) for reader in readers]
    kinds = metrics.intensity_by_reader_kind(scores)
    assert list(kinds) == ["q", "k", "v", "mlp", "logits"]
    q_edges = mask & np.array([reader.endswith(".q") for reader in readers])
    np.testing.assert_allclose(kinds["q"], np.abs(scores.values.numpy()[:, q_edges]).mean(axis=1), rtol=1e-6)
    bands = metrics.intensity_by_layer_band(scores)
    assert list(bands) == ["early", "middle", "late"]
    late = mask & np.array([layer is None for layer in layer_of])
    np.testing.assert_allclose(bands["late"], np.abs(scores.values.numpy()[:, late]).mean(axis=1), rtol=1e-6)


def test_thirds_of_the_depth() -> None:
    scores = scores_of(np.ones((1, 10_000)), layers=6)
    layers = dict.fromkeys(metrics.LAYER_BANDS, 0)
    for reader in scores.graph.readers:
        layer = int(reader.split(".")[1]) if "." in reader else 5
        layers[metrics.LAYER_BANDS[layer // 2]] += 1
    assert list(layers.values()) == [8, 8, 9]
    assert {band: value[0] for band, value in metrics.intensity_by_layer_band(scores).items()} == dict.fromkeys(
        metrics.LAYER_BANDS, 1.0
    )


@pytest.mark.parametrize(
    ("estimator", "bins", "value_range", "message"),
    [
        ("entropy", 64, None, "must be one of histogram, histogram-shared, mass"),
        ("histogram", 1, None, "bins is 1"),
        ("histogram", 2.5, None, "bins is 2.5"),
        ("histogram-shared", 64, 5.0, "value_range is 5.0"),
        ("histogram-shared", 64, (0, 1, 2), r"value_range is \(0, 1, 2\)"),
        ("histogram", 64, (0, 1), "value_range is for the histogram-shared estimator"),
        ("histogram-shared", 64, None, "needs value_range"),
        ("histogram-shared", 64, (1, 2), "value_range must be"),
        ("histogram-shared", 64, (0, np.ones(5)), "value_range must be"),
        ("histogram-shared", 64, (0, 0.5), r"ends at 0.5 but sequence 0 has \|w\| up to 1"),
    ],
)
def test_options_that_do_not_fit(estimator: str, bins: int, value_range: object, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        metrics.information_complexity(scores_of(np.ones((2, 3))), estimator, bins, value_range)  # type: ignore[arg-type]
