"""Hints to questions: their fields, and files of them.

A file is JSON lines. A line has the question's id (``question_id`` or ``id``) and any of

- ``plan``: which way to go, such as "First add the two smaller numbers.";
- ``knowledge``: a fact that the question needs;
- ``subproblem``: a part of the problem, to be solved first;
- ``solution``: a worked solution, in the style of the answers, of which answers are forced to begin with a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ConfigDict, ValidationError, field_validator, model_validator

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import read_lines
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.validation import StrictModel, describe_error

__all__ = ["HINT_FIELDS", "QuestionHints", "read_hints"]

HINT_FIELDS = ("plan", "knowledge", "subproblem", "solution")


class QuestionHints(StrictModel):
    """The hints to one question; None for a kind that it has not."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    question_id: str
    plan: str | None = None
    knowledge: str | None = None
    subproblem: str | None = None
    solution: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_id(cls, fields: object) -> object:
        if not isinstance(fields, dict) or "id" not in fields:
            return fields
        if "question_id" in fields:
            raise ValueError("question_id and id are both given; one of them is wanted")
        return {"question_id" if name == "id" else name: value for name, value in fields.items()}

    @field_validator("question_id", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("question_id", *HINT_FIELDS)
    @classmethod
    def _not_empty(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("it is empty; a text is wanted, or leave it out")
        return text

    @model_validator(mode="after")
    def _has_a_hint(self) -> QuestionHints:
        if all(getattr(self, field) is None for field in HINT_FIELDS):
            raise ValueError(f"no hint; any of {', '.join(HINT_FIELDS)} is wanted")
        return self


def read_hints(path: str | Path, asked: Iterable[str] | None = None) -> dict[str, QuestionHints]:
    """Return the hints in a file, by the questions' ids.

    Args:
        path: the file.
        asked: ids of the questions that were asked, to which hints are returned, in their order; None for all hints.

    Raises:
        RLCircuitsError: the file cannot be read, a line holds no hints, a question has two lines, or none of those
            asked has one. The message names the line.
    """
    found: dict[str, QuestionHints] = {}
    places: dict[str, str] = {}
    for place, line in read_lines(path, "hints"):
        if not line.strip():
            continue
        hints = _parse(place, line)
        question = hints.question_id
        if question in places:
            raise RLCircuitsError(
                f"{place}: question {truncated_repr(question)} has its hints in {places[question]} already; one line a "
                f"question is wanted"
            )
        places[question] = place
        found[question] = hints
    if asked is None:
        return found
    wanted = tuple(asked)
    if not found.keys() & set(wanted):
        raise RLCircuitsError(
            f"{path}: none of the {len(found)} questions with hints was asked; ids such as "
            f"{truncated_repr(wanted[0] if wanted else '')} are wanted, not {truncated_repr(next(iter(found)))}"
        )
    return {question: found[question] for question in wanted if question in found}


def _parse(place: str, line: str) -> QuestionHints:
    try:
        return QuestionHints.model_validate(parse_json_object(line))
    except ValidationError as error:
        raise RLCircuitsError(f"{place}{describe_error(error, QuestionHints.model_fields)}") from None
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{place}: {error}") from None
