"""Whether RL did more than supervised training on filtered answers: accuracies side by side, and the two updates.

"RL in Name Only?" (arXiv 2505.13697) argues that GRPO on questions with one final reward is filtered supervised
training, and finds the two close in accuracy. A sibling is a checkpoint that was trained from the same base on its own
right answers (rejection sampling, filtered iterative SFT).

- ``sft_gap`` is acc(after) − acc(sibling), question by question. An interval around 0 says that filtered supervised
  training would have done as well, which is worth knowing and no failure.
- ``update_cosine`` is cos(ΔW_after, ΔW_sibling) over all weights. Independent directions in d dimensions have a cosine
  of about 1/√d. Between a LoRA and a full fine-tune it means nothing.
"""

from __future__ import annotations

import math

from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.vital_signs.counts import Counts, common_counts
from rlcircuits.vital_signs.sign import Sign, not_measurable, paired_sign, reported
from rlcircuits.vital_signs.studies import NAME_ONLY

__all__ = ["cosine_sign", "sft_gap", "update_cosine"]


def sft_gap(sibling: Counts, after: Counts) -> Sign:
    """Return how much more accurate after is than its sibling, as a sign that is only reported.

    Args:
        sibling: right answers of a checkpoint of the same base that was trained on filtered answers without RL.
        after: right answers of the checkpoint after RL.

    Returns:
        The sign. ``before`` is the sibling's accuracy; the change, after − sibling, and its 95 % bootstrap interval are
        paired by question.

    Raises:
        RLCircuitsError: the two answered no question in common.
    """
    sibling, after = common_counts(sibling, after)
    note = "accuracy of after less that of its filtered-SFT sibling; around 0, RL added nothing that SFT would not"
    return paired_sign("sft_gap", NAME_ONLY, "share right", note, sibling.shares, after.shares)


@validate_arguments
def update_cosine(before: Source, after: Source, sibling: Source) -> Sign:
    """Return the cosine of the updates to after and to its sibling, as a sign that is only reported.

    It is ⟨ΔW_after, ΔW_sibling⟩ / (‖ΔW_after‖ ‖ΔW_sibling‖) over all weights, summed in float64.

    Args:
        before: the checkpoint that both were trained from.
        after: the checkpoint after RL.
        sibling: the checkpoint after supervised training.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.checkpoints.compare_weights.compare_weights` does.
    """
    return cosine_sign(compare_weights(before, after, sibling))


def cosine_sign(changes: WeightChanges) -> Sign:
    """Return :func:`update_cosine` of an update that was measured with a reference.

    Args:
        changes: what :func:`~rlcircuits.checkpoints.compare_weights.compare_weights` returned.
    """
    if changes.reference_cosine is None:
        why = "no weight of one of the two changed" if changes.reference else "no sibling of the same base was given"
        return not_measurable("update_cosine", NAME_ONLY, "cosine", why)
    size = sum(tensor.size for tensor in changes.tensors)
    chance = 1 / math.sqrt(size)
    return reported(
        "update_cosine",
        NAME_ONLY,
        "cosine",
        f"of the update with that of {changes.reference}; chance is ±{chance:.1g}",
        change=changes.reference_cosine,
        details={"chance": chance, "parameters": size, "reference": changes.reference},
    )
