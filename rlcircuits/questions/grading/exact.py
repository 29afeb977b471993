"""The `exact` grader: the answer that a text states, letter by letter."""

from __future__ import annotations

from rlcircuits.questions.grading.extract_answer import extract_answer
from rlcircuits.questions.grading.latex import tidy
from rlcircuits.questions.grading.statement import stated_values

__all__ = ["grade_exact"]


class ExactGrader:
    """A grader of any answers that are to be written in one way only; see `grade_exact`."""

    identity_module = "rlcircuits.questions.exact"
    """The module's name when answers were first kept: their keys hold it."""
    identity = "exact 2"
    """Changes with every change after which an answer may get another grade, so that no old one is taken for it."""

    def __call__(self, text: str, gold: str) -> bool:
        """Return True when the answer that `text` states, or all of it, is `gold` but for outer spaces."""
        stated = extract_answer(text)
        written = {text.strip(), stated.text.strip(), tidy(stated.text)}
        if not stated.announced:
            values = [statement.values[0].latex for statement in stated_values(*stated) if len(statement.values) == 1]
            written |= {*values, *(value.rpartition("=")[2].strip() for value in values)}
        return gold.strip() in written


grade_exact = ExactGrader()
"""The one exact grader."""
