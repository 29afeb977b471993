"""A template of pairs for `rlcircuits watch` that measures a tiny checkpoint in a second."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = """
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

[[pair]]
name = "sums"
before = "{base}"
algorithm = "grpo"
questions = "arithmetic"
"""


def write_template(folder: Path, base: Path) -> Path:
    """Write the template into a folder, with a base as before, and return its file."""
    path = folder / "gate.toml"
    path.write_text(TEMPLATE.replace("{base}", str(base)))
    return path
