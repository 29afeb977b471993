"""What a release claims of its accuracy: a reference that answers nothing right would let every release pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SUMS = Path(__file__).parents[2] / "fixtures" / "llama-sums" / "seed-7"


def test_a_reference_without_a_right_answer_is_refused(tmp_path: Path) -> None:
    untrained, _ = save_tiny_pair(tmp_path)
    pair = make_pair(
        name="mine", before=str(SUMS / "sft"), after=str(SUMS / "grpo"), algorithm="grpo", reference=str(untrained)
    )
    settings = Settings(question_count=20, min_questions=5, noise_draws=0, sampling=Sampling(n=1), device="cpu")
    with pytest.raises(RLCircuitsError, match=r"none of the 20 answers of the reference .* is right.*name a"):
        run_pair(pair, settings)
