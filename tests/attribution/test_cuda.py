"""The core on a CUDA device: the same scores as the float64 definition and as on the CPU."""

from __future__ import annotations

import gc

import pytest
import torch
from helpers.contraction_cases import error, make_case
from helpers.core_inputs import fixed_sequences, relative_error, tiny
from helpers.oracle import edge_scores
from helpers.tiny_models import MIXTURES, build, granularities

from rlcircuits import attribute
from rlcircuits.contraction.backends import BACKENDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

NAMES = [
    "llama",
    "qwen2",
    "gpt2",
    "gpt-neox",
    "phi3",
    "gemma2",
    "gemma4",
    "gemma4-moe",
    "olmo2",
    "granite",
    "qwen3-moe",
    "gpt-oss",
    "llama4",
    "deepseek-v3",
]


@pytest.mark.parametrize("backend", [None, "matmul"])
@pytest.mark.parametrize(
    ("name", "granularity"),
    [(name, kind) for name in NAMES for kind in granularities(name) if kind != "kv-head"]
    + [(name, "expert") for name in NAMES if name in MIXTURES],
)
def test_scores_on_cuda_are_the_definitions(name: str, granularity: str, backend: str | None) -> None:
    scores, losses = edge_scores(tiny(name), fixed_sequences(), granularity)
    found = attribute(build(name, seed=3).to("cuda"), fixed_sequences(), granularity, backend=backend)
    assert found.backend == (backend or "triton")
    assert relative_error(found.values, scores) < 1e-4
    torch.testing.assert_close(found.loss.double(), losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_half_precision_on_cuda_is_that_of_the_cpu(name: str, granularity: str) -> None:
    model = build(name, seed=3, dtype=torch.bfloat16)
    scores, _ = edge_scores(model, fixed_sequences(), granularity)
    on_cpu = relative_error(attribute(model, fixed_sequences(), granularity).values, scores)
    on_cuda = attribute(model.to("cuda"), fixed_sequences(), granularity)
    assert on_cuda.backend == "triton"
    assert relative_error(on_cuda.values, scores) < 3 * on_cpu


def test_float64_on_cuda_is_contracted_by_matrix_products() -> None:
    scores, _ = edge_scores(tiny("llama"), fixed_sequences())
    found = attribute(build("llama", seed=3).double().to("cuda"), fixed_sequences())
    assert found.backend == "matmul"
    assert relative_error(found.values, scores) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sequences_scores_on_cuda_do_not_depend_on_its_batch(side: str) -> None:
    model = build("qwen2", seed=3).to("cuda")
    together = attribute(model, fixed_sequences(), padding_side=side).values
    apart = torch.cat([attribute(model, [sequence]).values for sequence in fixed_sequences()])
    assert relative_error(together, apart) < 1e-4


@pytest.mark.parametrize("backend", ["triton", "matmul"])
@pytest.mark.parametrize("direction", [0, 1])
def test_the_contraction_at_a_large_models_size(backend: str, direction: int) -> None:
    """65 writers and 35 readers of two sequences of 171 tokens at width 4096, in bfloat16."""
    case = make_case(
        writers=[(1, "contiguous")] * 33 + [(32, "contiguous")],
        readers=[(1, "contiguous", 0)] * 3 + [(32, "contiguous", direction)],
        shape=(2, 171, 4096),
        dtype=torch.bfloat16,
    ).to("cuda")
    assert error(case.run(BACKENDS[backend]), case) < (2e-2 if direction else 1e-5)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
def test_a_calls_memory_is_given_back(granularity: str, recompute: bool) -> None:
    model = build("llama-gqa", seed=3).to("cuda")

    def score() -> int:
        for side in ("right", "left"):
            attribute(model, fixed_sequences(), granularity, padding_side=side, recompute=recompute)
        attribute(model, fixed_sequences(), granularity, corrupted=fixed_sequences(), recompute=recompute)
        gc.collect()
        return int(torch.cuda.memory_allocated())

    before = score()  # cuBLAS gets a workspace in each thread that calls it first
    assert score() == before
