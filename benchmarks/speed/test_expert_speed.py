"""A graph of experts against the floor: what the experts wrote is computed anew, as one more forward of theirs.

The contraction takes as many writers as a token has choices, not as many as there are experts. It runs with
``--rlcircuits-thorough`` only, since no gate scores experts by default.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from measure import compare, compare_memory, equal_sequences, floor
from transformers import AutoConfig, AutoModelForCausalLM

from rlcircuits import Checkpoint, attribute

pytestmark = pytest.mark.usefixtures("all_cores")

MOST_TIME, MOST_MEMORY = 1.8, 1.4
PROMPT, ANSWER, COUNT, VOCABULARY = 96, 32, 32, 512


def mixture(experts: int, choices: int) -> Any:
    """A Qwen3 mixture of eight layers with random weights, in float32 on the CPU."""
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, moe_intermediate_size=128,
        num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, head_dim=32, num_experts=experts,
        num_experts_per_tok=choices, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.benchmark(group="experts over floor")
@pytest.mark.parametrize(("experts", "choices"), [(32, 4), (128, 8)])
def test_a_graph_of_experts(benchmark: Any, experts: int, choices: int, thorough: bool) -> None:
    if not thorough:
        pytest.skip("runs with --rlcircuits-thorough")
    checkpoint = Checkpoint(mixture(experts, choices))
    sequences = equal_sequences(COUNT, PROMPT, ANSWER, VOCABULARY)
    tokens = COUNT * (PROMPT + ANSWER - 1)
    attribute(checkpoint, sequences[:1], "expert")  # the check of the experts

    def run() -> None:
        attribute(checkpoint, sequences, "expert", batch_tokens=tokens)

    def plain() -> None:
        floor(checkpoint.model, sequences, COUNT)

    ratio = compare(benchmark, run, plain, device=checkpoint.device, tokens=tokens, rounds=5, bound=MOST_TIME)
    memory = compare_memory(benchmark, checkpoint.model, run, plain)
    benchmark.extra_info.update(granularity="expert", experts=experts, choices=choices)
    assert ratio <= MOST_TIME, f"{ratio:.2f} × the floor's time"
    assert memory <= MOST_MEMORY, f"{memory:.2f} × the floor's memory"
