"""A hopeless pair is stopped after its first answers; any other pair has the same result as without early stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.synthetic_comparisons import answers_of
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.early_stop import CHANCE, is_in_doubt, reason_to_stop
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SETTINGS = Settings(
    k=20, question_count=130, balance=2.0, noise_draws=0, device="cpu", sampling=Sampling(max_new_tokens=6, n=1)
)
"""Answers of at most six tokens, within which random models hardly ever end."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture
def pair(folders: tuple[Path, Path]) -> Pair:
    return make_pair(name="mine", before=str(folders[0]), after=str(folders[1]), algorithm="sft")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the checkpoints loaded, in order."""
    done: list[str] = []
    real = Checkpoint.load.__func__  # type: ignore[attr-defined]

    def load(cls: type[Checkpoint], source: Any, **options: Any) -> Checkpoint:
        done.append(Path(source).name)
        return real(cls, source, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr("rlcircuits.checkpoints.reused.LARGEST", 0)  # as with large models, which are loaded each time
    monkeypatch.setattr(Checkpoint, "load", classmethod(load))
    return done


def grade_as(monkeypatch: pytest.MonkeyPatch, grade: Callable[[str, str], bool]) -> None:
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", grade)


def stored(output: Path, side: str) -> list[str]:
    (file,) = (output / "store").glob(f"*{side}-arithmetic*.jsonl")
    return file.read_text().splitlines()[1:]


@pytest.mark.parametrize(("batch_size", "first"), [(64, 64), (100, 100), (20, 80)])
def test_nothing_right_stops_after_the_first_answers_of_both(
    batch_size: int, first: int, pair: Pair, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grade_as(monkeypatch, lambda answer, gold: False)
    settings = replace(SETTINGS, batch_size=batch_size, max_unfinished=1.0)
    with pytest.raises(RLCircuitsError) as caught:
        run_pair(pair, settings, output=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"stopped early: none of the first {first} answers of either model is right; ")
    assert "accuracy so far 0.000 before, 0.000 after; unfinished " in message
    assert f"; the answers are in {tmp_path / 'mine'}; raise max_new_tokens where they are cut off" in message
    assert message.endswith("stop_early = false (--no-stop-early) goes on all the same")
    assert loads == ["base", "tuned"]
    found = {side: Answers.load(tmp_path / "mine" / f"{side}.answers.jsonl") for side in ("before", "after")}
    assert [len(answers) for answers in found.values()] == [first, first]
    example = next(item for item in found["before"].items if not item.finished)
    assert f"for example, before answers '{example.question_id}?' with {example.text!r}, where " in message
    assert [len(stored(tmp_path, side)) for side in ("base", "tuned")] == [first, first]

    # Again: it is known without loading anything.
    with pytest.raises(RLCircuitsError) as again:
        run_pair(pair, settings, output=tmp_path)
    assert (str(again.value), loads) == (message, ["base", "tuned"])


def test_an_unfinished_majority_stops(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    with pytest.raises(RLCircuitsError) as caught:
        run_pair(pair, SETTINGS)
    message = str(caught.value)
    assert message.startswith("stopped early: of before's first 64 answers ")
    assert " % have no end within 6 tokens, and max_unfinished is 0.5; accuracy so far 1.000 before, " in message
    # Nothing was to be kept, so the answers lie in a temporary folder.
    folder = Path(message.split("the answers are in ")[1].split(";")[0])
    answers = Answers.load(folder / "before.answers.jsonl")
    assert f"of before's first 64 answers {100 * answers.unfinished:.1f} % have" in message
    assert answers.unfinished > 0.5
    share = max(Answers.load(folder / f"{side}.answers.jsonl").unfinished for side in ("before", "after"))
    run_pair(pair, replace(SETTINGS, max_unfinished=share), output=tmp_path)  # not more than it


def test_a_stopped_pair_goes_on_with_the_same_answers(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    with pytest.raises(RLCircuitsError, match="stopped early"):
        run_pair(pair, SETTINGS, output=tmp_path / "one")
    went_on = run_pair(pair, replace(SETTINGS, stop_early=False), output=tmp_path / "one")
    at_once = run_pair(pair, replace(SETTINGS, stop_early=False), output=tmp_path / "other")
    assert went_on == at_once
    for side in ("base", "tuned"):
        assert stored(tmp_path / "one", side) == stored(tmp_path / "other", side)
    # What stops a pair is no part of what its comparison is known by.
    assert run_pair(pair, SETTINGS, output=tmp_path / "one") == went_on
    assert went_on.unfinished is not None
    assert went_on.unfinished.before == Answers.load(tmp_path / "one" / "mine" / "before.answers.jsonl").unfinished


def test_a_look_costs_no_load_where_all_is_well(pair: Pair, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    looked_at = run_pair(pair, replace(SETTINGS, max_unfinished=1.0))
    assert loads == ["base", "tuned", "base"]
    assert looked_at == run_pair(pair, replace(SETTINGS, stop_early=False))


def test_a_doubt_that_the_other_model_clears_costs_one_load_of_each(
    pair: Pair, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before's first answers are all wrong, as weak models' may be; one of 130 questions is enough to go on.
    texts = dict.fromkeys((), False)
    settings = replace(SETTINGS, max_unfinished=1.0, min_questions=1)
    grade_as(monkeypatch, lambda answer, gold: True)
    plain = run_pair(pair, settings, output=tmp_path / "plain")
    first = {item.text for item in Answers.load(tmp_path / "plain" / "mine" / "before.answers.jsonl").items}
    texts = dict.fromkeys(json.loads(line)["text"] for line in stored(tmp_path / "plain", "base")[:64])
    grade_as(monkeypatch, lambda answer, gold: answer not in texts)
    assert first > texts.keys()
    without = run_pair(pair, replace(settings, stop_early=False))
    assert without != plain
    for output in (None, tmp_path / "out"):
        loads.clear()
        assert run_pair(pair, settings, output=output) == without
        assert loads == ["base", "tuned", "base", "tuned", "base"]


def test_a_bad_after_stops_where_before_is_well(
    pair: Pair, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    run_pair(pair, replace(SETTINGS, stop_early=False), output=tmp_path / "plain")
    of_after = {json.loads(line)["text"] for line in stored(tmp_path / "plain", "tuned")}
    grade_as(monkeypatch, lambda answer, gold: answer not in of_after)
    loads.clear()
    with pytest.raises(RLCircuitsError, match="none of after's first 64 answers is right, and 20 of 130 q") as found:
        run_pair(pair, replace(SETTINGS, max_unfinished=1.0), output=tmp_path / "out")
    assert "accuracy so far 0." in str(found.value)
    assert "for example, after answers" in str(found.value)
    assert loads == ["base", "tuned"]


def test_no_look_is_taken_where_no_more_is_made(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    run_pair(pair, replace(SETTINGS, question_count=64))
    # There it is said with the funnel.
    grade_as(monkeypatch, lambda answer, gold: False)
    told: list[str] = []
    comparison = run_pair(pair, replace(SETTINGS, question_count=64), notify=told.append)
    assert (comparison.k, comparison.accuracy.before, comparison.accuracy.after) == (0, 0, 0)
    message = told[-1]
    assert message.startswith(
        f"{pair.name}: 0 questions are left to compare and at least 20 are needed: asked 64 → answered by both 64"
    )
    assert "; accuracy so far 0.000 before, 0.000 after; unfinished " in message
    assert "; for example, before answers '" in message
    assert "stop_early" not in message


def test_recorded_answers_are_not_judged_by_their_ends(
    pair: Pair, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grade_as(monkeypatch, lambda answer, gold: True)
    wanted = run_pair(pair, replace(SETTINGS, stop_early=False), output=tmp_path / "out")
    files = {}
    for side in ("before", "after"):
        items = Answers.load(tmp_path / "out" / "mine" / f"{side}.answers.jsonl").items
        files[f"recorded_{side}"] = tmp_path / f"{side}.jsonl"
        lines = [
            {"id": a.question_id, "prompt_token_ids": a.prompt_ids, "completion_token_ids": a.answer_ids} for a in items
        ]
        files[f"recorded_{side}"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    recorded = run_pair(pair.model_copy(update=files), SETTINGS)
    assert recorded.effects == wanted.effects
    for made, side in (("after", "before"), ("before", "after")):
        half = pair.model_copy(update={f"recorded_{side}": files[f"recorded_{side}"]})
        with pytest.raises(RLCircuitsError, match=f"stopped early: of {made}'s first 64 answers"):
            run_pair(half, SETTINGS)
        loads.clear()
        grade_as(monkeypatch, lambda answer, gold: False)
        with pytest.raises(RLCircuitsError, match="none of the first 64 answers of either model is right"):
            run_pair(half, replace(SETTINGS, max_unfinished=1.0))
        assert loads == ["tuned" if made == "after" else "base"]
        grade_as(monkeypatch, lambda answer, gold: True)


def some_right(right: int, of: int, unfinished: int = 0) -> Answers:
    answers = answers_of([place < right for place in range(of)], sampling=Sampling(max_new_tokens=512))
    items = [replace(item, finished=place >= unfinished) for place, item in enumerate(answers.items)]
    return replace(answers, items=tuple(items))


@pytest.mark.parametrize(
    ("before", "after", "asked", "reason"),
    [
        (some_right(0, 64), some_right(0, 64), 400, "none of the first 64 answers of either model is right"),
        (some_right(0, 8), some_right(0, 8), 10_000, "none of the first 8 answers of either model is right"),
        # 20 of 400 are 5 %, which a model that has them shows in all but 3.8 % of 64 answers.
        (some_right(0, 64), some_right(9, 64), 400, "none of before's first 64 answers is right, and 20 of 400"),
        (some_right(9, 64), some_right(0, 64), 400, "none of after's first 64 answers is right, and 20 of 400"),
        (some_right(0, 58), some_right(9, 58), 400, None),  # 5.1 %
        (some_right(0, 59), some_right(9, 59), 400, "none of before's first 59"),  # 4.8 %
        # A weak model of which many questions are asked: 2 % of 1,319 are enough.
        (some_right(0, 64), some_right(9, 64), 1319, None),
        (some_right(1, 64), some_right(1, 64), 400, None),
        (some_right(64, 64, unfinished=32), some_right(64, 64), 400, None),
        (some_right(64, 64, unfinished=33), some_right(64, 64), 400, "of before's first 64 answers 51.6 % have no end"),
        (some_right(64, 64), some_right(64, 64, unfinished=64), 400, "of after's first 64 answers 100.0 % have no end"),
    ],
)  # fmt: skip
def test_the_rule(before: Answers, after: Answers, asked: int, reason: str | None) -> None:
    found = reason_to_stop({"before": before, "after": after}, ("before", "after"), asked, Settings())
    assert found == reason if reason is None else found is not None and found.startswith(reason)
    if reason is not None:  # whoever stops a pair was in doubt
        assert is_in_doubt(before, Settings()) or is_in_doubt(after, Settings())


def test_what_the_documentation_says_of_chance() -> None:
    assert 0.95**59 < CHANCE < 0.95**58
    assert pytest.approx(0.0014, abs=1e-4) == 0.95**128
