"""What a plan says a run can detect: from known answers, from an earlier comparison, else from assumptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.planned_pairs import known_answers, planned
from helpers.tiny_pairs import save_tiny_pair

from fixtures.study.spread import measure, study_spread
from rlcircuits.answers.types import Sampling
from rlcircuits.comparison.metric_power import questions_for_bound, smallest_holding_change, smallest_mean_change
from rlcircuits.comparison.power import (
    questions_for_claim,
    questions_for_equivalence,
    questions_for_margin,
    smallest_accuracy_change,
    smallest_shown_rise,
)
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import Plan, make_plan
from rlcircuits.release.plan_known import ASSUMED_RATE, EARLIER, TYPICAL_DISCORDANT, TYPICAL_SPREAD, what_is_known
from rlcircuits.release.plan_power import Detectable, Margin, detectable_changes
from rlcircuits.release.plan_table import show_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

STORED = Path(__file__).parents[1] / "stored"
DISCORDANT = TYPICAL_DISCORDANT * 2 * ASSUMED_RATE * (1 - ASSUMED_RATE)


def detectable(measurement: Measurement | None = None, **known: object) -> Detectable:
    measurement = measurement or planned()
    return detectable_changes(measurement, what_is_known(measurement, **{"answers": {}, **known}))  # type: ignore[arg-type]


def test_with_nothing_known_it_is_assumed_and_said() -> None:
    found = detectable(planned(algorithm="dpo"))
    known = found.known
    assert (known.rate.value, known.discordant.value) == (ASSUMED_RATE, pytest.approx(DISCORDANT))
    assert [each.origin for each in (known.rate, known.discordant, known.passing)] == [None] * 3
    assert known.spread_origin is None
    assert found.fall == smallest_accuracy_change(400, ASSUMED_RATE, known.discordant.value, "down", 0.05)
    assert found.rise == smallest_accuracy_change(400, ASSUMED_RATE, known.discordant.value, "up", 0.05)
    assert found.compared == 344
    assert {metric: each.change for metric, each in found.metrics.items()} == {
        metric: smallest_mean_change(spread, 344, 0.01) for metric, spread in TYPICAL_SPREAD.items()
    }
    # Recorded answers were not sampled with the same seed.
    recorded = detectable(planned(recorded_before="x.jsonl", algorithm="dpo"))
    assert recorded.known.discordant.value == pytest.approx(2 * ASSUMED_RATE * (1 - ASSUMED_RATE))
    assert (recorded.fall or 0) > (found.fall or 1)
    # More answers to a question show smaller changes, and K limits what is compared.
    assert (detectable(planned(n=4)).fall or 1) < (found.fall or 0)
    assert detectable(planned(settings={"k": 100})).compared == 100


def test_the_profiles_minimum_stands_beside_what_is_detected() -> None:
    found = detectable(planned(n=4))
    assert (found.rule.rule, found.rule.minimum) == ("rose", 0.01)
    assert found.rise == smallest_accuracy_change(
        400, ASSUMED_RATE, found.known.discordant.value, "up", 0.01, answers=4
    )
    shown = smallest_shown_rise(400, ASSUMED_RATE, found.known.discordant.value, 0.01, 0.05, answers=4)
    assert found.rise_holds_from == max(found.rise or 0, shown or 0) > 0.01
    minimums = {"intensity": 0.05, "complexity": 0.01, "kurtosis": 0.03}
    for metric, each in found.metrics.items():
        assert each.rule is not None
        assert each.rule.minimum == minimums[metric]
        assert each.holds_from == smallest_holding_change(TYPICAL_SPREAD[metric], 344, 0.01, each.rule.minimum)
        assert (each.holds_from or 0) > max(each.rule.minimum, each.change or 1)
    reported = detectable(planned(algorithm="dpo")).metrics["intensity"]
    assert (reported.rule, reported.holds_from, reported.questions) == (None, None, None)


def test_a_margin_says_how_many_questions_it_needs() -> None:
    found = detectable(planned(n=4, accuracy="not-inferior", margin=0.03))
    discordant = found.known.discordant.value
    needed = questions_for_margin(ASSUMED_RATE, discordant, 0.03, 0.05, answers=4)
    assert found.margins == (Margin("accuracy", 0.03, needed),)
    assert (found.rise_holds_from, detectable().margins) == (None, ())

    same = detectable(planned(n=4, algorithm="same-as"))
    needed = questions_for_equivalence(ASSUMED_RATE, discordant, 0.02, 0.05, answers=4)
    assert same.margins == (Margin("accuracy", 0.02, needed),)
    intensity = same.metrics["intensity"]
    assert intensity.questions == questions_for_bound(TYPICAL_SPREAD["intensity"], 0.1)
    assert intensity.holds_from is None

    claims = detectable(planned(claimed_accuracy=0.97, reference="org/release", margin=0.01))
    assert claims.margins == (
        Margin("claimed-accuracy", 0.01, questions_for_claim(0.97, 0.01, 0.05)),
        Margin("reference-accuracy", 0.01, questions_for_margin(ASSUMED_RATE, DISCORDANT, 0.01, 0.05)),
    )
    reference = known_answers([True] * 190 + [False] * 10)
    assert detectable(planned(200, reference="org/release"), reference=reference).known.reference_rate.value == 0.95


def test_known_answers_give_the_rate_and_the_discordant_share() -> None:
    before, after = known_answers([True] * 30 + [False] * 10), known_answers([True] * 26 + [False] * 8 + [True] * 6)
    known = detectable(planned(40), answers={"before": before}).known
    assert (known.rate.value, known.rate.origin) == (0.75, "before's answers in the store")
    assert (known.discordant.value, known.discordant.origin) == (pytest.approx(DISCORDANT_AT_3_QUARTERS), None)
    both = detectable(planned(40), answers={"before": before, "after": after})
    assert (both.known.discordant.value, both.known.discordant.origin) == (10 / 40, "both models' answers")
    # All answers are there, so the questions that pass the protocol are counted: 26 right by both.
    assert both.compared == 26


DISCORDANT_AT_3_QUARTERS = TYPICAL_DISCORDANT * 2 * 0.75 * 0.25


@pytest.mark.parametrize(("answers", "asked", "enough"), [(3, 400, False), (99, 400, False), (100, 400, True),
                                                          (39, 40, False), (40, 40, True)])  # fmt: skip
def test_a_few_answers_do_not_tell_the_rate(answers: int, asked: int, enough: bool) -> None:
    some = known_answers([False] * answers, wanted=asked)
    known = detectable(planned(asked), answers={"before": some, "after": some}).known
    assert known.rate.value == (0 if enough else ASSUMED_RATE)
    assert (known.discordant.origin == "both models' answers") == enough
    which = "" if answers == asked else ", those to the longest prompts"
    assert known.rate.origin == (f"before's answers in the store{which}" if enough else None)


def test_an_earlier_comparison_gives_everything() -> None:
    earlier = load_comparison(STORED / "grpo")
    like_it = planned(40, settings={"alpha": earlier.alpha, "balance": earlier.balance})
    found = detectable(like_it, earlier=earlier)
    accuracy, known = earlier.accuracy, found.known
    assert known.rate.value == accuracy.before
    assert known.discordant.value == (accuracy.lost + accuracy.gained) / accuracy.asked
    assert {known.rate.origin, known.discordant.origin, known.passing.origin, known.spread_origin} == {EARLIER}
    for metric, each in found.metrics.items():
        effect = earlier.effects[metric]
        pairs = [both for both in zip(effect.before_values, effect.after_values, strict=True)
                 if not np.isnan(both).any()]  # fmt: skip
        spread = float(np.std([after - before for before, after in pairs], ddof=1)) / abs(effect.before)
        assert each.change == pytest.approx(smallest_mean_change(spread, found.compared, 0.01))
    # With several answers, questions that changed are no discordant answers.
    several = replace(earlier, sampling={**earlier.sampling, "n": 2})
    assert detectable(like_it, earlier=several).known.discordant.origin is None
    # Scored on another share of the answers, or on few questions, the spread is another.
    for other in (replace(earlier, alpha=earlier.alpha / 2), replace(earlier, question_ids=earlier.question_ids[:9])):
        assert detectable(like_it, earlier=other).known.spread_origin is None
    few = replace(earlier, accuracy=replace(accuracy, asked=39))
    assert detectable(like_it, earlier=few).known.rate.origin is None


def plan_of(found: Detectable, tmp_path: Path) -> Plan:
    """Return the plan of a pair that can detect this."""
    base, tuned = map(str, save_tiny_pair(tmp_path))
    plan = make_plan(
        PairsFile((make_pair(name="x", before=base, after=tuned, algorithm="sft"),)), Settings(question_count=20)
    )
    return replace(plan, pairs=(replace(plan.pairs[0], detectable=found),))


def test_the_tables_say_it(tmp_path: Path) -> None:
    found = detectable(planned(algorithm="dpo"))
    plan = plan_of(found, tmp_path)

    def shown(found: Detectable) -> str:
        return show_plan(replace(plan, pairs=(replace(plan.pairs[0], detectable=found),)))

    assert "400 questions at a rate near 0.86: 4.6 points  " in shown(found)
    assert ": 4.6 down, none up  " in shown(replace(found, rise=None))
    assert "400 × 3 answers at a rate near 0.86: none  " in shown(replace(found, fall=None, rise=None, answers=3))
    text = shown(detectable(planned(n=4, claimed_accuracy=0.97)))
    assert "rose (minimum 1 point): holds from 3.2 points" in text
    assert "claimed-accuracy within 2 points: 631 (too few are asked)" in text
    assert "the answers to one question are all right or all wrong." in text
    line = next(line for line in text.splitlines() if "intensity" in line)
    assert line.split() == ["x", "344", "intensity", "up,", "minimum", "5.0", "%", "5.4", "%", "from", "9.7", "%"]
    same = shown(detectable(planned(asked=1000, n=4, algorithm="same-as")))
    assert "accuracy within 2 points: 682\n" in same
    assert "same, within 10.0 %" in same
    assert "on 100 questions, if unchanged" in same
    assert "rose (minimum 1 point): no rise is large enough" in shown(detectable(planned(4)))


@pytest.mark.parametrize("compared", range(2, 10))
def test_no_change_is_called_detectable_that_the_exact_test_cannot_show(compared: int, tmp_path: Path) -> None:
    right = known_answers([True] * compared + [False] * (40 - compared))
    found = detectable(planned(40, settings={"min_questions": 1}), answers={"before": right, "after": right})
    assert found.compared == compared
    assert {each.change is None for each in found.metrics.values()} == {compared < 7}
    assert {each.holds_from is None for each in found.metrics.values()} == {compared < 7}
    if compared in (6, 7):
        said = f"the signed-rank test cannot reach p < 0.01 on {compared} questions; it takes 7 or more."
        assert (said in show_plan(plan_of(found, tmp_path))) == (compared == 6)


def test_too_few_questions_are_told(tmp_path: Path) -> None:
    certain = detectable(planned(19))
    assert (certain.too_few, certain.surely_too_few, certain.metrics) == (True, True, {})
    likely = detectable(planned(22))
    assert (likely.compared, likely.too_few, likely.surely_too_few, likely.metrics) == (19, True, False, {})
    text = show_plan(plan_of(likely, tmp_path))
    assert "x: about 19 of 22 questions would be left to compare, and min_questions is 20" in text
    assert "Ask 24 or more." in text
    assert not detectable(planned(24)).too_few
    right = known_answers([True] * 5 + [False] * 35, origin="recorded answers")
    files = {"recorded_before": "a.jsonl", "recorded_after": "b.jsonl"}
    for each, sure in (({}, False), (files, True)):
        known = detectable(planned(40, **each), answers={"before": right, "after": right})  # type: ignore[arg-type]
        assert (known.too_few, known.surely_too_few) == (True, sure)


def test_a_plan_shows_it_before_and_after_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: len(answer) > 0)
    base, tuned = map(str, save_tiny_pair(tmp_path / "models"))
    pairs = [make_pair(name=name, before=base, after=after, algorithm="sft") for name, after in
             (("one", tuned), ("two", base))]  # fmt: skip
    settings = Settings(
        k=20, question_count=40, alpha=0.5, balance=2.0, noise_draws=0, batch_size=16, measure_unchanged=True,
        sampling=Sampling(max_new_tokens=6),
    )  # fmt: skip
    file, output = PairsFile(tuple(pairs)), tmp_path / "out"

    shown = show_plan(make_plan(file, settings, output))
    assert shown.count("40 questions at a rate near 0.86: ") == 2
    assert "Assumed without before's answers to 100 questions or all: a rate of 0.86.\n" in shown
    assert "13 % of the answers change from right to wrong or back.\n" in shown
    assert "a spread of the metrics as on the shipped pairs.\n" in shown

    run_pair(pairs[0], settings, output=output)
    plan = make_plan(file, settings, output)
    first, second = (pair.detectable.known for pair in plan.pairs)
    assert [first.rate.origin, first.discordant.origin, first.spread_origin] == [
        "before's answers in the store", "both models' answers", EARLIER,
    ]  # fmt: skip
    # Two answers by the base alone, whose answers to itself are in the store too.
    assert [second.discordant.origin, second.spread_origin] == ["both models' answers", None]
    assert second.discordant.value == 0
    shown = show_plan(plan)
    assert "rate near 0.86" not in shown
    assert "Assumed without before's answers" not in shown
    assert "Rate of right answers: from before's answers in the store.\n" in shown
    assert "Spread of the metrics: from an earlier comparison (of one).\n" in shown
    assert "a spread of the metrics as on the shipped pairs (of two).\n" in shown
    # Another pair's comparison under this name is no evidence.
    other = make_pair(name="one", before=tuned, after=base, algorithm="sft")
    assert make_plan(PairsFile((other,)), settings, output).pairs[0].detectable.known.spread_origin is None


def test_the_table_of_typical_spreads_is_of_comparisons(tmp_path: Path) -> None:
    text = study_spread(STORED)
    found = [measure(load_comparison(STORED / name)) for name in ("grpo", "sft-clean")]
    assert list(found[0]) == [*TYPICAL_SPREAD, "discordant / independent"]
    for line, (name, value) in zip(text.splitlines()[2:], found[0].items(), strict=True):
        numbers = line.removeprefix(name).split()
        least, most = sorted((value, found[1][name]))
        assert numbers == [f"{(least + most) / 2:.3f}", f"{least:.3f}", f"{most:.3f}", "2"]
