"""Recognize hedges: a sentence denies a value, only bounds it, or calls it possible."""

from __future__ import annotations

from rlcircuits.questions.grading.reading.tokens import Sentence
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["BOUNDS", "PRECISION", "denies", "is_called_wrong", "is_denied", "is_possible"]

_NOT = word_set("not cannot never neither nor excluding except without unlikely impossible hardly")
_AFTER_NOT = word_set("a an the exactly equal equals to be been really actually even for quite it")
_POSSIBLY = word_set("could might may maybe perhaps possibly alternatively otherwise")
_AFTER_POSSIBLY = word_set("also be it is it's even the answer value equal to")
BOUNDS = word_set("than over above under below beyond exceeds exceed exceeded exceeding")
"""Words before a number that only bounds the answer: more than 5, over 5."""
_CLOSED_BOUNDS = {("at", "least"), ("at", "most"), ("up", "to")}
_OTHER_THAN = {("instead", "of"), ("anything", "but"), ("everything", "but"), ("all", "but"), ("different", "from")}
_IS = word_set("is are was were it's that's")
_WRONG = word_set("wrong incorrect extraneous rejected discarded invalid impossible excluded inadmissible")
_ANSWER = word_set("answer correct right solution")
PRECISION = word_set("decimal significant places place digits dp")
"""Words that describe a rounding: 3.14 to 2 decimal places."""


def denies(word: str) -> bool:
    """Return True for a word of negation: "not", "isn't"."""
    return word in _NOT or word.endswith("n't")


def is_denied(sentence: Sentence, start: int, end: int, announced: bool) -> bool:
    """Return True if the sentence says that the answer is not these values: `not 5`, `more than 5`.

    A closed bound, "at least" or "at most", counts as its value if it bounds what somebody needs or can have, as in
    `he must buy at least 5`. It denies its value where it describes the answer: `the answer is at least 5`.

    Args:
        sentence: the tokens.
        start: index of the first token of the values.
        end: index after their last token.
        announced: the sentence is the answer, as after "the answer is".
    """
    before, second, third = (sentence.word(start - back) for back in (1, 2, 3))
    if (second, before) in _CLOSED_BOUNDS:
        begins = sentence.at(start - 3) is None or sentence.mark(start - 3) != ""
        return third in _IS or (begins and (announced or not sentence.word(end)))
    if before == "exceed" and denies(second):
        return False
    if denies(sentence.word_before(start, _AFTER_NOT)) or before in BOUNDS:
        return True
    if (second, before) in _OTHER_THAN or (third, second, before) == ("or", "equal", "to"):
        return True
    return (before == "to" and bool(PRECISION & {*sentence.words(start, end)})) or is_called_wrong(sentence, end)


def is_called_wrong(sentence: Sentence, end: int) -> bool:
    """Return True if the sentence continues at `end` with "is wrong" or "is not the answer"."""
    verb, after = sentence.word(end), sentence.word(end + 1)
    negated = verb in ("isn't", "aren't", "wasn't") or (verb in _IS and after == "not")
    ruled_out = (verb in _IS and after in _WRONG) or (after == "be" and sentence.word(end + 2) in _WRONG)
    return ruled_out or (negated and bool(_ANSWER & {*sentence.words(end, end + 5)}))


def is_possible(sentence: Sentence, start: int) -> bool:
    """Return True if the sentence calls the value at `start` only possible: it could be 5."""
    return sentence.word_before(start, _AFTER_POSSIBLY) in _POSSIBLY
