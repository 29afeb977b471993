"""Let the models of a measured pair answer again, as they answered when the pair was measured.

The question set is loaded again by its name, or from the pair's own file, and must give exactly the prompts that were
answered. Answers go through the run's store: what it has is not generated again, and what was interrupted resumes.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcircuits.answers.answer_file import Answers, Header
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common import defaults
from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.questions.source import QuestionSource, names
from rlcircuits.release.answering import RECORDED, TRANSFORMERS
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.stored_answers import read_answer_files

__all__ = ["AskedAgain", "NotAskableError", "ask_again"]


class NotAskableError(RLCircuitsError):
    """The pair's questions cannot be asked again; the message says why."""


@dataclass(frozen=True)
class AskedAgain:
    """A measured pair, with what is needed to let its models answer in the same way."""

    answers: Mapping[Side, Answers]
    """The answers that were measured."""
    sources: Mapping[Side, CheckpointSource]
    questions: QuestionSet
    """The questions that were asked."""
    prompting: Prompting
    sampling: Sampling
    engine: str
    batch_size: int
    store: Path
    notify: Notify
    progress: bool

    def answer(
        self,
        source: Source,
        who: str,
        questions: QuestionSet | None = None,
        prompts: Sequence[tuple[int, ...]] | None = None,
    ) -> Answers:
        """Return a model's answers, from the store if they are there.

        Args:
            source: the model; it is loaded only if answers are missing from the store.
            who: its name in the log.
            questions: the questions; by default the pair's.
            prompts: their prompts as token ids, if they were made.
        """
        questions = questions or self.questions
        self.notify(f"{who} answers {len(questions)} questions of {questions.name}, {self.sampling.n} times each")
        loads_itself = self.engine != TRANSFORMERS
        with ExitStack() as loaded:
            if loads_itself:
                source = source.source if isinstance(source, LoadedOnce) else source
            elif not isinstance(source, LoadedOnce):
                source = loaded.enter_context(LoadedOnce(source))
            answers = answer_questions(
                source,
                questions,
                self.sampling,
                self.batch_size,
                self.progress,
                engine=self.engine,
                prompting=self.prompting,
                store=self.store,
                prompts=prompts,
                notify=self.notify,
            )
        if loads_itself:
            gc.collect()  # frees the engine's memory before the next model is loaded
        return answers


def ask_again(
    stored: Comparison,
    answers: Mapping[Side, Answers],
    sources: Mapping[Side, CheckpointSource],
    store: Path,
    given: QuestionSource | None,
    notify: Notify,
    progress: bool,
) -> AskedAgain:
    """Return a measured pair that can answer again.

    Args:
        stored: its comparison.
        answers: both models' answers.
        sources: both models.
        store: the run's store, which need not exist.
        given: the pair's question set, if the pair was given; None if only its folder was.
        notify: called with one line of text for each answering.
        progress: show a progress bar.

    Raises:
        NotAskableError: its questions are not known, or were changed; or its answers were recorded.
    """
    before = answers["before"]
    if RECORDED in stored.engine:
        raise NotAskableError("its answers were recorded, so that it is not known how the models would answer again")
    if OPENAI in stored.engine:
        raise NotAskableError("its answers came from servers, which are asked by compare alone")
    if before.prompting is None or answers["after"].sampling != before.sampling:
        raise NotAskableError("its folder does not say how both models were asked; measure the pair again")
    prompting = Prompting(**before.prompting.model_dump(exclude={"chat_template_sha256"}))
    questions = _load(stored, before, given)
    for side in SIDES:
        _check_prompts(side, answers[side], questions, prompting, sources[side].tokenizer())
    header = _header(store, before)
    if header is None or header.batch_size is None:
        notify(f"{store} has no longer the answers of before; the batch size is {defaults.BATCH_SIZE}, the default")
    engine, batch_size = (header.engine, header.batch_size) if header is not None else (stored.engine, None)
    return AskedAgain(
        answers,
        sources,
        questions,
        prompting,
        before.sampling,
        engine or TRANSFORMERS,
        batch_size or defaults.BATCH_SIZE,
        store,
        notify,
        progress,
    )


def _load(stored: Comparison, answers: Answers, given: QuestionSource | None) -> QuestionSet:
    """Return the questions that were asked, in their order."""
    asked = tuple(dict.fromkeys(item.question_id for item in answers.items))
    if given is None and stored.questions not in names():
        raise NotAskableError(
            "the question file is not known from the folder; give the pair with --pairs instead of its folder"
        )
    try:
        if given is not None and given.file is not None:
            found = load_questions(given, split=stored.split)
        else:
            found = load_questions(stored.questions, split=stored.split, count=len(asked))
    except RLCircuitsError as error:
        raise NotAskableError(f"{stored.questions} cannot be loaded again: {error}") from None
    if found.has_images:
        raise NotAskableError(f"{stored.questions} has images, and questions of text alone are asked again")
    known = {question.id: question for question in found.questions}
    if missing := [question for question in asked if question not in known]:
        raise NotAskableError(
            f"{stored.questions} no longer has question {missing[0]!r}, one of {len(missing)} that were asked; "
            f"measure the pair again"
        )
    return replace(found, questions=tuple(known[question] for question in asked))


def _check_prompts(side: Side, answers: Answers, questions: QuestionSet, prompting: Prompting, tokenizer: Any) -> None:
    """Raise NotAskableError unless the questions give the prompts that were answered."""
    recorded = {item.question_id: item.prompt_ids for item in answers.items}
    prompts = prompting.prompts(tokenizer, [question.text for question in questions.questions])
    for question, prompt in zip(questions.questions, prompts, strict=True):
        if recorded.get(question.id) != tuple(prompt):
            raise NotAskableError(
                f"question {question.id!r} of {questions.name} now gives another prompt than {side} answered: its text "
                f"or the tokenizer was changed; measure the pair again"
            )


def _header(store: Path, answers: Answers) -> Header | None:
    """Return the header of a model's answers in the store, which has the engine and the batch size; None without it."""
    if not store.is_dir():
        return None
    for _, header in read_answer_files(store):
        if (
            isinstance(header, Header)
            and header.model == answers.model
            and (header.question_set, header.split) == (answers.question_set, answers.split)
            and header.sampling == answers.sampling
            and header.count == len(answers)
        ):
            return header
    return None
