"""Read questions from a JSON lines file or a hub dataset, and check every record."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlcircuits.common.errors import RLCircuitsError, one_line, truncate, truncated_repr
from rlcircuits.common.input_files import read_lines
from rlcircuits.common.json_files import json_type_name, parse_json_object
from rlcircuits.questions.grading.reading.reference_answer import extract_reference_answer, solution_form
from rlcircuits.questions.images import MARK, QuestionImage, read_images
from rlcircuits.questions.question_set import Question
from rlcircuits.questions.source import PUBLISHED, QuestionSource

__all__ = ["draw", "read_by_id", "read_questions"]

_T = TypeVar("_T")
_MEDIA = re.compile(r"(?:decoded_|question_)?(?:images?|videos?|audios?|pixel_values)(?:_?\d+)?", re.IGNORECASE)
"""The names of fields that hold what is no text, in published question sets: image, images, image_1, decoded_image."""

_ID_FIELDS = ("unique_id", "id")

Record = tuple[str, Mapping[str, Any]]
"""Where the record is, for error messages, and its fields."""


def read_questions(source: QuestionSource, split: str) -> tuple[Question, ...]:
    """Return all questions of a source, in its own order.

    Raises:
        RLCircuitsError: the file is missing, empty or not UTF-8; a line is no JSON object; a field is missing, empty or
            no string; a field does not contain a reference answer; a question has an image that the source does not
            name, or an image is missing, damaged or too large; two questions have the same id; or the hub dataset
            cannot be loaded. The message names file, line and field, or the dataset.
    """
    records = _hub_records(source, split) if source.file is None else _file_records(source.file)
    id_field = source.id
    questions: list[Question] = []
    places: dict[str, str] = {}
    for number, (place, record) in enumerate(records, start=1):
        _check_text_only(record, source, place)
        if number == 1 and id_field is None:
            id_field = next((field for field in _ID_FIELDS if field in record), None)
        question = Question(
            id=str(number) if id_field is None else _id(record, id_field, place),
            text=_text(record, source.question, place),
            gold=_gold(record, source, place),
            row=number - 1,
            counterfactual=None if source.counterfactual is None else _text(record, source.counterfactual, place),
            foil=None if source.foil is None else _text(record, source.foil, place),
            images=_images(record, source, place),
        )
        if question.id in places:
            raise RLCircuitsError(
                f"{place}: field {id_field!r}: {question.id!r} is the id of {places[question.id]} too; ids must differ"
            )
        places[question.id] = place
        questions.append(question)
    if not questions:
        raise RLCircuitsError(f"{source.file or source.name}: it is empty; one question a line is wanted")
    return tuple(questions)


def read_by_id(file: Path, field: str) -> dict[str, str]:
    """Return question id → text, of a JSON lines file with an id and this field in every line.

    Raises:
        RLCircuitsError: the file is missing, empty or not UTF-8; a line is no JSON object; a field is missing, empty or
            no string; two lines have the same id.
    """
    found: dict[str, str] = {}
    id_field: str | None = None
    for number, (place, record) in enumerate(_file_records(file), start=1):
        if number == 1:
            id_field = next((name for name in _ID_FIELDS if name in record), None)
        name = str(number) if id_field is None else _id(record, id_field, place)
        if name in found:
            raise RLCircuitsError(f"{place}: field {id_field!r}: {name!r} stands on an earlier line; ids must differ")
        found[name] = _text(record, field, place)
    return found


def draw(items: Sequence[_T], count: int, seed: int, of: str) -> tuple[_T, ...]:
    """Draw items without replacement. A smaller count is a prefix of a larger one with the same seed.

    Args:
        items: what to draw from.
        count: how many items to draw.
        seed: seed of the draw.
        of: name of the items, for error messages.

    Raises:
        RLCircuitsError: `count` is less than 1 or more than the number of items.
    """
    if count < 1:
        raise RLCircuitsError(f"count of questions is {count}; at least 1 is wanted")
    if count > len(items):
        raise RLCircuitsError(
            f"count of questions is {count}, but {of} has {len(items)}; lower question_count (--question-count), or "
            f"count where that was given"
        )
    # Random.random() is the only method whose sequence is the same in every version of Python.
    rng = random.Random(seed)
    left = list(items)
    for place in range(count):
        other = place + int(rng.random() * (len(left) - place))
        left[place], left[other] = left[other], left[place]
    return tuple(left[:count])


def _file_records(file: Path) -> Iterator[Record]:
    for place, line in read_lines(file, "questions"):
        try:
            record = parse_json_object(line)
        except RLCircuitsError as error:
            raise RLCircuitsError(f"{place}: {error}") from None
        yield place, record


def _hub_records(source: QuestionSource, split: str) -> Iterator[Record]:
    published = PUBLISHED[source.name]
    instead = (
        f'or give the set\'s file: in a pairs file the table [[questions]] with name = "{source.name}" and file = '
        f'"FILE.jsonl", in Python QuestionSource(name={source.name!r}, file=...)'
    )
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise RLCircuitsError(
            f"question set {source.name!r} comes from the hub by way of datasets, which is not installed; "
            f"pip install datasets, {instead}"
        ) from None
    try:
        rows = datasets.load_dataset(published.dataset, published.config, split=split, revision=source.revision)
    except Exception as error:  # the errors of the hub's clients have no common base class
        raise RLCircuitsError(
            f"question set {source.name!r}: split {split!r} of the dataset {published.dataset} cannot be loaded "
            f"({type(error).__name__}: {one_line(error)}); see to the connection and the name, {instead}"
        ) from error
    for number, record in enumerate(rows, start=1):
        yield f"{published.dataset} ({split}), row {number}", record


def _check_text_only(record: Mapping[str, Any], source: QuestionSource, place: str) -> None:
    """Raise RLCircuitsError for a question with an image, which would be asked without it."""
    for field, value in record.items():
        # Only these are asked whether they are empty: an array has no truth value.
        is_empty = value is None or (isinstance(value, str | list | dict | int | float) and not value)
        named = (source.question, source.answer, source.id, source.images)
        if _MEDIA.fullmatch(field) and not is_empty and field not in named:
            raise RLCircuitsError(
                f"{place}: field {field!r} holds an image, a video or sound, and questions are asked as text alone; "
                f"leave such questions out, or remove the field if the text can be answered without it; a field of "
                f"images is named with images in the table [[questions]], for a vision-language model"
            )


def _images(record: Mapping[str, Any], source: QuestionSource, place: str) -> tuple[QuestionImage, ...]:
    """Return a question's images. Raises RLCircuitsError if the text marks the places of more or fewer images."""
    if source.images is None:
        return ()
    images = read_images(record, source.images, place, None if source.file is None else source.file.parent)
    marks = _text(record, source.question, place).count(MARK)
    if marks and marks != len(images):
        raise RLCircuitsError(
            f"{place}: field {source.question!r} has {marks} times {MARK}, and field {source.images!r} has "
            f"{len(images)} images; one mark for each image, or none, is wanted"
        )
    return images


