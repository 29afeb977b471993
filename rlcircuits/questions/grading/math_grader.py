r"""Grade mathematics: the `math` grader.

An answer is right when what it states is mathematically the reference answer.

An answer passes four steps. The reference answer has no sentences around it and passes the last three.

1. `reading/extract_answer.py` cuts out the piece of the text that states the answer.
2. `notation/latex.py` brings the piece to one way of writing. If the answer and the reference answer are
   then the same letter by letter, the answer is right. So words, and formulas that SymPy cannot read, can be right.
3. `reading/statement.py` reads the values, with their units, that the piece states.
4. `comparing/statements.py` compares the values. An answer of which a part cannot be read is wrong.

The symbolic comparison in step 4 is that of math-verify (https://github.com/huggingface/Math-Verify), which uses
latex2sympy2_extended and SymPy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlcircuits.questions.grading.comparing.real_sets import named_set, set_named_at_the_end
from rlcircuits.questions.grading.comparing.statements import same_statement
from rlcircuits.questions.grading.notation.latex import has_words, plain_text, same_text, tidy
from rlcircuits.questions.grading.notation.units import split_unit
from rlcircuits.questions.grading.reading.extract_answer import ExtractedAnswer, extract_answer, text_after_answer_is
from rlcircuits.questions.grading.reading.statement import Statement, stated_values, whole_statement
from rlcircuits.questions.grading.reading.values import Value

__all__ = ["equivalent", "grade_math"]

_ABOUT = re.compile(r"^\\(?:approx|sim)\s*(?=[-.\d\\])")
_CONNECTED = re.compile(r"\b(?:and|or)\b")


def grade_math(text: str, gold: str) -> bool:
    """Return True when the answer that a text states is mathematically the reference answer.

    A malicious answer may take hours: :func:`rlcircuits.questions.grading.graders.grade_all` runs this function under
    limits of time and memory.

    Args:
        text: a model's whole answer.
        gold: the reference answer.

    Raises:
        RLCircuitsError: math-verify is not installed.
    """
    letters = tidy(gold)
    return any(same_text(tidy(said), letters) for said in (text, text_after_answer_is(text))) or _agrees(
        extract_answer(text), gold
    )


def equivalent(answer: str, gold: str) -> bool:
    """Return True when two answers, without sentences around them, are the same mathematics."""
    return _agrees(ExtractedAnswer(answer, announced=True), gold)


def _agrees(answer: ExtractedAnswer, gold: str) -> bool:
    letters = tidy(answer.text), tidy(gold)
    if not all(letters):
        return False
    if same_text(*letters):
        return True
    ours = _reference_statement(gold)
    if ours is None:
        return False
    return any(same_statement(theirs, ours) for theirs in _answer_statements(answer))


def _reference_statement(gold: str) -> Statement | None:
    """Return what a reference answer states; None for words, which an answer must repeat letter by letter."""
    letters = tidy(gold)
    if named := named_set(plain_text(letters)):
        return Statement((Value(named),))
    whole = whole_statement(gold)
    if has_words(letters) or _CONNECTED.search(letters) or (whole and all(value.plain for value in whole.values)):
        return whole
    return _formula_statement(letters)


def _answer_statements(answer: ExtractedAnswer) -> Iterator[Statement]:
    """Yield the statements that an answer can be read as. One of them must agree with the reference answer."""
    letters = tidy(answer.text)
    if named := named_set(plain_text(letters)):
        yield Statement((Value(named),))
    prose = has_words(letters) or _CONNECTED.search(letters) is not None
    if prose:
        if said := set_named_at_the_end(plain_text(letters)):
            yield Statement((Value(said),))
        yield from stated_values(answer.text, answer.announced)
    else:
        if whole := whole_statement(answer.text):
            yield whole
        yield _formula_statement(letters)


def _formula_statement(letters: str) -> Statement:
    return Statement((Value(*split_unit(_ABOUT.sub("", letters))),))
