"""Judge a part of the shipped pairs and of the sabotage suite; with ``--rlcircuits-thorough`` all of them.

Of the pairs the part is GRPO and supervised training from one base, which share its answers.
Of the sabotage it is what a gate that asks for less was seen to pass: one scaled MLP, that with a sharpened
distribution of tokens, and a quantised trained checkpoint; and a pair with its sides swapped.
"""

from __future__ import annotations

import re

import pytest

from fixtures.recipe.settings import ALGORITHMS, FAMILIES

_SHIPPED = re.compile(
    f"(?:{'|'.join(FAMILIES)})-seed-\\d+"
    f"(?:-(?:{'|'.join(sorted(map(re.escape, ALGORITHMS), key=len, reverse=True))}))?"  # grpo-kl0.01 before grpo
)
_PAIRS = {
    "llama-sums-seed-7-grpo",
    "llama-sums-seed-7-sft-clean",
}
_SABOTAGE = {
    "mlp.3-x0.9",
    "sharp+last-mlp-x0.9",
    "swapped-pair",
    "trained+int4",
}
_CHOICES = ("--rlcircuits-thorough", "keyword", "rlcircuits_before", "rlcircuits_pairs")


def pytest_configure(config: pytest.Config) -> None:
    """Skip what is inconclusive, unless the command line says otherwise: a shipped pair may be near a line."""
    if config.option.rlcircuits_on_inconclusive is None:
        config.option.rlcircuits_on_inconclusive = "warn"


def is_judged(test: str) -> bool:
    """Return whether a test belongs to the part, or is about no shipped pair, by its name."""
    name, _, parameters = test.partition("[")
    if name == "test_sabotage":
        return parameters.removesuffix("]") in _SABOTAGE
    found = _SHIPPED.search(parameters)
    return found is None or found[0] in _PAIRS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests outside the part, unless the command line says what to judge."""
    if any(config.getoption(name) for name in _CHOICES):
        return
    kept, left = [], []
    for item in items:
        (kept if is_judged(item.name) else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
