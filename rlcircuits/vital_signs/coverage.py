"""coverage@k: how many different right ways to answer are expected among k answers, of both models.

pass@k of a question with several right ways (six orders of a sum, say) can stay at 1 while all but one of them are
lost. With c_w right answers of n that go way w (RL-PLUS, arXiv 2508.00222, and Chen et al., arXiv 2107.03374)

    coverage@k = Σ_w 1 − C(n−c_w, k) / C(n, k)

which is pass@k where there is one way. A way is the format of a right answer (:mod:`rlcircuits.vital_signs.formats`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.formats import OWN_FORMAT, Classifier, skeleton
from rlcircuits.vital_signs.sign import Sign, no_room, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import RL_PLUS

__all__ = ["RightPaths", "coverage_at_k", "coverage_sign", "right_paths"]

_NAME, _UNIT = "coverage@k", "right ways"


@dataclass(frozen=True)
class RightPaths:
    """How many right answers to each question go each way."""

    counts: Mapping[str, Mapping[str, int]]
    """By question and way, the number of right answers."""
    answers: Mapping[str, int]
    """By question, the number of all answers."""

    def of(self, questions: Sequence[str]) -> RightPaths:
        """Return those of these questions, in this order."""
        return RightPaths(
            {question: self.counts[question] for question in questions},
            {question: self.answers[question] for question in questions},
        )


def right_paths(answers: Answers, questions: Mapping[str, str], classify: Classifier = skeleton) -> RightPaths:
    """Return the ways of a model's right answers.

    Args:
        answers: its answers.
        questions: text of each question, by id; empty where there is none.
        classify: gives an answer its way.
    """
    counts: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for item in answers.items:
        found = counts.setdefault(item.question_id, Counter())
        total[item.question_id] += 1
        if item.correct:
            found[classify(questions.get(item.question_id, ""), item.text)] += 1
    return RightPaths(counts, total)


def coverage_at_k(paths: RightPaths, k: int) -> Float64Array:
    """Return the unbiased estimate of each question's coverage@k, float64 [questions].

    Args:
        paths: the ways of a model's right answers.
        k: number of answers that are drawn; at most the answers to each question.

    Raises:
        RLCircuitsError: k is below 1 or above the number of answers to a question.
    """
    fewest = min(paths.answers.values(), default=0)
    if not 1 <= k <= fewest:
        raise RLCircuitsError(f"k is {k}; it must be from 1 to {fewest}, the fewest answers to one question")
    values = []
    for question, found in paths.counts.items():
        counts = np.array(list(found.values()), dtype=np.int64)
        values.append(float(np.sum(stats.hypergeom.sf(0, paths.answers[question], counts, k))))
    return np.array(values, dtype=np.float64)


def coverage_sign(
    before: Answers, after: Answers, questions: Mapping[str, str], classify: Classifier = skeleton
) -> Sign:
    """Return the change of coverage@k at the largest k, as a sign that is only reported.

    Args:
        before: before's answers.
        after: after's answers to the same questions.
        questions: text of each question, by id.
        classify: gives an answer its way.

    Returns:
        The sign. ``details`` has both curves, ``k``, ``before`` and ``after``. There is no room where no question is
        answered right in two ways, so that it would be pass@k.
    """
    ours, theirs = (right_paths(each, questions, classify) for each in (before, after))
    common = [question for question in ours.counts if question in theirs.counts]
    ours, theirs = ours.of(common), theirs.of(common)
    largest = min([*ours.answers.values(), *theirs.answers.values()], default=0)
    if largest < 2:
        return not_measurable(_NAME, RL_PLUS, _UNIT, "it needs at least two answers to each question; raise n")
    right = sum(sum(found.values()) for side in (ours, theirs) for found in side.counts.values())
    ways = {way for side in (ours, theirs) for found in side.counts.values() for way in found}
    if not any(len({*ours.counts[question], *theirs.counts[question]}) > 1 for question in common):
        why = "no question is answered right in two ways, so that it is pass@k"
        return no_room(_NAME, RL_PLUS, _UNIT, why if right else "neither model solves any question")
    if len(ways) > OWN_FORMAT * right:
        why = f"{len(ways)} ways in {right} right answers: nearly every answer has its own; name patterns"
        return not_measurable(_NAME, RL_PLUS, _UNIT, why)
    sizes = range(1, largest + 1)
    curves = [np.stack([coverage_at_k(side, k) for k in sizes], axis=1) for side in (ours, theirs)]
    return paired_sign(
        _NAME,
        RL_PLUS,
        _UNIT,
        f"different right ways to a question in {largest} answers; {len(ways)} ways in all",
        curves[0][:, -1],
        curves[1][:, -1],
        details={
            "k": list(sizes),
            "before": curves[0].mean(axis=0).tolist(),
            "after": curves[1].mean(axis=0).tolist(),
        },
    )
