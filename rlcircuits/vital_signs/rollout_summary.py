"""What stored rollouts say without a model, training step by training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count
from rlcircuits.vital_signs.boundary import pass_at_k
from rlcircuits.vital_signs.formats import Classifier, skeleton
from rlcircuits.vital_signs.rollouts import Rollout, rollout_counts, steps_of
from rlcircuits.vital_signs.silent_groups import GROUP, signal_left, silent_share

__all__ = ["SMALL_ADVANTAGE", "RolloutSummary", "summarize_rollouts"]

SMALL_ADVANTAGE = 0.1
"""A rollout whose |advantage| is smaller teaches next to nothing."""


@dataclass(frozen=True)
class RolloutSummary:
    """Rollouts of one training step. Shares and means are over questions; None where they are not defined."""

    step: int | None
    """None where the file has no steps."""
    questions: int
    answers: int
    accuracy: float
    group: int | None
    """Group size of the silent share."""
    solved: float | None
    """Share of groups that are all right."""
    dead: float | None
    """Share of groups that are all wrong."""
    small_advantages: float | None
    """Share of rollouts whose |standardised advantage| (reward, population standard deviation) is below 0.1."""
    signal: float | None
    """Mean |standardised advantage| of right-or-wrong rewards."""
    k: int
    """The fewest answers to a question."""
    pass_at_k: float | None
    formats: float | None
    """Effective number of formats, e to the entropy of their shares; None where no answer has a text."""
    calls: float | None
    """Mean number of tools' results in an answer, of the answers whose line marks them; None without marks."""
    right_length: float | None
    wrong_length: float | None


def summarize_rollouts(
    rollouts: Sequence[Rollout], group: int | None = None, classify: Classifier = skeleton
) -> tuple[RolloutSummary, ...]:
    """Return a summary of each training step.

    Args:
        rollouts: the rollouts.
        group: group size of the silent share; None: 8, or the fewest answers to a question if these are fewer.
        classify: gives an answer its format, from the question's id or prompt and the answer's text.

    Raises:
        RLCircuitsError: the group is larger than the answers to a question.
    """
    return tuple(_summary(step, each, group, classify) for step, each in steps_of(rollouts).items())


def _summary(step: int | None, rollouts: Sequence[Rollout], group: int | None, classify: Classifier) -> RolloutSummary:
    counts = rollout_counts(rollouts)
    fewest = counts.fewest
    size = group or min(GROUP, fewest)
    if size > fewest:
        at = "" if step is None else f" of step {step}"
        raise RLCircuitsError(
            f"the group size is {size}, and a question{at} has {format_count(fewest, 'answer')}; "
            + (f"give --group from 2 to {fewest}, or none" if fewest > 1 else "leave --group out")
        )
    solved, dead = silent_share(counts, size) if size > 1 else (None, None)
    shares = np.array(list(Counter(classify(each.question, each.text) for each in rollouts).values()), dtype=float)
    several = fewest > 1
    return RolloutSummary(
        step=step,
        questions=len(counts.questions),
        answers=len(rollouts),
        accuracy=float(counts.shares.mean()),
        group=size if size > 1 else None,
        solved=None if solved is None else float(solved.mean()),
        dead=None if dead is None else float(dead.mean()),
        small_advantages=_small_advantages(rollouts) if several else None,
        signal=float(signal_left(counts).mean()) if several else None,
        k=fewest,
        pass_at_k=float(pass_at_k(counts, fewest).mean()) if several else None,
        formats=float(np.exp(stats.entropy(shares))) if any(each.text for each in rollouts) else None,
        calls=_mean([each.calls for each in rollouts if each.calls is not None]),
        right_length=_mean([each.length for each in rollouts if each.correct and each.length is not None]),
        wrong_length=_mean([each.length for each in rollouts if not each.correct and each.length is not None]),
    )


def _small_advantages(rollouts: Sequence[Rollout]) -> float:
    rewards: dict[str, list[float]] = {}
    for each in rollouts:
        rewards.setdefault(each.question, []).append(each.reward)
    small = 0
    for values in map(np.array, rewards.values()):
        spread = values.std()
        advantages = (values - values.mean()) / spread if spread else np.zeros_like(values)
        small += int(np.count_nonzero(np.abs(advantages) < SMALL_ADVANTAGE))
    return small / len(rollouts)


def _mean(values: Sequence[int]) -> float | None:
    return float(np.mean(values)) if values else None
