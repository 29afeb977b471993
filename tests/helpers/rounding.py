"""Whether two float32 results differ by rounding alone, where a model makes rounding errors larger than others do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from helpers import oracle
from helpers.core_inputs import relative_error, tiny
from rlcircuits import AnswerSequence

USUAL = 1e-5
"""‖W − W'‖ / ‖W'‖ of two float32 scores of a sequence that differ by rounding, in most models."""


def differ_by_rounding(
    found: Tensor, wanted: Tensor, name: str, sequences: Sequence[AnswerSequence], granularity: str
) -> bool:
    """Return whether two scores of a tiny model's sequences agree as well as either agrees with float64.

    Where a norm divides by something small (a delta net's, Mamba's), rounding counts for more: `wanted` itself is then
    as far from the float64 definition, which says how much.
    """
    error = relative_error(found, wanted)
    if error < USUAL:
        return True
    exact, _ = oracle.edge_scores(oracle.float64_copy(tiny(name)), sequences, granularity)
    return error < 4 * relative_error(wanted, exact)
