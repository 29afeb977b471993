"""All signs that need nothing but graded answers."""

from __future__ import annotations

from collections.abc import Mapping

from rlcircuits.answers.answer_file import Answers
from rlcircuits.comparison.effects import compare_accuracy
from rlcircuits.comparison.paired_interval import paired_difference_interval
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.vital_signs.boundary import boundary_sign, lost_questions_sign
from rlcircuits.vital_signs.counts import common_counts, count_right
from rlcircuits.vital_signs.coverage import coverage_sign
from rlcircuits.vital_signs.formats import Classifier, format_signs, skeleton
from rlcircuits.vital_signs.lengths import length_gap_sign, right_length_sign, unfinished_sign
from rlcircuits.vital_signs.sign import Sign
from rlcircuits.vital_signs.silent_groups import signal_sign, silent_sign
from rlcircuits.vital_signs.steps import all_steps_sign, hard_solved_sign, step_accuracy_sign

__all__ = ["accuracy_sign", "answer_signs"]

FALL_LEVEL = 0.05


def answer_signs(
    before: Answers,
    after: Answers,
    questions: Mapping[str, str],
    *,
    group: int | None = None,
    classify: Classifier = skeleton,
    beta: float = 0.0,
) -> tuple[Sign, ...]:
    """Return every sign that needs nothing but the graded answers of both models.

    Args:
        before: before's answers.
        after: after's answers to the same questions.
        questions: text of each question, by id; for the formats and right ways.
        group: group size of the silent share; see :func:`~rlcircuits.vital_signs.silent_groups.silent_sign`.
        classify: gives an answer its format, which of right answers is their way.
        beta: weight of the KL penalty of the training; see :func:`~rlcircuits.vital_signs.formats.predicted_shares`.

    Raises:
        RLCircuitsError: the two share no question.
    """
    ours, theirs = common_counts(count_right(before), count_right(after))
    return (
        accuracy_sign(before, after),
        boundary_sign(ours, theirs),
        coverage_sign(before, after, questions, classify),
        lost_questions_sign(ours, theirs),
        silent_sign(ours, theirs, group),
        signal_sign(ours, theirs),
        hard_solved_sign(before, after),
        step_accuracy_sign(before, after),
        all_steps_sign(before, after),
        length_gap_sign(before, after),
        right_length_sign(before, after),
        unfinished_sign(before, after),
        *format_signs(before, after, questions, classify, beta),
    )


def accuracy_sign(before: Answers, after: Answers) -> Sign:
    """Return the accuracy before and after, in trouble where it fell by the exact one-sided sign test."""
    effect = compare_accuracy(before, after)
    change = effect.after - effect.before
    fell = change < 0 and effect.p_fall < FALL_LEVEL
    return Sign(
        "accuracy",
        "all",
        "share",
        "trouble" if fell else "no alarm",
        f"fell on {effect.lost} questions, rose on {effect.gained}",
        before=effect.before,
        after=effect.after,
        change=change,
        interval=_accuracy_interval(before, after),
        p=effect.p_fall,
        questions=effect.asked,
    )


def _accuracy_interval(before: Answers, after: Answers) -> tuple[float, float]:
    """Return the 95 % score interval of the change of accuracy over the questions that both answered."""
    ours, theirs = common_counts(count_right(before), count_right(after))
    return paired_difference_interval(ours.shares, theirs.shares, CONFIDENCE)
