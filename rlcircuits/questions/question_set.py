"""Questions, and sets of them with the grader of their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.reprs import elided_repr, format_count, short_repr

__all__ = ["MAX_NEW_TOKENS", "Question", "QuestionSet"]

MAX_NEW_TOKENS = 512
"""Tokens that an answer to a set of one's own may need: steps in words and a result, as with GSM8K's."""


@dataclass(frozen=True)
class Question:
    """One question.

    `id` is unique within its set, `text` is what the model is shown (before any chat template), `gold` is the
    right answer in the form the set's grader compares with. `row` is its place in the file or split it was read from,
    from 0; None where it was read from none.
    """

    id: str
    text: str
    gold: str
    row: int | None = None

    def __repr__(self) -> str:
        text, gold = elided_repr(self.text), elided_repr(self.gold)
        return short_repr(self, elided_repr(self.id), f"text={text}", f"gold={gold}")


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one split, and `grade(answer_text, gold)`, which says whether an answer is right."""

    name: str
    split: str
    questions: tuple[Question, ...]
    grade: Callable[[str, str], bool]
    max_new_tokens: int = MAX_NEW_TOKENS
    """Tokens that an answer may need, where nobody says how long one may be."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.name), self.split, format_count(len(self), "question"))

    @property
    def grader(self) -> str:
        """The grader's name and version, by which kept answers and comparisons are found again.

        Of a `module:function` it holds the sha256 of the module's file.
        """
        grade = self.grade
        name = getattr(grade, "identity", None) or getattr(grade, "__qualname__", type(grade).__qualname__)
        module = getattr(grade, "identity_module", grade.__module__)
        return f"{module}:{name}"
