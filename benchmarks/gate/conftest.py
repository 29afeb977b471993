"""Judge a part of the shipped pairs; with ``--rlcircuits-thorough`` all of them.

The part is every pair of the first family's first seed, and of the other families those that are contrasted: online RL,
offline DPO, and supervised training without errors.
"""

from __future__ import annotations

import re

import pytest

_SHIPPED = re.compile(
    r"((?:llama-sums|qwen2-equations|neox-sums)-seed-\d+)(?:-(grpo|rloo|ppo|dpo|sft-clean)\b(?!-onpolicy))?"
)
_CHOICES = ("--rlcircuits-thorough", "keyword", "rlcircuits_before", "rlcircuits_pairs")


def is_judged(test: str) -> bool:
    """Return whether a test is about pairs of the part, or about no shipped pair, by its name."""
    found = _SHIPPED.search(test)
    if found is None or found[1] == "llama-sums-seed-7":
        return True
    contrast = test.startswith("test_offline_dpo")
    return found[1].endswith("-seed-7") and (contrast or found[2] is not None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the pairs outside the part, unless the command line says what to judge."""
    if any(config.getoption(name) for name in _CHOICES):
        return
    kept, left = [], []
    for item in items:
        (kept if is_judged(item.name) else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
