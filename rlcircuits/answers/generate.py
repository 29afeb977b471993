"""A checkpoint answers a question set: prompt, generate, grade, keep."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress, TextColumn

from rlcircuits.answers.answer_file import FORMAT, VERSION, Answers, Header, Line, answers_from
from rlcircuits.answers.cache import AnswerLog, answer_log
from rlcircuits.answers.engines.engine import Completion, Engine
from rlcircuits.answers.engines.registry import check_engine, open_engine
from rlcircuits.answers.length import room_of, with_length
from rlcircuits.answers.prompting import Prompting, without_their_questions
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import Notify, content_hash
from rlcircuits.common.limits import check_number
from rlcircuits.common.progress import progress_bar, progress_when_slow
from rlcircuits.questions.grading.graders import grade_answer
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["Answer", "Answers", "Sampling", "answer_questions", "graded"]

FIRST_ANSWERS = 64
"""Answers after which a first look is taken, as many as a batch has by default; smaller batches are added up."""


@validate_arguments
def answer_questions(
    model: Source | Checkpoint,
    questions: QuestionSet,
    sampling: Sampling | None = None,
    batch_size: int = 64,
    progress: bool = False,
    *,
    engine: str = "transformers",
    prompting: Prompting | None = None,
    store: str | Path | None = None,
    prompts: Sequence[tuple[int, ...]] | None = None,
    notify: Notify | None = None,
    first_look: Callable[[Answers], None] | None = None,
) -> Answers:
    """Give `sampling.n` answers to every question, in batches of like prompt length, then grade them.

    The same weights, prompts, sampling, engine and batch size give the same answers on one device; the global
    random state is left as it was.

    Args:
        model: a checkpoint, or a source of one, which is loaded only if there is something to answer.
        questions: what to ask, and how answers are graded.
        sampling: how answers are drawn; by default ``Sampling()``. Without `max_new_tokens` an answer may be as long
            as the question set needs, as far as the model's context reaches.
        batch_size: answers written at once.
        progress: show a progress bar on stderr, with tokens a second and the time left.
        engine: ``transformers``, or ``vllm`` where it is installed.
        prompting: how a question becomes a prompt; by default ``Prompting()``.
        store: a folder in which answers are kept as they come, under a key of all of the above and of the
            source's fingerprint. An interrupted run goes on where it was; a finished one is only read, and one
            that another process is making is waited for.
        prompts: the questions' prompts with this prompting, where they were made before.
        notify: is told in one line when another process is waited for, and if the context is too short for answers as
            long as the question set needs.
        first_look: is given the answers of the first batches, :data:`FIRST_ANSWERS` at least, before more are made, and
            may raise an error to stop; what there is in a store stays there. Not called where there are no more.

    Raises RLCircuitsError for no questions, an empty prompt, a prompt that leaves no room for `max_new_tokens` (without
    it, too little for an answer) or has a token the model does not know, an engine that is not there, or a store that
    cannot be used.
    """
    sampling = sampling or Sampling()
    prompting = prompting or Prompting()
    check_engine(engine)
    check_number("batch_size", batch_size)
    if not questions.questions:
        raise RLCircuitsError(f"question set {questions.name!r} ({questions.split}) holds no questions")
    source = None if isinstance(model, Checkpoint) else model
    if store is not None and source is None:
        raise RLCircuitsError(
            f"a store knows answers by their source's fingerprint, and {model.name} is a loaded checkpoint; "
            "give a source, such as CheckpointSource(folder)"
        )
    tokenizer = model.tokenizer if isinstance(model, Checkpoint) else model.tokenizer()
    texts = [question.text for question in questions.questions]
    if prompts is None:
        prompts = prompting.prompts(tokenizer, texts)
    if len(prompts) != len(texts):
        raise RLCircuitsError(f"found {len(prompts)} prompts for {len(texts)} questions; one each is wanted")
    if sampling.max_new_tokens is None:
        sampling = with_length(sampling, questions, [room_of(model, prompts)], notify)
    _check_questions_survive(tokenizer, prompts, texts, model.name, questions)
    header = Header(
        format=FORMAT,
        version=VERSION,
        model=model.name,
        question_set=questions.name,
        split=questions.split,
        sampling=replace(sampling),
        count=len(prompts) * sampling.n,
        prompting=prompting.used(tokenizer),
        engine=engine,
        batch_size=batch_size,
    )
    if source is not None and store is not None:
        header = replace(header, key=_key(header, source, questions, prompts))

    # Neighbours of one length waste no padding; the longest first shows a lack of memory at once.
    places = sorted(range(len(prompts)), key=lambda place: (-len(prompts[place]), place))
    order = [(place, sample) for place in places for sample in range(sampling.n)]
    first = batch_size * math.ceil(FIRST_ANSWERS / batch_size)

    def look(before: int, now: int) -> None:
        if first_look is not None and before < first <= now and first < len(order):
            first_look(answers_from(header, log.lines[:first]))

    with answer_log(None if store is None else Path(store), header, order, notify) as log:
        look(0, len(log.lines))
        if len(log.lines) < len(order):
            writer = open_engine(engine, model)
            _check_prompts(writer, questions, prompts, sampling)
            _answer_rest(writer, log, questions, prompts, order, header, tokenizer, progress, look)
        return answers_from(header, log.lines)


def _answer_rest(
    writer: Engine,
    log: AnswerLog,
    questions: QuestionSet,
    prompts: Sequence[tuple[int, ...]],
    order: Sequence[tuple[int, int]],
    header: Header,
    tokenizer: Any,
    progress: bool,
    look: Callable[[int, int], None],
) -> None:
    """Make the batches of ``order`` that the log does not hold yet; ``look`` at how many there were and are."""
    assert header.batch_size is not None, "answers are made in batches"
    rate = TextColumn("{task.fields[rate]}")
    with progress_bar(progress, rate) as bar:
        task = bar.add_task(questions.name, total=len(order), completed=len(log.lines), rate="")
        tokens = 0
        for start in range(len(log.lines), len(order), header.batch_size):
            batch = order[start : start + header.batch_size]
            seed = _batch_seed(header.sampling.seed, start // header.batch_size)
            completions = writer.complete([prompts[place] for place, _ in batch], header.sampling, seed)
            made = [
                Made(place, sample, prompts[place], completion)
                for (place, sample), completion in zip(batch, completions, strict=True)
            ]
            log.append(graded(questions, made, tokenizer, within=bar))
            look(start, len(log.lines))
            tokens += sum(len(completion.ids) for completion in completions)
            elapsed = bar.tasks[task].elapsed
            bar.update(task, advance=len(batch), rate=f"{tokens / elapsed:,.0f} tokens/s" if elapsed else "")


@dataclass(frozen=True)
class Made:
    """A completion, not yet graded: its question's place in the set, which sample it is, and its prompt."""

    place: int
    sample: int
    prompt: tuple[int, ...]
    completion: Completion


