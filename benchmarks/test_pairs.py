"""The gate: every pair's metrics moved as its algorithm should make them, and its accuracy did not fall."""

from __future__ import annotations

from rlcircuits.comparison import Comparison
from rlcircuits.expectations import Finding, judge


def test_effect(effect: Finding) -> None:
    assert effect.holds, effect.message


def test_accuracy_did_not_fall(pair_comparison: Comparison) -> None:
    accuracy = judge(pair_comparison).accuracy
    assert accuracy.holds, accuracy.message