def _text(record: Mapping[str, Any], field: str, place: str) -> str:
    if field not in record:
        raise RLCircuitsError(
            f"{place}: field {truncated_repr(field)} is missing; there are {truncate(', '.join(map(str, record)))}"
        )
    value = record[field]
    if not isinstance(value, str):
        raise RLCircuitsError(f"{place}: field {field!r}: found {json_type_name(value)}; a text is wanted")
    if not value.strip():
        raise RLCircuitsError(f"{place}: field {field!r} is empty; a text is wanted")
    if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
        raise RLCircuitsError(f"{place}: field {field!r} holds half a character (a lone surrogate)")
    return value


def _gold(record: Mapping[str, Any], source: QuestionSource, place: str) -> str:
    answer = _text(record, source.answer, place)
    # No answer equals a whole solution, so each would be graded as wrong. A grader of one's own may want the solution.
    if source.grader == "math" and source.gold == "plain" and (form := solution_form(answer)):
        known = "".join(f"; the set {name!r} has that already" for name in PUBLISHED if PUBLISHED[name].gold == form)
        raise RLCircuitsError(
            f"{place}: field {source.answer!r} is a solution that ends with the answer "
            f'{truncated_repr(extract_reference_answer(form, answer))}, and gold = "plain" wants the answer alone; '
            f'write gold = "{form}" in the table [[questions]] of a pairs file{known}'
        )
    try:
        return extract_reference_answer(source.gold, answer)
    except ValueError as error:
        raise RLCircuitsError(f"{place}: field {source.answer!r}: {error}") from error


def _id(record: Mapping[str, Any], field: str, place: str) -> str:
    value = record.get(field)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(record, field, place)
