"""Tiny models and sequences that the tests of attribution share."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from helpers.tiny_models import ARCHITECTURES, VOCABULARY, build, granularities
from rlcircuits import AnswerSequence

NAMES = sorted(ARCHITECTURES)
WITH_HEADS = [name for name in NAMES if "head" in granularities(name)]
"""The models that have a graph of heads."""
tokens = st.integers(0, VOCABULARY - 1)


def sequences(max_prompt: int = 9, max_answer: int = 6) -> st.SearchStrategy[AnswerSequence]:
    """Draw a sequence of any ids and lengths, one-token prompts and answers included."""
    return st.builds(
        AnswerSequence,
        st.lists(tokens, min_size=1, max_size=max_prompt).map(tuple),
        st.lists(tokens, min_size=1, max_size=max_answer).map(tuple),
    )


batches = st.lists(sequences(), min_size=1, max_size=4)


@cache
def tiny(name: str) -> PreTrainedModel:
    """Return the float32 tiny model of this name, which is built once."""
    return build(name, seed=3)


def fixed_sequences(count: int = 3, seed: int = 11) -> list[AnswerSequence]:
    """Return a few sequences of different lengths, which depend only on the seed."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        ids = torch.randint(3, VOCABULARY, (9 + 2 * index,), generator=generator).tolist()
        made.append(AnswerSequence(tuple(ids[: 5 + index]), tuple(ids[5 + index :])))
    return made


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest ‖found − wanted‖ / ‖wanted‖ over sequences (dimension 0)."""
    difference = (found.double() - wanted.double()).flatten(1).norm(dim=1)
    return float((difference / wanted.double().flatten(1).norm(dim=1)).max())
