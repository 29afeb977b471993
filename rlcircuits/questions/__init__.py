"""Question sets: what is asked, in which split, and how an answer is graded.

A set is found with `load_questions`, by its name or by a `QuestionSource`; `names` lists what there is. One module
makes each built-in set, `source.py` lists the published ones, and a JSON lines file can be one too. `grade_all` grades
answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rlcircuits.common.arguments import check_fields, checked
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.source import PUBLISHED, QuestionSource
from rlcircuits.common.reprs import count, quoted, short_repr

__all__ = ["Grade", "Question", "QuestionSet", "QuestionSource", "grade_all", "load_questions", "names"]


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
        return short_repr(self, quoted(self.id), f"text={quoted(self.text)}", f"gold={quoted(self.gold)}")


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
        check_fields(self)

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        return short_repr(self, quoted(self.name), self.split, count(len(self), "question"))

    @property
    def grader(self) -> str:
        """The grader's name and version, by which kept answers and comparisons are found again.

        Of a `module:function` it holds the sha256 of the module's file.
        """
        grade = self.grade
        name = getattr(grade, "identity", None) or getattr(grade, "__qualname__", type(grade).__qualname__)
        return f"{grade.__module__}:{name}"


# Below, since these import the two classes above.
from rlcircuits.questions import arithmetic, equations  # noqa: E402
from rlcircuits.questions.grading.graders import Grade, grade_all, grader  # noqa: E402
from rlcircuits.questions.records import draw, read_questions  # noqa: E402

_BUILT_IN: dict[str, Callable[[str, int | None, int], QuestionSet]] = {
    "arithmetic": arithmetic.load,
    "equations": equations.load,
}


def names() -> tuple[str, ...]:
    """Return the names `load_questions` knows, sorted."""
    return tuple(sorted({*_BUILT_IN, *PUBLISHED}))


@checked
def load_questions(
    source: str | QuestionSource, *, split: str = "test", count: int | None = None, seed: int = 42
) -> QuestionSet:
    """Return questions of a set's split, the same ones in the same order on every machine.

    `source` is a set's name, or a `QuestionSource`, whose own split, if it has one, goes before `split`. `count` of
    them are drawn without replacement with `seed` (a smaller count is a prefix of a larger one), or the whole split is
    given in its natural order when `count` is None.

    Raises RLCircuitsError for an unknown set or split, a count the split cannot fill, a grader that cannot be
    used, and whatever is wrong with a file or hub dataset (see `records.read_questions`).
    """
    if isinstance(source, str):
        if source not in names():
            raise RLCircuitsError(f"unknown question set {source!r}; known: {', '.join(names())}")
        source = QuestionSource(name=source)
    split = source.split or split
    if source.file is None and source.name in _BUILT_IN:
        built_in = _BUILT_IN[source.name](split, count, seed)
        return replace(built_in, max_new_tokens=source.max_new_tokens or built_in.max_new_tokens)
    grade = grader(source.grader)
    questions = read_questions(source, split)
    if count is not None:
        questions = draw(questions, count, seed, of=str(source.file or f"split {split!r} of {source.name!r}"))
    longest = source.max_new_tokens or (
        PUBLISHED[source.name].max_new_tokens if source.name in PUBLISHED else MAX_NEW_TOKENS
    )
    return QuestionSet(source.name, split, questions, grade, longest)
