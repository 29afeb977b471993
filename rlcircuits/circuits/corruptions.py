"""Corrupted sequences where a question set has none: other sequences of the same lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence


@validate_arguments
def other_sequences(sequences: Sequence[AnswerSequence], *, seed: int = 0) -> list[AnswerSequence]:
    """Return for each sequence another one of the same prompt and answer lengths, for ``ablation="resample"``.

    Within each group of sequences of the same lengths, a random cyclic order is drawn, and each sequence gets the next.

    Args:
        sequences: the sequences.
        seed: seed of the order.

    Raises:
        RLCircuitsError: a sequence whose lengths no other sequence has.
    """
    chosen = list(sequences)
    generator = np.random.default_rng(seed)
    for (prompt, answer), places in _by_lengths(sequences).items():
        if len(places) < 2:
            raise RLCircuitsError(
                f"sequence {places[0]} has {prompt} prompt and {answer} answer tokens, as no other sequence has, so "
                "that nothing can replace its edges; use the ablation mean or zero"
            )
        order = [places[i] for i in generator.permutation(len(places))]
        for place, other in zip(order, [*order[1:], order[0]], strict=True):
            chosen[place] = sequences[other]
    return chosen


def have_others(sequences: Sequence[AnswerSequence]) -> list[int]:
    """Return the places of the sequences whose lengths another sequence has, in order."""
    return sorted(place for places in _by_lengths(sequences).values() if len(places) > 1 for place in places)


def _by_lengths(sequences: Sequence[AnswerSequence]) -> dict[tuple[int, int], list[int]]:
    """Return prompt and answer length → the places of the sequences."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, sequence in enumerate(sequences):
        groups[len(sequence.prompt_ids), len(sequence.answer_ids)].append(place)
    return groups
