"""Straight paths, random walks, and what leaves the statistic as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_models import build
from helpers.weight_folders import random_weights, saved, written
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.vital_signs.training_path import linearity

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
SHAPES = {UP: (12, 8), DOWN: (8, 12), "lm_head.weight": (9, 8)}
STEPS = [10.0, 20.0, 30.0, 45.0, 60.0, 70.0]


def path_of(folder: Path, updates: Sequence[dict[str, Tensor]], seed: int = 0) -> list[CheckpointSource]:
    """Write before and a checkpoint for each update."""
    before = random_weights(SHAPES, seed, torch.float64)
    folder.mkdir(exist_ok=True)
    return [
        written(folder / str(place), {name: before[name] + update.get(name, 0) for name in before})
        for place, update in enumerate([{}, *updates])
    ]


def walk(seed: int, length: int = len(STEPS)) -> list[dict[str, Tensor]]:
    steps = [random_weights({UP: (12, 8), DOWN: (8, 12)}, seed * 100 + n, torch.float64) for n in range(length)]
    return [{name: sum(step[name] for step in steps[: n + 1]) for name in (UP, DOWN)} for n in range(length)]  # type: ignore[misc]


@given(seed=st.integers(0, 2**31), speed=st.sampled_from([1e-4, 1.0, 50.0]))
@settings(max_examples=15)
def test_a_straight_line_is_predicted_exactly(
    seed: int, speed: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    direction = random_weights({UP: (12, 8), DOWN: (8, 12)}, seed, torch.float64)
    updates = [{name: speed * step * each for name, each in direction.items()} for step in STEPS]
    before, *path = path_of(tmp_path_factory.mktemp("line"), updates, seed)
    sign = linearity(before, path, STEPS)
    assert sign.change == pytest.approx(1, abs=1e-6)
    assert len(sign.noise) == 19
    assert max(sign.noise) < 1
    assert sign.p == pytest.approx(1 / 20)
    assert sign.details["matrices"] == 2


def test_a_random_walk_looks_like_one(tmp_path: Path) -> None:
    """p of random walks is uniform: its mean over 20 walks is near one half."""
    ps, found, noise = [], [], []
    for seed in range(20):
        before, *path = path_of(tmp_path / str(seed), walk(seed))
        sign = linearity(before, path, STEPS)
        ps.append(sign.p)
        found.append(sign.change)
        noise += sign.noise
    assert 0.35 < np.mean(ps) < 0.7
    assert np.mean(found) == pytest.approx(np.mean(noise), abs=0.1)
    # In-sample a random walk seems to be a line; left out, it is predicted, but less well.
    assert 0 < np.mean(noise) < 0.9


@given(seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 1e3]), unit=st.sampled_from([0.01, 100.0]))
@settings(max_examples=10)
def test_what_changes_nothing(seed: int, offset: float, unit: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The unit of steps, where they begin, the size of the update, and weights outside attention and MLP."""
    folder = tmp_path_factory.mktemp("same")
    before, *path = path_of(folder / "a", walk(seed))
    wanted = linearity(before, path, STEPS, walks=0)
    steps = [offset + unit * step for step in STEPS]
    others = [
        {**{name: 3 * each for name, each in update.items()}, "lm_head.weight": torch.full((9, 8), float(place))}
        for place, update in enumerate(walk(seed))
    ]
    before, *path = path_of(folder / "b", others)
    assert linearity(before, path, steps, walks=0).change == pytest.approx(wanted.change, rel=1e-6)
    assert (wanted.noise, wanted.p) == ((), None)


def test_the_definition(tmp_path: Path) -> None:
    """Against numpy's SVD and polyfit."""
    updates = walk(3)
    before, *path = path_of(tmp_path / "walk", updates)
    residual = total = 0.0
    for name in (UP, DOWN):
        points = []
        for update in updates:
            u, s, _ = np.linalg.svd(update[name].numpy())
            points.append(s[0] * u[:, 0])
        for place in reversed(range(len(points) - 1)):
            points[place] = points[place] * np.sign(points[place] @ points[place + 1])
        x = np.stack(points)
        for out in range(len(x)):
            rest = [place for place in range(len(x)) if place != out]
            line = np.polyfit(np.array(STEPS)[rest], x[rest], 1)
            residual += np.sum((x[out] - line[0] * STEPS[out] - line[1]) ** 2)
            total += np.sum((x[out] - x[rest].mean(0)) ** 2)
    assert linearity(before, path, STEPS, walks=0).change == pytest.approx(1 - residual / total, rel=1e-6)


def test_a_path_that_stands_still(tmp_path: Path) -> None:
    direction = {UP: torch.ones(12, 8, dtype=torch.float64)}
    before, *path = path_of(tmp_path / "still", [direction] * 5)
    assert linearity(before, path, range(5)).outcome == "not measurable"
    assert linearity(before, [before] * 5, range(5)).outcome == "not measurable"


def test_real_models_with_fused_weights(tmp_path: Path) -> None:
    models = [build("gpt-neox", seed=3) for _ in range(6)]
    generator = torch.Generator().manual_seed(0)
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        direction = torch.randn(parameters[0].shape, generator=generator)
        with torch.no_grad():
            for place, parameter in enumerate(parameters):
                parameter += 0.01 * place * direction
    before, *path = (saved(tmp_path / str(place), model) for place, model in enumerate(models))
    sign = linearity(before, path, [1, 2, 3, 4, 5], walks=2)
    assert sign.change == pytest.approx(1, abs=1e-4)
    assert sign.details["matrices"] == 2 * 6


def test_bad_paths(tmp_path: Path) -> None:
    before, *path = path_of(tmp_path / "path", walk(0))
    with pytest.raises(RLCircuitsError, match="linearity of 4 checkpoints; at least 5"):
        linearity(before, path[:4], STEPS[:4])
    with pytest.raises(RLCircuitsError, match="6 checkpoints and 5 steps"):
        linearity(before, path, STEPS[:5])
    for steps in ([1, 2, 3, 3, 4, 5], [1, 2, 3, 4, 5, float("nan")]):
        with pytest.raises(RLCircuitsError, match="finite numbers that rise"):
            linearity(before, path, steps)
    nan = written(
        tmp_path / "nan", {**random_weights(SHAPES, 0, torch.float64), "lm_head.weight": torch.full((9, 8), torch.nan)}
    )
    with pytest.raises(RLCircuitsError, match=r"nan.*lm_head\.weight"):
        linearity(before, [*path[:5], nan], STEPS)
    other = written(tmp_path / "other", random_weights({**SHAPES, UP: (12, 9)}, 0, torch.float64))
    with pytest.raises(RLCircuitsError, match=r"other is on no training path of .*0: weight .*mlp"):
        linearity(before, [*path[:5], other], STEPS)
