"""What a stored comparison holds beside its effects: the profile, claims, group controls, weights and differences."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up_effects import shift_of
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.checkpoints.weight_changes import TensorChange, UnmatchedTensor, WeightChanges
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import (
    CONTROL_METRICS,
    BeyondSupervised,
    Comparison,
    GroupControl,
    SupervisedControl,
)
from rlcircuits.comparison.effects import AccuracyClaim
from rlcircuits.comparison.profiles import AccuracyRule, MetricRule, Profile
from rlcircuits.comparison.storage import load_comparison, save_comparison, to_json
from rlcircuits.comparison.verdict import judge
from rlcircuits.models.tensor_groups import GROUPS

OURS = Profile(
    "ours",
    algorithms=("gspo",),
    accuracy=AccuracyRule("not-inferior", margin=0.03),
    metrics={"intensity": MetricRule("up", minimum=0.1, level=0.02), "kurtosis": MetricRule("same", bound=0.2)},
    must_not_show="online-rl",
)
WEIGHTS = WeightChanges(
    (
        TensorChange("model.layers.0.mlp.up_proj.weight", 6, 2.5, 0.5, -0.25, 0.75, 0.125),
        TensorChange("lm_head.weight", 4, 0.0, 0.0, None, None),
    ),
    (UnmatchedTensor("extra.weight", None, (2, 3)),),
    tied=False,
    reference="runs/sft-clean",
    reference_cosine=0.5,
)
CLAIMS = (
    AccuracyClaim("claimed-accuracy", None, 0.97, 0.95, 400, 0.02, (-0.03, -0.01), 0.1),
    AccuracyClaim("reference-accuracy", "runs/last-release", 0.96, 0.95, 380, 0.01, (-0.02, 0.01), 0.2),
)
SUPERVISED = SupervisedControl(
    "runs/sft-clean",
    0.9,
    {
        "intensity": BeyondSupervised(0.5, (0.25, 0.75), 38),
        "complexity": BeyondSupervised(0.5, (-0.25, 1.25), 38),
        "kurtosis": BeyondSupervised(0.5, (0.25, 0.75), 37),
    },
)
PLAIN = made_up_comparison()


def group_control(group: str, difference: float = 0.5) -> GroupControl:
    return GroupControl(group, {metric: shift_of(difference) for metric in CONTROL_METRICS})


FULL = replace(
    PLAIN,
    profile="ours",
    rules=OURS,
    claims=CLAIMS,
    group_controls=(group_control("norms"), group_control("MLP", -0.25), GroupControl("attention", {})),
    weights=WEIGHTS,
    differences=("chat template: 'a' before, none after", "end token: 2 before, 3 after"),
    supervised=SUPERVISED,
)


def test_everything_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = save_comparison(FULL, tmp_path)
    loaded = load_comparison(path)
    assert loaded == FULL
    assert to_json(loaded) == path.read_text(encoding="utf-8")
    assert judge(loaded) == judge(FULL)
    assert isinstance(loaded.rules, Profile)
    verdict = json.loads(path.read_text(encoding="utf-8"))["verdict"]
    assert list(verdict["findings"])[-2:] == ["claimed-accuracy", "reference-accuracy"]
    assert verdict["outcome"] == judge(FULL).outcome


shares = st.floats(0, 1).map(lambda share: round(share, 6))


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Draw comparisons with any of the parts."""
    claims = tuple(
        replace(claim, wanted=draw(shares), found=draw(shares), margin=draw(shares), p=draw(shares))
        for claim in CLAIMS
        if draw(st.booleans())
    )
    groups = tuple(
        group_control(group, draw(st.floats(-1e6, 1e6))) if draw(st.booleans()) else GroupControl(group, {})
        for group in draw(st.lists(st.sampled_from(GROUPS), unique=True))
    )
    rules = draw(st.none() | st.just(replace(OURS, name="ours")))
    return replace(
        PLAIN,
        profile=PLAIN.profile if rules is None else "ours",
        rules=rules,
        claims=claims,
        group_controls=groups,
        weights=draw(st.none() | st.just(WEIGHTS)),
        supervised=draw(st.none() | st.just(SUPERVISED)),
        differences=tuple(draw(st.lists(st.text(st.characters(categories=("L", "N", "P")), min_size=1), max_size=3))),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored")


@given(comparison=comparisons())
@settings(max_examples=25)
def test_any_of_the_parts_can_be_left_out(comparison: Comparison, folder: Path) -> None:
    loaded = load_comparison(save_comparison(comparison, folder))
    assert loaded == comparison
    assert judge(loaded) == judge(comparison)


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of one field of a stored comparison."""

    def apply(comparison: Any) -> None:
        for key in path[:-1]:
            comparison = comparison[key]
        comparison[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("profile", to="theirs"), "comparison.profile' is 'theirs'; the name of the profile in rules, 'ours'"),
        (change("rules", to=None), "comparison.profile' is 'ours'; one of online-rl"),
        (change("rules", "metrics", "intensity", "level", to=2.0), "level is 2.0; a number above 0 and at most 0.5"),
        (change("rules", "metrics", "loss", to={"expected": "up"}), "'loss' is no metric"),
        (change("rules", "accuracy", "margn", to=0.1), "rules.accuracy.margn': unknown"),
        (change("claims", 0, "measure", to="reference-accuracy"), "one claim of each kind at most"),
        (change("claims", 0, "measure", to="other"), "claims.0.measure': must be one of 'claimed-accuracy'"),
        (change("supervised", "accuracy", to=90.0), "supervised.accuracy' is 90.0; a number from 0 to 1"),
        (change("supervised", "beyond", to={}), "supervised.beyond' is 'without intensity'"),
        (
            change("supervised", "beyond", "intensity", "questions", to=41),
            "intensity.questions' is 41; a number from 0",
        ),
        (change("supervised", "beyond", "kurtosis", "interval", to=[1.0, 0.5]), "kurtosis.interval' is [1.0, 0.5]"),
        (change("supervised", "beyond", "kurtosis", "difference", to=None), "kurtosis.difference' is None; a number"),
        (change("claims", 0, "interval", to=[0.1, -0.1]), "claims.0.interval' is [0.1, -0.1]; the lower end"),
        (change("claims", 0, "wanted", to=97.0), "claims.0.wanted' is 97.0; a number from 0 to 1"),
        (change("claims", 0, "asked", to=0), "claims.0.asked' is 0; a number of questions from 1"),
        (change("claims", 0, "reference", to="runs/x"), "claims.0.reference' is 'runs/x'"),
        (change("claims", 1, "reference", to=None), "claims.1.reference' is None; a checkpoint's name"),
        (change("group_controls", 0, "group", to="MLP"), "a list of different groups of embeddings, norms"),
        (change("group_controls", 0, "group", to="biases"), "a list of different groups of embeddings, norms"),
        (change("group_controls", 0, "shifts", "loss", "p_up", to=1.5), "group_controls.0.shifts.loss.p_up' is 1.5"),
        (change("group_controls", 0, "shifts", "other", to=None), "group_controls.0.shifts"),
        (change("accuracy", "interval", to=[0.0, 2.0]), "accuracy.interval' is [0.0, 2.0]"),
        (change("weights", "tensors", 0, "update_norm", to=-1.0), "weights.tensors.0.update_norm': must be at least 0"),
        (change("differences", 0, to="two\nlines"), "differences.0' is 'two\\nlines'; text on one line"),
    ],
)
def test_damage_is_named(damage: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    path = save_comparison(FULL, tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    damage(document["comparison"])
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RLCircuitsError) as error:
        load_comparison(path)
    assert str(error.value).startswith(f"{path}: field '")
    assert message in str(error.value)


def test_a_group_control_lacks_no_metric(tmp_path: Path) -> None:
    path = save_comparison(FULL, tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["comparison"]["group_controls"][0]["shifts"]["kurtosis"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RLCircuitsError, match=r"group_controls\.0\.shifts' is 'without kurtosis'"):
        load_comparison(path)


@pytest.mark.parametrize(("version", "advice"), [(6, "update rlcircuits, or measure"), (2, "measure the pair again")])
def test_a_file_of_another_release_is_not_called_damaged(version: int, advice: str, tmp_path: Path) -> None:
    path = save_comparison(FULL, tmp_path)
    document = {**json.loads(path.read_text(encoding="utf-8")), "version": version, "more": {}}
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RLCircuitsError) as error:
        load_comparison(path)
    assert str(error.value).startswith(
        f"{path}: field 'version' is {version}; this release of rlcircuits reads 3, 4, 5"
    )
    assert advice in str(error.value)
    assert "damaged" not in str(error.value)
