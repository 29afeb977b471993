"""The signs for which the models of a measured pair answer anew, on trained checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import SEED_7

from rlcircuits import CheckpointSource, Sampling, Settings, run_pair
from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.source import QuestionSource
from rlcircuits.release.answered_signs import answered_signs
from rlcircuits.release.asked_again import NotAskableError, ask_again
from rlcircuits.release.pair import make_pair
from rlcircuits.release.result_files import answers_file
from rlcircuits.vital_signs.hinted_questions import PromptReader, ask_with_hints
from rlcircuits.vital_signs.hints import KINDS, HintKind, hint_gain_sign
from rlcircuits.vital_signs.sign import Sign
from rlcircuits.vital_signs.written_hints import written_hints

QUESTIONS, N, BATCH = 16, 2, 32


@dataclass(frozen=True)
class Measured:
    """A measured pair."""

    stored: Comparison
    answers: dict[Side, Answers]
    sources: dict[Side, CheckpointSource]
    store: Path

    def ask(self, **changes: Any) -> Any:
        how = {"given": None, "notify": lambda line: None, "progress": False, **vars(self), **changes}
        return ask_again(**how)

    def signs(self, *which: str, **how: Any) -> tuple[Sign, ...]:
        return answered_signs(which, self.stored, self.answers, self.sources, self.store, **how)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Llama-sums before and after GRPO, on few questions."""
    output = tmp_path_factory.mktemp("out")
    before, after = str(SEED_7 / "sft"), str(SEED_7 / "grpo")
    how = Settings(
        question_count=QUESTIONS,
        min_questions=4,
        noise_draws=1,
        noise_groups=False,
        stop_early=False,
        sampling=Sampling(n=N),
        batch_size=BATCH,
        device="cpu",
    )
    run_pair(make_pair(name="grpo", before=before, after=after, algorithm="grpo"), how, output=output)
    folder = output / "grpo"
    sources: dict[Side, CheckpointSource] = {
        "before": CheckpointSource(before, device="cpu"),
        "after": CheckpointSource(after, device="cpu"),
    }
    answers = {side: Answers.load(answers_file(folder, side)) for side in SIDES}
    return Measured(load_comparison(folder), answers, sources, output / "store")


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let every load of a checkpoint fail from then on."""

    def refuse(self: CheckpointSource) -> None:
        raise AssertionError(f"{self.name} is loaded")

    return lambda: monkeypatch.setattr(CheckpointSource, "load", refuse)


def ask_kind(pair: Measured, kind: HintKind, hints: dict[str, str]) -> dict[Side, Answers]:
    """Let both models answer with these hints."""
    again = pair.ask()
    readers = [PromptReader(source.tokenizer(), source.context_length) for source in pair.sources.values()]
    assert again.sampling.max_new_tokens is not None
    asked = ask_with_hints(kind, again.questions, hints, readers, again.prompting, again.sampling.max_new_tokens, "")
    return {
        side: again.answer(pair.sources[side], side, asked.questions, asked.prompts[place])
        for place, side in enumerate(SIDES)
    }


def test_an_empty_hint_gains_exactly_nothing(pair: Measured, no_load: Callable[[], None]) -> None:
    """The same prompts, sampling and batches are the answers of the run, which the store has."""
    no_load()
    hinted = ask_kind(pair, KINDS[0], {question.id: "" for question in pair.ask().questions.questions})
    assert hinted == pair.answers
    sign = hint_gain_sign(
        KINDS[0], (pair.answers["before"], pair.answers["after"]), (hinted["before"], hinted["after"])
    )
    assert (sign.before, sign.after, sign.change) == (0, 0, 0)


def test_with_the_whole_solution_all_is_right(pair: Measured) -> None:
    solutions = {key: each.solution or "" for key, each in written_hints(pair.ask().questions).items()}
    given = ask_kind(pair, HintKind("prefix 100%", 1.0), solutions)
    assert len(given["after"]) >= 5 * N  # in a context of 64 tokens not all of them have room
    assert given["after"].accuracy == 1
    assert {item.text for item in given["after"].items} == {""}  # there is nothing left to write


def test_all_hints_of_a_built_in_set(pair: Measured, no_load: Callable[[], None]) -> None:
    lines: list[str] = []
    signs = pair.signs("hints", notify=lines.append)
    assert [sign.name for sign in signs] == [kind.sign_name for kind in KINDS]
    assert all(sign.questions and sign.questions > QUESTIONS // 2 for sign in signs)
    by_name = {sign.name: sign for sign in signs}
    # Slips happen in what is computed: with the first sum given, fewer are left to be made.
    accuracy = by_name["hint_gain_prefix_75"].details["accuracy with the hint"]
    assert isinstance(accuracy, list)
    assert min(accuracy) > 0.8
    assert f"{2 * len(KINDS) * QUESTIONS * N} answers are generated" in lines[0]
    no_load()
    assert pair.signs("hints") == signs


def test_hints_from_a_file(pair: Measured, tmp_path: Path) -> None:
    questions = pair.ask().questions.questions
    hints = [
        {"question_id": question.id, "plan": question.text[:5], "knowledge": f">{question.gold}"}
        for question in questions
    ]
    file = tmp_path / "hints.jsonl"
    file.write_text("\n".join(map(json.dumps, hints)))
    signs = {sign.name: sign for sign in pair.signs("hints", hint_file=file)}
    assert signs["hint_gain_plan"].questions == QUESTIONS
    leaky, absent = signs["hint_gain_knowledge"], signs["hint_gain_prefix_50"]
    assert (leaky.outcome, absent.outcome) == ("not measurable", "not measurable")
    assert f"{QUESTIONS} the hint leaks the answer" in leaky.note
    assert f"{QUESTIONS} without such a hint" in absent.note
    file.write_text('{"id": 1}')
    with pytest.raises(RLCircuitsError, match=r"hints\.jsonl:1: no hint"):
        pair.signs("hints", hint_file=file)


def test_flatness_is_measured_and_zero_without_an_update(pair: Measured, no_load: Callable[[], None]) -> None:
    (sign,) = pair.signs("flatness")
    assert sign.questions == QUESTIONS
    assert len(sign.details["before by draw"]) == len(pair.stored.controls) == 1  # type: ignore[arg-type]
    same = replace(
        pair,
        answers=dict.fromkeys(SIDES, pair.answers["after"]),
        sources=dict.fromkeys(SIDES, pair.sources["after"]),
    )
    (zero,) = same.signs("flatness")
    assert (zero.before, zero.after, zero.change) == (0, 0, 0)
    no_load()
    assert pair.signs("flatness") == (sign,)


def test_the_rank_1_checkpoint_answers(pair: Measured) -> None:
    pytest.importorskip("rlcircuits.vital_signs.rank_one_source")
    (sign,) = pair.signs("rank-1")
    assert sign.name == "rank1_recovery"
    accuracy = sign.details["accuracy_rank1"]
    assert isinstance(accuracy, float)
    assert accuracy > 0.5


def own_file(folder: Path, texts: dict[str, str]) -> QuestionSource:
    """Return the asked questions as a file of the user's."""
    golds = {question.id: question.gold for question in load_questions("arithmetic", count=QUESTIONS).questions}
    file = folder / "mine.jsonl"
    lines = [{"id": key, "question": text, "answer": golds[key]} for key, text in texts.items()]
    file.write_text("\n".join(map(json.dumps, lines)))
    return QuestionSource(name="mine", file=file, gold="plain", grader="exact")


