"""The core against its floor: the plain forward and activation-only backward of the same batch, in the same run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measure import equal_sequences, floor, peak_bytes, ratio, weight_bytes
from transformers import LlamaConfig, LlamaForCausalLM

from rlcircuits import AnswerSequence, Checkpoint, attribute

DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
PROMPT, ANSWER, BATCH = 112, 16, 8
# Time over the floor, and peak memory over the floor's, weights counted in both.
MOST_TIME = {"sublayer": 1.25}
MOST_MEMORY = {"sublayer": 1.5}


@pytest.fixture(scope="module", params=DEVICES)
def checkpoint(request: Any) -> Checkpoint:
    """Llama with random weights: 8 layers of width 512, 8 heads, a vocabulary of 8,000, float32."""
    config = LlamaConfig(
        num_hidden_layers=8,
        hidden_size=512,
        intermediate_size=1376,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=8000,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Checkpoint(LlamaForCausalLM(config).to(request.param))


@pytest.fixture(scope="module")
def sequences() -> list[AnswerSequence]:
    return equal_sequences(BATCH, PROMPT, ANSWER, 8000)


@pytest.mark.benchmark(group="attribution over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_attribution(benchmark: Any, checkpoint: Checkpoint, sequences: list[AnswerSequence], granularity: str) -> None:
    device = checkpoint.device

    def run() -> None:
        attribute(checkpoint, sequences, granularity)

    def plain() -> None:
        floor(checkpoint.model, sequences)

    over_floor = ratio(benchmark, run, plain, device)
    weights = weight_bytes(checkpoint.model)
    peak, floor_peak = (weights + peak_bytes(what, device) for what in (run, plain))
    tokens = sum(s.input_length for s in sequences)
    benchmark.extra_info.update(
        ratio_to_floor=round(over_floor, 3),
        tokens_per_second=round(tokens / benchmark.stats.stats.median),
        peak_memory_bytes=peak,
        peak_memory_over_floor=round(peak / floor_peak, 3),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )
    if granularity in MOST_TIME:
        assert over_floor <= MOST_TIME[granularity], f"{over_floor:.2f} × the floor"
        assert peak / floor_peak <= MOST_MEMORY[granularity], f"{peak / floor_peak:.2f} × the floor's peak memory"


@pytest.mark.benchmark(group="batching")
def test_batched_over_one_at_a_time(benchmark: Any, checkpoint: Checkpoint) -> None:
    short = equal_sequences(64, 12, 4, 8000)

    def run() -> None:
        attribute(checkpoint, short)

    def one_at_a_time() -> None:
        attribute(checkpoint, short, batch_tokens=1)

    share = ratio(benchmark, run, one_at_a_time, checkpoint.device)
    benchmark.extra_info["times_faster"] = round(1 / share, 2)
    assert share < 1, f"batched takes {share:.2f} × one at a time"
