"""How close to rank 1 the update is, beside noise of the same size.

"On Predictability of RL Dynamics in LLMs" (AlphaRL, arXiv 2510.00553) writes the update of a weight matrix as
ΔW = Σ σ_i u_i v_iᵀ, and finds that the first term alone holds more of RL's update than of SFT's. Over the matrices m
of attention and MLP in every layer (no embeddings, no norms):

- ``rank1_share`` ρ = Σ_m σ1(m) / Σ_m ‖ΔW_m‖_F, the paper's "norm fraction", aggregated as its code does. It is a share
  of norms: 19 % of the norm is 4 % of the energy.
- ``rank1_excess``: ρ over the ρ of noise, Σ_m σ1(m) / Σ_m ‖ΔW_m‖_F e(m), where e(m) is what independent Gaussian noise
  of that shape has (:func:`rlcircuits.vital_signs.singular.expected_noise_share`). ρ alone depends on the width of the
  model: noise has 0.28 at 48 × 48 and 0.03 at 4096 × 4096. An excess near 1 is an update that looks like a random walk.
- ``stable_rank`` ‖ΔW_m‖²_F / σ1(m)², the median over the matrices.

Beside the excess stands that of the project's noise draws, which match the update row by row and are rounded as it is
(:mod:`rlcircuits.checkpoints.matched_noise`). They are the same draws that the noise control answers with. Rows of
unequal norm alone raise it above 1. They are drawn where every matrix is small, because in bfloat16 each row's
noise has to be searched for.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.checkpoints.matched_noise import measure_rows, with_matched_noise
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.models.tensor_groups import group_of
from rlcircuits.vital_signs.sign import Sign, not_measurable, reported
from rlcircuits.vital_signs.singular import expected_noise_share, frobenius_norm, top_singular
from rlcircuits.vital_signs.studies import ALPHA_RL
from rlcircuits.vital_signs.weight_updates import (
    EXACT_UP_TO,
    WeightUpdate,
    WeightUpdates,
    open_updates,
)

__all__ = ["NOISE_DRAWS", "MatrixRank", "RankOneSums", "rank_one_signs"]

SHARE, EXCESS, STABLE_RANK = "rank1_share", "rank1_excess", "stable_rank"
UNITS = {SHARE: "share of norm", EXCESS: "× noise", STABLE_RANK: "rank"}

NOISE_DRAWS = 2
"""Draws of matched noise beside the excess, numbered from 0 as the noise control's are."""


@dataclass(frozen=True)
class MatrixRank:
    """One matrix of the update."""

    name: str
    rows: int
    columns: int
    norm: float
    """‖ΔW‖_F, above 0."""
    largest: float
    """σ1, at most the norm."""

    @property
    def share(self) -> float:
        """Return σ1 / ‖ΔW‖_F, from 1/√min(rows, columns) to 1."""
        return self.largest / self.norm

    @property
    def stable_rank(self) -> float:
        """Return ‖ΔW‖²_F / σ1², from 1 to min(rows, columns)."""
        return (self.norm / self.largest) ** 2


