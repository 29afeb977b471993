"""All signs that need the weights of a pair and nothing else: no model runs."""

from __future__ import annotations

from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.vital_signs.classifier_share import ClassifierSums
from rlcircuits.vital_signs.rank_one import NOISE_DRAWS, RankOneSums
from rlcircuits.vital_signs.sign import Sign
from rlcircuits.vital_signs.update_cosine import update_cosine
from rlcircuits.vital_signs.weight_updates import open_updates

__all__ = ["weight_signs"]


@validate_arguments
def weight_signs(
    before: Source, after: Source, reference: Source | None = None, *, noise_draws: int = NOISE_DRAWS
) -> tuple[Sign, ...]:
    """Return the signs that are measured on weights alone.

    Each weight is read once, and once more where there is a reference.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.
        reference: another checkpoint that was trained from ``before``, such as by supervised training.
        noise_draws: how many draws of matched noise are measured beside ``rank1_excess``; 0 for none.

    Returns:
        ``classifier_share``, ``rank1_share``, ``rank1_excess`` and ``stable_rank``; with a reference ``update_cosine``.

    Raises:
        RLCircuitsError: a checkpoint's file is missing or damaged, a weight holds NaN or Inf, the family is not
            supported, or ``reference`` lacks a weight of the other two, or has it in another shape.
    """
    with open_updates(before, after) as updates:
        classifier, rank_one = ClassifierSums(updates), RankOneSums(updates, noise_draws)
        for weight in updates:
            classifier.add(weight)
            rank_one.add(weight)
    cosine = () if reference is None else (update_cosine(before, after, reference),)
    return (classifier.sign(), *rank_one.signs(), *cosine)
