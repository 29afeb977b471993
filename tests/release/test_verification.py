"""Stored results are recomputed bit by bit, and whatever was changed in any of their files is noticed.

The results are three pairs of tiny random models (`helpers/measured_results.py`), and those of an earlier version in
`tests/stored/`.
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
from helpers.measured_results import FULL, PLAIN, TOO_FEW, measured_results
from helpers.paths import ROOT
from helpers.stored_pairs import STORED
from helpers.tiny_pairs import grade_kindly, save_tiny_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import Answers, EdgeScores, RLCircuitsError, Sampling, Settings, load_comparison, run_pair
from rlcircuits.comparison.pairing import pair
from rlcircuits.release.differences import leaves
from rlcircuits.release.pair import make_pair
from rlcircuits.release.repeated_pairing import repeat_pairing
from rlcircuits.release.verification import Check, Verification, verify_pair, verify_results

GRPO = ROOT / STORED / "grpo"


@pytest.fixture(autouse=True)
def _kind_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)  # the one that the answers were graded by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the measured results."""
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


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
    found = verify_results(measured_results(), models=True, regrade=True)
    assert [one.name for one in found] == [FULL, f"{FULL}/control", PLAIN, TOO_FEW]
    for one in found:
        assert {check.agreement for check in one.checks} == {"agrees"}, one.checks
        assert one.agrees
        assert one.verified
        assert not one.missing
        assert not one.unchecked
        parts = [
            "pairing", "accuracy", "metrics", "noise control", "supervised control", "weights", "verdict", "scores",
            "checkpoints", "texts", "grades",
        ]  # fmt: skip
        left_out = {FULL: (), TOO_FEW: ("supervised control", "scores", "checkpoints")}.get(
            one.name, ("supervised control",)
        )
        assert [check.part for check in one.checks] == [part for part in parts if part not in left_out]
    stored = load_comparison(measured_results() / FULL)
    assert stored.group_controls
    assert stored.supervised
    assert stored.greedy
    assert not load_comparison(measured_results() / TOO_FEW).is_measured
    assert [claim.measure for claim in stored.claims] == ["claimed-accuracy", "reference-accuracy"]


ASKED = {
    "key", "comparison.name", "comparison.algorithm", "comparison.profile", "comparison.rules", "comparison.engine",
    "comparison.score_on", "comparison.alpha", "comparison.balance", "comparison.trust_remote_code",
    "comparison.claims.0.wanted", "comparison.claims.1.reference", "comparison.requested.k",
    "comparison.requested.noise_draws",
}  # fmt: skip
"""What was asked for: fields that can only be noticed by what follows from them."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the measured results whose comparison.json is written again for each example."""
    return Path(shutil.copytree(measured_results(), tmp_path_factory.mktemp("scratch") / "out"))


def _another(value: Any, draw: Callable[[Any], Any]) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return draw((st.floats(-2, 2) | st.integers(-3, 500)).filter(lambda other: other != value))
    if isinstance(value, str):
        return draw(st.sampled_from(["", "x", f"{value}x", value.swapcase(), value[:-1]]).filter(lambda o: o != value))
    return draw(st.sampled_from([1, "x", 0.5, [], {}, None]).filter(lambda other: other != value))


def check_that_a_changed_value_is_noticed(scratch: Path, name: str, data: st.DataObject) -> None:
    document = json.loads((measured_results() / name / "comparison.json").read_bytes())
    field, value = data.draw(st.sampled_from(list(leaves(document))))
    set_at(document, field, _another(value, data.draw))
    check_that_it_is_noticed(scratch / name / "comparison.json", document, field)


def check_that_it_is_noticed(file: Path, document: dict[str, Any], field: str) -> None:
    file.write_text(json.dumps(document))
    try:
        load_comparison(file)
    except RLCircuitsError:  # the file contradicts itself
        with pytest.raises(RLCircuitsError, match=re.escape(str(file))):
            verify_pair(file.parent)
        return
    # Other checkpoints cannot be read.
    found = verify_pair(file.parent, models=field not in ("comparison.before", "comparison.after"))
    # A value that is not allowed leaves nothing to compare with: the check differs, and its words name the value.
    noticed = [check for check in found.checks if check.agreement == "differs" or check.differences]
    assert not found.verified or field in ASKED
    assert found.verified or noticed, [check.words for check in found.checks]


