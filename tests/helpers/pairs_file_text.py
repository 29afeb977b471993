"""The text of a pairs file."""

from __future__ import annotations

PAIRS = """
[[pair]]
name = "one"
before = "base"
after = "org/tuned"
algorithm = "grpo"

[[pair]]
name = "two"
before = "base"
after = "org/tuned"
algorithm = "PPO"
"""
"""Two pairs. ``base`` is a folder next to the file, ``org/tuned`` a model on the hub."""
