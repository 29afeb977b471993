"""Formats of answers: how many there are, whether one takes all, and whether reward explains it.

Echo Chamber (arXiv 2504.07912): RL moves a model to one of the formats that its pretraining data had. With before's
share α_i and accuracy a_i of each format, RL with a KL penalty β towards before and reward 1 for a right answer would
give the shares (the policy π* ∝ π e^{r/β}, section 3.6)

    predicted_i ∝ α_i (a_i e^{1/β} + 1 − a_i)        for β → 0: ∝ α_i a_i

What the shares moved beyond that, KL(observed ‖ predicted), is collapse that reward does not explain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special, stats

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.patterns import UserPattern
from rlcircuits.common.reprs import format_count
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.sign import Outcome, Sign, no_room, not_measurable
from rlcircuits.vital_signs.studies import ECHO_CHAMBER

__all__ = ["Classifier", "by_patterns", "format_signs", "predicted_shares", "skeleton", "unmatched_formats"]

OWN_FORMAT = 0.5
"""With more formats than this share of the answers, nearly every answer has its own, and nothing is said of them."""

COLLAPSE = 0.5
"""A ratio of the effective numbers of formats, after to before, below which one format took over."""

Classifier = Callable[[str, str], str]
"""Maps a question's text and an answer's text to the name of the answer's format."""

_REST = "other"
"""Name of the format of answers that no pattern matches."""
_LONGEST = 20
_RESAMPLES, _SEED = 2000, 42
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s]")


def skeleton(question: str, answer: str) -> str:
    """Return an answer's format: its first 20 words and symbols, without its numbers.

    A number that the question has becomes a letter, A for the question's first number, B for its second, …; any other
    number becomes ``#``.

    Args:
        question: the question's text.
        answer: the answer's text.
    """
    letters: dict[str, str] = {}
    for number in _NUMBER.findall(question):
        letters.setdefault(number, chr(ord("A") + len(letters)) if len(letters) < 26 else "#")
    tokens = _TOKEN.findall(answer)[:_LONGEST]
    return " ".join(letters.get(token, "#") if token[0].isdigit() else token.lower() for token in tokens)


def by_patterns(patterns: Mapping[str, str]) -> Classifier:
    """Return a classifier by regular expressions: an answer has the format of the first that it contains, or ``other``.

    Args:
        patterns: name of a format → regular expression.

    Raises:
        RLCircuitsError: an expression cannot be read, or a format is named ``other``; from the classifier, if an
            expression takes too long on an answer.
    """
    compiled: dict[str, UserPattern] = {}
    for name, pattern in patterns.items():
        if name == _REST:
            raise RLCircuitsError(f"format {name!r}: the name of answers that no expression matches; give it another")
        compiled[name] = UserPattern(f"format {name!r}", pattern)
    return lambda _question, answer: next((name for name, pattern in compiled.items() if pattern.is_in(answer)), _REST)


