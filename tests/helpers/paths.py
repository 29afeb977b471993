"""Where the repository's parts are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SEED_7 = FIXTURES / "llama-sums" / "seed-7"
"""The first family of shipped checkpoints: its base is `sft`."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real question files, which the repository does not hold."""
