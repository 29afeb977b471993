"""What a release asserts of circuits: three outcomes by an interval, and where a reader meets them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError, judge
from rlcircuits.comparison.circuit_checks import Agreement, CircuitAssertion, CircuitChecks
from rlcircuits.comparison.circuit_outcome import judge_circuits
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import evidence_against, judge_comparisons
from rlcircuits.comparison.storage import load_comparison, save_comparison, to_json
from rlcircuits.release.unchecked_evidence import possible_outcomes
from rlcircuits.report.headline import make_headline
from rlcircuits.report.terminal import detail, summary_table

NAN = float("nan")
GOOD = CircuitChecks(
    size=0.5,
    ablation="mean",
    minimum_overlap=0.8,
    minimum_faithfulness=0.7,
    n_edges=38,
    judged=20,
    overlap=0.6,
    overlap_interval=(0.55, 0.65),
    noise=(0.65, 0.7),
    faithfulness=0.9,
    faithfulness_interval=(0.8, 1.0),
    own_faithfulness=0.95,
    estimates={side: (Agreement(38, 0.4, 0.7), Agreement(0, NAN, NAN)) for side in ("before", "after")},
)


def comparison(**changes: Any) -> Comparison:
    """A comparison that holds, but for what is changed of its circuits."""
    return replace(made_up_comparison(), circuits=replace(GOOD, **changes))


numbers = st.floats(0, 1) | st.just(NAN)


@given(st.lists(st.floats(0, 2), min_size=3, max_size=3).map(sorted), st.floats(0, 2))
def test_the_interval_decides(values: list[float], least: float) -> None:
    low, found, high = values
    judged = judge_circuits(CircuitAssertion("circuit-overlap", found, (low, high), least))
    wanted = "holds" if low >= least else "does not hold" if high < least else "inconclusive"
    assert judged.outcome == wanted
    assert 0 <= judged.p <= 1
    if wanted == "does not hold":
        assert judged.p <= 0.025
    if wanted == "holds" and low < found:
        assert judged.p >= 0.975


@given(numbers, numbers, numbers, numbers)
def test_what_was_not_measured_is_inconclusive(found: float, low: float, high: float, least: float) -> None:
    judged = judge_circuits(CircuitAssertion("circuit-overlap", found, (low, high), least))
    if math.isnan(found + low + high + least):
        assert (judged.outcome, judged.p) == ("inconclusive", 1.0)


@pytest.mark.parametrize(
    ("changes", "outcome", "measure"),
    [
        ({}, "holds", None),
        ({"minimum_faithfulness": 0.95}, "inconclusive", "circuit-faithfulness"),
        ({"faithfulness": 0.3, "faithfulness_interval": (0.2, 0.4)}, "does not hold", "circuit-faithfulness"),
        ({"overlap": 0.2, "overlap_interval": (0.1, 0.3)}, "does not hold", "circuit-overlap"),
        ({"noise": ()}, "inconclusive", "circuit-overlap"),
        ({"minimum_overlap": None, "minimum_faithfulness": None, "overlap": 0.0}, "holds", None),
    ],
)
def test_the_circuits_decide_with_the_rest_of_the_pair(
    changes: dict[str, Any], outcome: str, measure: str | None
) -> None:
    found = comparison(**changes)
    verdict = judge(found)
    assert verdict.outcome == outcome
    assert judge_comparisons([found]).outcome == outcome
    assert make_headline([found]).outcome == outcome
    assert {"circuit-overlap", "circuit-faithfulness"} >= verdict.all_findings.keys() - judge(
        made_up_comparison()
    ).all_findings.keys()
    assert evidence_against(found).keys() == verdict.all_findings.keys()
    if measure is not None:
        assert verdict.failed + verdict.inconclusive == (measure,)
        assert measure in make_headline([found]).why
        assert measure in verdict.all_findings[measure].message
        row = next(line for line in summary_table([found]).splitlines() if measure in line)
        assert verdict.all_findings[measure].words in row


def test_what_is_not_asserted_is_told() -> None:
    text = detail(comparison(minimum_overlap=None, minimum_faithfulness=None))
    assert "Jaccard index of 0.60 [0.55, 0.65], before's and noise draws' 0.65 to 0.70" in text
    assert "f_after(C_before) 0.90 [0.80, 1.00], f_after(C_after) 0.95" in text
    assert "after: scores against exact effects of removing one edge: top 38 edges: rank correlation 0.40" in text


def test_a_pair_without_a_compared_question_says_so() -> None:
    rules = {"size": 0.5, "ablation": "mean", "minimum_overlap": 0.5, "minimum_faithfulness": 0.5}
    found = replace(made_up_comparison(), circuits=CircuitChecks(**rules))
    assert judge(found).inconclusive == ("circuit-overlap", "circuit-faithfulness")
    assert "circuits: not measured" in detail(found)
    assert make_headline([found]).next_step.startswith("ask more questions")


def test_it_is_stored_and_read(tmp_path: Any) -> None:
    for found in (comparison(), comparison(faithfulness=NAN, faithfulness_interval=(NAN, NAN))):
        save_comparison(found, tmp_path)
        assert repr(load_comparison(tmp_path).circuits) == repr(found.circuits)
        assert to_json(load_comparison(tmp_path)) == to_json(found)


def test_a_comparison_without_circuits_is_written_as_before() -> None:
    assert "circuits" not in json.loads(to_json(made_up_comparison()))["comparison"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size": 1.0}, "circuits.size"),
        ({"ablation": "noise"}, "circuits.ablation"),
        ({"minimum_overlap": 0.0}, "circuits.minimum_overlap"),
        ({"minimum_faithfulness": 2.0}, "circuits.minimum_faithfulness"),
        ({"judged": 10_000}, "circuits.judged"),
        ({"overlap": 1.5}, "circuits.overlap"),
        ({"noise": (0.5, -1.0)}, "circuits.noise.1"),
        ({"faithfulness_interval": (0.95, 1.0)}, "circuits.faithfulness_interval"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], field: str, tmp_path: Any) -> None:
    save_comparison(comparison(**changes), tmp_path)
    with pytest.raises(RLCircuitsError, match=field):
        load_comparison(tmp_path)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_no_value_of_what_nothing_recomputes_gives_an_outcome_that_was_not_told(
    overlap: float, noise: float, faithfulness: float, wide: bool
) -> None:
    far = 1.0 if wide else 0.0
    found = comparison(
        overlap=overlap,
        overlap_interval=(overlap - far, overlap + far),
        noise=(noise,),
        faithfulness=faithfulness,
        faithfulness_interval=(faithfulness - far, faithfulness + far),
    )
    assert judge(found).outcome in possible_outcomes(comparison(), {"comparison.circuits"})
