"""The data of a question set: its questions and their grader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.questions.images import QuestionImage

__all__ = ["MAX_NEW_TOKENS", "Question", "QuestionSet"]

MAX_NEW_TOKENS = 512
"""Default of `max_new_tokens` for the user's own sets: enough for steps in words and a result, as in GSM8K."""


@dataclass(frozen=True)
class Question:
    """One question and its reference answer."""

    id: str
    """Unique within the set."""
    text: str
    """The question as the model reads it, before any template."""
    gold: str
    """The reference answer, in the form that the set's grader expects."""
    row: int | None = None
    """Index in the file or split that the question was read from; None for generated questions."""
    counterfactual: str | None = None
    """Another question of the same length in tokens, whose prompt takes the place of the question's in the corrupted
    run (activation patching); None if the set has none."""
    foil: str | None = None
    """A wrong answer, whose first token the metric ``logit_diff`` compares with the answer's; None if there is none."""
    images: tuple[QuestionImage, ...] = ()
    """What is shown with the question, in order. Where the text has a mark ``<image>`` for each of them, they stand in
    its places, otherwise before the text."""

    def key_table(self) -> dict[str, str | int | list[str] | None]:
        """Return the fields by name, as keys of stored results take them: images by their sha256.

        A counterfactual and a foil that are None are left out, and so are images that there are none of.
        """
        optional = {"counterfactual", "foil"}
        table = {name: value for name, value in vars(self).items() if name not in optional or value is not None}
        del table["images"]
        return {**table, "images": [image.sha256 for image in self.images]} if self.images else table

    def __repr__(self) -> str:
        text, gold = elided_repr(self.text), elided_repr(self.gold)
        return short_repr(self, elided_repr(self.id), f"text={text}", f"gold={gold}")


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one split, with their grader."""

    name: str
    split: str
    questions: tuple[Question, ...]
    grade: Callable[[str, str], bool]
    """`grade(answer_text, gold)` returns True for a correct answer; `gold` is the question's reference answer."""
    max_new_tokens: int = MAX_NEW_TOKENS
    """Most tokens of an answer, unless `Sampling.max_new_tokens` says otherwise."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.name), self.split, format_count(len(self), "question"))

    @property
    def has_images(self) -> bool:
        """Whether a question has images."""
        return any(question.images for question in self.questions)

    @property
    def grader(self) -> str:
        """The grader's name and version, which are part of the keys of cached answers and comparisons.

        For a `module:function`, the version is the sha256 of the module's file.
        """
        grade = self.grade
        name = getattr(grade, "identity", None) or getattr(grade, "__qualname__", type(grade).__qualname__)
        module = getattr(grade, "identity_module", grade.__module__)
        return f"{module}:{name}"
