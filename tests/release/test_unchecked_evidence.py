"""Which outcomes a verdict may have if some of its numbers are unknown: no other value of them gives another one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import judge
from rlcircuits.comparison.comparison import BeyondSupervised, Comparison, GroupControl, SupervisedControl
from rlcircuits.comparison.effects import AccuracyClaim, ControlEffect
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.release.unchecked_evidence import possible_outcomes

EVERYTHING = {
    *(f"comparison.controls.{place}" for place in range(2)),
    *(f"comparison.group_controls.{place}" for place in range(2)),
    "comparison.claims.0",
    "comparison.supervised",
}


@cache
def comparison(algorithm: str = "grpo", rise: bool = True) -> Comparison:
    """Return a comparison with every kind of evidence; of a pair that shows the pattern if it rises."""
    found = made_up_comparison(algorithm=algorithm, rise=rise)
    towards = {metric: (-1 if found.effects[metric].difference < 0 else 1) for metric in GATE_METRICS}
    beyond = {metric: BeyondSupervised(sign, (sign, sign), found.k) for metric, sign in towards.items()}
    return replace(
        found,
        group_controls=tuple(GroupControl(group, shifts(0.0)) for group in ("norms", "MLP")),
        claims=(AccuracyClaim("claimed-accuracy", None, 0.5, 0.9, 40, 0.02, (0.3, 0.5), 1.0),),
        supervised=SupervisedControl("other", 0.9, beyond),
    )


def shifts(size: float) -> dict[str, ControlEffect]:
    return {
        metric: ControlEffect(size, size, 0.5, (size, size), 0.5, 0.5)
        for metric in (*GATE_METRICS, "loss", "intensity_over_loss")
    }


def test_a_verdict_has_one_outcome_if_everything_is_known() -> None:
    assert judge(comparison()).outcome == "holds"
    assert possible_outcomes(comparison(), {"comparison.weights"}) == {"holds"}


@pytest.mark.parametrize("field", sorted(EVERYTHING - {f"comparison.group_controls.{place}" for place in range(2)}))
def test_a_verdict_that_holds_depends_on_each_kind_of_evidence(field: str) -> None:
    assert possible_outcomes(comparison(), {field}) > {"holds"}


def test_noise_on_a_group_alone_does_not_undo_a_verdict_that_holds() -> None:
    assert possible_outcomes(comparison(), {"comparison.group_controls.0"}) == {"holds"}


def test_what_fails_by_known_numbers_fails_whatever_the_others_are() -> None:
    fallen = replace(comparison(rise=False))
    assert judge(fallen).outcome == "does not hold"
    assert possible_outcomes(fallen, EVERYTHING) == {"does not hold"}


effects = st.floats(-1e6, 1e6).map(shifts) | st.just({})


@settings(max_examples=25)
@given(
    st.sampled_from(["grpo", "sft"]),
    st.booleans(),
    st.tuples(effects, effects),
    st.tuples(st.floats(-1e6, 1e6).map(shifts), st.floats(-1e6, 1e6).map(shifts)),
    st.lists(st.floats(-1, 1), min_size=2, max_size=2).map(sorted),
    st.dictionaries(
        st.sampled_from(GATE_METRICS), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2).map(sorted), min_size=3
    ),
)
def test_no_value_of_the_unknown_numbers_gives_another_outcome(
    algorithm: str,
    rise: bool,
    draws: tuple[dict[str, ControlEffect], ...],
    groups: tuple[dict[str, ControlEffect], ...],
    claimed: list[float],
    beyond: dict[str, list[float]],
) -> None:
    known = comparison(algorithm, rise)
    assert known.supervised is not None
    other = replace(
        known,
        controls=tuple(replace(draw, shifts=each) for draw, each in zip(known.controls, draws, strict=True)),
        group_controls=tuple(
            replace(group, shifts=each) for group, each in zip(known.group_controls, groups, strict=True)
        ),
        claims=(replace(known.claims[0], interval=(claimed[0], claimed[1])),),
        supervised=replace(
            known.supervised,
            beyond={
                metric: BeyondSupervised(sum(ends) / 2, (ends[0], ends[1]), known.k) for metric, ends in beyond.items()
            },
        ),
    )
    assert judge(other).outcome in possible_outcomes(known, EVERYTHING)
