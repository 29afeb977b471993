"""The recipe's evolution strategies: noise, z-scores and steps against their definitions, and a run that is resumed."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.paths import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

sys.path.insert(0, str(FIXTURES))

from helpers.tiny_recipe import FEW, TINY, make_easy, random_parent
from recipe.evolution import ESLearner, Population, noise, standardize, train_es
from recipe.job import Job
from recipe.settings import ESSettings

SHAPES = {"a": (40, 50), "b": (40, 50), "c": (17,)}
SETTINGS = ESSettings(steps=1, population=30, noise_std=0.01, step_size=0.005)


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_noise_depends_on_name_and_seed_and_on_nothing_else() -> None:
    shape = torch.Size((300, 200))
    first = noise("a", shape, "7/0/0")
    torch.randn(5)
    assert torch.equal(noise("a", shape, "7/0/0"), first)
    for other in (noise("b", shape, "7/0/0"), noise("a", shape, "7/0/1"), noise("a", shape, "7/1/0")):
        # The correlation of 60,000 independent pairs has the standard deviation 0.004.
        assert abs(float(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1])) < 0.02
    assert first.dtype == torch.float32
    assert float(first.mean()) == pytest.approx(0, abs=0.02)
    assert float(first.std()) == pytest.approx(1, abs=0.02)


rewards = arrays(np.float64, st.integers(2, 40), elements=st.integers(0, 256).map(lambda right: right / 256))


@given(rewards)
def test_z_scores_have_mean_0_and_square_sum_n(values: Any) -> None:
    scores = standardize(torch.tensor(values, dtype=torch.float32)).numpy()
    if np.ptp(values) == 0:
        assert not scores.any()
    else:
        np.testing.assert_allclose(scores, (values - values.mean()) / values.std(), rtol=1e-9, atol=1e-9)
        assert (scores**2).sum() == pytest.approx(len(values))


@given(rewards, st.integers(0, 2**31))
def test_a_step_is_the_mean_of_noise_times_z_score(values: Any, seed: int) -> None:
    found, start = weights(), weights()
    Population(found, SETTINGS, seed).update(3, torch.tensor(values, dtype=torch.float32))
    scores = standardize(torch.tensor(values, dtype=torch.float32)).numpy()
    for name, weight in found.items():
        draws = [noise(name, weight.shape, f"{seed}/3/{number}").double().numpy() for number in range(len(values))]
        wanted = start[name].numpy() + 0.005 / len(values) * sum(
            z * draw for z, draw in zip(scores, draws, strict=True)
        )
        np.testing.assert_allclose(weight.numpy(), wanted, rtol=0, atol=2e-6)


@given(st.integers(0, 256), st.integers(0, 2**31))
def test_equal_rewards_change_nothing(right: int, seed: int) -> None:
    found = weights()
    Population(found, SETTINGS, seed).update(0, torch.full((30,), right / 256))
    assert equal(found, weights())


def test_the_perturbation_is_the_noise_and_leaves_no_rounding() -> None:
    found = weights()
    population = Population(found, SETTINGS, 7)
    for number in range(5):
        with population.member(2, number):
            for name, start in weights().items():
                assert torch.equal(found[name], start + 0.01 * noise(name, start.shape, f"7/2/{number}"))
        assert equal(found, weights())


def test_seeds_replayed_give_the_same_bits() -> None:
    ends = []
    for _ in range(2):
        found = weights()
        population = Population(found, SETTINGS, 7)
        for step in range(4):
            population.update(step, torch.randn(30, generator=torch.Generator().manual_seed(step)))
        ends.append(found)
    assert equal(*ends)
    other = weights()
    Population(other, SETTINGS, 8).update(0, torch.randn(30, generator=torch.Generator().manual_seed(0)))
    assert not equal(other, ends[0])


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_a_reward_that_is_linear_in_the_weights_is_climbed_at_the_step_size(members: int, seed: int) -> None:
    """Along the unit gradient g a step is α times the standard deviation of the members' g · ε, which is near 1."""
    generator = torch.Generator().manual_seed(seed)
    gradient = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}
    length = math.sqrt(sum(float(part.square().sum()) for part in gradient.values()))
    found = weights()
    population = Population(found, SETTINGS, seed)

    def height(tensors: dict[str, Tensor]) -> float:
        return sum(float((tensors[name].double() * part).sum()) for name, part in gradient.items()) / length

    start, heights = height(found), []
    for number in range(members):
        with population.member(0, number):
            heights.append(height(found))
    population.update(0, torch.tensor(heights, dtype=torch.float64))
    assert height(found) - start == pytest.approx(0.005 * np.std(heights) / 0.01, abs=1e-5)


@pytest.mark.parametrize(("members", "steps"), [(30, 25), (8, 40)])
def test_rewards_that_are_chance_make_a_random_walk_of_known_length(members: int, steps: int) -> None:
    """‖ΔW‖ = √d · α · √(T / N), in expectation of the squares."""
    start = {"a": torch.zeros(150, 200), "b": torch.zeros(150, 200)}
    found = copied(start)
    population = Population(found, SETTINGS, 5)
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        population.update(step, torch.rand(members, generator=generator))
    moved = math.sqrt(sum(float(weight.square().sum()) for weight in found.values()))
    # The relative standard deviation of the squared length over 60,000 coordinates is below 2 / √d = 0.008.
    assert moved == pytest.approx(math.sqrt(60_000) * 0.005 * math.sqrt(steps / members), rel=0.03)


def test_the_length_that_the_paper_s_numbers_give() -> None:
    assert math.sqrt(121_872) * 5e-4 * math.sqrt(500 / 30) == pytest.approx(0.7126, abs=1e-4)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_parent(tmp_path_factory.mktemp("parent"))


def test_members_differ_by_their_weights_alone(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise all members of a step get the same reward: they share questions and random numbers."""
    make_easy(monkeypatch)
    settings = ESSettings(steps=2, population=4, questions_per_step=64, noise_std=0.0, step_size=0.01)
    learner = ESLearner(Job(settings, TINY, 3, parent, tmp_path))
    start = {name: weight.clone() for name, weight in learner.model.named_parameters()}
    report = learner.learn(0)
    assert 0 < report["reward"] < 1
    assert report["reward_std"] == 0
    assert equal(dict(learner.model.named_parameters()), start)


def test_another_step_draws_other_answers(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_easy(monkeypatch)
    settings = ESSettings(steps=8, population=2, questions_per_step=64, noise_std=0.0)
    learner = ESLearner(Job(settings, TINY, 3, parent, tmp_path))
    assert len({learner.learn(step)["reward"] for step in range(8)}) > 1


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_weights(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_easy(monkeypatch)
    jobs = {name: Job(FEW["es"], TINY, 3, parent, tmp_path / name) for name in ("whole", "parts")}
    for job in jobs.values():
        job.work.mkdir()
    outside = torch.get_rng_state()
    whole, curve = train_es(jobs["whole"])
    assert torch.equal(torch.get_rng_state(), outside)
    begun: list[int] = []
    learn = ESLearner.learn

    def stopping(self: ESLearner, step: int) -> dict[str, float]:
        begun.append(step)
        if len(begun) == 8:
            raise KeyboardInterrupt
        return learn(self, step)

    monkeypatch.setattr(ESLearner, "learn", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_es(jobs["parts"])
    resumed, resumed_curve = train_es(jobs["parts"])
    assert begun == [*range(8), *range(6, 10)]  # stored after every second step
    assert resumed_curve == curve
    assert equal(resumed.state_dict(), whole.state_dict())
