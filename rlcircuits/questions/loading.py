"""Load a question set by its name or source, and draw questions from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import arithmetic, equations
from rlcircuits.questions.grading.graders import grader
from rlcircuits.questions.question_set import MAX_NEW_TOKENS, QuestionSet
from rlcircuits.questions.records import draw, read_questions
from rlcircuits.questions.source import PUBLISHED, QuestionSource, names

__all__ = ["load_questions"]

_BUILT_IN: dict[str, Callable[[str, int | None, int], QuestionSet]] = {
    "arithmetic": arithmetic.load,
    "equations": equations.load,
}


@validate_arguments
def load_questions(
    source: str | QuestionSource, *, split: str = defaults.SPLIT, count: int | None = None, seed: int = defaults.SEED
) -> QuestionSet:
    """Load questions: the same questions in the same order on every machine.

    Args:
        source: a set's name, or a `QuestionSource`.
        split: the split to load. A split in the `QuestionSource` takes precedence.
        count: how many questions to draw without replacement. A smaller count is a prefix of a larger one with the
            same seed. None loads the whole split in its own order.
        seed: seed of the draw.

    Returns:
        The questions and their grader.

    Raises:
        RLCircuitsError: the set or split is unknown, the split has fewer than `count` questions, the grader cannot be
            used, or the file or hub dataset cannot be read (see `records.read_questions`).
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
