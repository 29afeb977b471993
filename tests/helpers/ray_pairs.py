"""Pairs of the zoo that tests measure on Ray."""

from __future__ import annotations

from typing import Any

from helpers.paths import FIXTURES
from rlcircuits.release.pair import Pair, make_pair

SEED = FIXTURES / "llama-sums" / "seed-8"


def pair_of(after: str, **fields: Any) -> Pair:
    return make_pair(
        **{"name": after, "before": str(SEED / "sft"), "after": str(SEED / after), "algorithm": "grpo", **fields}
    )


PAIRS = (pair_of("grpo"), pair_of("ppo"))
