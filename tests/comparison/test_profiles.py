"""Profiles: the built-in ones, and a team's own files, which are read exactly or refused with one clear error."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up_effects import effect_of
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.metric_outcome import judge_metric
from rlcircuits.comparison.profiles import (
    FORMER_NAMES,
    GATE_METRICS,
    ONLINE_RL,
    PROFILES,
    AccuracyRule,
    MetricRule,
    Profile,
    algorithms,
    load_profile,
    profile_for,
    profile_named,
)


def test_online_rl_asserts_the_three_directions_and_a_rise_in_accuracy() -> None:
    for algorithm in ("grpo", "ppo", "rloo", "reinforce", "dapo", "grpo-kl0.01", "cf-grpo", "nft", "GRPO"):
        profile = profile_for(algorithm)
        assert profile.name == "online-rl"
        assert profile.expected == ONLINE_RL
        assert profile.accuracy.rule == "rose"
        assert profile.asserted == (*GATE_METRICS, "accuracy")


@pytest.mark.parametrize(
    ("profile", "algorithms"),
    [
        ("preference", ["dpo", "dpo-onpolicy", "ipo", "kto", "orpo", "simpo"]),
        ("rejection", ["rft", "f-isft"]),
        ("reported", ["es"]),
        ("not-rl", ["sft", "sft-more", "sft-clean", "noise"]),
    ],
)
def test_others_assert_no_direction(profile: str, algorithms: list[str]) -> None:
    for algorithm in algorithms:
        found = profile_for(algorithm)
        assert found is profile_named(profile)
        assert not found.metrics
        assert found.accuracy.rule == "not-fallen"
        assert found.not_online_rl == (profile == "not-rl")
        assert found.asserted == (("accuracy", "not-online-rl") if profile == "not-rl" else ("accuracy",))


def test_same_as_asserts_that_nothing_moved() -> None:
    found = profile_for("same-as")
    assert found.accuracy.rule == "equivalent"
    assert {metric: rule.expected for metric, rule in found.metrics.items()} == dict.fromkeys(GATE_METRICS, "same")
    assert not found.expected
    assert found.asserted == (*GATE_METRICS, "accuracy")


def test_no_algorithm_has_two_profiles() -> None:
    assert len(set(algorithms())) == len(algorithms()) == sum(len(profile.algorithms) for profile in PROFILES)


def test_a_profile_is_found_by_its_former_name() -> None:
    assert profile_named("control") is profile_named("not-rl")


def test_an_unknown_algorithm_lists_those_known() -> None:
    with pytest.raises(RLCircuitsError, match=r"algorithm is 'magic'; it must be one of grpo, ppo, .*your own TOML"):
        profile_for("magic")
    with pytest.raises(RLCircuitsError, match=r"profile is 'magic'; it must be one of online-rl, .*, or a TOML file$"):
        profile_named("magic")


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=12)
shares = st.floats(0.001, 0.5).map(lambda share: round(share, 6))
metric_rules = st.builds(
    MetricRule, expected=st.sampled_from(["up", "down"]), minimum=st.just(0.0) | shares, level=shares
) | st.builds(MetricRule, expected=st.just("same"), bound=shares)
accuracy_rules = (
    st.builds(AccuracyRule, rule=st.just("rose"), minimum=st.just(0.0) | shares, level=shares)
    | st.builds(AccuracyRule, rule=st.just("not-fallen"), level=shares)
    | st.builds(AccuracyRule, rule=st.sampled_from(["not-inferior", "equivalent"]), margin=shares)
)
profiles = st.builds(
    Profile,
    name=words.filter(lambda name: name.casefold() not in (*(each.name for each in PROFILES), *FORMER_NAMES)),
    algorithms=st.lists(words.map(str.lower), max_size=3).map(tuple),
    accuracy=accuracy_rules,
    metrics=st.dictionaries(st.sampled_from(GATE_METRICS), metric_rules),
    must_not_show=st.none() | st.just("online-rl"),
)


def table_of(profile: Profile) -> dict[str, Any]:
    """Return a profile as the table of its file, with the keys that its rules use."""
    table = {key: value for key, value in asdict(profile).items() if value is not None}
    table["algorithms"] = list(profile.algorithms)
    used = {
        "rose": ("rule", "minimum", "level"),
        "not-fallen": ("rule", "level"),
        "not-inferior": ("rule", "margin"),
        "equivalent": ("rule", "margin"),
    }[profile.accuracy.rule]
    table["accuracy"] = {key: value for key, value in table["accuracy"].items() if key in used}
    for metric, rule in profile.metrics.items():
        keys = ("expected", "bound") if rule.expected == "same" else ("expected", "minimum", "level")
        table["metrics"][metric] = {key: value for key, value in table["metrics"][metric].items() if key in keys}
    return table


def to_toml(value: object) -> str:
    """Return a value as TOML; tables are written inline, but for the outermost."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            escaped = "".join(f"\\U{ord(character):08X}" for character in value)
            return f'"{escaped}"'
        case dict():
            return "{" + ", ".join(f'"{key}" = {to_toml(each)}' for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(to_toml, value)) + "]"
        case _:
            return repr(value)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles") / "ours.toml"


