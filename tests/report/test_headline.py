"""The headline: outcome, why, and what to do next, over all pairs of a release."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.synthetic_comparisons import answers_of, made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import AccuracyClaim, compare_accuracy, paired_effect
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.headline import _Reason, _to_settle, make_headline

FLAT = [True] * 40
"""Answers of after that show neither a rise nor a fall in accuracy."""

FELL = [True] * 30 + [False] * 10

PATTERN = "shows the study's pattern (intensity +98 %, complexity +8 %, kurtosis -51 %), accuracy 0.667 → 1.000"


def pair(name: str = "pair", algorithm: str = "grpo", **options: Any) -> Comparison:
    return made_up_comparison(name, algorithm, **options)


def test_one_pair_that_holds_says_what_it_shows() -> None:
    headline = make_headline([pair()])
    assert headline.lines[:2] == ("outcome: holds", f"why:     {PATTERN}")
    assert headline.lines[2].startswith("next:    nothing here speaks against the release")
    assert headline.line == f"holds: {PATTERN}; {headline.next_step}"


@pytest.mark.parametrize(
    ("algorithm", "why"),
    [
        ("sft", "does not show online RL's pattern (intensity -50 %, complexity -7 %, kurtosis +103 %), accuracy"),
        ("dpo", "accuracy 0.667 → 1.000 (did not fall); the metrics are reported only (intensity -50 %, "),
    ],
)
def test_what_else_can_hold(algorithm: str, why: str) -> None:
    headline = make_headline([pair(algorithm=algorithm, rise=False)])
    assert headline.outcome == "holds"
    assert headline.why.startswith(why)


def test_several_pairs_that_hold_are_counted() -> None:
    headline = make_headline([pair("a"), pair("b"), pair("c", "dpo")])
    assert headline.why == "all 3 pairs hold (2 × shows the study's pattern; 1 × asserts accuracy only)"


def test_accuracy_comes_first_and_a_finding_that_reads_well_is_not_told() -> None:
    headline = make_headline([pair("good"), pair("turned", rise=False, right_after=FELL)])
    assert headline.outcome == "does not hold"
    assert headline.why.startswith(
        "accuracy of turned fell by 25.0 points [-37.6, -15.6], 1.000 → 0.750; intensity of turned: down, "
    )
    assert headline.why.endswith("; 1 more (see the table)")
    assert headline.next_step.startswith("do not release; look at the questions that turned's after got wrong")
    assert "as expected" not in headline.line


@pytest.mark.parametrize(
    ("algorithm", "rise", "step"),
    [
        ("grpo", False, "do not release it as grpo; look at what moved"),
        ("sft", True, "find out how tuned was trained: it is declared as sft"),
        ("same-as", True, "do not release it as the same model; look at what moved"),
    ],
)
def test_what_to_do_after_a_failure(algorithm: str, rise: bool, step: str) -> None:
    headline = make_headline([pair(algorithm=algorithm, rise=rise)])
    assert headline.outcome == "does not hold"
    assert headline.next_step.startswith(step)


def test_a_claim_that_fails_says_by_how_much() -> None:
    claim = AccuracyClaim("reference-accuracy", "runs/last", 0.97, 0.9, 400, 0.02, (-0.1, -0.04), 1e-4)
    headline = make_headline([replace(pair(), claims=(claim,))])
    assert headline.outcome == "does not hold"
    wanted = "accuracy is below runs/last's 0.970 by more than 2 points: 0.900, -7.0 points [-10.0, -4.0]"
    assert headline.why == wanted


def test_an_inconclusive_accuracy_says_how_many_questions_would_settle_it() -> None:
    flat = pair("flat", right_after=FLAT)
    settled = judge(flat).accuracy.settled_by
    assert settled is not None
    assert 5000 < settled < 5100
    headline = make_headline([pair("good"), flat])
    assert headline.outcome == "inconclusive"
    assert headline.why == "accuracy of flat: no clear rise, +0.0 points [-6.3, +6.3], 1.000 → 1.000"
    assert headline.next_step == "about 5,100 asked questions would settle it: question_count = 5100"


@given(st.integers(1, 10_000_000), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_number_of_questions_that_nobody_asks_is_no_advice(settled: int, times: int) -> None:
    flat = pair("flat", right_after=FLAT * times)
    reason = _Reason(flat, replace(judge(flat).accuracy, settled_by=settled), None, known=False)  # type: ignore[arg-type]
    asked = flat.accuracy.asked
    step = _to_settle([reason], several=False)
    if settled <= max(20_000, 20 * asked):
        assert "question_count = " in step
        assert int(step.rsplit("= ", 1)[1]) >= settled
    else:
        assert step.startswith("this run cannot settle it: by its numbers it would take some ")
        assert "question_count" not in step
        said = int(step.split("some ")[1].split(" times")[0].replace(",", ""))
        assert said == pytest.approx(settled / asked, rel=0.5)


def unclear(comparison: Comparison, p_up: float) -> Comparison:
    """Return the comparison with an intensity that may have risen."""
    effect = comparison.effects["intensity"]
    moved = replace(effect, after=effect.before * 1.2, change=0.2, p_up=p_up, p_down=1 - p_up, interval=(-0.1, 0.58))
    return replace(comparison, effects={**comparison.effects, "intensity": moved})


def test_an_inconclusive_metric_is_settled_by_more_questions() -> None:
    comparison = unclear(pair(), 0.1)
    settled = judge(comparison).findings["intensity"].settled_by
    assert settled is not None
    asked = settled / 40 * comparison.accuracy.asked
    compared, count = (-(-number // 10) * 10 for number in (settled, asked))
    headline = make_headline([comparison])
    assert headline.why == "intensity: no clear change, expected up (+20 %)"
    assert headline.next_step == (
        f"about {compared:.0f} compared questions would settle it: question_count = {count:.0f}"
    )


def test_where_no_number_of_questions_settles_a_measure_it_is_named() -> None:
    on_the_line = unclear(pair("line"), 0.6)
    assert judge(on_the_line).findings["intensity"].settled_by is None
    headline = make_headline([on_the_line])
    assert headline.next_step == "no number of questions would settle it; read the table, and decide"
    both = make_headline([on_the_line, pair("flat", right_after=FLAT)])
    assert both.next_step.endswith("question_count = 5100; no number would settle intensity of line")


def test_a_failure_that_is_not_rare_among_the_pairs_is_measured_again() -> None:
    fell = pair("fell", "dpo", right_after=[True] * 35 + [False] * 5)
    headline = make_headline([pair("good", "dpo"), fell])
    assert headline.outcome == "inconclusive"
    assert headline.why.startswith("accuracy of fell fell by 12.5 points")
    assert headline.why.endswith(", which is not rare among so many tests (corrected p = 0.062)")
    assert headline.next_step == "measure fell again on other questions"


def test_a_pair_that_could_not_be_measured_leaves_no_verdict() -> None:
    headline = make_headline([pair()], unmeasured=["lost"])
    assert headline.outcome is None
    assert headline.lines[0] == "outcome: no verdict"
    assert headline.why.startswith("lost could not be measured; what was measured holds: shows the study's pattern (")


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        (
            0,
            0,
            "read the answers of pair's before and after, none of which is right; see that question set, prompt and",
        ),
        (0, 1, "read the answers of pair's before, none of which is right; see that question set, prompt and chat"),
        (1, 1, "ask more questions (question_count), after a look at the stage that drops most of them and at the"),
    ],
)
def test_more_questions_do_not_help_where_no_answer_is_right(before: int, after: int, step: str) -> None:
    undefined = np.full(40, np.nan)
    compared = pair()
    accuracy = compare_accuracy(*(answers_of([True] * right + [False] * (40 - right)) for right in (before, after)))
    effects = {metric: paired_effect(metric, undefined, undefined) for metric in compared.effects}
    nothing = replace(compared, question_ids=(), effects=effects, accuracy=accuracy)
    headline = make_headline([nothing])
    assert headline.outcome == "inconclusive"
    assert headline.next_step.startswith(step)


def test_what_the_pairs_file_declares_is_said_to_be_known() -> None:
    turned = pair("turned", rise=False)
    all_known = make_headline([turned], known={"turned": ("intensity", "complexity", "kurtosis")})
    assert all_known.outcome == "does not hold"
    assert all_known.next_step == "nothing new: the pairs file declares it under does_not_hold"
    some = make_headline([turned], known={"turned": ("intensity",)})
    assert some.why.startswith("complexity: ")
    assert some.why.endswith("intensity: down, expected up (-50 %) (declared in the pairs file)")
    assert some.next_step.startswith("do not release it as grpo")
