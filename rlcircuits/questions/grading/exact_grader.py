"""Grade letter by letter: the `exact` grader."""

from __future__ import annotations

from rlcircuits.questions.grading.notation.latex import tidy
from rlcircuits.questions.grading.reading.extract_answer import extract_answer
from rlcircuits.questions.grading.reading.statement import stated_values

__all__ = ["grade_exact"]


class ExactGrader:
    """The `exact` grader, for answers that can be written in one way only, such as the letter of a choice."""

    identity_module = "rlcircuits.questions.exact"
    """The name that the keys of stored answers hold: that of this module when answers were first stored."""
    identity = "exact 2"
    """Name and version. Raise the version with every change that may change a grade: cached grades are found by it."""

    def __call__(self, text: str, gold: str) -> bool:
        """Return True if the whole text, or the answer extracted from it, is the reference answer.

        Spaces around either of them do not matter.
        """
        extracted = extract_answer(text)
        written = {text.strip(), extracted.text.strip(), tidy(extracted.text)}
        if not extracted.announced:
            values = [
                statement.values[0].latex for statement in stated_values(*extracted) if len(statement.values) == 1
            ]
            written |= {*values, *(value.rpartition("=")[2].strip() for value in values)}
        return gold.strip() in written


grade_exact = ExactGrader()
"""The `exact` grader that all question sets share."""
