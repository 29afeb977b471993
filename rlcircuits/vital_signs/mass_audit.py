"""Where probability went: how likely before's own answers are under the model after.

The study (Negative-aware Fine-Tuning, arXiv 2505.18116) trains on own right and wrong answers: right ones should gain
likelihood and wrong ones lose it. With ℓ(y) = log π_after(y | q) − log π_before(y | q) of before's n answers y:

- ``right_up``: mean ℓ of right answers, in nats an answer. Below 0, right answers lose likelihood to something else
  (likelihood displacement). Over *all* of before's answers the mean of ℓ is −KL(before ‖ after), so it falls with any
  movement, also one that helps nothing and harms nothing. Hold the fall of right answers against :func:`harmless_fall`
  or ``movement``, the divergence, which is told beside it.
- ``wrong_down``: −mean ℓ of wrong answers.
- ``new_mass``: Σ over the *distinct* sampled y of π_before(y) − π_after(y): what after gives to answers that before
  was not seen to give.
- ``importance_accuracy``: right share × mean(e^ℓ of right answers) = mean(e^ℓ · right), an unbiased estimate of
  after's accuracy from before's answers. It is right only if the answers were drawn from the model that is scored, so a
  contradiction with the measured accuracy tells of another tokenizer, template or engine than was claimed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.exact_kl import check_same_answers
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs, FloatArray
from rlcircuits.vital_signs.scored_answers import ScoredAnswers, common_questions
from rlcircuits.vital_signs.sign import Sign, no_room, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import NFT

__all__ = [
    "ESS_SHARE",
    "HARMLESS_FALL",
    "LOWEST",
    "MASS_SEEN",
    "MassAudit",
    "effective_share",
    "harmless_fall",
    "mass_audit",
    "weigh_answers",
]

LOWEST = -100.0
"""Log-probability of a token, in nats, below which it counts as this: log 0 would make every mean infinite."""

ESS_SHARE = 0.1
"""Effective share of the answers below which sums of e^ℓ are not estimable."""

HARMLESS_FALL = 0.01
"""How many nats a token the likelihood of before's right answers may fall where no other threshold is stated."""

MASS_SEEN = 0.1
"""Probability of the distinct sampled answers under before, a mean over questions, below which mass that left them
says nothing about mass that left before's answers."""


@dataclass(frozen=True, eq=False)
class MassAudit:
    """Before's answers under both models. All arrays are float64 [answers]."""

    before: Float64Array
    """log π_before(y | q), in nats an answer."""
    after: Float64Array
    """log π_after(y | q)."""
    lengths: Float64Array
    """Number of tokens."""
    clipped: int
    """Answers with a token whose log-probability, under either model, was raised to :data:`LOWEST`."""

    @property
    def gain(self) -> Float64Array:
        """Return ℓ = log π_after(y | q) − log π_before(y | q) of each answer, float64 [answers], in nats."""
        return self.after - self.before


def weigh_answers(before: AnswerLogProbs, after: AnswerLogProbs) -> MassAudit:
    """Return the log-likelihood of each answer under both models.

    Args:
        before: the model before's table of its own answers.
        after: the model after's table of the same answers.

    Raises:
        RLCircuitsError: the tables are of different answers or temperatures.
    """
    check_same_answers(before, after)
    clipped = before.sums(np.minimum(before.log_probs, after.log_probs) < LOWEST)
    return MassAudit(
        before=before.sums(_clip(before.log_probs)),
        after=after.sums(_clip(after.log_probs)),
        lengths=before.lengths.astype(np.float64),
        clipped=int(np.count_nonzero(clipped)),
    )


def effective_share(log_weights: Float64Array) -> float:
    """Return the effective share of some weighted answers, (Σ w)² / (n Σ w²) (Kish), from above 0 to 1.

    Args:
        log_weights: log w, float64 [n], n ≥ 1.
    """
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights.size * (weights**2).sum()))


def harmless_fall(before: Answers) -> float:
    """Return how many nats the likelihood of a right answer may fall: :data:`HARMLESS_FALL` for each of its tokens.

    Args:
        before: before's answers, of whose right ones the mean length counts.
    """
    lengths = [len(item.answer_ids) for item in before.items if item.correct]
    return HARMLESS_FALL * sum(lengths) / len(lengths) if lengths else 0.0


def mass_audit(
    answers: ScoredAnswers,
    before: AnswerLogProbs,
    after: AnswerLogProbs,
    measured: Counts | None = None,
    *,
    threshold: float = 0.0,
) -> tuple[Sign, ...]:
    """Return the signs ``right_up``, ``wrong_down``, ``new_mass`` and ``importance_accuracy``, in this order.

    Args:
        answers: before's own answers.
        before: the model before's table of them, at the temperature at which they were drawn.
        after: the model after's table of them.
        measured: after's measured counts of right answers, to hold the estimated accuracy against; None if unknown.
        threshold: how many nats an answer the likelihood of right answers may fall, from 0.

    Returns:
        ``right_up`` can be in trouble (its study's alarm: right answers lose likelihood); the others are reported. Its
        ``details`` have ``movement``, the estimate −mean ℓ of KL(before ‖ after) over all answers, in nats an answer.

    Raises:
        RLCircuitsError: a table that is of other answers or another temperature.
    """
    for table in (before, after):
        answers.check(table)
    audit = weigh_answers(before, after)
    return (
        _right_up(answers, audit, threshold),
        _wrong_down(answers, audit),
        _new_mass(answers, audit, before.temperature),
        _importance_accuracy(answers, audit, measured, before.temperature),
    )


