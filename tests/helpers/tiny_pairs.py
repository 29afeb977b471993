"""Save a pair of tiny random checkpoints, and grade what they answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_models import build

QUICK_SETTINGS = """
[settings]
question_count = 24
noise_draws = 0
min_questions = 5
alpha = 0.5
balance = 2.0
device = "cpu"

[settings.sampling]
n = 1
max_new_tokens = 6
"""
"""The head of a pairs file, with which a tiny pair is measured in a second."""


def grade_kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let most answers be right: only right ones are compared, and a random model gives none."""
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: len(answer) % 4 > 0)


def save_tiny_pair(folder: Path, update: float = 0.02, architecture: str = "llama-gqa") -> tuple[Path, Path]:
    """Save a random model as ``base`` and a noised copy as ``tuned``, and return both folders.

    The noise on each parameter has `update` times the parameter's norm.
    """
    generator = torch.Generator().manual_seed(0)
    for name in ("base", "tuned"):
        model = build(architecture, seed=3)
        if name == "tuned":
            with torch.no_grad():
                for parameter in model.parameters():
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter += noise * (update * parameter.norm() / noise.norm())
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    return folder / "base", folder / "tuned"


def is_kindly_right(answer: str, gold: str) -> bool:
    """Grade as ``grade_kindly`` does; for question files, as ``helpers.tiny_pairs:is_kindly_right``."""
    return len(answer) % 4 > 0
