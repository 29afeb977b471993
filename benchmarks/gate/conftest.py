"""Judge the shipped pairs of each family's first training seed; with ``--rlcircuits-thorough`` those of every seed."""

from __future__ import annotations

import re

import pytest

FIRST_SEED = 7
_CHOICES = ("--rlcircuits-thorough", "keyword", "rlcircuits_before", "rlcircuits_pairs")
_SHIPPED = re.compile(r"(llama-sums|qwen2-equations|neox-sums)-seed-(\d+)-")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the shipped pairs of further seeds, unless the command line says what to judge."""
    if any(config.getoption(name) for name in _CHOICES):
        return
    kept, left = [], []
    for item in items:
        seeds = {int(seed) for _, seed in _SHIPPED.findall(item.name)}
        (left if seeds - {FIRST_SEED} else kept).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