def _right_up(answers: ScoredAnswers, audit: MassAudit, threshold: float) -> Sign:
    name, unit, right = "right_up", "nats/answer", answers.right
    if not right.any():
        return not_measurable(name, NFT, unit, "before gave no right answer whose likelihood could fall")
    return paired_sign(
        name,
        NFT,
        unit,
        "log-likelihood of before's right answers, under before and under after",
        answers.means(audit.before, right),
        answers.means(audit.after, right),
        worse="down",
        threshold=threshold,
        details={
            "per_token": _mean(answers.means(audit.gain / audit.lengths, right)),
            "movement": _mean(answers.means(-audit.gain)),
            "answers": int(right.sum()),
            "clipped": audit.clipped,
        },
    )


def _wrong_down(answers: ScoredAnswers, audit: MassAudit) -> Sign:
    name, unit, wrong = "wrong_down", "nats/answer", ~answers.right
    if not wrong.any():
        return no_room(name, NFT, unit, "before gave no wrong answer")
    return paired_sign(
        name,
        NFT,
        unit,
        "minus the log-likelihood of before's wrong answers, under before and under after",
        answers.means(-audit.before, wrong),
        answers.means(-audit.after, wrong),
        details={
            "per_token": _mean(answers.means(-audit.gain / audit.lengths, wrong)),
            "answers": int(wrong.sum()),
            "clipped": audit.clipped,
        },
    )


def _new_mass(answers: ScoredAnswers, audit: MassAudit, temperature: float) -> Sign:
    name, unit = "new_mass", "probability"
    if reason := _not_drawn_from_before(answers, temperature):
        return not_measurable(name, NFT, unit, reason)
    distinct = _distinct(answers)
    seen = _probability(answers, audit.before, distinct)
    if not seen.size or seen.mean() < MASS_SEEN:
        share = float(seen.mean()) if seen.size else 0.0
        note = f"the sampled answers hold {share:.2g} of before's probability; at least {MASS_SEEN:g} is wanted"
        return not_measurable(name, NFT, unit, note, details={"seen": share})
    return paired_sign(
        name,
        NFT,
        unit,
        "probability of all answers but those that before was seen to give",
        1 - seen,
        1 - _probability(answers, audit.after, distinct),
        details={"seen": float(seen.mean()), "distinct": int(distinct.sum())},
    )


def _importance_accuracy(answers: ScoredAnswers, audit: MassAudit, measured: Counts | None, temperature: float) -> Sign:
    name, unit = "importance_accuracy", "share"
    if reason := _not_drawn_from_before(answers, temperature):
        return not_measurable(name, NFT, unit, reason)
    if not len(answers.rows):
        return not_measurable(name, NFT, unit, "before gave no answer with a token")
    share = effective_share(audit.gain)
    details: dict[str, object] = {"effective_share": share, "mean_weight": float(np.exp(audit.gain).mean())}
    if share < ESS_SHARE:
        note = f"not estimable: the weights leave {share:.1%} of before's answers effective; {ESS_SHARE:.0%} is wanted"
        return not_measurable(name, NFT, unit, note, details=details)
    right = answers.right.astype(np.float64)
    estimated = answers.means(right * np.exp(audit.gain))
    note = "before's accuracy, and after's as before's answers and both likelihoods give it"
    if measured is not None:
        note += _against_measured(answers, estimated, measured, details)
    return paired_sign(name, NFT, unit, note, answers.means(right), estimated, details=details)


def _against_measured(
    answers: ScoredAnswers, estimated: Float64Array, measured: Counts, details: dict[str, object]
) -> str:
    """Add estimated − measured to the details, with its interval; return the note's last words.

    Only the interval of the mean is used. The weights are skewed, so a signed-rank test would reject a true mean of 0.
    """
    ours, theirs = common_questions(answers.questions, measured.questions)
    if not len(ours):
        return ""
    compared = paired_sign(
        "estimated − measured", NFT, "share", "", measured.shares[theirs], estimated[ours], worse=None
    )
    low, high = compared.interval or (float("nan"), float("nan"))
    agrees = low <= 0 <= high
    details |= {"measured": compared.before, "difference": compared.change, "interval": [low, high], "agrees": agrees}
    if agrees:
        return ", which agrees with after's measured accuracy"
    return (
        f"; after's measured accuracy is {compared.before:.1%}, which contradicts it: were the answers drawn with this "
        f"tokenizer, template and engine?"
    )


def _not_drawn_from_before(answers: ScoredAnswers, temperature: float) -> str:
    """Return why the answers are no sample of the distribution that was scored, or nothing."""
    sampling = answers.sampling
    if sampling.temperature == 0:
        return "the answers are greedy; probabilities of answers need answers that were sampled"
    if sampling.top_p < 1:
        return f"the answers were drawn with top_p {sampling.top_p:g}, whose truncated probabilities are not known"
    if sampling.temperature != temperature:
        return f"the answers were drawn at temperature {sampling.temperature:g} and scored at {temperature:g}"
    return ""


def _distinct(answers: ScoredAnswers) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which answers are the first of their question with their tokens, bool [answers]."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    first = np.zeros(len(answers.rows), dtype=bool)
    for place, (row, sequence) in enumerate(zip(answers.rows.tolist(), answers.sequences, strict=True)):
        key = (row, sequence.answer_ids)
        first[place] = key not in seen
        seen.add(key)
    return first


def _probability(
    answers: ScoredAnswers, log_likelihood: Float64Array, distinct: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Float64Array:
    """Return the summed probability of each question's distinct answers, float64 [questions]."""
    weights = np.exp(log_likelihood[distinct])
    return np.bincount(answers.rows[distinct], weights=weights, minlength=len(answers.questions)).astype(np.float64)


def _clip(log_probs: FloatArray) -> FloatArray:
    return np.maximum(log_probs, LOWEST)


def _mean(values: Float64Array) -> float:
    return float(np.nanmean(values))
