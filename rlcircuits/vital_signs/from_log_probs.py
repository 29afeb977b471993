"""All signs that come from both models' log-probabilities of both models' answers.

1. Each model answers (``rlcircuits.answers``), with the same sampling.
2. Each model scores both sides' answers (:func:`answer_log_probs`), four tables in all. One model is in memory at a
   time: load before, score both sides, load after, score both sides.
3. :func:`log_prob_signs` needs no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.confidence import OwnAnswers, unearned_confidence
from rlcircuits.vital_signs.counts import count_right
from rlcircuits.vital_signs.exact_kl import stored_kl
from rlcircuits.vital_signs.feature_similarity import feature_similarity
from rlcircuits.vital_signs.kl_per_point import kl_per_point
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.mass_audit import mass_audit
from rlcircuits.vital_signs.reopening import FIRST, Segment, reopening
from rlcircuits.vital_signs.scored_answers import scored_answers, scoring_temperature
from rlcircuits.vital_signs.sign import Sign
from rlcircuits.vital_signs.token_log_probs import answer_log_probs

__all__ = ["PairTables", "SideTables", "log_prob_signs", "score_both_sides"]


@dataclass(frozen=True, eq=False)
class SideTables:
    """What one model says of both sides' answers."""

    on_before: AnswerLogProbs
    """Of the answers of the model before."""
    on_after: AnswerLogProbs
    """Of the answers of the model after."""


@dataclass(frozen=True, eq=False)
class PairTables:
    """The four tables of a pair."""

    before: SideTables
    """What the model before says."""
    after: SideTables
    """What the model after says."""


def score_both_sides(
    model: Any,
    before: Answers,
    after: Answers,
    *,
    batch_tokens: int | None = None,
    distributions: bool = False,
    progress: bool = False,
) -> SideTables:
    """Return what one model of a pair says of both sides' answers, at the temperature at which they were drawn.

    Args:
        model: either model of the pair, as :func:`answer_log_probs` takes it.
        before: the answers of the model before.
        after: the answers of the model after.
        batch_tokens: most tokens, padding included, in a batch.
        distributions: keep the distributions on after's answers, for the exact KL divergence; for small models.
        progress: show a progress bar on stderr.

    Returns:
        Both tables; that of before's answers has features. Greedy answers are scored at temperature 1.

    Raises:
        RLCircuitsError: as :func:`answer_log_probs`.
    """
    ours, theirs = scored_answers(before), scored_answers(after)
    return SideTables(
        on_before=answer_log_probs(
            model,
            ours.sequences,
            batch_tokens=batch_tokens,
            temperature=scoring_temperature(before.sampling),
            features=True,
            progress=progress,
        ),
        on_after=answer_log_probs(
            model,
            theirs.sequences,
            batch_tokens=batch_tokens,
            temperature=scoring_temperature(after.sampling),
            distributions=distributions,
            progress=progress,
        ),
    )


def log_prob_signs(
    before: Answers,
    after: Answers,
    tables: PairTables,
    *,
    exact: Float64Array | None = None,
    segments: Sequence[Sequence[Segment]] | None = None,
    first: int = FIRST,
    threshold: float = 0.0,
) -> tuple[Sign, ...]:
    """Return all signs that come from both models' log-probabilities.

    ``right_up``, ``wrong_down``, ``new_mass`` and ``importance_accuracy`` (NFT, arXiv 2505.18116) are of before's
    answers, as is ``feature_similarity`` (CF-RL, arXiv 2601.04670). ``kl_per_point`` (arXiv 2509.24372) and
    ``reopening`` (ARPO, arXiv 2507.19849) are of after's answers. ``unearned_confidence`` (CF-RL) is of each model's
    own. ``right_up`` and ``unearned_confidence`` can be in trouble; the others are reported.

    Args:
        before: the answers of the model before.
        after: the answers of the model after, with the same sampling.
        tables: what both models say of both.
        exact: exact KL(after ‖ before) at each token of after's answers, float64 [tokens]; by default from the tables'
            distributions if both have them, and k3 otherwise.
        segments: the boundaries in after's answers, a list for each answer that has tokens; None for no ``reopening``.
        first: how many tokens after a boundary are averaged.
        threshold: how many nats an answer the likelihood of before's right answers may fall, from 0.

    Returns:
        The signs, in the order above but with ``kl_per_point``, ``unearned_confidence``, ``feature_similarity`` and
        then ``reopening`` after the first four.

    Raises:
        RLCircuitsError: answers with different sampling, or to no common question; tables of other answers or
            temperatures; segments or exact divergences that do not fit after's answers.
    """
    if before.sampling != after.sampling:
        raise RLCircuitsError(
            f"before was sampled with {before.sampling} and after with {after.sampling}; a pair needs the same sampling"
        )
    ours, theirs = scored_answers(before), scored_answers(after)
    old, new = tables.before, tables.after
    counts = count_right(before), count_right(after)
    if exact is None and old.on_after.distributions is not None and new.on_after.distributions is not None:
        exact = stored_kl(new.on_after, old.on_after)
    signs = [
        *mass_audit(
            ours,
            old.on_before,
            new.on_before,
            counts[1],
            threshold=threshold,
        ),
        kl_per_point(theirs, old.on_after, new.on_after, *counts, exact=exact),
        unearned_confidence(
            OwnAnswers(ours, old.on_before),
            OwnAnswers(theirs, new.on_after),
        ),
        feature_similarity(ours, old.on_before, new.on_before),
    ]
    if segments is not None:
        signs.append(reopening(theirs, old.on_after, new.on_after, segments, first=first))
    return tuple(signs)
