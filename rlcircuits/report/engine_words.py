"""Say what generated a pair's answers, those of models that are made in memory included."""

from __future__ import annotations

from rlcircuits.common import defaults
from rlcircuits.common.choices import OPENAI
from rlcircuits.comparison.comparison import Comparison

__all__ = ["engine_words"]


def engine_words(comparison: Comparison) -> str:
    """Return the engine of the pair's answers. No server has its noise draws and its reference; others answer there."""
    if OPENAI not in comparison.engine:
        return comparison.engine
    others = {
        "noise draws": any(draw.accuracy is not None for draw in comparison.controls),
        "reference": any(claim.reference is not None for claim in comparison.claims),
    }
    named = [name for name, answered in others.items() if answered]
    return f"{comparison.engine} ({' and '.join(named)} by {defaults.ENGINE})" if named else comparison.engine
