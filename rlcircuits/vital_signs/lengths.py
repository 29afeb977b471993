"""Lengths of answers: wrong against right ones, and how many were cut off.

RL in Name Only (arXiv 2505.13697). A loss that divides by an answer's length punishes long wrong answers less a token,
so that wrong answers grow. Wrong answers are longer anyway where questions are hard, so lengths are compared
within a question, on the questions that have answers of both kinds in both models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.sign import Sign, no_room, paired_sign
from rlcircuits.vital_signs.studies import NAME_ONLY

__all__ = ["length_gap_sign", "right_length_sign", "unfinished_sign"]

HARMLESS_GAP = 0.1
"""A gap that grows by less than this share of before's mean length is harmless."""
HARMLESS_UNFINISHED = 0.01
VARYING = 0.1
"""Lengths whose standard deviation is a smaller share of their mean count as constant."""


def length_gap_sign(before: Answers, after: Answers) -> Sign:
    """Return mean length of wrong − right answers, a question, in tokens; in trouble where wrong answers lengthen.

    Args:
        before: before's answers.
        after: after's answers to the same questions.
    """
    lengths = np.array([len(item.answer_ids) for item in (*before.items, *after.items)])
    name, unit = "length_gap", "tokens"
    if not lengths.size or lengths.std() < VARYING * lengths.mean():
        return no_room(name, NAME_ONLY, unit, "all answers have nearly the same length")
    mean_before = float(np.mean([len(item.answer_ids) for item in before.items]))
    ours, theirs = _by_question(before, after, _gap)
    return paired_sign(
        name,
        NAME_ONLY,
        unit,
        "wrong − right answers' length, on questions with both kinds in both models",
        ours,
        theirs,
        worse="up",
        threshold=HARMLESS_GAP * mean_before,
        details={"mean_length_before": mean_before},
    )


def right_length_sign(before: Answers, after: Answers) -> Sign:
    """Return the mean length of right answers, on questions that both models answered right; reported."""
    ours, theirs = _by_question(before, after, lambda items: _mean_length([each for each in items if each.correct]))
    note = "mean length of right answers, on questions that both answered right"
    return paired_sign("right_length", NAME_ONLY, "tokens", note, ours, theirs)


def unfinished_sign(before: Answers, after: Answers) -> Sign:
    """Return the share of answers that were cut off; in trouble where it rises by more than a point."""
    ours, theirs = _by_question(before, after, lambda items: float(np.mean([not item.finished for item in items])))
    note = "answers cut off before their end token"
    return paired_sign("unfinished", NAME_ONLY, "share", note, ours, theirs, worse="up", threshold=HARMLESS_UNFINISHED)


def answers_by_question(answers: Answers) -> Mapping[str, Sequence[Answer]]:
    """Return the answers to each question, in order of the questions' first answers."""
    found: dict[str, list[Answer]] = {}
    for item in answers.items:
        found.setdefault(item.question_id, []).append(item)
    return found


def _by_question(
    before: Answers, after: Answers, value: Callable[[Sequence[Answer]], float]
) -> tuple[Float64Array, Float64Array]:
    """Return a value of each common question's answers in both models, float64 [questions] each."""
    ours, theirs = answers_by_question(before), answers_by_question(after)
    common = [question for question in ours if question in theirs]
    both = (np.array([value(side[question]) for question in common], dtype=np.float64) for side in (ours, theirs))
    first, second = both
    return first, second


def _gap(items: Sequence[Answer]) -> float:
    wrong, right = ([each for each in items if each.correct is kind] for kind in (False, True))
    return _mean_length(wrong) - _mean_length(right)


def _mean_length(items: Sequence[Answer]) -> float:
    return float(np.mean([len(item.answer_ids) for item in items])) if items else float("nan")
