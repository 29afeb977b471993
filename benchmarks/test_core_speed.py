"""The core against its floor: the plain forward and activation-only backward of the same batch, in the same run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measure import compare, equal_sequences, floor, peak_bytes
from transformers import LlamaConfig, LlamaForCausalLM

from rlcircuits import Checkpoint, attribute

DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
VOCABULARY = 8000
# Time over the floor's, and peak memory (weights included) over the floor's.
MOST_TIME = {"sublayer": 1.25}
MOST_MEMORY = {"sublayer": 1.30}


@pytest.fixture(scope="module", params=DEVICES)
def checkpoint(request: Any) -> Checkpoint:
    """Llama with random weights: 8 layers of width 512, 8 heads, a vocabulary of 8,000, float32."""
    config = LlamaConfig(
        num_hidden_layers=8,
        hidden_size=512,
        intermediate_size=1376,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Checkpoint(LlamaForCausalLM(config).to(request.param))


@pytest.mark.benchmark(group="attribution over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_attribution(benchmark: Any, checkpoint: Checkpoint, granularity: str) -> None:
    """8 sequences of 128 tokens, the last 16 scored; all in one batch."""
    sequences = equal_sequences(count=8, prompt=112, answer=16, vocabulary=VOCABULARY)
    tokens = sum(s.input_length for s in sequences)

    def run() -> None:
        attribute(checkpoint, sequences, granularity)

    def plain() -> None:
        floor(checkpoint.model, sequences)

    over_floor = compare(benchmark, run, plain, device=checkpoint.device, tokens=tokens)
    peak, floor_peak = (peak_bytes(checkpoint.model, what, checkpoint.device) for what in (run, plain))
    memory = peak / floor_peak
    benchmark.extra_info.update(peak_memory_bytes=peak, peak_memory_ratio=round(memory, 3))
    if granularity in MOST_TIME:
        assert over_floor <= MOST_TIME[granularity], f"{over_floor:.2f} × the floor's time"
        assert memory <= MOST_MEMORY[granularity], f"{memory:.2f} × the floor's peak memory"


@pytest.mark.benchmark(group="batched over one at a time")
def test_batching(benchmark: Any, checkpoint: Checkpoint) -> None:
    """32 short sequences in one batch, over the same one by one."""
    sequences = equal_sequences(count=32, prompt=12, answer=4, vocabulary=VOCABULARY)

    def batched() -> None:
        attribute(checkpoint, sequences)

    def one_at_a_time() -> None:
        attribute(checkpoint, sequences, batch_tokens=1)

    tokens = sum(s.input_length for s in sequences)
    share = compare(benchmark, batched, one_at_a_time, device=checkpoint.device, tokens=tokens, rounds=3)
    peak, floor_peak = (peak_bytes(checkpoint.model, run, checkpoint.device) for run in (batched, one_at_a_time))
    benchmark.extra_info.update(peak_memory_bytes=peak, peak_memory_ratio=round(peak / floor_peak, 3))
    assert share < 1, f"batched takes {share:.2f} × one at a time"
