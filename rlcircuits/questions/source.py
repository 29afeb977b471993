"""Where a question set comes from: which file or hub dataset, which fields, how it is graded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from rlcircuits.common.errors import truncated_repr
from rlcircuits.common.files import LONGEST_NAME
from rlcircuits.common.validation import StrictModel
from rlcircuits.questions.grading.reference_answer import GoldForm

__all__ = ["BUILT_IN", "PUBLISHED", "Published", "QuestionSource", "names", "plain_name"]

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_GRADER = re.compile(r"math|exact|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Published:
    """A published question set: its dataset on the hub, and what its fields are called there and in its files."""

    dataset: str
    config: str | None
    question: str
    answer: str
    gold: GoldForm
    max_new_tokens: int


PUBLISHED = {
    "gsm8k": Published("openai/gsm8k", "main", "question", "answer", "hash", 512),
    "math": Published("DigitalLearningGmbH/MATH-lighteval", "default", "problem", "solution", "boxed", 2048),
    "math500": Published("HuggingFaceH4/MATH-500", None, "problem", "answer", "plain", 2048),
    "college_math": Published("di-zhang-fdu/College_Math_Test", None, "question", "answer", "plain", 2048),
}
"""The published sets by name. All are graded as mathematics."""


BUILT_IN = ("arithmetic", "equations")
"""The sets whose questions are made by this package."""


def names() -> tuple[str, ...]:
    """Return the names of the question sets that need no file, sorted."""
    return tuple(sorted({*BUILT_IN, *PUBLISHED}))


def plain_name(name: str, of: str) -> str:
    """Return a name that files or folders (`of`) are named by too. Raises ValueError for one that they cannot have."""
    if not _NAME.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"{truncated_repr(name)} names {of} too; use letters, digits and . _ + - only, at most {LONGEST_NAME} bytes"
        )
    return name


class QuestionSource(StrictModel):
    """A question set and where its questions are.

    A set that comes with rlcircuits needs its `name` alone, or its name and a local `file`; any other set needs a
    name of its own and a `file`. What is left out is as the set has it, for a set of one's own as written here.

    Raises RLCircuitsError naming the key for one that is unknown or does not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Names the set in results: letters, digits and ._+-"""
    file: Path | None = None
    """JSON lines, one question each. None: the set's own questions, from the hub for a published set."""
    question: str = Field(default="question", min_length=1)
    """The field that holds the question."""
    answer: str = Field(default="answer", min_length=1)
    """The field that holds the right answer, or a solution that ends in it."""
    id: str | None = Field(default=None, min_length=1)
    """The field that holds a question's id. None: `unique_id` or `id` where the first line has one, otherwise ids are
    line numbers."""
    gold: GoldForm = "plain"
    """How the right answer stands in its field: after `####` (hash), in a box (boxed), or alone (plain)."""
    grader: str = "math"
    """`math`, `exact`, or a function of one's own as `module:function`, called with the answer's text and the gold."""
    split: str | None = Field(default=None, min_length=1)
    """Which split of the set. None leaves it to whoever loads the questions. Of a file it is a name and no more."""
    revision: str | None = None
    """Commit, tag or branch of the hub dataset. None: the newest."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Tokens that an answer may need, for whoever does not say how long one may be. None: as many as the set needs, 512
    for a set of one's own."""

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
        return self
