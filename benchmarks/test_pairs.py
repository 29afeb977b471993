"""The gate: every pair's metrics moved as its training should make them, and its accuracy did not fall."""

from __future__ import annotations

from rlcircuits.comparison import Comparison
from rlcircuits.expectations import Finding, control_reads_as_online_rl


def test_effect(effect: Finding) -> None:
    assert effect.holds, effect.message


def test_noise_is_not_read_as_online_rl(pair_comparison: Comparison) -> None:
    read = [control.draw for control in pair_comparison.controls if control_reads_as_online_rl(control.shifts)]
    assert not read, f"noise draws {read} moved all three metrics in online RL's directions"
