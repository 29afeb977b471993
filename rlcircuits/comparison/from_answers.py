"""Make a comparison from both checkpoints' answers alone: their accuracies, and metrics that are not measured.

It is what a pair has of which too few questions are left to compare, and what a comparison with scores starts from
(:mod:`rlcircuits.comparison.from_scores`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common import defaults
from rlcircuits.comparison.comparison import LABELS, Comparison, Requested, Unfinished
from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect, compare_accuracy, paired_effects
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.comparison.profiles import Profile, current_name, profile_for

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers


def compare_answers(
    pairing: Pairing,
    before_answers: Answers,
    after_answers: Answers,
    *,
    name: str,
    algorithm: str,
    granularity: str = defaults.GRANULARITY,
    profile: str | None = None,
    engine: str = defaults.ENGINE,
    trust_remote_code: bool = False,
    rules: Profile | None = None,
    claims: Sequence[AccuracyClaim] = (),
    weights: WeightChanges | None = None,
    differences: Sequence[str] = (),
    greedy: AccuracyEffect | None = None,
    noise_draws: int = 0,
) -> Comparison:
    """Compare two checkpoints by their answers; every metric is undefined on every question.

    Args:
        pairing: which answers are compared with which; it may hold no question.
        before_answers: all answers of before.
        after_answers: all answers of after.
        name: the pair's name.
        algorithm: how after was trained.
        granularity: nodes of the graph that the scores have, or would have.
        profile: the profile that the pair is judged by; by default the algorithm's.
        engine: what generated the answers.
        trust_remote_code: whether the checkpoints' own code was allowed to run.
        rules: the profile itself, if it is not a built-in one; `profile` is then its name.
        claims: what the release states of after's accuracy.
        weights: what differs between the two checkpoints' weights.
        differences: what else differs between the two, a sentence each.
        greedy: accuracy at temperature 0, if it was measured.
        noise_draws: draws of the noise control that were asked for.

    Raises:
        RLCircuitsError: the answers share no question, or the algorithm has no profile and none is named.
    """
    undefined = dict.fromkeys(LABELS, np.full(len(pairing.question_ids), np.nan))
    return Comparison(
        name=name,
        before=before_answers.model,
        after=after_answers.model,
        algorithm=algorithm,
        profile=rules.name if rules else current_name(profile) if profile else profile_for(algorithm).name,
        questions=before_answers.question_set,
        split=before_answers.split,
        granularity=granularity,
        engine=engine,
        sampling=before_answers.sampling.table(),
        prompting=None if before_answers.prompting is None else before_answers.prompting.model_dump(),
        score_on=pairing.score_on,
        alpha=pairing.alpha,
        balance=pairing.balance,
        question_ids=pairing.question_ids,
        t_cut=pairing.t_cut,
        ref=pairing.ref,
        funnel=dict(pairing.funnel),
        dropped=dict(pairing.dropped_ids),
        note=pairing.note,
        accuracy=compare_accuracy(before_answers, after_answers),
        effects=paired_effects(undefined, undefined),
        controls=(),
        rules=rules,
        claims=tuple(claims),
        weights=weights,
        differences=tuple(differences),
        by_reader_kind={},
        by_layer_band={},
        trust_remote_code=trust_remote_code,
        unfinished=Unfinished.of(before_answers, after_answers),
        greedy=greedy,
        requested=Requested(pairing.k, noise_draws),
    )
