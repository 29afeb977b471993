"""The gap to a filtered-SFT sibling, and the cosine of the two updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import SEED_7
from helpers.weight_folders import random_weights, source, written
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.update_cosine import cosine_sign, sft_gap, update_cosine

SHAPES = {"lm_head.weight": (7, 4), "model.norm.weight": (4,), "model.layers.0.mlp.up_proj.weight": (5, 4)}


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-3, 1.0, 7.0]), mix=st.floats(-1, 1))
def test_the_cosine_does_not_depend_on_lengths(
    seed: int, scale: float, mix: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cosine")
    before, one, other = (random_weights(SHAPES, seed + place, torch.float64) for place in range(3))
    two = {name: mix * one[name] + (1 - abs(mix)) * other[name] for name in SHAPES}
    base = written(folder / "a", before)
    after = written(folder / "b", {name: before[name] + one[name] for name in SHAPES})
    sibling = written(folder / "c", {name: before[name] + scale * two[name] for name in SHAPES})
    flat = [torch.cat([each[name].flatten() for name in SHAPES]) for each in (one, two)]
    sign = update_cosine(base, after, sibling)
    assert sign.change == pytest.approx(float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm()), abs=1e-9)
    assert sign.details["chance"] == pytest.approx(52**-0.5)
    assert update_cosine(base, after, after).change == pytest.approx(1)


def test_without_an_update_or_a_sibling(tmp_path: Path) -> None:
    base, after = (written(tmp_path / str(seed), random_weights(SHAPES, seed, torch.float32)) for seed in (0, 1))
    assert update_cosine(base, after, base).outcome == "not measurable"
    assert "no sibling" in cosine_sign(compare_weights(base, after)).note
    other = written(tmp_path / "c", random_weights({**SHAPES, "lm_head.weight": (8, 4)}, 0, torch.float32))
    with pytest.raises(RLCircuitsError, match="is no other training of"):
        update_cosine(base, after, other)


def test_the_gap_by_hand() -> None:
    ids = tuple(f"q{number}" for number in range(20))
    sibling = Counts(ids, np.array([0] * 10 + [2] * 10), np.full(20, 2))
    after = Counts(ids, np.array([1] * 10 + [2] * 10), np.full(20, 2))
    sign = sft_gap(sibling, after)
    assert (sign.before, sign.after, sign.change) == (0.5, 0.75, 0.25)
    assert (sign.outcome, sign.questions) == ("reported", 20)
    assert sign.interval is not None
    assert 0 < sign.interval[0] < 0.25 < sign.interval[1]
    assert sft_gap(after, after).interval == (0, 0)
    with pytest.raises(RLCircuitsError, match="no question in common"):
        sft_gap(sibling, Counts(("other",), np.array([1]), np.array([1])))


@pytest.mark.parametrize(
    ("sibling", "low", "high"), [("rft", 0.47, 0.65), ("sft-clean", 0.50, 0.67), ("sft-more", 0.02, 0.11)]
)
def test_shipped_siblings(sibling: str, low: float, high: float) -> None:
    """The ranges, over five bases, were measured by another program."""
    sign = update_cosine(*(source(SEED_7 / name) for name in ("sft", "grpo", sibling)))
    assert low <= round(sign.change or 0, 2) <= high
