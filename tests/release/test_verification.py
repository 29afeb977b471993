"""Stored results are recomputed bit by bit, and whatever was changed in any of their files is noticed.

The results are those of `tests/stored/`: two pairs that an earlier version measured, with their store.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.stored_pairs import STORED
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlcircuits import Answers, EdgeScores, RLCircuitsError, load_comparison
from rlcircuits.comparison.pairing import pair
from rlcircuits.release.differences import leaves
from rlcircuits.release.repeated_pairing import repeat_pairing
from rlcircuits.release.verification import Check, Verification, verify_pair, verify_results

GRPO = ROOT / STORED / "grpo"
OTHER = "fixtures/llama-sums/seed-7/sft-clean"
NUMBERS = [
    (field, value)
    for field, value in leaves(json.loads((GRPO / "comparison.json").read_bytes()))
    if isinstance(value, int | float) and not isinstance(value, bool)
]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the stored names of checkpoints are relative


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the stored results."""
    return Path(shutil.copytree(STORED, tmp_path / "out"))


def checks_of(verification: Verification) -> dict[str, Check]:
    return {check.part: check for check in verification.checks}


def differing(verification: Verification) -> set[str]:
    return {check.part for check in verification.checks if check.agreement == "differs"}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def set_at(document: Any, field: str, value: object) -> None:
    *way, last = (int(name) if name.isdigit() else name for name in field.split("."))
    for name in way:
        document = document[name]
    document[last] = value


def edit_answers(path: Path, change: Callable[[Any], Any]) -> None:
    answers = Answers.load(path)
    replace(answers, items=change(answers.items)).save(path)


