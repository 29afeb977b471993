"""Two output folders side by side: what changed is what a float64 definition says, and what differs is named."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers.measured_results import FULL, PLAIN, TOO_FEW, measured_results
from helpers.page_parts import read_page
from helpers.synthetic_comparisons import made_up_comparison
from helpers.tiny_pairs import grade_kindly, save_tiny_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers
from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.effect_differences import effect_differences
from rlcircuits.comparison.multiplicity import corrected_by_holm
from rlcircuits.comparison.paired_statistics import signed_rank
from rlcircuits.comparison.storage import load_comparison, save_comparison
from rlcircuits.release.pair import make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.run_record import load_run
from rlcircuits.release.settings import make_settings
from rlcircuits.report.schema_files import read_schema
from rlcircuits.report.two_runs import compare_runs
from rlcircuits.report.two_runs_text import differences_json, differences_markdown, differences_text


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Output folders of two candidates from one base, the second measured with one question less at most."""
    folder = tmp_path_factory.mktemp("candidates")
    base, first = save_tiny_pair(folder / "models")
    _, second = save_tiny_pair(folder / "other", update=0.08)
    how = {
        "question_count": 24, "min_questions": 5, "alpha": 0.5, "balance": 2.0, "noise_draws": 0, "device": "cpu",
        "sampling": {"max_new_tokens": 6, "n": 2},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as monkeypatch:
        grade_kindly(monkeypatch)
        for name, after, more in (("first", first, {}), ("second", second, {"k": 12})):
            pair = make_pair(name="release", before=str(base), after=str(after), algorithm="grpo")
            run_pair(pair, make_settings({**how, **more}), output=folder / name)
    return folder / "first", folder / "second"


def shares_right(folder: Path) -> dict[str, float]:
    grades: dict[str, list[bool]] = {}
    for item in Answers.load(folder / "release" / "after.answers.jsonl").items:
        grades.setdefault(item.question_id, []).append(item.correct)
    return {question: float(np.mean(each)) for question, each in grades.items()}


def test_differences_are_those_of_the_definition(candidates: tuple[Path, Path]) -> None:
    first, second = candidates
    found = compare_runs(first, second)
    assert not found.same
    (pair,) = found.pairs
    measures = {measure.measure: measure for measure in pair.measures}
    ours, theirs = shares_right(first), shares_right(second)
    shared = ours.keys() & theirs.keys()
    assert measures["accuracy"].questions == len(shared) == 24
    wanted = 100 * np.mean([theirs[each] - ours[each] for each in shared])
    assert measures["accuracy"].difference == pytest.approx(wanted, abs=1e-9)
    one, other = (load_comparison(folder / "release") for folder in candidates)
    compared = [question for question in one.question_ids if question in other.question_ids]
    for metric in ("intensity", "complexity", "kurtosis", "loss"):
        rows = []
        for question in compared:
            values = []
            for each in (one, other):
                place, effect = each.question_ids.index(question), each.effects[metric]
                values.append((effect.before_values[place], effect.after_values[place]))
            rows.append((values[0][0], (values[1][1] - values[1][0]) - (values[0][1] - values[0][0])))
        base, differences = np.array(rows, dtype=np.float64).T
        measure = measures[metric]
        assert measure.questions == len(compared)
        assert measure.difference == pytest.approx(100 * differences.mean() / abs(base.mean()), rel=1e-9)
        assert measure.low <= measure.difference <= measure.high
        assert measure.p == signed_rank(differences, "two-sided")
    known = [measure.p for measure in pair.measures]
    assert [measure.p_corrected for measure in pair.measures] == corrected_by_holm(known)
    for measure in pair.measures:
        assert measure.changed == (measure.p_corrected < 0.05 and not measure.low <= 0 <= measure.high)
    assert any("requested k: not stated → 12" in each for each in pair.differs)
    assert any(each.startswith("weights or tokenizer of after: fingerprint ") for each in pair.differs)
    assert not any("of before" in each for each in pair.differs)


def test_the_other_way_round_all_is_turned_round(candidates: tuple[Path, Path]) -> None:
    there, back = compare_runs(*candidates).pairs[0], compare_runs(*candidates[::-1]).pairs[0]
    for one, other in zip(there.measures, back.measures, strict=True):
        assert one.p == pytest.approx(other.p)
        assert (one.first, one.second, one.questions) == (other.second, other.first, other.questions)
        assert math.copysign(1, one.difference) == -math.copysign(1, other.difference) or not one.difference
    assert there.outcomes == back.outcomes[::-1]


@given(seeds=st.tuples(st.integers(0, 5), st.integers(0, 5)))
@settings(max_examples=5)
def test_an_effect_differs_from_itself_by_nothing(seeds: tuple[int, int]) -> None:
    comparison = made_up_comparison(f"pair {seeds[0]}")
    for effect in effect_differences(comparison, comparison, ("intensity", "loss")).values():
        assert (effect.difference, effect.interval, effect.p_two_sided) == (0, (0, 0), 1)
    fewer = replace(comparison, question_ids=tuple(f"other {each}" for each in comparison.question_ids))
    assert all(effect.questions == 0 for effect in effect_differences(comparison, fewer, ("intensity",)).values())


def test_two_folders_with_the_same_results_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(measured_results(), tmp_path / "copy", ignore=shutil.ignore_patterns("store"))
    assert main(["report", str(measured_results()), str(copy)]) == 0
    printed = capsys.readouterr().out
    assert "the two hold the same results" in printed
    assert f"{PLAIN}: the same in both" in printed
    assert "difference" not in printed
    shutil.rmtree(copy / TOO_FEW)
    found = compare_runs(measured_results(), copy)
    assert not found.same
    assert (found.only_in_first, found.only_in_second) == ((TOO_FEW,), ())
    assert f"only in the first: {TOO_FEW}" in differences_text(found)
    assert {pair.first for pair in found.pairs} == {FULL, PLAIN}


def test_every_form_has_it_all(
    candidates: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", *map(str, candidates)]
    page = tmp_path / "page.html"
    assert main([*arguments, "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "first → second" in printed
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads(read_schema("differences"))).validate(document)
    assert main([*arguments, "--markdown"]) == 0
    markdown = capsys.readouterr().out
    root = read_page(page.read_text(encoding="utf-8"))
    for label in ("activation intensity", "distribution kurtosis", "accuracy"):
        assert label in printed
        assert label in markdown
        assert label in root.text
    assert "requested k: not stated → 12" in root.text
    assert f"page: {page}" in printed


def test_text_from_outside_is_escaped(candidates: tuple[Path, Path], tmp_path: Path) -> None:
    from rlcircuits.report.page.two_runs import two_runs_html

    folders = [shutil.copytree(each, tmp_path / each.name) for each in candidates]
    for folder in folders:
        comparison = load_comparison(folder / "release")
        save_comparison(replace(comparison, after=f"<script>{folder.name}|@me"), folder / "release")
    found = compare_runs(*folders)
    html = two_runs_html(found)
    assert "<script>first" not in html
    read_page(html)
    assert "|@me" not in differences_markdown(found)
    assert "<script>" not in differences_markdown(found)
    assert json.loads(differences_json(found))["pairs"][0]["differs"][0].startswith("after: <script>first")


def test_what_is_missing_or_scored_otherwise_is_named(candidates: tuple[Path, Path], tmp_path: Path) -> None:
    first = candidates[0]
    second = shutil.copytree(candidates[1], tmp_path / "second")
    (second / "release" / "after.answers.jsonl").unlink()
    (second / "release" / "run.json").unlink()
    comparison = load_comparison(second / "release")
    save_comparison(replace(comparison, granularity="head"), second / "release")
    (pair,) = compare_runs(first, second).pairs
    why = {measure.measure: measure.not_compared or "" for measure in pair.measures}
    assert "there is no such file" in why["accuracy"]
    assert why["intensity"] == "the two were scored with another granularity"
    assert "granularity: sublayer → head" in pair.differs
    assert any("a folder lacks run.json" in each for each in pair.differs)
    assert load_run(first / "release").fingerprints.keys() == {"before", "after"}


@pytest.mark.parametrize("change", [{"questions": "gsm8k"}, {"split": "dev"}])
def test_other_questions_are_refused(candidates: tuple[Path, Path], tmp_path: Path, change: dict[str, str]) -> None:
    second = shutil.copytree(candidates[1], tmp_path / "second")
    save_comparison(replace(load_comparison(second / "release"), **change), second / "release")
    with pytest.raises(RLCircuitsError, match="two runs are compared on the same question set"):
        compare_runs(candidates[0], second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RESULTS", "STORED"], "have no pair in common"),
        (["RESULTS", "nowhere"], "nowhere: holds no comparison.json"),
        (["RESULTS", ""], "OTHER is empty"),
        (["RESULTS", "RESULTS", "--csv"], "--csv: of one folder only, and two were given"),
        (["RESULTS", "RESULTS", "--plot", "x.png"], "--plot: of one folder only, and two were given"),
        (["RESULTS", "RESULTS", "--log-to", "tensorboard:x"], "--log-to: of one folder only, and two were given"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"RESULTS": str(measured_results()), "STORED": "tests/stored"}
    assert main(["report", *(known.get(each, each) for each in arguments)]) == 2
    assert message in capsys.readouterr().err
