"""What the run's store proves of a verdict, and what is said where the store is absent, damaged or unreadable."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.edited_results import checks_of
from helpers.measured_results import FULL, PLAIN, measured_results
from helpers.tiny_pairs import grade_kindly

from rlcircuits import Answers, RLCircuitsError, Sampling, Settings, load_comparison, run_pair, save_comparison
from rlcircuits.comparison.profiles import MetricRule, Profile
from rlcircuits.release.pair import make_pair
from rlcircuits.release.verification import verify_pair

RUNS = {
    "noise of full": ("models-base-+-noise-0-of-*-sublayer-*", min),
    "noise of plain": ("models-base-+-noise-0-of-*-sublayer-*", max),
    "norms of full": ("models-base-+-noise-0-on-norms-of-*", min),
    "after of full": ("models-tuned-sublayer-*", min),
}
"""Runs of scores in the store: the folder's name, and whether that with the fewest or the most sequences is meant."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the measured results."""
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


def run_of(folder: Path, name: str) -> Path:
    pattern, choose = RUNS[name]

    def count(path: Path) -> int:
        return sum(map(len, json.loads((path / "manifest.json").read_bytes())["batches"]))

    return choose((path for path in (folder / "store").glob(pattern)), key=count)


def answers_in(folder: Path, pattern: str, *, greedy: bool = False) -> Path:
    """Return the one file of answers with this name, at temperature 0 or above."""

    def is_greedy(path: Path) -> bool:
        with path.open("rb") as file:
            return bool(json.loads(file.readline())["sampling"]["temperature"] == 0)

    (found,) = (path for path in (folder / "store").glob(pattern) if is_greedy(path) == greedy)
    return found


def judged_by_noise(folder: Path, name: str = PLAIN) -> None:
    """Judge a pair by a profile whose outcome noise decides: the direction in which intensity went."""
    stored = load_comparison(folder / name)
    towards: Any = "up" if stored.effects["intensity"].difference > 0 else "down"
    rules = Profile("mine", metrics={"intensity": MetricRule(towards, level=0.5)})
    save_comparison(replace(stored, rules=rules, profile="mine"), folder / name)


@pytest.mark.parametrize(
    ("name", "missing", "field", "words"),
    [
        (FULL, "noise of full", "comparison.controls.0", "not controls.0: the store does not have noise 0"),
        (FULL, "norms of full", "comparison.group_controls.1", "the store does not have noise on norms"),
        (FULL, "after of full", "comparison.group_controls.0", "does not have the scores of after, which lead to"),
        (PLAIN, "noise of plain", "comparison.controls.0", "not controls.0: the store does not have noise 0"),
    ],
)
def test_scores_that_the_store_lacks_are_named(folder: Path, name: str, missing: str, field: str, words: str) -> None:
    shutil.rmtree(run_of(folder, missing))
    found = verify_pair(folder / name)
    assert field in found.unchecked
    assert found.agrees
    assert words in checks_of(found)["noise control"].words


@pytest.mark.parametrize(
    ("missing", "greedy", "field", "words"),
    [
        ("models-base-+-noise-1-of-*.jsonl", False, "comparison.controls.1", "the store does not have noise 1"),
        ("other-tuned-*.jsonl", False, "comparison.claims.1", "not claims.1: the store has no answers of "),
        ("models-tuned-*.jsonl", True, "comparison.greedy", "does not have both sides' answers at temperature 0"),
    ],
)
def test_answers_that_the_store_lacks_are_named(
    folder: Path, missing: str, greedy: bool, field: str, words: str
) -> None:
    answers_in(folder, missing, greedy=greedy).unlink()
    found = verify_pair(folder / FULL)
    assert set(found.unchecked) == {field, "comparison.differences", "comparison.weights"}
    assert any(words in check.words for check in found.unverified)


@pytest.mark.parametrize("others", ["fewer questions", "another prompt"])
def test_greedy_answers_of_another_run_in_the_store_are_not_taken_for_the_pairs(folder: Path, others: str) -> None:
    for place, pattern in enumerate(("models-base-*.jsonl", "models-tuned-*.jsonl")):
        own = Answers.load(answers_in(folder, pattern, greedy=True))
        items = own.items[:9] if others == "fewer questions" else own.items
        wrong = tuple(replace(item, correct=False) for item in items)
        replace(own, items=wrong).save(folder / "store" / f"a-{place}.jsonl")  # is read before the pair's own
    found = verify_pair(folder / FULL)
    assert found.agrees
    assert "comparison.greedy" not in found.unchecked