def test_untouched_results_agree_bit_by_bit() -> None:
    found = verify_results(STORED, models=True, regrade=True)
    assert [one.name for one in found] == ["grpo", "sft-clean"]
    for one in found:
        assert {check.agreement for check in one.checks} == {"agrees"}, one
        assert one.agrees
        assert not one.missing
        assert [check.part for check in one.checks] == [
            "pairing", "accuracy", "metrics", "noise control", "verdict", "scores", "checkpoints", "texts", "grades",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the stored results whose grpo/comparison.json is written again for each example."""
    return Path(shutil.copytree(ROOT / STORED, tmp_path_factory.mktemp("scratch") / "out"))


def check_that_a_changed_number_is_noticed(folder: Path, field: str, value: float) -> None:
    document = json.loads((GRPO / "comparison.json").read_bytes())
    set_at(document, field, value)
    (folder / "comparison.json").write_text(json.dumps(document))
    try:
        load_comparison(folder)
    except RLCircuitsError:  # the file contradicts itself
        with pytest.raises(RLCircuitsError, match=re.escape(str(folder / "comparison.json"))):
            verify_pair(folder)
        return
    found = verify_pair(folder)
    noticed = {difference.field for check in found.checks for difference in check.differences}
    # What was asked for can only be noticed by what follows from it.
    taken = any(f"{field}.".startswith(f"{name}.") for name in found.taken)
    assert (field in noticed) != taken
    assert not taken or field in {"comparison.alpha", "comparison.balance", "comparison.controls.0.draw"}


changes = st.tuples(st.sampled_from(NUMBERS), st.floats(-2, 2) | st.integers(-3, 500)).filter(
    lambda change: change[0][1] != change[1]
)


@settings(max_examples=8)
@given(changes)
@example((("comparison.accuracy.before", 0.8), 0.825))
def test_every_changed_number_is_noticed(scratch: Path, change: tuple[tuple[str, float], float]) -> None:
    (field, _), value = change
    check_that_a_changed_number_is_noticed(scratch / "grpo", field, value)


@pytest.mark.slow
@settings(max_examples=150)
@given(changes)
def test_every_changed_number_is_noticed_in_many_examples(
    scratch: Path, change: tuple[tuple[str, float], float]
) -> None:
    (field, _), value = change
    check_that_a_changed_number_is_noticed(scratch / "grpo", field, value)


@pytest.mark.parametrize(
    ("field", "value", "follows"), [("alpha", 0.9, "t_cut"), ("balance", 0.0, "funnel.lengths balanced")]
)
def test_a_changed_setting_is_noticed_by_what_follows(folder: Path, field: str, value: float, follows: str) -> None:
    edit(folder / "grpo/comparison.json", lambda document: document["comparison"].update({field: value}))
    found = verify_pair(folder / "grpo")
    assert f"comparison.{field}" in found.taken
    assert f"comparison.{follows}" in {difference.field for difference in checks_of(found)["pairing"].differences}


def test_the_last_bit_of_a_number_is_told_as_rounding(folder: Path) -> None:
    edit(folder / "grpo/comparison.json", lambda document: nudge(document["comparison"]["effects"]["intensity"]))
    found = verify_pair(folder / "grpo")
    metrics = checks_of(found)["metrics"]
    assert metrics.agreement == "rounding"
    assert re.search(r"1 of \d+ values differ by [12]\.\de-16 at most", metrics.words)
    assert found.agrees


def nudge(effect: dict[str, Any]) -> None:
    effect["after"] = math.nextafter(effect["after"], math.inf)


def test_a_larger_change_than_rounding_differs(folder: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["comparison"]["effects"]["intensity"]["after"] *= 1 + 1e-8

    edit(folder / "grpo/comparison.json", change)
    found = verify_pair(folder / "grpo")
    assert differing(found) == {"metrics"}
    (difference,) = checks_of(found)["metrics"].differences
    assert difference.field == "comparison.effects.intensity.after"
    assert difference.found == pytest.approx(difference.recomputed * (1 + 1e-8), rel=1e-14)


def test_a_verdict_that_was_changed_by_hand_differs(folder: Path) -> None:
    edit(folder / "grpo/comparison.json", lambda document: document["verdict"].update(holds="certainly"))
    found = verify_pair(folder / "grpo")
    assert differing(found) == {"verdict"}
    assert "verdict.holds: file 'certainly', recomputed" in checks_of(found)["verdict"].words


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("place", [0, 7, 39])
def test_a_flipped_grade_is_noticed(folder: Path, side: str, place: int) -> None:
    def flip(items: Any) -> Any:
        item = items[place]
        return (*items[:place], replace(item, correct=not item.correct), *items[place + 1 :])

    edit_answers(folder / f"grpo/{side}.answers.jsonl", flip)
    found = verify_pair(folder / "grpo", regrade=True)
    assert differing(found) >= {"accuracy", "grades"}
    item = Answers.load(folder / f"grpo/{side}.answers.jsonl").items[place]
    assert f"{side} answers, question {item.question_id!r}: file" in checks_of(found)["grades"].words


def test_a_flipped_grade_of_a_noise_draw_is_noticed(folder: Path) -> None:
    (file,) = (folder / "store").glob("*noise-0-of-seed-7-grpo-arithmetic*.jsonl")
    # The grade of an answer that is not compared, so that the same sequences are scored.
    asked = load_comparison(folder / "grpo").question_ids

    def flip(items: Any) -> Any:
        place = next(place for place, item in enumerate(items) if item.question_id not in asked)
        return (*items[:place], replace(items[place], correct=not items[place].correct), *items[place + 1 :])

    edit_answers(file, flip)
    found = verify_pair(folder / "grpo")
    assert differing(found) == {"noise control"}
    assert [difference.field for difference in checks_of(found)["noise control"].differences] == [
        "comparison.controls.0.accuracy"
    ]


@pytest.mark.parametrize("stored", [True, False], ids=["with its store", "without a store"])
def test_one_changed_score_is_noticed(folder: Path, stored: bool) -> None:
    if not stored:
        shutil.rmtree(folder / "store")
    file = folder / "grpo/after.scores.safetensors"
    scores = EdgeScores.load(file)
    writer, reader = scores.graph.mask.nonzero()[5].tolist()
    scores.values[3, writer, reader] *= 1.5
    scores.save(file)
    found = verify_pair(folder / "grpo")
    assert differing(found) >= ({"metrics", "scores"} if stored else {"metrics"})
    moved = {difference.field for difference in checks_of(found)["metrics"].differences}
    assert "comparison.effects.intensity.after_values.3" in moved
    assert not any(re.search(r"_values\.(?!3$)\d+$", field) for field in moved)
    if stored:
        words = f"after scores, values[3, {writer}, {reader}]: file "
        assert checks_of(found)["scores"].words.startswith(words)


def test_two_scores_that_changed_places_are_noticed_by_the_store(folder: Path) -> None:
    # No metric that is published sees this: both edges lead to the same reader.
    file = folder / "grpo/before.scores.safetensors"
    scores = EdgeScores.load(file)
    row = scores.values[0, :, -1]
    first, second = (place for place in row.nonzero().flatten().tolist()[:2])
    row[[first, second]] = row[[second, first]]
    scores.save(file)
    assert differing(verify_pair(folder / "grpo")) == {"scores"}


def test_the_scores_of_another_model_are_noticed(folder: Path) -> None:
    shutil.copy(folder / "sft-clean/after.scores.safetensors", folder / "grpo/after.scores.safetensors")
    assert differing(verify_pair(folder / "grpo")) >= {"metrics", "verdict", "scores"}


def test_scores_of_another_graph_are_noticed(folder: Path) -> None:
    file = folder / "grpo/after.scores.safetensors"
    scores = EdgeScores.load(file)
    graph = replace(scores.graph, mask=scores.graph.mask & (torch.arange(len(scores.graph.readers)) > 0))
    replace(scores, values=scores.values * graph.mask, graph=graph).save(file)
    found = verify_pair(folder / "grpo")
    assert differing(found) >= {"metrics", "scores"}
    assert "different graphs" in checks_of(found)["metrics"].words


def test_scores_of_fewer_sequences_are_noticed(folder: Path) -> None:
    file = folder / "grpo/before.scores.safetensors"
    scores = EdgeScores.load(file)
    replace(scores, values=scores.values[1:], loss=scores.loss[1:]).save(file)
    found = verify_pair(folder / "grpo")
    assert "before scores are of 15 sequences; the pairing has 16" in checks_of(found)["metrics"].words
    # What does not depend on the scores is recomputed all the same.
    assert checks_of(found)["accuracy"].agreement == checks_of(found)["pairing"].agreement == "agrees"


def test_answers_that_cannot_be_paired_are_noticed(folder: Path) -> None:
    edit_answers(
        folder / "grpo/after.answers.jsonl", lambda items: tuple(replace(item, correct=False) for item in items)
    )
    found = verify_pair(folder / "grpo")
    assert differing(found) >= {"pairing", "accuracy"}
    assert "0 questions are left to compare" in checks_of(found)["pairing"].words
    assert checks_of(found)["metrics"].agreement == "not checked"


def test_other_weights_are_noticed(folder: Path) -> None:
    """The names in all files are changed to another checkpoint's: only its fingerprint tells."""
    edit(folder / "grpo/comparison.json", lambda document: document["comparison"].update(after=OTHER))
    answers = Answers.load(folder / "grpo/after.answers.jsonl")
    replace(answers, model=OTHER).save(folder / "grpo/after.answers.jsonl")
    found = verify_pair(folder / "grpo", models=True)
    assert "checkpoints" in differing(found)
    assert f"after: {OTHER} has the fingerprint" in checks_of(found)["checkpoints"].words


def test_a_checkpoint_that_is_gone_is_bad_input(folder: Path) -> None:
    edit(folder / "grpo/comparison.json", lambda document: document["comparison"].update(after="./gone"))
    with pytest.raises(RLCircuitsError, match="gone"):
        verify_pair(folder / "grpo", models=True)


def test_a_text_that_is_not_the_tokens_is_noticed(folder: Path) -> None:
    """A wrong answer gets a right text and a right grade, and the number is changed to match."""
    right = {item.question_id: item.text for item in Answers.load(folder / "grpo/after.answers.jsonl").items}
    edit_answers(
        folder / "grpo/before.answers.jsonl",
        lambda items: tuple(
            item if item.correct else replace(item, text=right[item.question_id], correct=True) for item in items
        ),
    )
    assert "texts" in differing(verify_pair(folder / "grpo", models=True))


def test_without_the_store_the_noise_control_is_taken_from_the_file(folder: Path) -> None:
    shutil.rmtree(folder / "store")
    found = verify_pair(folder / "grpo", models=True)
    assert found.agrees
    assert {"comparison.controls.0", "comparison.note"} <= set(found.taken)
    checks = checks_of(found)
    assert checks["noise control"].agreement == checks["scores"].agreement == "not checked"
    assert [check.part for check in found.missing] == ["checkpoints"]


@pytest.mark.parametrize("damage", ["another fingerprint", "no scores", "no JSON"])
def test_a_damaged_store_proves_nothing(folder: Path, damage: str) -> None:
    (file,) = (folder / "store").glob("seed-7-grpo-sublayer-*/manifest.json")
    if damage == "another fingerprint":
        edit(file, lambda document: document.update(fingerprint="0" * 64))
    elif damage == "no scores":
        file.with_name("batch-000000.safetensors").unlink()
    else:
        file.write_text("{")
    found = verify_pair(folder / "grpo", models=True)
    assert checks_of(found)["scores"].agreement == checks_of(found)["checkpoints"].agreement == "not checked"


def test_a_field_that_an_earlier_version_did_not_record_is_no_difference(folder: Path) -> None:
    edit(folder / "grpo/comparison.json", lambda document: document["comparison"].pop("unfinished"))
    found = verify_pair(folder / "grpo")
    assert found.agrees
    assert "comparison.unfinished" in found.taken


@pytest.mark.parametrize("name", ["before.answers.jsonl", "after.scores.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / "grpo" / name).unlink()
    with pytest.raises(RLCircuitsError, match=re.escape(name)):
        verify_pair(folder / "grpo")


def test_grades_of_a_set_of_ones_own_are_not_checked(folder: Path) -> None:
    comparison = folder / "grpo/comparison.json"
    edit(comparison, lambda document: document["comparison"].update(questions="mine"))
    found = verify_pair(folder / "grpo", regrade=True)
    (check,) = found.missing
    assert check.words == "mine is a set of your own, so its grader is not known"


@settings(max_examples=30)
@given(k=st.integers(1, 40), seed=st.integers(0, 999), score_on=st.sampled_from(["own", "before", "gold"]))
def test_a_sample_is_found_again_without_its_seed(k: int, seed: int, score_on: Any) -> None:
    before, after = (Answers.load(GRPO / f"{side}.answers.jsonl") for side in ("before", "after"))
    gold = {item.question_id: (5, 6) for item in before.items}
    made = pair(before, after, k=k, seed=seed, min_questions=1, score_on=score_on, gold=gold)
    stored = replace(
        load_comparison(GRPO), question_ids=made.question_ids, score_on=score_on, note=made.note, alpha=made.alpha
    )
    again = repeat_pairing(stored, before, after)
    assert again.question_ids == made.question_ids
    assert (again.places, again.samples, again.note, again.t_cut) == (made.places, made.samples, made.note, made.t_cut)


def test_the_seed_can_be_said() -> None:
    before, after = (Answers.load(GRPO / f"{side}.answers.jsonl") for side in ("before", "after"))
    made = pair(before, after, k=16, seed=20_261, min_questions=1)
    stored = replace(load_comparison(GRPO), question_ids=made.question_ids)
    assert repeat_pairing(stored, before, after, 20_261) == made
    assert repeat_pairing(stored, before, after).question_ids != made.question_ids


def test_gold_answers_that_were_scored_are_not_looked_for_in_the_store(folder: Path) -> None:
    edit(folder / "grpo/comparison.json", lambda document: document["comparison"].update(score_on="gold"))
    scores = checks_of(verify_pair(folder / "grpo"))["scores"]
    assert scores.agreement == "not checked"
    assert scores.words.startswith("gold answers were scored, whose token ids no file holds")
