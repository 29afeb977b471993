"""Describe where a question set comes from: its file or hub dataset, its fields and its grader."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from rlcircuits.common import defaults
from rlcircuits.common.errors import truncated_repr
from rlcircuits.common.files import LONGEST_NAME
from rlcircuits.common.validation import StrictModel
from rlcircuits.questions.grading.reading.reference_answer import GoldForm

__all__ = ["BUILT_IN", "PUBLISHED", "Published", "QuestionSource", "names", "plain_name"]

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_GRADER = re.compile(r"math|exact|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Published:
    """A published question set: its hub dataset, and the names of its fields there and in its files."""

    dataset: str
    config: str | None
    question: str
    """The field that holds the question."""
    answer: str
    """The field that holds the reference answer, or a solution that ends with it."""
    gold: GoldForm
    """How the reference answer is written in its field."""
    max_new_tokens: int
    """Most tokens of an answer, unless `Sampling.max_new_tokens` says otherwise."""


PUBLISHED = {
    "gsm8k": Published("openai/gsm8k", "main", "question", "answer", "hash", 512),
    "math": Published("DigitalLearningGmbH/MATH-lighteval", "default", "problem", "solution", "boxed", 2048),
    "math500": Published("HuggingFaceH4/MATH-500", None, "problem", "answer", "plain", 2048),
    "college_math": Published("di-zhang-fdu/College_Math_Test", None, "question", "answer", "plain", 2048),
}
"""The published sets by name. The grader of each is `math` unless the `QuestionSource` names another."""

BUILT_IN = ("arithmetic", "equations")
"""The sets whose questions this package generates."""


def names() -> tuple[str, ...]:
    """Return the sorted names of the question sets that need no file."""
    return tuple(sorted({*BUILT_IN, *PUBLISHED}))


def plain_name(name: str, of: str) -> str:
    """Return `name` unchanged if it can be part of a file name; otherwise raise ValueError.

    `of` says for the message what is named: "files" or "folders".
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"{truncated_repr(name)} names {of} too; use letters, digits and . _ + - only, at most {LONGEST_NAME} bytes"
        )
    return name


class QuestionSource(StrictModel):
    """A question set, where its questions are, and how its answers are graded.

    A published or built-in set needs only its `name`; a published set may also be read from a local `file`. Your own
    set needs a new `name` and a `file`. The fields of a published set default to that set's values, those of your own
    set to the values below.

    Raises:
        RLCircuitsError: a key is unknown or its value is not allowed; the message names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the set in results: letters, digits and ._+-"""
    file: Path | None = None
    """A JSON lines file with one question on each line. None: generated questions for a built-in set, the hub dataset
    for a published set."""
    question: str = Field(default=defaults.QUESTION_FIELD, min_length=1)
    """The field that holds the question."""
    answer: str = Field(default=defaults.ANSWER_FIELD, min_length=1)
    """The field that holds the reference answer, or a solution that ends with it."""
    id: str | None = Field(default=None, min_length=1)
    """The field that holds a question's id. None: `unique_id` or `id` if the first line has one of them, otherwise the
    line number."""
    counterfactual: str | None = Field(default=None, min_length=1)
    """The field that holds each question's counterfactual: another question of the same length in tokens, for
    activation patching. None: the set has none."""
    foil: str | None = Field(default=None, min_length=1)
    """The field that holds each question's foil: a wrong answer, for the metric ``logit_diff``. None: the set has
    none."""
    images: str | None = Field(default=None, min_length=1)
    """The field that holds each question's images: a path relative to the file, a list of paths, or what the hub
    dataset gives. None: the set has none, and a question with an image is refused."""
    gold: GoldForm = defaults.GOLD_FORM
    """How the reference answer is written in its field: after `####` (hash), in a box (boxed), or alone (plain)."""
    grader: str = defaults.GRADER
    """`math`, `exact`, or your own function as `module:function`, called with the answer's text and the reference
    answer."""
    split: str | None = Field(default=None, min_length=1)
    """The split to load. None: the `split` argument of `load_questions`. For a file it is only a label."""
    revision: str | None = None
    """Commit, tag or branch of the hub dataset. None: the newest commit."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of an answer, unless `Sampling.max_new_tokens` says otherwise. None: the set's own limit, or 512 for
    your own set."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, fields: Any) -> Any:
        name = fields.get("name") if isinstance(fields, dict) else None
        if not isinstance(name, str) or name not in PUBLISHED:
            return fields
        published = PUBLISHED[name]
        return {"question": published.question, "answer": published.answer, "gold": published.gold, **fields}

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name, "files")

    @field_validator("grader")
    @classmethod
    def _grader(cls, grader: str) -> str:
        if not _GRADER.fullmatch(grader):
            raise ValueError(f"{truncated_repr(grader)} is no grader; 'math', 'exact' or 'module:function' is wanted")
        return grader

    @model_validator(mode="after")
    def _has_questions(self) -> QuestionSource:
        if self.file is None and self.name not in names():
            raise ValueError(
                f"question set {truncated_repr(self.name)} is not known and has no file; known: {', '.join(names())}; "
                f"a set of your own needs file"
            )
        unused = self.model_fields_set & set(QuestionSource.model_fields) - {"name", "split", "max_new_tokens"}
        if self.name in names() and self.name not in PUBLISHED and unused:
            raise ValueError(f"question set {self.name!r} is built in and takes no {min(unused)}")
        if self.file is not None and self.revision is not None:
            raise ValueError("a file has no revision; give one of file and revision")
        if self.images is not None and self.counterfactual is not None:
            raise ValueError(
                "images and counterfactual were both given; questions with images have no counterfactuals, since "
                "another picture may have another number of tokens: give one of them"
            )
        return self