@pytest.mark.parametrize("missing", ["store", "noise"])
def test_a_verdict_that_depends_on_noise_which_the_store_lacks_is_not_verified(folder: Path, missing: str) -> None:
    judged_by_noise(folder)
    assert verify_pair(folder / PLAIN).verified
    shutil.rmtree(folder / "store" if missing == "store" else run_of(folder, "noise of plain"))
    found = verify_pair(folder / PLAIN)
    assert found.agrees
    assert found.depends_on_unchecked
    assert not found.verified
    verdict = checks_of(found)["verdict"]
    assert verdict.agreement == "not checked"
    assert verdict.words.startswith(
        f"{found.outcome} by the file's numbers; what is not checked could make it any of: "
    )


def test_tampered_noise_does_not_pass(folder: Path) -> None:
    judged_by_noise(folder)
    stored = load_comparison(folder / PLAIN)
    (draw,) = stored.controls
    gentle = {name: replace(effect, difference=0.0, change=0.0) for name, effect in draw.shifts.items()}
    save_comparison(replace(stored, controls=(replace(draw, shifts=gentle),)), folder / PLAIN)
    assert not verify_pair(folder / PLAIN).agrees
    shutil.rmtree(run_of(folder, "noise of plain"))
    assert not verify_pair(folder / PLAIN).verified


def test_a_verdict_that_fails_whatever_the_noise_was_is_verified_without_it(folder: Path) -> None:
    stored = load_comparison(folder / PLAIN)
    assert stored.accuracy.after - stored.accuracy.before < 0.9
    rules = Profile("mine", metrics={"intensity": MetricRule("up", minimum=1.0)})
    save_comparison(replace(stored, rules=rules, profile="mine"), folder / PLAIN)
    shutil.rmtree(folder / "store")
    found = verify_pair(folder / PLAIN)
    assert (found.outcome, found.possible) == ("does not hold", ("does not hold",))
    assert found.verified
    assert found.unchecked == ("comparison.controls.0", "comparison.differences", "comparison.weights")


def break_manifest(run: Path) -> Path:
    (run / "manifest.json").write_text("{")
    return run / "manifest.json"


def change_manifest(run: Path) -> Path:
    file = run / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"fingerprint": "0" * 64}))
    return file


def cut_scores(run: Path) -> Path:
    file = run / "batch-000000.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    return file


def remove_scores(run: Path) -> Path:
    (run / "batch-000000.safetensors").unlink()
    return run


@pytest.mark.parametrize("damage", [break_manifest, change_manifest, cut_scores, remove_scores])
@pytest.mark.parametrize("run", ["norms of full", "after of full"])
def test_damaged_scores_in_the_store_are_bad_input(folder: Path, damage: Callable[[Path], Path], run: str) -> None:
    file = damage(run_of(folder, run))
    with pytest.raises(RLCircuitsError, match=f"^{re.escape(str(file))}: .*; copy the store again from where it came"):
        verify_pair(folder / FULL)


@pytest.mark.parametrize("pattern", ["models-base-+-noise-0-of-*.jsonl", "other-tuned-*.jsonl"])
@pytest.mark.parametrize("lines", [0, 3])
def test_damaged_answers_in_the_store_are_bad_input(folder: Path, pattern: str, lines: int) -> None:
    file = answers_in(folder, pattern)
    kept = file.read_bytes().splitlines(keepends=True)[:lines]
    file.write_bytes(b"".join(kept) or b"{")
    with pytest.raises(RLCircuitsError, match=f"^{re.escape(str(file))}:.*; copy the store again from where it came"):
        verify_pair(folder / FULL)


def test_damage_to_what_a_pair_does_not_need_does_not_concern_it(folder: Path) -> None:
    for name in ("norms of full", "after of full"):
        cut_scores(run_of(folder, name))
    answers_in(folder, "other-tuned-*.jsonl").write_text("{")
    assert verify_pair(folder / PLAIN).verified


