"""The recipe of the adapters, on a tiny shipped base in float32: what training computes is what its papers define."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(FIXTURES))

from recipe.lora import loop
from recipe.lora.job import AdapterJob
from recipe.lora.online import group_advantages, train_grpo, train_ppo
from recipe.lora.policy import Policy
from recipe.lora.preference import train_dpo
from recipe.lora.rollout import sample
from recipe.lora.settings import (
    ADAPTER_ALGORITHMS,
    AdapterFamily,
    AdapterSettings,
    GroupRLSettings,
    LoRASettings,
    PPOAdapterSettings,
    PreferenceSettings,
    SupervisedSettings,
)
from recipe.lora.supervised import train_supervised
from recipe.settings import PromptSettings, TaskSettings
from recipe.tasks import PAIRS
from torch import Tensor

BASE = FIXTURES / "llama-sums" / "seed-7" / "sft"
LORA = LoRASettings(base_dtype="float32", stored_dtype="float32")
FAMILY = AdapterFamily(
    TaskSettings(name="sums", error_rate=0.5, answer_tokens=24),
    {0: ("sft",)},
    LORA,
    PromptSettings(template="{question}"),
)
PROMPTS = ["41+30+12?", "10+99+55?", "77+18+23?"]
REPLIES = ["41+30=71;71+12=83>83", "55+10=65>65", "1>1", "77+18=95;95+23=118>118", "4>4", "77+18=95>9"]

TRAININGS: dict[str, tuple[Any, AdapterSettings]] = {
    "sft": (train_supervised, SupervisedSettings(steps=3, learning_rate=1e-3, batch_size=4)),
    "grpo": (train_grpo, GroupRLSettings(steps=3, learning_rate=1e-3, prompts_per_step=4, answers_per_prompt=4)),
    "ppo": (train_ppo, PPOAdapterSettings(steps=3, learning_rate=1e-3, prompts_per_step=4, answers_per_prompt=2)),
    "dpo": (train_dpo, PreferenceSettings(steps=3, learning_rate=1e-3, pairs_per_step=4)),
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A policy whose adapter changes the model."""
    torch.manual_seed(0)
    made = Policy(BASE, None, LORA)
    with torch.no_grad():
        for weight in made.parameters().values():
            weight.add_(0.05 * torch.randn(weight.shape))
    return made