def graded(questions: QuestionSet, made: Sequence[Made], tokenizer: Any, within: Progress | None = None) -> list[Line]:
    """Decode and grade completions; where that takes long, how far it is stands on stderr, ``within`` a bar shown."""
    lines = []
    with progress_when_slow("grading", len(made), within, rate="") as advance:
        for one in made:
            lines.append(_graded(questions, one, tokenizer))
            advance()
    return lines


def _graded(questions: QuestionSet, one: Made, tokenizer: Any) -> Line:
    question = questions.questions[one.place]
    text = tokenizer.decode(one.completion.ids, skip_special_tokens=True)
    grade = grade_answer(questions.grade, text, question.gold)
    answer = Answer(
        question.id,
        one.prompt,
        one.completion.ids,
        text,
        grade.correct,
        one.completion.finished,
        grade.problem,
        one.sample,
    )
    return Line.of(answer, one.place)


def _key(header: Header, source: Source, questions: QuestionSet, prompts: Sequence[tuple[int, ...]]) -> str:
    """What must be the same for stored answers to be these answers."""
    return content_hash(
        {
            "format": [FORMAT, VERSION],
            "source": source.fingerprint(),
            "set": [questions.name, questions.split],
            "asked": [[q.id, q.gold, prompt] for q, prompt in zip(questions.questions, prompts, strict=True)],
            "grader": questions.grader,
            "sampling": header.sampling.table(),
            "prompting": header.prompting.model_dump() if header.prompting else None,
            "engine": header.engine,
            "batch_size": header.batch_size,
        }
    )


def _batch_seed(seed: int, batch: int) -> int:
    """A seed of its own for every batch, so that a batch can be made without those before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{batch}".encode()).digest()[:8]) >> 1


def _check_questions_survive(
    tokenizer: Any, prompts: Sequence[tuple[int, ...]], texts: Sequence[str], name: str, questions: QuestionSet
) -> None:
    """Raise RLCircuitsError where most prompts lost their question: a tokenizer may leave out what it does not know."""
    lost = without_their_questions(tokenizer, prompts, texts)
    if 2 * len(lost) > len(prompts):
        place, text = lost[0]
        raise RLCircuitsError(
            f"the tokenizer of {name} cannot write {len(lost)} of the {len(prompts)} questions of {questions.name!r}: "
            f"{truncated_repr(texts[place])} becomes {truncated_repr(text)}; ask questions that the checkpoint was "
            "made for"
        )


def _check_prompts(
    engine: Engine, questions: QuestionSet, prompts: Sequence[tuple[int, ...]], sampling: Sampling
) -> None:
    # Read once: an engine looks them up in the model each time.
    vocabulary, context = engine.vocabulary, engine.context
    assert sampling.max_new_tokens is not None, "how long answers may be is known before any is made"
    for question, prompt in zip(questions.questions, prompts, strict=True):
        name = f"question {question.id!r} of {questions.name!r}"
        if not prompt or not question.text:
            raise RLCircuitsError(f"{name} has an empty prompt")
        unknown = [token for token in prompt if not 0 <= token < vocabulary]
        if unknown:
            raise RLCircuitsError(
                f"{name}: its prompt has token id {unknown[0]}, outside the model's vocabulary of "
                f"{vocabulary} ids; the tokenizer is another model's"
            )
        if context is not None and len(prompt) + sampling.max_new_tokens > context:
            raise RLCircuitsError(
                f"{name}: {len(prompt)} prompt tokens and {sampling.max_new_tokens} new ones do not fit the "
                f"model's context of {context}; lower max_new_tokens"
            )