def test_scores_of_another_version_are_absent_and_not_damaged(folder: Path) -> None:
    file = run_of(folder, "norms of full") / "manifest.json"
    document = json.loads(file.read_bytes())
    del document["granularity"]
    file.write_text(json.dumps(document | {"version": 1}))
    assert "comparison.group_controls.1" in verify_pair(folder / FULL).unchecked


def test_a_store_that_is_a_file_is_bad_input(folder: Path) -> None:
    shutil.rmtree(folder / "store")
    (folder / "store").write_text("")
    with pytest.raises(RLCircuitsError, match="store: cannot be read as a store: Not a directory"):
        verify_pair(folder / PLAIN)


@pytest.mark.parametrize(
    ("unreadable", "words"),
    [
        (lambda out: out / "store", "store: cannot be read as a store: Permission denied"),
        (
            lambda out: run_of(out, "norms of full") / "manifest.json",
            "manifest.json: cannot be read: Permission denied",
        ),
        (lambda out: answers_in(out, "other-tuned-*.jsonl"), ".jsonl: cannot be read as answers: Permission"),
        (
            lambda out: out / FULL / "comparison.json",
            "comparison.json: cannot be read as a comparison: Permission denied",
        ),
        (
            lambda out: out / FULL / "before.answers.jsonl",
            "before.answers.jsonl: cannot be read as answers: Permission",
        ),
        (
            lambda out: out / FULL / "after.scores.safetensors",
            "after.scores.safetensors: cannot be read as edge scores: Permission denied",
        ),
    ],
)
def test_what_may_not_be_read_is_said_to_be_unreadable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, unreadable: Callable[[Path], Path], words: str
) -> None:
    forbid(monkeypatch, unreadable(folder))
    with pytest.raises(RLCircuitsError, match=re.escape(words)):
        verify_pair(folder / FULL)


def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """Let opening this file, or listing this folder, fail as for a user without the right to; root may read all."""

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *args: Any, **options: Any) -> Any:
            if path == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **options)

        return call

    for name in ("open", "iterdir"):
        monkeypatch.setattr(Path, name, guarded(getattr(Path, name)))


def test_the_supervised_control_is_recomputed_from_its_own_folder(folder: Path) -> None:
    control = folder / FULL / "control"
    file = control / "before.answers.jsonl"
    answers = Answers.load(file)
    first = next(place for place, item in enumerate(answers.items) if item.correct)
    flipped = replace(answers.items[first], correct=False)
    replace(answers, items=(*answers.items[:first], flipped, *answers.items[first + 1 :])).save(file)
    assert not verify_pair(control).agrees
    shutil.rmtree(control)
    found = verify_pair(folder / FULL)
    assert "comparison.supervised" in found.unchecked
    assert "not supervised: the pair's folder has no folder control" in checks_of(found)["supervised control"].words


@pytest.mark.slow
def test_scores_on_gold_answers_are_traced_to_the_weights_and_the_noise(folder: Path, tmp_path: Path) -> None:
    stored = load_comparison(folder / PLAIN)
    how = Settings(
        question_count=24, min_questions=5, alpha=0.5, balance=2.0, noise_draws=1, score_on="gold", stop_early=False,
        sampling=Sampling(max_new_tokens=6, n=2), device="cpu",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as monkeypatch:
        grade_kindly(monkeypatch)
        pair = make_pair(name="gold", algorithm="grpo", before=stored.before, after=stored.after)
        run_pair(pair, how, output=tmp_path / "gold")
    found = verify_pair(tmp_path / "gold/gold", models=True)
    checks = checks_of(found)
    assert found.unchecked == ()
    assert found.verified
    assert checks["scores"].agreement == "not checked"
    words = "gold answers were scored, whose token ids no file holds; the store has the same, and nothing says which"
    assert checks["scores"].words.startswith(words)
    assert checks["checkpoints"].agreement == checks["noise control"].agreement == "agrees"
    shutil.rmtree(tmp_path / "gold/store")
    scores = checks_of(verify_pair(tmp_path / "gold/gold"))["scores"]
    assert "the store has no such scores of before and after" in scores.words
