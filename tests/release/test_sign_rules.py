"""The table [signs] of a pairs file, and which signs fail a release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlcircuits import RLCircuitsError, load_pairs
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.sign_rules import SignRules, Threshold
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.sign_tables import failures_line
from rlcircuits.vital_signs.gate import failing_signs
from rlcircuits.vital_signs.names import SIGNS
from rlcircuits.vital_signs.sign import Outcome, Sign, beyond_noise, no_room, not_measurable, with_threshold

PAIR = '[[pair]]\nname = "a"\nbefore = "b/c"\nafter = "d/e"\nalgorithm = "grpo"\n'


def sign(name: str, change: float, outcome: Outcome = "reported", p: float | None = None) -> Sign:
    return Sign(
        name,
        "a study",
        "share",
        outcome,
        "a note",
        change=change,
        interval=(change - 0.01, change + 0.01),
        p=p,
    )


def write(path: Path, signs: str) -> Path:
    path.write_text(f"[signs]\n{signs}\n{PAIR}")
    return path


def test_a_team_states_its_own_thresholds(tmp_path: Path) -> None:
    text = 'gate = ["unfinished"]\nthresholds.unfinished = {up = 0.05}\nthresholds.signal_left = {down = 0.02}'
    table = load_pairs_file(write(tmp_path / "release.toml", text)).signs
    assert table is not None
    rules = SignRules.model_validate(table)
    found = rules.judge((sign("unfinished", 0.04), sign("signal_left", -0.04), sign("other", 1.0)))
    assert [each.outcome for each in found] == ["no alarm", "trouble", "reported"]
    assert rules.judge((sign("unfinished", 0.07), sign("signal_left", 0.0)))[0].outcome == "trouble"


def test_no_table_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "release.toml"
    path.write_text(PAIR)
    assert load_pairs_file(path).signs is None
    assert len(load_pairs(path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates = 1", "key 'gates'"),
        ("group = 1", "key 'group': must be at least 2"),
        ("beta = -1", "key 'beta': must be at least 0"),
        ("thresholds.unfinished = {}", "a threshold has up or down, one of the two"),
        ("thresholds.unfinished = {up = 1, down = 1}", "a threshold has up or down, one of the two"),
        ("thresholds.unfinished = {up = nan}", "finite number"),
        ('formats.code = "("', "format 'code'"),
    ],
)
def test_bad_tables_name_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "release.toml", text)
    with pytest.raises(RLCircuitsError) as error:
        load_pairs_file(path)
    assert message in str(error.value)
    assert "release.toml: [signs]" in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"gate": ["beauty"]}, "gate: there is no sign 'beauty'; there are accuracy"),
        ({"thresholds": {"beauty": {"up": 1.0}}}, "thresholds: there is no sign 'beauty'"),
        ({"gate": ["silent_share"]}, "only reported, and can never fail a release; state thresholds.silent_share"),
        ({"gate": ["stable_rank"]}, "only reported, and can never fail a release; take it away"),
        ({"thresholds": {"rank1_excess": {"down": 1.0}}}, "'rank1_excess' has no interval"),
    ],
)
def test_rules_without_effect_are_refused_before_anything_is_measured(table: dict[str, object], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        SignRules(**table)  # type: ignore[arg-type]


def test_a_gated_sign_that_was_not_measured_is_told() -> None:
    found = PairSigns("a", (sign("accuracy", 0.0, "no alarm", 0.5), not_measurable("pass@k", "", "", "n = 1")), 0)
    line = failures_line([found], [], ("accuracy", "pass@k", "right_up"))
    assert line.endswith("; not measured: pass@k of a, right_up of a")


def test_the_documentation_names_every_sign_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "vital-signs.md").read_text()
    tables = text[text.index("## The signs") : text.index("## Stored rollouts")]
    assert set(re.findall(r"^\| `([^`]+)`", tables, flags=re.MULTILINE)) == SIGNS


def test_gated_signs_fail_after_holm() -> None:
    """Five signs at p = 0.02 are one alarm in fifty each, which is no surprise; one at 0.001 is."""
    weak = [sign("accuracy", -0.1, "trouble", 0.02)]
    pairs = {f"pair {place}": weak for place in range(5)}
    assert failing_signs(pairs) == []
    assert failing_signs({"alone": weak}) == [("alone", "accuracy")]
    pairs["pair 5"] = [sign("pass@k", -0.1, "trouble", 0.001), sign("right_up", -0.1, "no alarm", 0.001)]
    assert failing_signs(pairs) == [("pair 5", "pass@k")]
    assert failing_signs(pairs, ()) == []
    assert failing_signs({"a": [no_room("accuracy", "", "", "")]}) == []


def test_trouble_within_noise_is_no_alarm() -> None:
    found = beyond_noise(sign("x", 0.1, "trouble", 0.001), [sign("x", 0.05), sign("x", 0.2)])
    assert (found.outcome, found.noise) == ("no alarm", (0.05, 0.2))
    assert beyond_noise(sign("x", 0.3, "trouble", 0.001), [sign("x", 0.2)]).outcome == "trouble"
    assert beyond_noise(sign("x", -0.1, "trouble", 0.001), [sign("x", 0.2)]).outcome == "trouble"


def test_a_sign_beyond_a_stated_threshold_fails_beside_other_gated_signs() -> None:
    """Accuracy that falls by 70 points, where 1 is allowed, fails a release whatever else is gated."""
    fell = Sign("accuracy", "", "share", "no alarm", "", change=-0.7, interval=(-0.8, -0.6), p=0.2)
    others = (sign("right_up", 0.0, "no alarm", 0.4), sign("pass@k", 0.0, "no alarm", 0.5))
    judged = SignRules(thresholds={"accuracy": Threshold(down=0.01)}).judge((fell, *others))
    assert judged[0].outcome == "trouble"
    assert failing_signs({"a": judged}) == [("a", "accuracy")]


@pytest.mark.parametrize(("allowed", "p"), [(0.1, 0.025), (0.2, 0.5)])
def test_a_thresholds_p_is_the_level_at_which_the_interval_reaches_it(allowed: float, p: float) -> None:
    found = Sign("x", "", "share", "reported", "", change=0.2, interval=(0.1, 0.3))
    assert with_threshold(found, "up", allowed).p == pytest.approx(p)
    fell = Sign("x", "", "share", "reported", "", change=-0.2, interval=(-0.3, -0.1))
    assert with_threshold(fell, "down", allowed).p == pytest.approx(p)


@pytest.mark.parametrize("name", ["accuracy", "pass@k", "lost_questions"])
def test_noise_excuses_no_loss(name: str) -> None:
    """Draws have after's readout, so that damage there is in each; and pass@k may fall at k = 1 and not at n."""
    for change in (-0.7, 0.0):
        lost = beyond_noise(sign(name, change, "trouble", 0.001), [sign(name, -0.8), sign(name, 0.1)])
        assert (lost.outcome, lost.noise) == ("trouble", (-0.8, 0.1))


def test_signs_are_compared_with_all_noise(tmp_path: Path) -> None:
    file = load_pairs_file(write(tmp_path / "release.toml", ""))
    with pytest.raises(RLCircuitsError, match=r"noise_if_needed is true, .* \[signs\] away"):
        file.make_settings({"noise_if_needed": True})
    assert not file.make_settings().noise_if_needed