def unmatched_formats(patterns: Mapping[str, str], answers: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each pattern that is in no answer.

    Args:
        patterns: as for :func:`by_patterns`.
        answers: the texts of the answers.
    """
    compiled = {name: UserPattern(f"format {name!r}", pattern) for name, pattern in patterns.items()}
    count = format_count(len(answers), "answer")
    return tuple(
        f"format {name!r}: {truncated_repr(each.pattern)} is in none of {count}, such as {truncated_repr(answers[0])}"
        for name, each in compiled.items()
        if answers and not any(map(each.is_in, answers))
    )


def predicted_shares(shares: Float64Array, accuracies: Float64Array, beta: float) -> Float64Array:
    """Return the shares of formats that reward alone predicts, float64 [formats].

    Args:
        shares: before's share of each format, float64 [formats].
        accuracies: before's accuracy with each format, float64 [formats], from 0 to 1.
        beta: weight of the KL penalty, above 0; 0 is the limit.
    """
    # Divided by e^{1/β}, which overflows for small β.
    wrong = float(np.exp(-1 / beta)) if beta else 0.0
    weights = shares * (accuracies + (1 - accuracies) * wrong)
    return weights / weights.sum() if weights.sum() else shares


def format_signs(
    before: Answers,
    after: Answers,
    questions: Mapping[str, str],
    classify: Classifier = skeleton,
    beta: float = 0.0,
) -> tuple[Sign, ...]:
    """Return the formats' drift, their effective number, and the collapse that reward does not explain.

    Intervals are bootstrap intervals over the questions, since the answers to one question are not independent.

    Args:
        before: before's answers.
        after: after's answers to the same questions.
        questions: text of each question, by id.
        classify: gives an answer its format.
        beta: weight of the KL penalty of the training, for the prediction.
    """
    names = ("format_drift", "effective_formats", "format_excess")
    table = _FormatTable(before, after, questions, classify)
    if not table.formats:
        return tuple(not_measurable(name, ECHO_CHAMBER, "share", "the models share no question") for name in names)
    if len(table.formats) > OWN_FORMAT * table.answers:
        why = f"{len(table.formats)} formats in {table.answers} answers: nearly every answer has its own; name patterns"
        return tuple(not_measurable(name, ECHO_CHAMBER, "share", why) for name in names)
    if len(table.formats) == 1:
        return tuple(no_room(name, ECHO_CHAMBER, "share", "all answers have one format") for name in names)
    seen = table.measure(np.ones(table.questions), beta)
    rng = np.random.default_rng(_SEED)
    draws = np.array([table.measure(_resample(rng, table.questions), beta) for _ in range(_RESAMPLES)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    drift, before_number, after_number, ratio, excess = (float(value) for value in seen)
    # A plug-in KL is biased upwards, and a resampled one by as much again: the basic interval takes that off.
    excess_interval = (float(2 * excess - high[4]), float(2 * excess - low[4]))
    collapsed = high[3] < COLLAPSE and excess_interval[0] > 0
    # Trouble needs both a small ratio and an excess, so the weaker evidence of the two counts.
    not_so = max(np.count_nonzero(draws[:, 3] >= COLLAPSE), np.count_nonzero(draws[:, 4] >= 2 * excess))
    change_low, change_high = np.percentile(draws[:, 2] - draws[:, 1], [2.5, 97.5])
    outcome: Outcome = "trouble" if collapsed else "no alarm"
    (dominant, share), (dominant_after, share_after) = table.dominant("before"), table.dominant("after")
    details = {"dominant_before": dominant, "dominant_after": dominant_after, "formats": len(table.formats)}
    return (
        Sign(
            names[0],
            ECHO_CHAMBER,
            "total variation",
            "reported",
            f"largest share {share:.2f} → {share_after:.2f}",
            change=drift,
            interval=(float(low[0]), float(high[0])),
            questions=table.questions,
            details=details,
        ),
        Sign(
            names[1],
            ECHO_CHAMBER,
            "formats",
            outcome,
            f"ratio {ratio:.2f} [{low[3]:.2f}, {high[3]:.2f}]; trouble below {COLLAPSE} with excess",
            before=before_number,
            after=after_number,
            change=after_number - before_number,
            interval=(float(change_low), float(change_high)),
            p=float((1 + not_so) / (1 + _RESAMPLES)),
            questions=table.questions,
            details={"ratio": ratio, "ratio_interval": [float(low[3]), float(high[3])]},
        ),
        Sign(
            names[2],
            ECHO_CHAMBER,
            "nats",
            "reported",
            f"KL from what reward predicts (beta = {beta:g})",
            change=excess,
            interval=excess_interval,
            questions=table.questions,
        ),
    )


def _resample(rng: np.random.Generator, count: int) -> Float64Array:
    """Return how often each of ``count`` questions is drawn, with replacement, float64 [count]."""
    return rng.multinomial(count, np.full(count, 1 / count)).astype(np.float64)


class _FormatTable:
    """Counts of formats, question by question, of both models.

    Attributes:
        formats: names.
        questions: number of questions that both answered.
        answers: number of answers.
    """

    def __init__(self, before: Answers, after: Answers, questions: Mapping[str, str], classify: Classifier) -> None:
        asked = {item.question_id for item in before.items} & {item.question_id for item in after.items}
        row = {question: index for index, question in enumerate(sorted(asked))}
        found = [
            [
                (row[item.question_id], classify(questions[item.question_id], item.text), item.correct)
                for item in side.items
                if item.question_id in asked
            ]
            for side in (before, after)
        ]
        common = Counter(name for side in found for _, name, _ in side)
        self.formats: Sequence[str] = [name for name, _ in common.most_common()]
        self.questions, self.answers = len(asked), sum(map(len, found))
        column = {name: index for index, name in enumerate(self.formats)}
        shape = (len(asked), len(self.formats))
        self._before, self._right, self._after = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for question, name, correct in found[0]:
            self._before[question, column[name]] += 1
            self._right[question, column[name]] += correct
        for question, name, _ in found[1]:
            self._after[question, column[name]] += 1

    def measure(self, weights: Float64Array, beta: float) -> Float64Array:
        """Return drift, effective numbers before and after, their ratio, and the excess, with weighted questions."""
        before, right, after = weights @ self._before, weights @ self._right, weights @ self._after
        shares, shares_after = before / before.sum(), after / after.sum()
        # Half an answer for each format, so that a format which before never used is not infinitely surprising.
        smooth = (before + 0.5) / (before + 0.5).sum()
        accuracies = (right + 0.5 * right.sum() / before.sum()) / (before + 0.5)
        predicted = predicted_shares(smooth, accuracies, beta)
        smooth_after = (after + 0.5) / (after + 0.5).sum()
        first, second = (float(np.exp(stats.entropy(each))) for each in (shares, shares_after))
        drift = 0.5 * float(np.abs(shares - shares_after).sum())
        return np.array([drift, first, second, second / first, float(special.rel_entr(smooth_after, predicted).sum())])

    def dominant(self, side: str) -> tuple[str, float]:
        """Return the most frequent format of a side, and its share."""
        counts = (self._before if side == "before" else self._after).sum(axis=0)
        return self.formats[int(counts.argmax())], float(counts.max() / counts.sum())
