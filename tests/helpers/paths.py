"""Paths of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SEED_7 = FIXTURES / "llama-sums" / "seed-7"
"""The checkpoints of one seed of the family `llama-sums`. `sft` is the base of all others."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Files of the published question sets, which are not in the repository. Tests that need them are skipped."""
