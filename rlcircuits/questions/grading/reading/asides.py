"""Recognize the values that a sentence mentions besides its answer."""

from __future__ import annotations

from rlcircuits.questions.grading.reading.tokens import Sentence
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["added_places", "is_beside_the_point", "is_given", "next_clause"]

_PREPOSITIONS = word_set("in for from after by within during on with per every each over among out")
_AFTER_A_PREPOSITION = word_set("the a his her their its those these all each every another next first other only just")
_DEFINITE = word_set("the these those this his her its their our my your all both every other")
_NOT_GIVEN = word_set("is are was were be total answer result cost price sum difference only remaining other")
"""Words before "the" and a number that can be the answer: `it is the 18 in the middle`."""
_SUBORDINATE = word_set(
    "because since if when where which who whose while until till before after given than compared versus attained "
    "although though unless whereas"
)
_RESULTS = word_set("get obtain find reach give yield equal be the a an")
_BEFORE_A_VERB = word_set(
    "need needs needed has have had having going able want wants wanted ought likely used supposed plans planned"
)
_CONCLUDES = word_set("so then therefore thus hence")
_CLAUSE = _CONCLUDES | word_set("which leaving making means makes but is are was were")


def is_given(sentence: Sentence, start: int) -> bool:
    """Return True if the sentence presents the number at `start` as known: the 30 of `12 of the 30 students`."""
    if sentence.word(start - 1) not in _DEFINITE:
        return False
    return sentence.word(start - 2) not in _NOT_GIVEN


def added_places(sentence: Sentence, after: int) -> set[int]:
    """Return the indices of the tokens, from `after` on, that are in brackets or in a subordinate clause.

    In `20, which is 5 more than before` these are the tokens from "is" on. A clause ends at the next comma.
    """
    found: set[int] = set()
    within_brackets = subordinate = False
    for place in range(after, len(sentence)):
        if within_brackets or subordinate:
            found.add(place)
        mark = sentence.mark(place)
        within_brackets = (within_brackets or mark == "(") and mark != ")"
        opens = sentence.word(place) in _SUBORDINATE or _is_purpose(sentence, place)
        subordinate = (subordinate or opens) and mark not in (",", ";")
        subordinate = subordinate and sentence.word(place) not in _CONCLUDES
    return found


def _is_purpose(sentence: Sentence, place: int) -> bool:
    """Return True for a "to" of purpose: `5 buses to carry 212 people`.

    The "to" of `has to pay $20`, `adds 5 to get 20` and `5 to 6` is none.
    """
    verb = sentence.word(place + 1)
    return (
        sentence.word(place) == "to"
        and verb not in _RESULTS
        and verb != ""
        and sentence.word(place - 1) not in _BEFORE_A_VERB
    )


def next_clause(sentence: Sentence, after: int) -> int:
    """Return the index of the first token of the clause after that of a calculation, which ended at `after`."""
    for place in range(after, len(sentence)):
        word = sentence.word(place)
        if sentence.mark(place) in (",", ";", ":") or word in _CLAUSE:
            return place + 1
        if word == "and":  # a number right after the word belongs to the calculation's clause
            return place + 2
    return len(sentence)


def is_beside_the_point(sentence: Sentence, start: int) -> bool:
    """Return True if a preposition stands before the number at `start`: the 7 of `42 eggs in 7 days`."""
    return sentence.word_before(start, _AFTER_A_PREPOSITION) in _PREPOSITIONS
