"""Read recorded answers: a file of JSON lines with token ids that any engine wrote.

Each line holds the answers to one question. For each of these, the first name that the line has is used:

- the question: ``question``, its text; ``question_id`` or ``id``, its id in the set; ``idx`` or ``index``, its row in
  the set's file or split, from 0 (for generated questions, its index among those asked). A text takes precedence; if
  several questions have the same text, id or row selects one of them;
- the prompt: ``prompt_token_ids`` or ``prompt_ids``;
- the answer: ``completion_token_ids``, ``generate_token_ids``, ``answer_ids``, ``outputs`` or ``completions``.

A field of token ids may hold several samples, as lists of ids or as objects with ``token_ids`` and, optionally,
``finish_reason`` (as in vLLM's outputs). The first n answers are used, where n is the sampling's, and the first prompt.
All other fields are ignored. So are recorded grades, because the question set's grader grades the answers again.

Lines of questions that are not in the set are skipped. Every question of the set needs a line: if wrong answers could
be left out, the accuracy would be too high. A question without an answer has an empty list, or n empty lists, and
counts as wrong.

Two kinds of files by the authors of arXiv 2509.21044 (github.com/tsinghua-fib-lab/llm_rl_probing_analysis) load
unchanged:

- what their ``math_eval.py --save_outputs`` writes for one model;
- what their ``datasets_prepare.ipynb`` writes for two models, such as ``all_correct.jsonl``, with the fields
  ``base_prompt_tokens``, ``base_answer_tokens``, ``rl_prompt_tokens`` and ``rl_answer_tokens``. The argument ``side``
  selects the model. Such a file has only the questions that both models answered correctly, so ask only those: use the
  file itself as the question set, with ``gt`` as its answer field. The accuracy is then 1 for both models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlcircuits.answers.answer_file import NO_TOKEN, Answers
from rlcircuits.answers.engines.engine import Completion
from rlcircuits.answers.grade_completions import UngradedAnswer, grade_completions
from rlcircuits.answers.prompting import normalized, prompts_without_question
from rlcircuits.answers.question_prompts import check_text_alone
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import read_lines
from rlcircuits.common.json_files import json_type_name, parse_json_object
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["SIDES", "Side", "recorded_answers"]

Side = Literal["before", "after"]

SIDES: tuple[Side, ...] = get_args(Side)
"""Both sides of a pair, in the order in which they are measured."""
"""Which of the two models, in a file of two."""

_ID = ("question_id", "id")
_INDEX = ("idx", "index")
_PROMPT = ("prompt_token_ids", "prompt_ids")
_ANSWER = ("completion_token_ids", "generate_token_ids", "answer_ids", "outputs", "completions")
_OF_SIDE = {
    "before": (("base_prompt_tokens",), ("base_answer_tokens",)),
    "after": (("rl_prompt_tokens",), ("rl_answer_tokens",)),
}


@dataclass(frozen=True)
class _Record:
    """What one line holds."""

    place: int
    """Index of the question in the question set."""
    prompt: tuple[int, ...]
    completions: tuple[Completion, ...]


@validate_arguments
def recorded_answers(
    path: str | Path,
    model: Source | Checkpoint,
    questions: QuestionSet,
    *,
    sampling: Sampling,
    side: Side | None = None,
) -> Answers:
    """Read and grade the recorded answers of a model to a question set.

    Args:
        path: the file, in the format above.
        model: the model that answered. Only its tokenizer is loaded.
        questions: the question set, with its grader.
        sampling: how the answers were drawn, which the file does not say. Both models of a pair need the same sampling.
            Each line needs at least `sampling.n` samples.
        side: which of the two models, in a file of two; None in a file of one.

    Returns:
        The answers, in the order of the question set and then of the samples.

    Raises:
        RLCircuitsError: a line cannot be read or has too few samples; a prompt has ids outside the vocabulary
            (``attribute`` checks those of the answers); a question is answered twice or not at all; or most prompts do
            not contain their question, as if the ids were another tokenizer's. The message names file, line and field.
    """
    path = Path(path)
    tokenizer = model.tokenizer if isinstance(model, Checkpoint) else model.tokenizer()
    if side is not None and side not in SIDES:
        raise RLCircuitsError(f"side is {side!r}; it must be before or after")

    reader = _Reader(questions, tokenizer, side, sampling.n)
    records: dict[int, _Record] = {}
    lines: dict[int, int] = {}
    number = 0
    for number, (place, line) in enumerate(read_lines(path, "recorded answers"), start=1):
        try:
            record = reader.read(line)
        except RLCircuitsError as error:
            raise RLCircuitsError(f"{place}: {error}") from None
        if record is None:
            continue
        if record.place in records:
            name = questions.questions[record.place].id
            raise RLCircuitsError(f"{place}: question {name!r} was already answered on line {lines[record.place]}")
        records[record.place], lines[record.place] = record, number
    if not records:
        raise RLCircuitsError(f"{path}: none of its {number} lines answers a question of {questions.name!r}")

    check_text_alone(questions, "recorded answers are read for questions of text alone")
    ordered = [records[place] for place in sorted(records)]
    _check_prompts(path, questions, ordered, tokenizer, model.name)
    left_out = [question.id for place, question in enumerate(questions.questions) if place not in records]
    if left_out:
        raise RLCircuitsError(
            f"{path}: leaves out {len(left_out)} of the {len(questions)} questions asked, the first is {left_out[0]!r}"
            f"; a question without an answer must be there with an empty answer, which counts as wrong"
        )
    made = [
        UngradedAnswer(r.place, sample, r.prompt, answer)
        for r in ordered
        for sample, answer in enumerate(r.completions)
    ]
    found = grade_completions(questions, made, tokenizer)
    items = tuple(line.answer() for line in found)
    return Answers(model.name, questions.name, questions.split, sampling, items)


class _Reader:
    """Reads single lines. Its errors name the field, and the caller adds file and line."""

    def __init__(self, questions: QuestionSet, tokenizer: Any, side: Side | None, n: int) -> None:
        self._ids = {question.id: place for place, question in enumerate(questions.questions)}
        self._rows = {
            place if question.row is None else question.row: place for place, question in enumerate(questions.questions)
        }
        self._texts: dict[str, list[int]] = {}
        for place, question in enumerate(questions.questions):
            self._texts.setdefault(normalized(question.text), []).append(place)
        self._vocabulary = len(tokenizer)
        self._end = tokenizer.eos_token_id
        names: tuple[tuple[str, ...], tuple[str, ...]] = (_PROMPT, _ANSWER) if side is None else _OF_SIDE[side]
        self._prompt, self._answer = names
        self._sideless = side is None
        self._n = n

    def read(self, line: str) -> _Record | None:
        """Read one line. Returns None if its question is not in the question set."""
        fields = parse_json_object(line)
        of_two = [name for names in _OF_SIDE.values() for each in names for name in each]
        if self._sideless and any(name in fields for name in of_two):
            raise RLCircuitsError("holds answers of two models; side must say which, before or after")
        if not self._sideless and not any(name in fields for name in of_two):
            raise RLCircuitsError(f"holds answers of one model; one file for both has the fields {', '.join(of_two)}")
        place = self._place(fields)
        ((prompt, _),) = self._samples(fields, self._prompt, 1)
        answers = self._samples(fields, self._answer, self._n)
        if not prompt:
            raise RLCircuitsError(f"field {_named(fields, self._prompt)!r} is empty")
        return None if place is None else _Record(place, prompt, tuple(self._completion(*each) for each in answers))

    def _completion(self, answer: tuple[int, ...], reason: str | None) -> Completion:
        finished = reason == "stop" if reason is not None else bool(answer) and answer[-1] == self._end
        return Completion(answer, finished)

    def _place(self, fields: dict[str, Any]) -> int | None:
        text = fields.get("question")
        if not isinstance(text, str):
            return self._place_by_id(fields)
        places = self._texts.get(normalized(text), [])
        if len(places) > 1:
            place = self._place_by_id(fields)
            return place if place in places else None
        return places[0] if places else None

    def _place_by_id(self, fields: dict[str, Any]) -> int | None:
        name = _named(fields, (*_ID, *_INDEX), "question")
        value = fields[name]
        if isinstance(value, int) and not isinstance(value, bool) and name in _INDEX:
            return self._rows.get(value)
        if isinstance(value, str | int) and not isinstance(value, bool) and name in _ID:
            return self._ids.get(str(value))
        raise RLCircuitsError(
            f"field {name!r} is {truncated_repr(value)}; a question's {'row' if name in _INDEX else 'id'} is wanted"
        )

    def _samples(
        self, fields: dict[str, Any], names: Sequence[str], count: int
    ) -> list[tuple[tuple[int, ...], str | None]]:
        """Return the first `count` samples of a field, as (token ids, finish reason or None)."""
        name = _named(fields, names)
        found: Any = fields[name]
        several = isinstance(found, list) and found and isinstance(found[0], list | dict)
        samples = found[:count] if several else [found]
        if len(samples) < count:
            raise RLCircuitsError(
                f"field {name!r} holds {len(samples)} {'samples' if len(samples) > 1 else 'sample'}; the sampling's "
                f"n = {count} are wanted"
            )
        return [
            self._token_ids(f"field {name!r}" + (f", sample {number}," if count > 1 else ""), sample, names)
            for number, sample in enumerate(samples)
        ]

    def _token_ids(self, where: str, found: Any, names: Sequence[str]) -> tuple[tuple[int, ...], str | None]:
        reason: Any = None
        if isinstance(found, dict):
            found, reason = found.get("token_ids"), found.get("finish_reason")
        if not isinstance(found, list):
            raise RLCircuitsError(f"{where} holds {json_type_name(found)}; a list of token ids is wanted")
        for position, token in enumerate(found):
            if isinstance(token, bool) or not isinstance(token, int):
                raise RLCircuitsError(
                    f"{where} has {truncated_repr(token)} at position {position}; a token id is wanted"
                )
            # A model may generate ids beyond its tokenizer's vocabulary, but a prompt contains none of them.
            limit = self._vocabulary if names is self._prompt else NO_TOKEN
            if not 0 <= token < limit:
                raise RLCircuitsError(
                    f"{where} has token id {truncated_repr(token)} at position {position}, outside the tokenizer's "
                    f"vocabulary of {self._vocabulary} ids"
                )
        return tuple(found), reason if isinstance(reason, str) else None


def _named(fields: dict[str, Any], names: Sequence[str], *more: str) -> str:
    """Return the first of the names that is a field. Raises RLCircuitsError, which also lists `more`, if none is."""
    for name in names:
        if name in fields:
            return name
    raise RLCircuitsError(f"has none of the fields {', '.join((*more, *names))}")


def _check_prompts(path: Path, questions: QuestionSet, records: Sequence[_Record], tokenizer: Any, name: str) -> None:
    """Raise RLCircuitsError unless most prompts contain their question's text."""
    asked = [questions.questions[record.place] for record in records]
    strange = prompts_without_question(
        tokenizer, [record.prompt for record in records], [question.text for question in asked]
    )
    if 2 * len(strange) > len(records):
        place, prompt = strange[0]
        raise RLCircuitsError(
            f"{path}: {len(strange)} of {len(records)} prompts do not hold their question's text, so the token ids are "
            f"of another tokenizer than {name}'s or the questions are others; that of {asked[place].id!r} reads "
            f"{prompt[:80]!r}"
        )