def write(file: Path, table: dict[str, Any]) -> Path:
    file.write_text("\n".join(f"{key} = {to_toml(value)}" for key, value in table.items()) + "\n", encoding="utf-8")
    return file


@given(profile=profiles)
def test_a_file_is_read_as_it_was_written(profile: Profile, file: Path) -> None:
    assert load_profile(write(file, table_of(profile))) == profile
    assert profile_named(str(file)) == profile


def places(table: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every key of a table."""
    found = []
    for key, value in table.items():
        found += [(*path, key), *(places(value, (*path, key)) if isinstance(value, dict) else [])]
    return found


def set_key(table: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value


FULL = table_of(
    Profile(
        name="ours",
        algorithms=("gspo",),
        accuracy=AccuracyRule("rose", minimum=0.02, level=0.02),
        metrics={
            "intensity": MetricRule("up", minimum=0.1, level=0.02),
            "complexity": MetricRule("down", minimum=0.1, level=0.02),
            "kurtosis": MetricRule("same", bound=0.1),
        },
        must_not_show="online-rl",
    )
)


@st.composite
def wrong_tables(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Draw a table with one fault, and the path of the faulty key."""
    table = copy.deepcopy(FULL)
    path = draw(st.sampled_from(places(FULL)))
    kind = draw(st.sampled_from(["unknown key", "wrong type", "wrong value"]))
    if kind == "unknown key":
        misspelt = (*path[:-1], draw(st.sampled_from(["levl", "max", f"{path[-1]}s", path[-1].upper()])))
        set_key(table, misspelt, 0.1)
        return table, misspelt
    right: Any = FULL
    for key in path:
        right = right[key]
    if kind == "wrong type":
        wrong: list[Any] = {
            float: ["0.1", True, [0.1], {}],
            str: [1, True, ["up"], {}],
            list: ["gspo", 1, {}, [1]],
            dict: ["rose", 1, [1], []],
        }[type(right)]
    elif isinstance(right, float):
        wrong = [-1.0, 11.0, float("nan"), float("inf")]
    else:
        wrong = ["", "two\nlines"] if isinstance(right, str) else [3]
    set_key(table, path, draw(st.sampled_from(wrong)))
    return table, path


@given(wrong=wrong_tables())
def test_every_fault_is_one_error_that_names_file_and_key(
    wrong: tuple[dict[str, Any], tuple[str, ...]], file: Path
) -> None:
    table, path = wrong
    with pytest.raises(RLCircuitsError) as error:
        load_profile(write(file, table))
    message = str(error.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert path[-1] in message.removeprefix(str(file))
    if len(path) > 2:
        assert path[1] in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read as TOML"),
        ("", "key 'name': missing"),
        ('name = "x"\nmetrics = 3', "key 'metrics': must be a table, not 3"),
        ('name = "x"\n[accuracy]\nminimun = 0.1', "'accuracy.minimun': unknown; known keys are rule, minimum, margin"),
        ('name = "x"\n[metrics.loss]\nexpected = "up"', "'loss' is no metric; it must be one of intensity"),
        ('name = "x"\n[metrics.intensity]\nexpectd = "up"', "unknown; known keys are expected, minimum, level, bound"),
        ('name = "x"\n[metrics.intensity]\nexpected = "same"', "expected = 'same' needs a bound"),
        ('name = "x"\n[metrics.intensity]\nexpected = "up"\nbound = 0.1', "bound is for expected = 'same'"),
        (
            'name = "x"\n[metrics.intensity]\nexpected = "same"\nbound = 0.1\nminimum = 0.0',
            "'metrics.intensity.minimum': expected = 'same' does not use it; it is for up and down",
        ),
        (
            'name = "x"\n[accuracy]\nrule = "rose"\nmargin = 0.02',
            "'accuracy.margin': rule = 'rose' does not use it; it is for not-inferior and equivalent",
        ),
        ('name = "x"\n[accuracy]\nlevel = 2026-01-01', "'accuracy.level': must be a number"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RLCircuitsError) as error:
        load_profile(file)
    assert message in str(error.value)


@pytest.mark.parametrize("name", [*(profile.name for profile in PROFILES), *FORMER_NAMES, "Online-RL"])
def test_a_file_cannot_replace_a_built_in_profile(name: str, file: Path) -> None:
    file.write_text(f'name = "{name}"', encoding="utf-8")
    with pytest.raises(RLCircuitsError, match=f"key 'name': {name} is the name of a built-in profile"):
        load_profile(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"nowhere\.toml: cannot be read as a profile: No such file"):
        profile_named(str(tmp_path / "nowhere.toml"))


def test_a_profile_in_use_is_not_changed_by_its_file(file: Path) -> None:
    loaded = load_profile(write(file, FULL))
    file.unlink()
    assert judge_metric(effect_of(0.2, 0.01), loaded.metrics["intensity"]).outcome == "holds"
    assert judge_metric(effect_of(0.2, 0.01), loaded.metrics["complexity"]).outcome == "does not hold"
