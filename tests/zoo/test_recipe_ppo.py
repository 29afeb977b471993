"""The recipe's PPO: rewards, advantages and losses against numbers worked out by hand, and runs that can be resumed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, tensor

sys.path.insert(0, str(FIXTURES))

from helpers.tiny_recipe import starts_with_one
from recipe.job import Job
from recipe.model import build_model, build_tokenizer
from recipe.ppo.advantages import advantages_and_returns, token_rewards, whiten
from recipe.ppo.losses import policy_loss, value_loss
from recipe.ppo.rollout import Sampled, judge, sample, scores, until_end
from recipe.ppo.training import Learner, PPORun, train_ppo
from recipe.settings import EQUATIONS, FamilySettings, ModelSettings, PPOSettings
from recipe.storing import save
from recipe.tasks import TASKS

pytestmark = pytest.mark.slow

TASK = TASKS["equations"]
SMALL = FamilySettings(ModelSettings(layers=2, width=16, heads=2, kv_heads=2, mlp_width=24), EQUATIONS, seeds=(0,))
MASK = tensor([[True, True, True], [True, True, False]])


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    save(build_model(SMALL.model, TASK.characters, seed=3), SMALL, folder)
    return folder


def test_advantages_and_returns_by_hand() -> None:
    # The third place of the second answer comes after its end.
    rewards = tensor([[0.0, -0.1, 1.0], [-0.2, 0.0, 7.0]])
    values = tensor([[0.5, 0.4, 0.6], [0.3, 0.1, 9.0]])
    advantages, returns = advantages_and_returns(rewards, values, MASK, discount=1.0, gae_lambda=0.95)
    # Errors r + V' - V, last first: 1 - 0.6 = 0.4; -0.1 + 0.6 - 0.4 = 0.1; 0 + 0.4 - 0.5 = -0.1.
    # Advantages: 0.4; 0.1 + 0.95 * 0.4 = 0.48; -0.1 + 0.95 * 0.48 = 0.356.
    # The other answer: 0 - 0.1 = -0.1 and -0.2 + 0.1 - 0.3 = -0.4; -0.1 and -0.4 - 0.95 * 0.1 = -0.495.
    torch.testing.assert_close(advantages, tensor([[0.356, 0.48, 0.4], [-0.495, -0.1, 0.0]]))
    torch.testing.assert_close(returns, tensor([[0.856, 0.88, 1.0], [-0.195, 0.0, 0.0]]))

    advantages, _ = advantages_and_returns(rewards, values, MASK, discount=0.9, gae_lambda=0.5)
    # Errors: 0.4; -0.1 + 0.54 - 0.4 = 0.04; 0.36 - 0.5 = -0.14, and each is carried back times 0.45.
    torch.testing.assert_close(advantages[0], tensor([-0.14 + 0.45 * 0.22, 0.04 + 0.45 * 0.4, 0.4]))


@st.composite
def episodes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, columns), min_size=rows, max_size=rows))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rewards, values = torch.randn(2, rows, columns, generator=generator, dtype=torch.float64)
    return rewards, values, torch.arange(columns) < tensor(lengths)[:, None]


@given(episodes(), st.floats(0, 1), st.floats(0, 1))
def test_what_comes_after_the_end_has_no_influence(
    episode: tuple[Tensor, Tensor, Tensor], discount: float, gae_lambda: float
) -> None:
    rewards, values, mask = episode
    whole = advantages_and_returns(rewards, values, mask, discount, gae_lambda)
    assert not torch.stack(whole)[:, ~mask].any()
    for row, length in enumerate(mask.sum(1)):
        alone = advantages_and_returns(
            rewards[row : row + 1, :length], values[row : row + 1, :length], mask[row : row + 1, :length],
            discount, gae_lambda,
        )  # fmt: skip
        for found, wanted in zip(whole, alone, strict=True):
            torch.testing.assert_close(found[row, :length], wanted[0])


@given(episodes(), st.floats(0.1, 1))
def test_with_lambda_one_returns_are_the_discounted_rewards_to_come(
    episode: tuple[Tensor, Tensor, Tensor], discount: float
) -> None:
    rewards, values, mask = episode
    _, returns = advantages_and_returns(rewards, values, mask, discount, gae_lambda=1.0)
    for row, length in enumerate(mask.sum(1).tolist()):
        for place in range(length):
            to_come = sum(discount ** (later - place) * rewards[row, later] for later in range(place, length))
            torch.testing.assert_close(returns[row, place], to_come)


def test_the_score_comes_last_and_the_kl_with_every_token() -> None:
    logps = tensor([[-1.0, -2.0, -0.5], [-0.3, -0.7, -4.0]])
    reference = tensor([[-1.5, -1.0, -0.5], [-0.1, -0.9, 5.0]])
    rewards = token_rewards(tensor([1.0, 0.0]), logps, reference, MASK, kl_beta=0.1)
    # log p - log p_reference: 0.5, -1, 0 and -0.2, 0.2; a tenth of it is taken off.
    torch.testing.assert_close(rewards, tensor([[-0.05, 0.1, 1.0], [0.02, -0.02, 0.0]]))


@given(episodes())
def test_whitened_numbers_have_mean_0_and_variance_1_over_the_tokens(episode: tuple[Tensor, Tensor, Tensor]) -> None:
    numbers, _, mask = episode
    white = whiten(numbers, mask)
    assert not white[~mask].any()
    assert abs(float(white[mask].mean())) < 1e-6
    if mask.sum() > 1:
        assert float(white[mask].var(correction=0)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),  # inside: the plain policy gradient
        (1.3, 2.0, -2.4, 0.0),  # already likelier by more than a fifth: nothing more to gain
        (0.7, -2.0, 1.6, 0.0),
        (0.7, 2.0, -1.4, -2.0),  # the wrong way out: the gradient leads back
        (1.3, -2.0, 2.6, 2.0),
    ],
)
def test_the_clipped_surrogate_by_hand(ratio: float, advantage: float, loss: float, slope: float) -> None:
    change = tensor([[ratio, 50.0]], requires_grad=True)
    found = policy_loss(change.log(), torch.zeros(1, 2), tensor([[advantage, 3.0]]), tensor([[True, False]]), clip=0.2)
    found.backward()
    assert float(found.detach()) == pytest.approx(loss)
    torch.testing.assert_close(change.grad, tensor([[slope, 0.0]]))


def test_losses_are_means_over_tokens_not_over_answers() -> None:
    logps = torch.zeros(2, 3)
    advantages = tensor([[3.0, 3.0, 3.0], [-2.0, -2.0, 100.0]])
    assert float(policy_loss(logps, logps, advantages, MASK, clip=0.2)) == pytest.approx(-(9 - 4) / 5)


def test_value_loss_by_hand() -> None:
    values, old, returns = tensor([[1.0, 3.0]]), tensor([[0.5, 0.0]]), tensor([[2.0, 2.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert float(value_loss(values, old, returns, mask, clip=None)) == pytest.approx(0.5 * (1 + 1) / 2)
    # Moved by at most 0.2 the values are 0.7 and 0.2, and the larger error counts: 1.69 and 3.24.
    assert float(value_loss(values, old, returns, mask, clip=0.2)) == pytest.approx(0.5 * (1.69 + 3.24) / 2)


def test_an_answer_goes_up_to_its_first_end_token() -> None:
    answers = tensor([[5, 2, 0, 0], [2, 5, 2, 0], [5, 6, 7, 8]])
    assert until_end(answers, end=2).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True, True, True, True],
    ]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_log_probabilities_are_those_of_the_answer_alone(architecture: str) -> None:
    """Padding in front and after must not change a token's probability, whatever the architecture."""
    settings = ModelSettings(architecture=architecture, layers=2, width=16, heads=2, kv_heads=2, mlp_width=24)
    model = build_model(settings, TASK.characters, seed=1).eval()
    tokenizer = build_tokenizer(settings, TASK.characters)
    torch.manual_seed(0)
    prompts = ["12x+3=4x+19?", "2x+0=1x+1?"]
    sampled = sample(model, tokenizer, prompts, temperature=1.3, answer_tokens=8)
    head = torch.nn.Linear(16, 1)
    logps, entropy, values = judge(model, head, sampled, temperature=1.3)
    for row, prompt in enumerate(prompts):
        before = tokenizer(prompt)["input_ids"]
        answer = sampled.answers[row][sampled.mask[row]]
        output = model(torch.cat([tensor(before), answer])[None], output_hidden_states=True)
        places = slice(len(before) - 1, len(before) - 1 + len(answer))
        every = (output.logits[0, places] / 1.3).log_softmax(-1)
        chosen = sampled.mask[row]
        torch.testing.assert_close(logps[row][chosen], every.gather(1, answer[:, None])[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy[row][chosen], torch.distributions.Categorical(logits=every).entropy())
        torch.testing.assert_close(values[row][chosen], head(output.hidden_states[-1][0, places])[:, 0])


def test_answers_are_graded_without_what_follows_their_end() -> None:
    tokenizer = build_tokenizer(SMALL.model, TASK.characters)
    answers = tensor([tokenizer(text)["input_ids"] for text in ("x=7>7<eos>34", "x=7>734<eos>", "x=7>7345")])
    sampled = Sampled(answers, torch.ones_like(answers), until_end(answers, tokenizer.eos_token_id))
    assert scores(sampled, ["7", "7", "7345"], TASK.grade, tokenizer).tolist() == [1.0, 0.0, 1.0]


def short(**changes: Any) -> PPOSettings:
    return PPOSettings(**{"steps": 10, "prompts_per_step": 6, "learning_rate": 1e-3, **changes})


def test_a_batch_makes_what_did_better_than_expected_likelier(parent: Path) -> None:
    torch.manual_seed(4)
    learner = Learner.start(short(prompts_per_step=64, kl_beta=0.0), parent)
    rows = TASK.prompts(64, seed=1)
    state = torch.get_rng_state()
    sampled = sample(learner.model, learner.tokenizer, [row["prompt"] for row in rows], 1.0, 8)
    torch.set_rng_state(state)
    good = scores(sampled, [""] * 64, starts_with_one, learner.tokenizer).bool()
    assert 0 < good.sum() < 64
    with torch.no_grad():
        before = judge(learner.model, None, sampled, 1.0)[0][:, 0]
    learner.learn(rows, starts_with_one, answer_tokens=8)
    with torch.no_grad():
        change = judge(learner.model, None, sampled, 1.0)[0][:, 0] - before
    assert float(change[good].min()) > 0
    assert float(change[good].mean()) > float(change[~good].mean())


def test_a_batch_is_gone_through_as_often_as_the_settings_say(parent: Path) -> None:
    learner = Learner.start(short(epochs=2, minibatches=3), parent)
    learner.learn(TASK.prompts(6, seed=1), TASK.grade, answer_tokens=4)
    state = learner.optimizer.state_dict()["state"]
    assert {int(entry["step"]) for entry in state.values()} == {6}


def test_an_interrupted_run_goes_on_to_the_same_weights(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "equations", replace(TASK, grade=starts_with_one))
    settings = short(scheduler="linear", epochs=2, minibatches=2)
    jobs = {name: Job(settings, SMALL, 3, parent, tmp_path / name) for name in ("whole", "parts")}
    for job in jobs.values():
        job.work.mkdir()
    torch.manual_seed(99)
    outside = torch.get_rng_state()
    whole, curve = train_ppo(jobs["whole"])
    assert torch.equal(torch.get_rng_state(), outside)

    begun: list[int] = []
    learn = PPORun.learn

    def stopping(self: PPORun, step: int) -> dict[str, float]:
        begun.append(step)
        if len(begun) == 8:
            raise KeyboardInterrupt
        return learn(self, step)

    monkeypatch.setattr(PPORun, "learn", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_ppo(jobs["parts"])
    resumed, resumed_curve = train_ppo(jobs["parts"])
    assert begun == [*range(8), *range(6, 10)]  # stored after every second step
    assert resumed_curve == curve
    start = Learner.start(settings, parent).model.state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
        assert not torch.equal(start[name], value)