def test_a_value_that_is_not_allowed_is_named(scratch: Path) -> None:
    document = json.loads((measured_results() / FULL / "comparison.json").read_bytes())
    set_at(document, "comparison.alpha", 0.0)
    (scratch / FULL / "comparison.json").write_text(json.dumps(document))
    found = verify_pair(scratch / FULL, models=False)
    assert not found.verified
    assert checks_of(found)["pairing"].agreement == "differs"
    assert checks_of(found)["pairing"].words.startswith("alpha is 0.0; a number above 0 and at most 1 is wanted")


@settings(max_examples=6)
@given(st.data())
def test_every_changed_value_is_noticed(scratch: Path, data: st.DataObject) -> None:
    check_that_a_changed_value_is_noticed(scratch, FULL, data)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sampled_from([FULL, PLAIN, TOO_FEW]), st.data())
def test_every_changed_value_is_noticed_in_many_examples(scratch: Path, name: str, data: st.DataObject) -> None:
    check_that_a_changed_value_is_noticed(scratch, name, data)


NEWER = ["rules", "claims", "group_controls", "weights", "differences", "supervised", "greedy", "requested"]


@pytest.mark.parametrize("field", [*NEWER, "unfinished", "note", "controls", "accuracy"])
def test_a_field_that_was_removed_is_noticed(scratch: Path, field: str) -> None:
    document = json.loads((measured_results() / FULL / "comparison.json").read_bytes())
    del document["comparison"][field]
    check_that_it_is_noticed(scratch / FULL / "comparison.json", document, f"comparison.{field}")


@pytest.mark.parametrize(
    ("field", "value", "follows"), [("alpha", 0.9, "t_cut"), ("balance", 0.0, "funnel.lengths balanced")]
)
def test_a_changed_setting_is_noticed_by_what_follows(tmp_path: Path, field: str, value: float, follows: str) -> None:
    pair_folder = Path(shutil.copytree(GRPO, tmp_path / "grpo"))
    edit(pair_folder / "comparison.json", lambda document: document["comparison"].update({field: value}))
    found = verify_pair(pair_folder)
    assert f"comparison.{field}" in found.taken
    assert f"comparison.{follows}" in {difference.field for difference in checks_of(found)["pairing"].differences}


def test_a_note_is_recomputed(folder: Path) -> None:
    note = "30 questions were wanted and 22 were left, so all are compared"
    assert load_comparison(folder / PLAIN).note == note
    assert "comparison.requested" in verify_pair(folder / PLAIN).taken
    for other in (note.replace("22", "23"), f"{note}; trust this", "all is well"):
        edit(
            folder / PLAIN / "comparison.json", lambda document, other=other: document["comparison"].update(note=other)
        )
        pairing = checks_of(verify_pair(folder / PLAIN))["pairing"]
        assert "comparison.note" in {difference.field for difference in pairing.differences}


def test_the_last_bit_of_a_number_is_told_as_rounding(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: nudge(document["comparison"]["effects"]["intensity"]))
    found = verify_pair(folder / PLAIN)
    metrics = checks_of(found)["metrics"]
    assert metrics.agreement == "rounding"
    assert re.search(r"1 of \d+ values differ by [12]\.\de-16 at most", metrics.words)
    assert found.agrees


def nudge(effect: dict[str, Any]) -> None:
    effect["after"] = math.nextafter(effect["after"], math.inf)


