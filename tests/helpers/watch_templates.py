"""A template of pairs for `rlcircuits watch` that measures a tiny checkpoint in a second."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_pairs import QUICK_SETTINGS

TEMPLATE = f"""{QUICK_SETTINGS}
[[pair]]
name = "sums"
before = "{{base}}"
algorithm = "grpo"
questions = "arithmetic"
"""


def write_template(folder: Path, base: Path) -> Path:
    """Write the template into a folder, with a base as before, and return its file."""
    path = folder / "gate.toml"
    path.write_text(TEMPLATE.replace("{base}", str(base)))
    return path
