"""The unembedding's share of the update: how much of what training moved is the classifier over tokens.

"Learning Dynamics in RL Post-Training" (arXiv 2601.04670) finds that RL hardly shapes the classifier, and trains it
first. With ΔW the update of a weight, the share is

    C = ‖P ΔW_head‖²_F / (‖P ΔW_head‖²_F + Σ_rest ‖ΔW‖²_F),    P = I − 11ᵀ/V,

where V is the size of the vocabulary. P takes the mean row from every row: adding one vector to all rows of the
unembedding adds one number to all logits, which changes no probability. Where one weight embeds and unembeds (tied
embeddings) there is no classifier of its own, and C is not defined.
"""

from __future__ import annotations

from torch import Tensor

from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.models.tensor_groups import group_of
from rlcircuits.vital_signs.sign import Sign, not_measurable, reported
from rlcircuits.vital_signs.studies import CF_RL
from rlcircuits.vital_signs.weight_updates import WeightUpdate, WeightUpdates, open_updates, row_chunks, squared_norm

__all__ = ["ClassifierSums", "classifier_share"]

NAME = "classifier_share"
UNIT = "share"


class ClassifierSums:
    """The sums of which the share is made, to which the weights of one pair are added one at a time."""

    def __init__(self, updates: WeightUpdates) -> None:
        """Start with none.

        Args:
            updates: the pair, of which only the names and whether embeddings are tied are looked at.
        """
        self._tied = updates.tied
        self._unmatched = [name for name in updates.unmatched if group_of(name) == "unembedding"]
        self._head = self._whole_head = self._rest = 0.0
        self._head_size = self._size = 0

    def add(self, weight: WeightUpdate) -> None:
        """Add one weight's update."""
        self._size += weight.before.numel()
        if weight.group != "unembedding":
            self._rest += weight.squared_norm
            return
        self._head_size += weight.before.numel()
        self._head += squared_norm(weight.before, weight.after, _mean_row(weight))
        self._whole_head += weight.squared_norm

    def sign(self) -> Sign:
        """Return the share as a sign that is only reported; its change is the share."""
        if self._tied:
            return not_measurable(NAME, CF_RL, UNIT, "one weight embeds and unembeds (tied embeddings)")
        if self._unmatched or not self._head_size:
            what = self._unmatched[0] if self._unmatched else "the unembedding"
            return not_measurable(NAME, CF_RL, UNIT, f"{what} is missing in one checkpoint, or has another shape there")
        whole = self._head + self._rest
        if not whole:
            return not_measurable(
                NAME, CF_RL, UNIT, "no weight changed, but for what all tokens' logits have in common"
            )
        share, size = self._head / whole, self._head_size / self._size
        return reported(
            NAME,
            CF_RL,
            UNIT,
            f"the unembedding is {size:.2%} of the parameters and has {share:.1%} of the squared update",
            change=share,
            details={
                "share_of_parameters": size,
                "share_with_common_row": self._whole_head / (self._whole_head + self._rest),
            },
        )


@validate_arguments
def classifier_share(before: Source, after: Source) -> Sign:
    """Return the unembedding's share C of the squared update, from 0 to 1, as a sign that is only reported.

    C is the equation of this module, after arXiv 2601.04670. Sums are in float64. The sign is not measurable where
    embeddings are tied, the unembedding was resized, or nothing changed. Its details have C without the projection.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.

    Raises:
        RLCircuitsError: a file is missing or damaged, or a weight holds NaN or Inf.
    """
    with open_updates(before, after) as updates:
        sums = ClassifierSums(updates)
        for weight in updates:
            sums.add(weight)
    return sums.sign()


def _mean_row(weight: WeightUpdate) -> Tensor:
    """Return the mean over the tokens of the update, float64; of a bias one number."""
    total = sum(rows.sum(0) for rows in row_chunks(weight.before, weight.after))
    assert isinstance(total, Tensor)
    return total / len(weight.before)
