"""The gate: accuracy and metrics of every pair are as its training should make them."""

from __future__ import annotations

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.verdict import Finding, noise_reads_as_online_rl


def test_effect(effect: Finding) -> None:
    assert effect.holds, effect.message


def test_noise_is_not_read_as_online_rl(pair_comparison: Comparison) -> None:
    read = [control.draw for control in pair_comparison.controls if noise_reads_as_online_rl(pair_comparison, control)]
    assert not read, f"noise draws {read} show the study's pattern"
