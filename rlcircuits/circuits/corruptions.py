"""Corrupted sequences where a question set has none: other sequences of the same lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.graph.sequences import AnswerSequence


@validate_arguments
def other_sequences(sequences: Sequence[AnswerSequence], *, seed: int = 0) -> list[AnswerSequence]:
    """Return for each sequence another one of the same prompt and answer lengths, for ``ablation="resample"``.

    Within each group of different sequences of the same lengths, a random cyclic order is drawn, and each sequence gets
    the next. Equal sequences get the same one, and never each other.

    Args:
        sequences: the sequences.
        seed: seed of the order.

    Raises:
        RLCircuitsError: a sequence whose lengths no different sequence has.
    """
    check_number("seed", seed)
    chosen = list(sequences)
    generator = np.random.default_rng(seed)
    for (prompt, answer), equal in _by_lengths(sequences).items():
        if len(equal) < 2:
            raise RLCircuitsError(
                f"sequence {equal[0][0]} has {prompt} prompt and {answer} answer tokens, as no different sequence has, "
                "so that nothing can replace its edges; use the ablation mean or zero"
            )
        order = [equal[i] for i in generator.permutation(len(equal))]
        for places, others in zip(order, [*order[1:], order[0]], strict=True):
            for place in places:
                chosen[place] = sequences[others[0]]
    return chosen


def have_others(sequences: Sequence[AnswerSequence]) -> list[int]:
    """Return the places of the sequences whose lengths a different sequence has, in order."""
    groups = (equal for equal in _by_lengths(sequences).values() if len(equal) > 1)
    return sorted(place for equal in groups for places in equal for place in places)


def _by_lengths(sequences: Sequence[AnswerSequence]) -> dict[tuple[int, int], list[list[int]]]:
    """Return prompt and answer length → for each different sequence of these lengths, the places where it stands."""
    places: dict[AnswerSequence, list[int]] = defaultdict(list)
    for place, sequence in enumerate(sequences):
        places[sequence].append(place)
    groups: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
    for sequence, equal in places.items():
        groups[len(sequence.prompt_ids), len(sequence.answer_ids)].append(equal)
    return groups