@pytest.fixture(scope="module")
def adapter(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("adapter")
    policy.save(folder, str(BASE))
    return folder


def test_log_probabilities_are_those_of_the_whole_sequence(policy: Policy) -> None:
    """Prompts are computed once for their answers: one forward of each whole sequence must give the same."""
    prompts, replies = policy.encode_prompts(PROMPTS), policy.encode_replies(REPLIES)
    found, _ = policy.logps(prompts, replies)
    for row, reply in enumerate(REPLIES):
        prompt = policy.tokenizer(PROMPTS[row // 2])["input_ids"]
        answer = policy.tokenizer(reply + policy.tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        logits = policy.model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
        wanted = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(found[row, : len(answer)].double(), wanted, atol=1e-4, rtol=1e-4)
        assert not found[row, len(answer) :].any()


def test_gradients_flow_through_the_shared_prompt(policy: Policy) -> None:
    prompts, replies = policy.encode_prompts(PROMPTS[:1]), policy.encode_replies(REPLIES[:2])
    weights = list(policy.parameters().values())
    shared = torch.autograd.grad(policy.logps(prompts, replies)[0].sum(), weights)
    apart = [torch.zeros_like(weight) for weight in weights]
    for reply in REPLIES[:2]:
        alone = policy.logps(prompts, policy.encode_replies([reply]))[0].sum()
        apart = [total + each for total, each in zip(apart, torch.autograd.grad(alone, weights), strict=True)]
    for one, other in zip(shared, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_sampler_gives_the_log_probabilities_of_training(policy: Policy) -> None:
    rollout = sample(policy, PROMPTS, 3, 24, torch.Generator().manual_seed(1))
    found, _ = policy.logps(rollout.prompts, rollout.replies)
    torch.testing.assert_close(found, rollout.logps, atol=1e-4, rtol=1e-4)


def test_the_sampler_draws_from_the_model() -> None:
    """The first token's frequencies over many draws are its probabilities."""
    made = Policy(BASE, None, LORA)
    count = 4000
    first = sample(made, PROMPTS[:1], count, 1, torch.Generator().manual_seed(2)).replies.ids[:, 0]
    prompts = made.encode_prompts(PROMPTS[:1])
    wanted = made.model(input_ids=prompts.ids).logits[0, -1].softmax(-1)
    found = torch.bincount(first, minlength=len(wanted)) / count
    assert (found - wanted).abs().max() < 5 * (0.25 / count) ** 0.5


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), min_size=1, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_advantages_sum_to_nothing_in_each_group(rewards: list[list[float]]) -> None:
    scores = torch.tensor(rewards)
    advantages = group_advantages(scores)
    torch.testing.assert_close(advantages.sum(1), torch.zeros(len(scores)), atol=1e-5, rtol=0)
    for row, group in zip(advantages, scores, strict=True):
        if group.min() == group.max():
            assert not row.any()
        else:
            assert (row[group == 1] > 0).all()
            assert (row[group == 0] < 0).all()


def test_a_saved_adapter_loads_as_it_was(policy: Policy, adapter: Path) -> None:
    again = Policy(BASE, adapter, LORA)
    prompts, replies = policy.encode_prompts(PROMPTS), policy.encode_replies(REPLIES)
    torch.testing.assert_close(again.logps(prompts, replies)[0], policy.logps(prompts, replies)[0])
    with again.as_reference():
        torch.testing.assert_close(again.logps(prompts, replies)[0], policy.logps(prompts, replies)[0])
    assert all(weight.requires_grad for weight in again.parameters().values())
    assert not any("reference" in name for name in again.parameters())


def _job(algorithm: str, adapter: Path | None, work: Path, steps: int | None = None) -> tuple[Any, AdapterJob[Any]]:
    train, chosen = TRAININGS[algorithm]
    if steps is not None:
        chosen = chosen.model_copy(update={"steps": steps})
    work.mkdir(exist_ok=True)
    return train, AdapterJob(chosen, FAMILY, 0, BASE, None if algorithm == "sft" else adapter, work)


def _weights(policy: Policy) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.parameters().items()}


@pytest.mark.parametrize("algorithm", TRAININGS)
def test_a_killed_training_resumes_to_the_same_bits(
    algorithm: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, job = _job(algorithm, adapter, tmp_path / "whole")
    wanted, curve = train(job)

    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    stored = loop.Learner.store

    def killed(self: loop.Learner, path: Path) -> None:
        stored(self, path)
        if self.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Learner, "store", killed)
    train, job = _job(algorithm, adapter, tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train(job)
    monkeypatch.setattr(loop.Learner, "store", stored)
    found, again = train(job)
    assert again == curve
    for name, weight in _weights(found).items():
        assert torch.equal(weight, _weights(wanted)[name]), name


@pytest.mark.parametrize("algorithm", TRAININGS)
def test_the_size_of_what_is_in_memory_does_not_change_the_update(
    algorithm: str, adapter: Path, tmp_path: Path
) -> None:
    found = []
    for micro_batch in (4, 48):
        train, job = _job(algorithm, adapter, tmp_path / str(micro_batch), steps=1)
        _, curve = train(replace(job, settings=job.settings.model_copy(update={"micro_batch": micro_batch})))
        found.append(curve[0]["grad_norm"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] > 0


def test_supervised_training_learns(adapter: Path, tmp_path: Path) -> None:
    train, job = _job("sft", adapter, tmp_path / "sft", steps=25)
    family = replace(FAMILY, task=FAMILY.task.model_copy(update={"error_rate": 0.0}))
    _, curve = train(replace(job, family=family, parent=adapter))
    losses = [entry["loss"] for entry in curve]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_step_of_dpo_raises_the_margin_of_its_own_pairs(adapter: Path, tmp_path: Path) -> None:
    train, job = _job("dpo", adapter, tmp_path / "dpo", steps=1)
    chosen = job.settings.model_copy(update={"sft_weight": 0.0})
    policy, curve = train(replace(job, settings=chosen))
    assert curve[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    pairs = job.task.pairs(chosen.pairs_per_step, PAIRS + job.seed, job.family.task)
    prompts = policy.encode_prompts([pair["prompt"] for pair in pairs])
    replies = policy.encode_replies([pair[kind] for pair in pairs for kind in ("chosen", "rejected")])
    with policy.as_reference():
        before = policy.logps(prompts, replies)[0].sum(1).view(-1, 2)
    gained = policy.logps(prompts, replies)[0].sum(1).view(-1, 2) - before
    assert (gained[:, 0] - gained[:, 1]).mean() > 0


def test_every_shipped_algorithm_has_settings() -> None:
    assert list(ADAPTER_ALGORITHMS) == ["sft", "sft-more", "grpo", "ppo", "dpo"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
