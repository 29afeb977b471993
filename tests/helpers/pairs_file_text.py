"""A pairs file's text, for the tests of what reads one."""

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
"""``base`` is a folder beside the file, ``org/tuned`` a name on the hub."""
