"""Whether two float32 results differ by rounding alone, where a model makes rounding errors larger than others do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from helpers import oracle
from helpers.core_inputs import relative_error, tiny
from rlcircuits import AnswerSequence

USUAL = 1e-5
"""‖W − W'‖ / ‖W'‖ of two float32 scores of a sequence that differ by rounding, in most models."""

AGAINST_FLOAT64 = 1e-4
"""The same of float32 scores and their float64 definition, in every model."""


def differ_by_rounding(
    found: Tensor, wanted: Tensor, name: str, sequences: Sequence[AnswerSequence], granularity: str
) -> bool:
    """Return whether two scores of a tiny model's sequences differ as float32 scores of one definition may.

    Where a norm divides by something small (a delta net's, Mamba's), rounding counts for more than usual. Both scores
    must then agree with float64 as well as any must.
    """
    if relative_error(found, wanted) < USUAL:
        return True
    exact, _ = oracle.edge_scores(oracle.float64_copy(tiny(name)), sequences, granularity)
    return max(relative_error(found, exact), relative_error(wanted, exact)) < AGAINST_FLOAT64