def test_the_user_s_own_questions_need_their_file(pair: Measured, tmp_path: Path) -> None:
    mine = replace(pair, stored=replace(pair.stored, questions="mine"))
    signs = mine.signs("rank-1", "hints", "flatness")
    assert [sign.name for sign in signs] == [*(kind.sign_name for kind in KINDS), "flatness", "rank1_recovery"]
    for sign in signs:
        assert sign.outcome == "not measurable"
        assert "not known from the folder; give the pair with --pairs" in sign.note
    texts = {question.id: question.text for question in pair.ask().questions.questions}
    source = own_file(tmp_path, dict(reversed(texts.items())))
    again = mine.ask(given=source)
    assert [question.id for question in again.questions.questions] == list(texts)
    assert again.batch_size == BATCH
    (first, *_) = mine.signs("hints", questions=source)
    assert "no hints are known for mine; give a file of them with --hints" in first.note
    key = next(iter(texts))
    with pytest.raises(NotAskableError, match="now gives another prompt than before answered"):
        mine.ask(given=own_file(tmp_path, {**texts, key: "1+1+1?"}))
    del texts[key]
    with pytest.raises(NotAskableError, match="mine no longer has question"):
        mine.ask(given=own_file(tmp_path, texts))
    with pytest.raises(NotAskableError, match="mine cannot be loaded again: "):
        mine.ask(given=QuestionSource(name="mine", file=tmp_path / "gone.jsonl"))


def test_pairs_that_cannot_be_asked_again(pair: Measured, tmp_path: Path) -> None:
    with pytest.raises(NotAskableError, match="answers were recorded"):
        pair.ask(stored=replace(pair.stored, engine="transformers (before), recorded (after)"))
    unknown = {side: replace(answers, prompting=None) for side, answers in pair.answers.items()}
    with pytest.raises(NotAskableError, match="does not say how both models were asked"):
        pair.ask(answers=unknown)
    lines: list[str] = []
    assert pair.ask(store=tmp_path / "none", notify=lines.append).batch_size == 64
    assert "the batch size is 64, the default" in lines[0]


def test_unknown_names_are_refused(pair: Measured) -> None:
    with pytest.raises(RLCircuitsError, match="'rank' is unknown; known: hints, flatness, rank-1"):
        pair.signs("rank")
    assert pair.signs() == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--answer-anew", "hint"], "--answer-anew: 'hint' is unknown; known: hints, flatness, rank-1"),
        (["--hints", "x.jsonl"], "--hints is given, and no hint is asked for"),
        (["--answer-anew", "flatness", "--hints", "x.jsonl"], "--hints is given, and no hint is asked for"),
        (["--answer-anew", "hints", "--hints", "gone.jsonl"], "gone.jsonl: cannot be read as hints"),
        (["--answer-anew", "hints, rank-1", "--no-models"], "--no-models runs none"),
        (["--answer-anew", "hints", "--rollouts", "x.jsonl"], "--rollouts has none"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signs", *arguments]) == 2
    assert message in capsys.readouterr().err
