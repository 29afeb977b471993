"""A stored pairing is made again from its answers, with or without the seed of its sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helpers.paths import ROOT
from helpers.stored_pairs import STORED
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import Answers, load_comparison
from rlcircuits.comparison.pairing import pair
from rlcircuits.release.repeated_pairing import repeat_pairing

GRPO = ROOT / STORED / "grpo"


@settings(max_examples=30)
@given(k=st.integers(1, 40), seed=st.integers(0, 999), score_on=st.sampled_from(["own", "before", "gold"]))
def test_a_sample_is_found_again_without_its_seed(k: int, seed: int, score_on: Any) -> None:
    before, after = (Answers.load(GRPO / f"{side}.answers.jsonl") for side in ("before", "after"))
    gold = {item.question_id: (5, 6) for item in before.items}
    made = pair(before, after, k=k, seed=seed, min_questions=1, score_on=score_on, gold=gold)
    stored = replace(
        load_comparison(GRPO), question_ids=made.question_ids, score_on=score_on, note=made.note, alpha=made.alpha
    )
    again = repeat_pairing(stored, before, after)
    assert again.question_ids == made.question_ids
    assert (again.places, again.samples, again.note, again.t_cut) == (made.places, made.samples, made.note, made.t_cut)


def test_the_seed_can_be_said() -> None:
    before, after = (Answers.load(GRPO / f"{side}.answers.jsonl") for side in ("before", "after"))
    made = pair(before, after, k=16, seed=20_261, min_questions=1)
    stored = replace(load_comparison(GRPO), question_ids=made.question_ids)
    assert repeat_pairing(stored, before, after, 20_261) == made
    assert repeat_pairing(stored, before, after).question_ids != made.question_ids
