"""A training run of tiny checkpoints: a base, and what it becomes step by step."""

from __future__ import annotations

from pathlib import Path

import torch

from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_models import build

QUICK = (
    "--question-count", "24", "--n", "1", "--noise-draws", "0", "--max-new-tokens", "6", "--min-questions", "5",
    "--alpha", "0.5", "--balance", "2", "--device", "cpu", "--algorithm", "grpo", "--questions", "arithmetic",
)  # fmt: skip
"""Options that measure a step in a second. Random answers differ in length, hence the balance."""


def save_step(folder: Path, step: int, architecture: str = "llama-gqa") -> Path:
    """Save a random model that moved along one direction for so many steps, and return its folder."""
    model = build(architecture, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += noise * (step / 1000 * parameter.norm() / noise.norm())
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_run(folder: Path, steps: tuple[int, ...] = (10, 20, 30)) -> tuple[Path, Path]:
    """Save a base and a run of checkpoints, and return both folders."""
    for step in steps:
        save_step(folder / "run" / f"checkpoint-{step}", step)
    return save_step(folder / "base", 0), folder / "run"
