"""What everything that changes a model's parameters shares: a check that two models have the same, and seeded draws."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def describe_first_unlike(
    ours: Mapping[str, Tensor], our_name: str, theirs: Mapping[str, Tensor], their_name: str
) -> str | None:
    """Return the first parameter that one model lacks or has in another shape, in words; None if there is none.

    Args:
        ours: one model's parameters by name.
        our_name: what the words call that model.
        theirs: the other model's parameters.
        their_name: what the words call it.
    """
    for name in [*ours, *theirs]:
        found = [list(side[name].shape) if name in side else None for side in (ours, theirs)]
        if found[0] != found[1]:
            shapes = [f"{shape} in" if shape is not None else "missing in" for shape in found]
            return f"{name} is {shapes[0]} {our_name} and {shapes[1]} {their_name}"
    return None


def seeded_generator(seed: str) -> torch.Generator:
    """Return a random generator on the CPU whose numbers follow from a text alone."""
    digest = hashlib.sha256(seed.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
