"""A family of the training recipe with a tiny model and a few steps, so that training takes seconds."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.paths import FIXTURES

sys.path.insert(0, str(FIXTURES))

from recipe.model import build_model
from recipe.settings import (
    AlgorithmSettings,
    CFGRPOSettings,
    DPOSettings,
    ESSettings,
    EvaluationSettings,
    FamilySettings,
    FISFTSettings,
    FurtherSFTSettings,
    GRPOSettings,
    ModelSettings,
    NFTSettings,
    OnPolicyDPOSettings,
    PPOSettings,
    RFTSettings,
    RLOOSettings,
    SFTSettings,
    TaskSettings,
)
from recipe.storing import save
from recipe.tasks import TASKS

FEW: dict[str, AlgorithmSettings] = {
    "sft": SFTSettings(steps=10, batch_size=4, warmup_steps=2),
    "sft-more": FurtherSFTSettings(steps=10, batch_size=4),
    "sft-clean": FurtherSFTSettings(steps=10, batch_size=4, error_rate=0.0),
    "rft": RFTSettings(steps=10, batch_size=4, answers=12),
    "grpo": GRPOSettings(steps=10, prompts_per_step=8, answers_per_prompt=8, learning_rate=1e-3),
    "rloo": RLOOSettings(steps=10, prompts_per_step=8, answers_per_prompt=8, learning_rate=1e-3),
    "ppo": PPOSettings(steps=10, prompts_per_step=64, learning_rate=1e-3),
    "dpo": DPOSettings(steps=10, pairs_per_step=4, pairs=16, learning_rate=1e-3),
    "dpo-onpolicy": OnPolicyDPOSettings(steps=10, pairs_per_step=4, pairs=16, learning_rate=1e-3),
    "grpo-kl0.01": GRPOSettings(steps=10, prompts_per_step=8, answers_per_prompt=8, learning_rate=1e-3, kl_beta=0.01),
    "cf-grpo": CFGRPOSettings(steps=10, prompts_per_step=8, answers_per_prompt=8, learning_rate=1e-3, head_steps=2),
    "nft": NFTSettings(steps=10, prompts_per_step=8, answers_per_prompt=8, learning_rate=1e-3),
    "es": ESSettings(steps=10, population=4, questions_per_step=16, noise_std=0.02, step_size=0.01),
    "f-isft": FISFTSettings(steps=10, batch_size=4, answers=20),
}
TINY = FamilySettings(
    model=ModelSettings(layers=2, width=16, heads=2, kv_heads=2, mlp_width=24),
    task=TaskSettings(name="sums", answer_tokens=12),
    seeds=(3, 4),
    special=FEW,
    evaluation=EvaluationSettings(count=8),
)


def starts_with_one(text: str, gold: str) -> bool:
    """Grade as correct what a random model writes now and then, so that some answers earn a reward."""
    return text.startswith("1")


def make_easy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grade every answer that starts with 1 as correct."""
    monkeypatch.setitem(TASKS, "sums", replace(TASKS["sums"], grade=starts_with_one))


def make_only(monkeypatch: pytest.MonkeyPatch, family: FamilySettings) -> None:
    """Make `family` the only family, with the name tiny."""
    for name in ("recipe.train", "recipe.verify"):
        monkeypatch.setattr(importlib.import_module(name), "FAMILIES", {"tiny": family})
        monkeypatch.setattr(importlib.import_module(name), "ADAPTER_FAMILIES", {})


def random_parent(folder: Path) -> Path:
    """Save a model with random weights, as the parent of a training."""
    save(build_model(TINY.model, TASKS["sums"].characters, seed=5), TINY, folder)
    return folder
