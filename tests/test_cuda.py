"""The core on a CUDA device: the same scores as the float64 definition and as on the CPU."""

from __future__ import annotations

import pytest
import torch
from models import fixed_sequences, relative_error, tiny
from oracle import edge_scores
from tiny_models import build

from rlcircuits import attribute

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt-neox", "phi3", "gemma2", "olmo2", "qwen3-moe"])
def test_scores_on_cuda_are_the_definitions(name: str, granularity: str) -> None:
    scores, losses = edge_scores(tiny(name), fixed_sequences(), granularity)
    found = attribute(build(name, seed=3).to("cuda"), fixed_sequences(), granularity)
    assert relative_error(found.values, scores) < 1e-4
    torch.testing.assert_close(found.loss.double(), losses, rtol=1e-4, atol=1e-4)


def test_half_precision_on_cuda_is_that_of_the_cpu() -> None:
    model = build("llama", seed=3, dtype=torch.bfloat16)
    scores, _ = edge_scores(model, fixed_sequences())
    on_cpu = relative_error(attribute(model, fixed_sequences()).values, scores)
    assert relative_error(attribute(model.to("cuda"), fixed_sequences()).values, scores) < 3 * on_cpu