def test_a_larger_change_than_rounding_differs(folder: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["comparison"]["effects"]["intensity"]["after"] *= 1 + 1e-8

    edit(folder / PLAIN / "comparison.json", change)
    found = verify_pair(folder / PLAIN)
    assert differing(found) == {"metrics"}
    (difference,) = checks_of(found)["metrics"].differences
    assert difference.field == "comparison.effects.intensity.after"
    assert difference.found == pytest.approx(difference.recomputed * (1 + 1e-8), rel=1e-14)


def test_a_verdict_that_was_changed_by_hand_differs(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: document["verdict"].update(holds="certainly"))
    found = verify_pair(folder / PLAIN)
    assert differing(found) == {"verdict"}
    assert "verdict.holds: file 'certainly', recomputed" in checks_of(found)["verdict"].words


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("place", [0, 7, 47])
def test_a_flipped_grade_is_noticed(folder: Path, side: str, place: int) -> None:
    def flip(items: Any) -> Any:
        item = items[place]
        return (*items[:place], replace(item, correct=not item.correct), *items[place + 1 :])

    edit_answers(folder / PLAIN / f"{side}.answers.jsonl", flip)
    found = verify_pair(folder / PLAIN, regrade=True)
    assert differing(found) >= {"accuracy", "grades"}
    item = Answers.load(folder / PLAIN / f"{side}.answers.jsonl").items[place]
    assert f"{side} answers, question {item.question_id!r}" in checks_of(found)["grades"].words


def test_a_flipped_grade_of_a_noise_draw_is_noticed(folder: Path) -> None:
    (file,) = (folder / "store").glob("models-base-+-noise-0-of-*.jsonl")
    # The grade of an answer that is not compared, so that the same sequences are scored.
    asked = load_comparison(folder / FULL).question_ids

    def flip(items: Any) -> Any:
        place = next(place for place, item in enumerate(items) if item.question_id not in asked)
        return (*items[:place], replace(items[place], correct=not items[place].correct), *items[place + 1 :])

    edit_answers(file, flip)
    found = verify_pair(folder / FULL)
    assert differing(found) == {"noise control"}
    assert [difference.field for difference in checks_of(found)["noise control"].differences] == [
        "comparison.controls.0.accuracy"
    ]


@pytest.mark.parametrize("stored", [True, False], ids=["with its store", "without a store"])
def test_one_changed_score_is_noticed(folder: Path, stored: bool) -> None:
    if not stored:
        shutil.rmtree(folder / "store")
    file = folder / PLAIN / "after.scores.safetensors"
    scores = EdgeScores.load(file)
    writer, reader = scores.graph.mask.nonzero()[5].tolist()
    scores.values[3, writer, reader] *= 1.5
    scores.save(file)
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= ({"metrics", "scores"} if stored else {"metrics"})
    moved = {difference.field for difference in checks_of(found)["metrics"].differences}
    # Row 3 answers one of the questions, and no other one moves.
    questions = {match[1] for field in moved if (match := re.search(r"_values\.(\d+)$", field))}
    assert [f"comparison.effects.intensity.after_values.{question}" in moved for question in questions] == [True]
    if stored:
        words = f"after scores, values[3, {writer}, {reader}]: file "
        assert checks_of(found)["scores"].words.startswith(words)


def test_two_scores_that_changed_places_are_noticed_by_the_store(folder: Path) -> None:
    # No metric that is published sees this: both edges lead to the same reader.
    file = folder / PLAIN / "before.scores.safetensors"
    scores = EdgeScores.load(file)
    row = scores.values[0, :, -1]
    first, second = (place for place in row.nonzero().flatten().tolist()[:2])
    row[[first, second]] = row[[second, first]]
    scores.save(file)
    assert differing(verify_pair(folder / PLAIN)) == {"scores"}


def test_the_scores_of_another_model_are_noticed(folder: Path) -> None:
    shutil.copy(folder / PLAIN / "before.scores.safetensors", folder / PLAIN / "after.scores.safetensors")
    assert differing(verify_pair(folder / PLAIN)) >= {"metrics", "verdict", "scores"}


def test_scores_of_another_graph_are_noticed(folder: Path) -> None:
    file = folder / PLAIN / "after.scores.safetensors"
    scores = EdgeScores.load(file)
    graph = replace(scores.graph, mask=scores.graph.mask & (torch.arange(len(scores.graph.readers)) > 0))
    replace(scores, values=scores.values * graph.mask, graph=graph).save(file)
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= {"metrics", "scores"}
    assert "different graphs" in checks_of(found)["metrics"].words


def test_noise_that_was_not_needed_is_verified(tmp_path: Path) -> None:
    """Its absence is no difference, and draws that were taken out of a file are noticed."""
    base, tuned = map(str, save_tiny_pair(tmp_path / "models"))
    how = Settings(
        question_count=24, min_questions=5, alpha=0.5, balance=2.0, noise_draws=2, noise_if_needed=True,
        sampling=Sampling(max_new_tokens=6, n=1), device="cpu",
    )  # fmt: skip
    pair = make_pair(name="es", algorithm="es", before=base, after=tuned)
    found = run_pair(pair, how, output=tmp_path / "out")
    assert found.noise_not_needed is not None
    (verified,) = verify_results(tmp_path / "out")
    assert {check.agreement for check in verified.checks} == {"agrees", "not checked"}
    unchecked = {check.part for check in verified.checks if check.agreement == "not checked"}
    assert unchecked == {"weights"}  # which need the models
    edit(tmp_path / "out/es/comparison.json", lambda document: document["comparison"].update(algorithm="grpo"))
    edit(tmp_path / "out/es/comparison.json", lambda document: document["comparison"].update(profile="online-rl"))
    with pytest.raises(RLCircuitsError, match="noise_not_needed"):
        verify_results(tmp_path / "out")


def test_scores_of_fewer_sequences_are_noticed(folder: Path) -> None:
    file = folder / PLAIN / "before.scores.safetensors"
    scores = EdgeScores.load(file)
    scores.of_rows(range(1, len(scores))).save(file)
    found = verify_pair(folder / PLAIN)
    assert (
        f"before scores are of {len(scores) - 1} sequences; the pairing has {len(scores)}"
        in checks_of(found)["metrics"].words
    )
    # What does not depend on the scores is recomputed all the same.
    assert checks_of(found)["accuracy"].agreement == checks_of(found)["pairing"].agreement == "agrees"


def test_answers_that_cannot_be_paired_are_noticed(folder: Path) -> None:
    edit_answers(
        folder / PLAIN / "after.answers.jsonl", lambda items: tuple(replace(item, correct=False) for item in items)
    )
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= {"pairing", "accuracy"}
    assert "0 questions are left to compare" in checks_of(found)["pairing"].words
    assert checks_of(found)["metrics"].agreement == "not checked"


def test_other_weights_are_noticed(folder: Path) -> None:
    """The names in all files are changed to another checkpoint's: only its fingerprint and its weights tell."""
    other = load_comparison(folder / FULL / "control").after
    edit(folder / PLAIN / "comparison.json", lambda document: document["comparison"].update(after=other))
    answers = Answers.load(folder / PLAIN / "after.answers.jsonl")
    replace(answers, model=other).save(folder / PLAIN / "after.answers.jsonl")
    found = verify_pair(folder / PLAIN, models=True)
    assert {"checkpoints", "weights"} <= differing(found)
    assert f"after: {other} has the fingerprint" in checks_of(found)["checkpoints"].words


def test_a_checkpoint_that_is_gone_is_bad_input(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: document["comparison"].update(after="./gone"))
    with pytest.raises(RLCircuitsError, match="gone"):
        verify_pair(folder / PLAIN, models=True)


def test_a_text_that_is_not_the_tokens_is_noticed(folder: Path) -> None:
    """A wrong answer gets a right text and a right grade, and the number is changed to match."""
    right = {item.question_id: item.text for item in Answers.load(folder / PLAIN / "after.answers.jsonl").items}
    edit_answers(
        folder / PLAIN / "before.answers.jsonl",
        lambda items: tuple(
            item if item.correct else replace(item, text=right[item.question_id], correct=True) for item in items
        ),
    )
    assert "texts" in differing(verify_pair(folder / PLAIN, models=True))


def test_an_earlier_version_is_judged_by_todays_rule_and_not_verified() -> None:
    found = verify_pair(ROOT / STORED / "grpo")
    assert found.agrees
    assert not found.verified
    assert "comparison.supervised" in found.taken
    words = "the file is of version 3, whose verdict follows an earlier rule; by today's rule the same numbers give: "
    assert checks_of(found)["verdict"].words.startswith(words)


@pytest.mark.parametrize("name", ["before.answers.jsonl", "after.scores.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / PLAIN / name).unlink()
    with pytest.raises(RLCircuitsError, match=re.escape(name)):
        verify_pair(folder / PLAIN)


def test_grades_of_a_set_of_ones_own_are_not_checked(folder: Path) -> None:
    comparison = folder / PLAIN / "comparison.json"
    edit(comparison, lambda document: document["comparison"].update(questions="mine"))
    found = verify_pair(folder / PLAIN, regrade=True)
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
