"""The ablated forward against the plain forward of the same batches, in the same run.

It runs with ``--rlcircuits-thorough`` only, since no gate removes edges.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measure import compare, equal_sequences
from shapes import Shape
from small_and_large import SMALL_AND_LARGE

from rlcircuits import Checkpoint, ablated
from rlcircuits.attribution.edge_attribution import graph_of

pytestmark = pytest.mark.usefixtures("all_cores")

# Time over the plain forward's.
MOST_TIME = {"sublayer": 2.5, "head": 4.0}
PROMPT, ANSWER, COUNT = 112, 16, 8


@pytest.mark.benchmark(group="ablated over plain forward")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize(("shape", "device", "dtype"), SMALL_AND_LARGE)
def test_ablated_forward(
    benchmark: Any, shape: Shape, device: str, dtype: torch.dtype, granularity: str, thorough: bool
) -> None:
    """Remove a random half of the edges."""
    if not thorough:
        pytest.skip("runs with --rlcircuits-thorough")
    checkpoint = Checkpoint(shape.build(device, dtype))
    sequences = equal_sequences(COUNT, PROMPT, ANSWER, shape.vocabulary)
    graph = graph_of(checkpoint, granularity)
    mask = torch.rand(graph.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    tokens = COUNT * (PROMPT + ANSWER - 1)
    together = shape.together[granularity] * (PROMPT + ANSWER - 1)

    def run() -> None:
        ablated(checkpoint, sequences, mask, batch_tokens=together)

    def plain() -> None:
        ablated(
            checkpoint, sequences, graph.mask, batch_tokens=together
        )  # removes nothing, so that no reader is hooked

    bound = MOST_TIME[granularity]
    ratio = compare(benchmark, run, plain, device=checkpoint.device, tokens=tokens, rounds=7, bound=bound)
    benchmark.extra_info.update(edges=graph.n_edges, granularity=granularity)
    assert ratio <= bound, f"{ratio:.2f} × the plain forward's time"
