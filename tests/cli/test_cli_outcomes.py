"""`rlcircuits compare`: the exit code and the first and last lines of each outcome, and --on-inconclusive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.pair import Pair

FLAT, FELL, FELL_BY_FIVE = [True] * 40, [True] * 30 + [False] * 10, [True] * 35 + [False] * 5

MADE: dict[str, dict[str, Any]] = {
    "good": {},
    "good2": {},
    "flat": {"right_after": FLAT},
    "fell": {"right_after": FELL},
    "odd": {"right_after": FELL_BY_FIVE},
}
"""How each pair's comparison is made up, by the pair's name."""

Compare = Callable[..., int]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Return a function that compares pairs with these names, and returns the exit code."""

    def run_pair(pair: Pair, *_: Any, **__: Any) -> Comparison:
        if pair.name == "wrong":
            raise RLCircuitsError("org/wrong has no tokenizer")
        if pair.name == "fault":
            raise KeyError("oops")
        return made_up_comparison(pair.name, pair.algorithm, **MADE[pair.name])

    def run(names: str, *options: str, algorithm: str = "grpo") -> int:
        file = tmp_path / "pairs.toml"
        table = '[[pair]]\nname = "{}"\nbefore = "org/base"\nafter = "org/tuned"\nalgorithm = "{}"\n'
        file.write_text("".join(table.format(name, algorithm) for name in names.split()))
        return main(["compare", "--pairs", str(file), *options])

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return run


@pytest.mark.parametrize(
    ("names", "code", "outcome"),
    [
        ("good", 0, "holds"),
        ("flat", 3, "inconclusive"),
        ("fell", 1, "does not hold"),
        ("good flat", 3, "inconclusive"),
        ("flat fell good", 1, "does not hold"),
        ("flat wrong", 2, "no verdict"),
        ("fell wrong", 2, "no verdict"),
        ("fell wrong fault", 70, "no verdict"),
    ],
)
def test_the_more_serious_of_several_outcomes_decides(
    names: str, code: int, outcome: str, compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(names) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"outcome: {outcome}"
    assert [line[:9] for line in lines[1:3]] == ["why:     ", "next:    "]
    assert lines[3] == ""
    assert lines[4].startswith("pair ")
    assert lines[-1] == f"{outcome}: {lines[1][9:]}; {lines[2][9:]}"


def test_a_failure_that_is_not_rare_among_several_pairs_is_inconclusive(compare: Compare) -> None:
    assert compare("odd", algorithm="dpo") == 1
    assert compare("odd good", algorithm="dpo") == 3


@pytest.mark.parametrize(("policy", "code"), [("fail", 3), ("warn", 0), ("pass", 0)])
@pytest.mark.parametrize("json_too", [False, True])
def test_an_inconclusive_release_exits_as_the_user_wants(
    policy: str, code: int, json_too: bool, compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare("good flat", "--on-inconclusive", policy, *(["--json"] if json_too else [])) == code
    shown = capsys.readouterr()
    warning = (
        "rlcircuits: warning: inconclusive: accuracy of flat: no clear rise, +0.0 points [-6.3, +6.3], 1.000 → 1.000; "
        "about 5,100 "
    )
    if policy == "warn":
        (line,) = shown.err.splitlines()
        assert line.startswith(warning)
    else:
        assert shown.err == ""
    if json_too:
        found = json.loads(shown.out)
        assert [one["verdict"]["outcome"] for one in found] == ["holds", "inconclusive"]
        assert [one["release"]["outcome"] for one in found] == ["inconclusive"] * 2


@pytest.mark.parametrize("policy", ["warn", "pass"])
def test_no_other_outcome_is_let_pass(policy: str, compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    for names, code in (("good", 0), ("flat fell", 1), ("flat wrong", 2), ("flat fault", 70)):
        assert compare(names, "--on-inconclusive", policy) == code
        assert "warning" not in capsys.readouterr().err


def test_json_has_the_outcome_of_the_whole_release(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    """One failure among several pairs is corrected, and the release has no outcome if a pair was not measured."""
    for names, outcome, unmeasured in (("odd", "does not hold", []), ("odd good good2", "inconclusive", [])):
        compare(names, "--json", algorithm="dpo")
        found = json.loads(capsys.readouterr().out)
        pairs = found if isinstance(found, list) else [found]
        assert [pair["comparison"]["name"] for pair in pairs] == names.split()
        first = pairs[0]["release"]
        assert first["p_corrected"] == pytest.approx(len(pairs) * first["p_against"])
        assert first["fails_release"] == (outcome == "does not hold")
        for pair in pairs:
            assert (pair["release"]["outcome"], pair["release"]["unmeasured"]) == (outcome, unmeasured)
            assert pair["release"]["level"] == 0.05
    compare("odd wrong", "--json", algorithm="dpo")
    (pair,) = json.loads(capsys.readouterr().out)
    assert (pair["release"]["outcome"], pair["release"]["unmeasured"]) == (None, ["wrong"])


def test_another_word_is_refused(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        compare("good", "--on-inconclusive", "ignore")
    assert exit_.value.code == 2
    assert "--on-inconclusive: invalid choice: 'ignore'" in capsys.readouterr().err


def test_pairs_that_share_a_pool_are_pooled_beside_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_pair(pair: Pair, *_: Any, **__: Any) -> Comparison:
        return replace(made_up_comparison(pair.name, pair.algorithm), after=pair.after)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    file = tmp_path / "pairs.toml"
    table = '[[pair]]\nname = "{0}"\nbefore = "org/base"\nafter = "org/{0}"\nalgorithm = "grpo"\npool = "all of it"\n'
    file.write_text("".join(map(table.format, "abc")))
    assert main(["compare", "--pairs", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("pool all of it: pooled over 3 pairs (reported, no verdict); 3 trainings, 1 question set")
    assert lines[place + 1].split()[:2] == ["metric", "pooled"]
    assert lines[-1].startswith("holds: ")
    assert main(["compare", "--pairs", str(file), "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    (pool,) = first["release"]["pools"]
    assert (pool["name"], pool["pairs"]) == ("all of it", ["a", "b", "c"])
    assert pool["effects"]["intensity"]["estimate"] == pytest.approx(
        first["comparison"]["effects"]["intensity"]["change"]
    )
