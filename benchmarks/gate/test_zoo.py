"""What the shipped pairs of one base show together: offline DPO against online RL from the same base."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.study.overview import ONLINE, effect_size
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import load_pairs

ZOO = Path(__file__).parents[2] / "fixtures" / "zoo.toml"


def by_base() -> dict[str, dict[str, Pair]]:
    """The zoo's pairs by base and algorithm."""
    found: dict[str, dict[str, Pair]] = {}
    for pair in load_pairs(ZOO):
        base = "-".join(Path(pair.before).parts[-3:-1])
        found.setdefault(base, {})[pair.algorithm] = pair
    return found


@pytest.mark.parametrize("metric", GATE_METRICS)
@pytest.mark.parametrize("base", by_base())
def test_offline_dpo_moves_less_than_online_rl(compared: Callable[[str], Comparison], base: str, metric: str) -> None:
    """Its effect in online RL's direction is below the mean of those of GRPO, PPO and RLOO."""
    pairs = by_base()[base]
    offline = effect_size(compared(pairs["dpo"].name), metric)
    online = [effect_size(compared(pairs[algorithm].name), metric) for algorithm in ONLINE]
    assert offline < statistics.mean(online), f"DPO {offline:+.3f}, {', '.join(ONLINE)} {online}"
