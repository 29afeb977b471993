"""Integrated gradients against their floor: one plain forward and backward for each point of the path.

The ends of the path add two forwards, and the contraction is made once, whatever the number of points. It runs with
``--rlcircuits-thorough`` only, since no gate takes several points.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measure import compare, equal_sequences, floor
from shapes import Shape
from small_and_large import SMALL_AND_LARGE

from rlcircuits import AnswerSequence, Checkpoint, attribute

pytestmark = pytest.mark.usefixtures("all_cores")

# Time over that of as many plain forwards and backwards as there are points.
MOST_TIME = {"sublayer": 1.5, "head": 1.8}
STEPS, PROMPT, ANSWER, COUNT = 5, 112, 16, 8


@pytest.mark.benchmark(group="integrated gradients over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize(("shape", "device", "dtype"), SMALL_AND_LARGE)
def test_integrated_gradients(
    benchmark: Any, shape: Shape, device: str, dtype: torch.dtype, granularity: str, thorough: bool
) -> None:
    if not thorough:
        pytest.skip("runs with --rlcircuits-thorough")
    checkpoint = Checkpoint(shape.build(device, dtype))
    clean = equal_sequences(COUNT, PROMPT, ANSWER, shape.vocabulary)
    corrupted = [AnswerSequence(each.prompt_ids[::-1], each.answer_ids) for each in clean]
    length, together = PROMPT + ANSWER - 1, shape.together[granularity]

    def run() -> None:
        how: Any = {"corrupted": corrupted, "method": "eap-ig", "steps": STEPS}
        attribute(checkpoint, clean, granularity, batch_tokens=together * length, **how)

    def plain() -> None:
        for _ in range(STEPS):
            floor(checkpoint.model, clean, together)

    bound, tokens = MOST_TIME[granularity], COUNT * length
    ratio = compare(benchmark, run, plain, device=checkpoint.device, tokens=tokens, rounds=5, bound=bound)
    benchmark.extra_info.update(granularity=granularity, steps=STEPS)
    assert ratio <= bound, f"{ratio:.2f} × the floor's time"