class RankOneSums:
    """The singular values of one pair's update, to which the weights are added one at a time."""

    def __init__(self, updates: WeightUpdates, noise_draws: int = NOISE_DRAWS) -> None:
        """Start with none.

        Args:
            updates: the pair, of which only the names of unmatched weights are looked at.
            noise_draws: how many draws of matched noise are measured; 0 for none.
        """
        self._unmatched = sum(group_of(name) in ("attention", "MLP") for name in updates.unmatched)
        self._unchanged = 0
        self._ranks: list[MatrixRank] = []
        self._noise: list[list[MatrixRank]] = [[] for _ in range(noise_draws)]

    def add(self, weight: WeightUpdate) -> None:
        """Add the matrices of one weight; a weight of anything but attention and MLP has none."""
        if not weight.places:
            return
        found = _ranks(weight)
        self._unchanged += len(weight.places) - len(found)
        self._ranks += found
        if any(min(rank.rows, rank.columns) > EXACT_UP_TO for rank in found):
            self._noise.clear()  # draws of some of the matrices would not compare with the excess of all
        rows = measure_rows(weight.before, weight.after) if self._noise else None
        if rows is not None:
            for draw, ranks in enumerate(self._noise):
                noised = with_matched_noise(weight.name, weight.before, rows, draw)
                ranks += _ranks(WeightUpdate(weight.name, weight.before, noised, weight.places))

    @property
    def ranks(self) -> tuple[MatrixRank, ...]:
        """Return every matrix that changed."""
        return tuple(self._ranks)

    def signs(self) -> tuple[Sign, ...]:
        """Return ``rank1_share``, ``rank1_excess`` and ``stable_rank``, which are only reported.

        The change of each is its value. All are not measurable where no matrix changed.
        """
        if not self._ranks:
            why = "no weight matrix of attention or MLP changed"
            return tuple(not_measurable(name, ALPHA_RL, unit, why) for name, unit in UNITS.items())
        share, excess = _share(self._ranks), _excess(self._ranks)
        each = sorted(rank.stable_rank for rank in self._ranks)
        counts = {"matrices": len(self._ranks), "unchanged": self._unchanged, "unmatched_weights": self._unmatched}
        noise = tuple(_excess(ranks) for ranks in self._noise if ranks)
        return (
            reported(
                SHARE,
                ALPHA_RL,
                UNITS[SHARE],
                f"the largest singular values hold {share:.1%} of the update's norm; noise of these shapes would have "
                f"{share / excess:.1%}",
                change=share,
                details={**counts, "noise": share / excess},
            ),
            reported(
                EXCESS,
                ALPHA_RL,
                UNITS[EXCESS],
                "the share of the largest singular values over that of noise of the same shapes; 1 looks like noise",
                change=excess,
                noise=noise,
                details=counts,
            ),
            reported(
                STABLE_RANK,
                ALPHA_RL,
                UNITS[STABLE_RANK],
                f"the median over {len(each)} matrices, which have from {each[0]:.3g} to {each[-1]:.3g}",
                change=statistics.median(each),
                details={**counts, "mean": statistics.fmean(each), "smallest": each[0], "largest": each[-1]},
            ),
        )


@validate_arguments
def rank_one_signs(before: Source, after: Source, noise_draws: int = NOISE_DRAWS) -> tuple[Sign, ...]:
    """Return ``rank1_share``, ``rank1_excess`` and ``stable_rank`` of the update, as this module defines them.

    Fused q, k and v, fused gates, and the experts of a mixture are matrices of their own
    (:mod:`rlcircuits.models.weight_matrices`). For dtypes see :mod:`rlcircuits.vital_signs.weight_updates`.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.
        noise_draws: how many draws of matched noise are measured; 0 for none. There are none if a matrix is large.

    Raises:
        RLCircuitsError: a file is missing or damaged, a weight holds NaN or Inf, or the family is not supported.
    """
    with open_updates(before, after) as updates:
        sums = RankOneSums(updates, noise_draws)
        for weight in updates:
            sums.add(weight)
    return sums.signs()


def _ranks(weight: WeightUpdate) -> list[MatrixRank]:
    """Return the singular values of a weight's matrices, but of those that did not change."""
    found = []
    for matrix in weight.matrices():
        norm = frobenius_norm(matrix.update)
        if norm:
            rows, columns = matrix.update.shape
            largest = min(norm, top_singular(matrix.update).value)  # rounding may put σ1 a digit above the norm
            found.append(MatrixRank(matrix.name, rows, columns, norm, largest))
    return found


def _share(ranks: Sequence[MatrixRank]) -> float:
    """Return Σσ1 / Σ‖ΔW‖_F."""
    return sum(rank.largest for rank in ranks) / sum(rank.norm for rank in ranks)


def _excess(ranks: Sequence[MatrixRank]) -> float:
    """Return Σσ1 over what it would be of noise with these norms and shapes."""
    noise = sum(rank.norm * expected_noise_share(rank.rows, rank.columns) for rank in ranks)
    return sum(rank.largest for rank in ranks) / noise
