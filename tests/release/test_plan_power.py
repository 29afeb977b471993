"""What a plan says a run can detect: from the store, from an earlier comparison, else from assumptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic_comparisons import answers_of
from helpers.tiny_pairs import save_tiny_pair

from fixtures.study.spread import measure, study_spread
from rlcircuits.answers.types import Sampling
from rlcircuits.comparison.metric_power import smallest_mean_change
from rlcircuits.comparison.power import questions_for_margin, smallest_accuracy_change
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.plan_power import (
    ASSUMED_RATE,
    TYPICAL_DISCORDANT,
    TYPICAL_SPREAD,
    Detectable,
    detectable_changes,
)
from rlcircuits.release.plan_store import StoredAnswers, stored_answers
from rlcircuits.release.plan_table import show_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

STORED = Path(__file__).parents[1] / "stored"


def in_store(folder: Path, right: list[bool], name: str) -> StoredAnswers:
    answers_of(right, model=name).save(folder / f"{name}.jsonl")
    return next(each for each in stored_answers(folder) if each.header.model == name)


def test_with_nothing_known_it_is_assumed_and_said() -> None:
    found = detectable_changes(400, 1, 200, None, None, None)
    assert (found.rate, found.rate_is_known) == (ASSUMED_RATE, False)
    assert (found.discordant_is_known, found.spread_is_known) == (False, False)
    discordant = TYPICAL_DISCORDANT * 2 * ASSUMED_RATE * (1 - ASSUMED_RATE)
    assert found.discordant == pytest.approx(discordant)
    assert found.fall == smallest_accuracy_change(400, ASSUMED_RATE, discordant, "down", 0.05)
    assert found.rise == smallest_accuracy_change(400, ASSUMED_RATE, discordant, "up", 0.05)
    assert found.margin_questions == questions_for_margin(ASSUMED_RATE, discordant, 0.02, 0.05)
    assert found.compared == 200
    assert found.metrics == {
        metric: pytest.approx(smallest_mean_change(spread, 200, 0.01)) for metric, spread in TYPICAL_SPREAD.items()
    }
    # Recorded answers were not sampled with the same seed.
    recorded = detectable_changes(400, 1, 200, None, None, None, independent=True)
    assert recorded.discordant == pytest.approx(2 * ASSUMED_RATE * (1 - ASSUMED_RATE))
    assert (recorded.fall or 0) > (found.fall or 1)
    # More answers to a question show smaller changes, and fewer questions pass than are asked.
    assert (detectable_changes(400, 4, 200, None, None, None).fall or 1) < (found.fall or 0)
    assert detectable_changes(100, 1, 200, None, None, None).compared == 86
    assert detectable_changes(1, 1, 200, None, None, None).metrics == {}


def test_answers_in_the_store_give_the_rate_and_the_discordant_share(tmp_path: Path) -> None:
    before = in_store(tmp_path, [True] * 30 + [False] * 10, "before")
    after = in_store(tmp_path, [True] * 26 + [False] * 8 + [True] * 6, "after")
    found = detectable_changes(400, 1, 200, before, None, None)
    assert (found.rate, found.rate_is_known, found.discordant_is_known) == (0.75, True, False)
    assert found.discordant == pytest.approx(TYPICAL_DISCORDANT * 2 * 0.75 * 0.25)
    both = detectable_changes(400, 1, 200, before, after, None)
    assert (both.rate, both.discordant, both.discordant_is_known) == (0.75, 10 / 40, True)
    # A damaged file is as good as none.
    before.path.write_bytes(before.path.read_bytes().replace(b'"correct":true', b'"correct":7', 1))
    assert detectable_changes(400, 1, 200, before, after, None).rate == ASSUMED_RATE


def test_an_earlier_comparison_gives_everything() -> None:
    earlier = load_comparison(STORED / "grpo")
    found = detectable_changes(400, 1, 200, None, None, earlier)
    accuracy = earlier.accuracy
    assert found.rate == accuracy.before
    assert found.discordant == (accuracy.lost + accuracy.gained) / accuracy.asked
    assert (found.rate_is_known, found.discordant_is_known, found.spread_is_known) == (True, True, True)
    for metric, size in found.metrics.items():
        effect = earlier.effects[metric]
        pairs = [
            each for each in zip(effect.before_values, effect.after_values, strict=True) if not np.isnan(each).any()
        ]
        spread = np.std([after - before for before, after in pairs], ddof=1)
        assert size == pytest.approx(smallest_mean_change(float(spread) / abs(effect.before), found.compared, 0.01))
    # With several answers, questions that changed are no discordant answers.
    several = replace(earlier, sampling={**earlier.sampling, "n": 2})
    assert not detectable_changes(400, 2, 200, None, None, several).discordant_is_known


def test_a_plan_shows_it_before_and_after_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: len(answer) > 0)
    base, tuned = map(str, save_tiny_pair(tmp_path / "models"))
    pairs = [make_pair(name=name, before=base, after=after, algorithm="sft") for name, after in
             (("one", tuned), ("two", base))]  # fmt: skip
    settings = Settings(
        k=20, question_count=40, alpha=0.5, balance=2.0, noise_draws=0, batch_size=16,
        sampling=Sampling(max_new_tokens=6),
    )  # fmt: skip
    file, output = PairsFile(tuple(pairs)), tmp_path / "out"

    shown = show_plan(make_plan(file, settings, output))
    assert shown.count("40 questions at a rate near 0.86: ") == 2
    assert "Assumed for want of before's answers: a rate of 0.86, and as many" in shown
    assert "13 % of the answers change from right to wrong or back.\n" in shown
    assert "a spread of the metrics as on the shipped pairs.\n" in shown

    run_pair(pairs[0], settings, output=output)
    plan = make_plan(file, settings, output)
    first, second = (pair.detectable for pair in plan.pairs)
    assert (first.rate_is_known, first.discordant_is_known, first.spread_is_known) == (True, True, True)
    # Two answers by the base alone, whose answers to itself are in the store too.
    assert (second.rate_is_known, second.discordant_is_known, second.spread_is_known) == (True, True, False)
    assert second.discordant == 0
    shown = show_plan(plan)
    assert "rate near 0.86" not in shown
    assert "Assumed for want of before's answers" not in shown
    assert "a spread of the metrics as on the shipped pairs (of two).\n" in shown
    # Another pair's comparison under this name is no evidence.
    other = make_pair(name="one", before=tuned, after=base, algorithm="sft")
    assert not make_plan(PairsFile((other,)), settings, output).pairs[0].detectable.spread_is_known


def shown_accuracy(found: Detectable, tmp_path: Path) -> str:
    """The cell of the table that a plan shows for this."""
    base = str(save_tiny_pair(tmp_path)[0])
    plan = make_plan(
        PairsFile((make_pair(name="x", before=base, after=base, algorithm="sft"),)), Settings(question_count=20)
    )
    text = show_plan(replace(plan, pairs=(replace(plan.pairs[0], detectable=found),)))
    return next(line for line in text.splitlines() if " at a rate near " in line)


def test_a_change_that_cannot_be_detected_is_said(tmp_path: Path) -> None:
    found = detectable_changes(400, 1, 200, None, None, None)
    assert "400 questions at a rate near 0.86: 4.6 points  " in shown_accuracy(found, tmp_path)
    assert ": 4.6 down, none up  " in shown_accuracy(replace(found, rise=None), tmp_path)
    nothing = replace(found, fall=None, rise=None, margin_questions=None, answers=3, metrics={})
    assert "400 × 3 answers at a rate near 0.86: none  " in shown_accuracy(nothing, tmp_path)
    assert "no number" in shown_accuracy(nothing, tmp_path)


def test_the_table_of_typical_spreads_is_of_comparisons(tmp_path: Path) -> None:
    text = study_spread(STORED)
    found = [measure(load_comparison(STORED / name)) for name in ("grpo", "sft-clean")]
    assert list(found[0]) == [*TYPICAL_SPREAD, "discordant / independent"]
    for line, (name, value) in zip(text.splitlines()[2:], found[0].items(), strict=True):
        numbers = line.removeprefix(name).split()
        least, most = sorted((value, found[1][name]))
        assert numbers == [f"{(least + most) / 2:.3f}", f"{least:.3f}", f"{most:.3f}", "2"]
