"""The recipe's NFT: its loss against the paper's definition and against GRPO's gradient, and a run that is resumed."""

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
from torch import Tensor, tensor

sys.path.insert(0, str(FIXTURES))

from helpers.tiny_recipe import FEW, TINY, make_easy, random_parent
from recipe.job import Job
from recipe.negative_aware import NFTLearner, nft_loss, right_shares, token_losses, train_nft
from recipe.ppo.rollout import judge, sample, scores
from recipe.settings import NFTSettings
from recipe.tasks import TASKS


@st.composite
def groups(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    """Log-probabilities and mask of a few groups' answers, (answers, tokens), their scores, and the size of a group."""
    questions, size, tokens = draw(st.integers(1, 3)), draw(st.integers(2, 8)), draw(st.integers(1, 5))
    right = [draw(st.integers(1, size - 1)) for _ in range(questions)]
    score = tensor([float(place < count) for count in right for place in range(size)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logps = -torch.rand(questions * size, tokens, generator=generator, dtype=torch.float64) * 5
    lengths = torch.randint(1, tokens + 1, (questions * size, 1), generator=generator)
    return logps, torch.arange(tokens) < lengths, score, size


def gradient(loss: Any, logps: Tensor) -> Tensor:
    changed = logps.clone().requires_grad_(True)
    loss(changed).backward()
    assert changed.grad is not None
    return changed.grad


def dr_grpo(logps: Tensor, old: Tensor, mask: Tensor, score: Tensor, size: int, constant: float) -> Tensor:
    """The loss of arXiv 2503.20783 without a KL term: advantages are scores less the group's mean."""
    table = score.view(-1, size)
    advantages = (table - table.mean(1, keepdim=True)).flatten()[:, None]
    return -((logps - old).exp() * advantages * mask).sum() / constant


@given(groups(), st.floats(1.0, 1e3))
def test_where_the_policy_is_the_sampling_policy_the_gradient_is_that_of_dr_grpo(
    batch: tuple[Tensor, Tensor, Tensor, int], constant: float
) -> None:
    logps, mask, score, size = batch
    share, mixed = right_shares(score, size, (0.02, 0.98))
    assert mixed.all()
    nft = gradient(lambda new: nft_loss(new, logps, mask, score.bool(), share, 1.0, constant), logps)
    grpo = gradient(lambda new: dr_grpo(new, logps, mask, score, size, constant), logps)
    torch.testing.assert_close(nft, grpo, rtol=1e-9, atol=1e-12)


@given(groups())
def test_with_the_other_weight_it_is_that_of_grpo(batch: tuple[Tensor, Tensor, Tensor, int]) -> None:
    """ω = √((1 - r) / r) gives advantages divided by the group's standard deviation, that of the population."""
    logps, mask, score, size = batch
    share, _ = right_shares(score, size, (0.02, 0.98))
    weight = ((1 - share) / share).sqrt()[:, None]
    nft = gradient(lambda new: (weight * token_losses(new, logps, score.bool(), share, 1.0) * mask).sum(), logps)
    table = score.view(-1, size)
    advantages = (table - table.mean(1, keepdim=True)) / table.std(1, keepdim=True, correction=0)
    torch.testing.assert_close(nft, -advantages.flatten()[:, None] * mask, rtol=1e-9, atol=1e-12)


def test_weights_by_hand() -> None:
    """Three right answers of four."""
    score = tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    share, _ = right_shares(score, 4, (0.02, 0.98))
    old, mask = torch.zeros(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.bool)
    found = -gradient(lambda new: nft_loss(new, old, mask, score.bool(), share, 1.0, 1.0), old)[:, 0]
    torch.testing.assert_close(found, tensor([0.25, 0.25, 0.25, -0.75], dtype=torch.float64))
    root = math.sqrt(0.25 / 0.75)
    found = -gradient(lambda new: (root * token_losses(new, old, score.bool(), share, 1.0)).sum(), old)[:, 0]
    np.testing.assert_allclose(found, [0.5774, 0.5774, 0.5774, -1.7321], rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("ratio", "least_ratio", "value", "slope"),
    [
        # r = 0.75: the implied ratio of the wrong answers' policy is (1 - 0.75 R) / 0.25 = 4 - 3 R.
        (0.8, 1.0, -math.log(1.6), 3 * 0.8 / 1.6),
        (1.2, 1.0, 0.0, 3 * 1.2),  # 0.4, clamped to 1: no value, but a gradient
        (1.2, 0.1, -math.log(0.4), 3 * 1.2 / 0.4),
        (1.5, 0.1, -math.log(0.1), 3 * 1.5 / 0.1),  # -0.5: no likelihood at all
    ],
)
def test_a_wrong_answer_by_hand(ratio: float, least_ratio: float, value: float, slope: float) -> None:
    logps = tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    loss = token_losses(logps, torch.zeros(1, 1), tensor([False]), tensor([0.75], dtype=torch.float64), least_ratio)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(value, abs=1e-12)
    assert logps.grad is not None
    assert float(logps.grad) == pytest.approx(slope)


@given(groups(), st.floats(-2, 2))
def test_a_right_answer_is_learned_like_a_demonstration(
    batch: tuple[Tensor, Tensor, Tensor, int], shift: float
) -> None:
    """Its gradient is that of -log π, however far the policy has moved."""
    logps, _, score, size = batch
    share, _ = right_shares(score, size, (0.02, 0.98))
    right = torch.ones_like(score, dtype=torch.bool)
    found = gradient(lambda new: token_losses(new, logps + shift, right, share, 1.0).sum(), logps)
    torch.testing.assert_close(found, -torch.ones_like(logps))


def test_groups_that_are_all_right_or_all_wrong_are_dropped() -> None:
    score = tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    share, mixed = right_shares(score, 2, (0.02, 0.98))
    assert share.tolist() == pytest.approx([0.98, 0.98, 0.5, 0.5, 0.02, 0.02])
    assert mixed.tolist() == [False, False, True, True, False, False]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_parent(tmp_path_factory.mktemp("parent"))


def learner_of(parent: Path, work: Path, **changes: Any) -> NFTLearner:
    settings = NFTSettings(**{"steps": 4, "prompts_per_step": 16, "learning_rate": 1e-3, **changes})
    return NFTLearner(Job(settings, TINY, 3, parent, work))


def test_one_minibatch_makes_the_step_of_dr_grpo(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a whole model: after one batch used at once, the first gradient of the optimizer is that of Dr.GRPO."""
    make_easy(monkeypatch)
    task = TASKS["sums"]
    learner = learner_of(parent, tmp_path, minibatches=1)
    rows = [row for row in learner.rows[:16] for _ in range(8)]
    torch.manual_seed(0)
    sampled = sample(learner.model, learner.tokenizer, [row["prompt"] for row in rows], 1.0, 12)
    score = scores(sampled, [row["gold"] for row in rows], task.grade, learner.tokenizer)
    assert 0 < float(score.mean()) < 1
    logps, _, _ = judge(learner.model, None, sampled, 1.0)
    dr_grpo(logps, logps.detach(), sampled.mask, score, 8, constant=128 * 12).backward()
    wanted = {name: weight.grad for name, weight in learner.model.named_parameters() if weight.grad is not None}

    torch.manual_seed(0)
    report = learner.learn(0)
    assert report["reward"] == pytest.approx(float(score.mean()))
    silent = (score.view(16, 8).std(1) == 0).float().mean()
    assert report["frac_reward_zero_std"] == pytest.approx(float(silent))
    moments = learner.optimizer.state_dict()["state"]
    for number, (name, _) in enumerate(learner.model.named_parameters()):
        # Adam's first moment after one step is a tenth of the gradient.
        torch.testing.assert_close(moments[number]["exp_avg"] * 10, wanted[name], rtol=1e-3, atol=1e-8)


def test_a_batch_is_used_in_several_steps(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_easy(monkeypatch)
    learner = learner_of(parent, tmp_path)
    learner.learn(0)
    assert {int(entry["step"]) for entry in learner.optimizer.state_dict()["state"].values()} == {4}
    assert NFTSettings().minibatches >= 4  # with one it would be a second GRPO


def test_a_batch_without_both_kinds_of_answers_teaches_nothing(parent: Path, tmp_path: Path) -> None:
    learner = learner_of(parent, tmp_path)  # a random model is never right
    start = {name: weight.detach().clone() for name, weight in learner.model.named_parameters()}
    report = learner.learn(0)
    assert (report["loss"], report["grad_norm"], report["frac_reward_zero_std"]) == (0, 0, 1)
    assert all(torch.equal(start[name], weight) for name, weight in learner.model.named_parameters())


@pytest.mark.slow
def test_learning_raises_the_reward(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_easy(monkeypatch)
    settings = NFTSettings(steps=20, prompts_per_step=16, learning_rate=3e-3)
    _, curve = train_nft(Job(settings, TINY, 3, parent, tmp_path))
    assert curve[-1]["reward"] > curve[0]["reward"] + 0.2


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_weights(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_easy(monkeypatch)
    jobs = {name: Job(FEW["nft"], TINY, 3, parent, tmp_path / name) for name in ("whole", "parts")}
    for job in jobs.values():
        job.work.mkdir()
    outside = torch.get_rng_state()
    whole, curve = train_nft(jobs["whole"])
    assert torch.equal(torch.get_rng_state(), outside)
    begun: list[int] = []
    learn = NFTLearner.learn

    def stopping(self: NFTLearner, step: int) -> dict[str, float]:
        begun.append(step)
        if len(begun) == 8:
            raise KeyboardInterrupt
        return learn(self, step)

    monkeypatch.setattr(NFTLearner, "learn", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_nft(jobs["parts"])
    resumed, resumed_curve = train_nft(jobs["parts"])
    assert begun == [*range(8), *range(6, 10)]  # stored after every second step
    assert resumed_curve == curve
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
