"""How alike a model's features are from question to question.

The study (CF-RL, arXiv 2601.04670) has the change of a token's logit at one prefix grow with ⟨φ(x), φ(x_i)⟩, the inner
product of last hidden states there and at a trained prefix. Where all features are alike, every update pushes the
sampled tokens up everywhere. The uncentred cosine of language models' features is dominated by one or two outlier
dimensions, so the cosine around their mean is told too.
"""

from __future__ import annotations

import math

import numpy as np

from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.exact_kl import check_same_answers
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.scored_answers import ScoredAnswers
from rlcircuits.vital_signs.sign import Sign, not_measurable, reported
from rlcircuits.vital_signs.studies import CF_RL

__all__ = ["centred_similarity", "feature_similarity", "mean_cosine"]

_NAME, _UNIT = "feature_similarity", "cosine"
_FEWEST = 3
"""Fewest features of a jackknife."""
_NOTHING = 1e-9
"""A centred feature shorter than this share of the features' root mean square length has no direction."""
_NORMAL = 1.959963984540054
"""The normal distribution's 97.5 % point."""


def mean_cosine(features: Float64Array) -> float:
    """Return the mean cosine over all pairs of different features, S = mean_{i<j} cos(φ_i, φ_j).

    With unit vectors φ̂, ‖Σ φ̂_i‖² = K + 2 Σ_{i<j} cos(φ_i, φ_j), so it takes O(K) operations.

    Args:
        features: [K, width].

    Returns:
        A number from −1/(K − 1) to 1; NaN for fewer than two features, or where one has length 0.
    """
    unit = _unit(features)
    count = len(unit)
    if count < 2:
        return math.nan
    return float((np.square(unit.sum(0)).sum() - count) / (count * (count - 1)))


def centred_similarity(features: Float64Array) -> float:
    """Return :func:`mean_cosine` of the features less their mean.

    Args:
        features: [K, width].

    Returns:
        About −1/(K − 1) for features that scatter evenly; NaN where a feature is the mean itself.
    """
    if len(features) < 2:
        return math.nan
    exact = features.astype(np.float64)
    centred = exact - exact.mean(0)
    smallest = _NOTHING * math.sqrt(np.square(exact).sum(-1).mean())
    if (np.linalg.norm(centred, axis=-1) <= smallest).any():
        return math.nan
    return mean_cosine(centred)


def feature_similarity(answers: ScoredAnswers, before: AnswerLogProbs, after: AnswerLogProbs) -> Sign:
    """Return the mean pairwise cosine of features at one scored position a question, before and after.

    Both models' features are of the same answers at the same positions, so that a change is one of the model. The
    first answer to each question counts. The interval of the change is a jackknife over questions.

    Args:
        answers: the answers that both models scored.
        before: the model before's table of them, made with ``features=True``.
        after: the model after's.

    Returns:
        A sign that is only reported. ``details`` has the centred similarity before and after (None where undefined).

    Raises:
        RLCircuitsError: a table that is of other answers, or at another temperature than the other.
    """
    check_same_answers(before, after)
    answers.check(before)
    if before.features is None or after.features is None:
        return not_measurable(_NAME, CF_RL, _UNIT, "features were not kept when the answers were scored")
    first = answers.first_answers()
    old, new = (table.features[first].astype(np.float64) for table in (before, after))  # type: ignore[index]
    if len(first) < _FEWEST:
        note = f"{len(first)} questions have a feature; at least {_FEWEST} are wanted"
        return not_measurable(_NAME, CF_RL, _UNIT, note)
    similarities = mean_cosine(old), mean_cosine(new)
    if any(map(math.isnan, similarities)):
        return not_measurable(_NAME, CF_RL, _UNIT, "a feature is zero and has no direction")
    change = similarities[1] - similarities[0]
    margin = _NORMAL * _standard_error(_left_out(new) - _left_out(old))
    return reported(
        _NAME,
        CF_RL,
        _UNIT,
        "mean cosine of the final norm's output between questions",
        before=similarities[0],
        after=similarities[1],
        change=change,
        interval=(change - margin, change + margin),
        questions=len(first),
        details={"centred": [_or_none(centred_similarity(features)) for features in (old, new)]},
    )


def _unit(features: Float64Array) -> Float64Array:
    exact = features.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(exact / np.linalg.norm(exact, axis=-1, keepdims=True))


def _left_out(features: Float64Array) -> Float64Array:
    """Return the mean cosine without each feature in turn, float64 [K], in O(K) operations."""
    unit = _unit(features)
    count, total = len(unit), unit.sum(0)
    own = unit @ total - 1  # the sum of a feature's cosines with all others
    pairs = np.square(total).sum() - count - 2 * own
    return np.asarray(pairs / ((count - 1) * (count - 2)))


def _standard_error(left_out: Float64Array) -> float:
    """Return the jackknife's standard error (Tukey): sqrt((K − 1)/K · Σ (θ_(i) − mean θ_(·))²)."""
    count = len(left_out)
    return math.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
