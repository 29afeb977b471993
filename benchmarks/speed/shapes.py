"""The models that the speed benchmarks build: random weights in the shapes of models that teams train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


@dataclass(frozen=True)
class Shape:
    """A model by its sizes.

    tied: the unembedding's weight is the embedding's.
    together: sequences of the benchmark's length that are scored in one batch, by granularity. What is
    measured and the floor use the same batches; fewer where the floor's own activations would not fit 80 GB.
    """

    name: str
    model_type: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    together: dict[str, int] = field(default_factory=lambda: {"sublayer": 32, "head": 8})

    def build(self, device: str, dtype: torch.dtype) -> Any:
        """A causal LM of this shape with random weights, made on the device."""
        config = AutoConfig.for_model(
            self.model_type,
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=4096,
            tie_word_embeddings=self.tied,
            # Its default window is as long as the context: it changes nothing but how attention is computed.
            **({"sliding_window": None} if self.model_type == "mistral" else {}),
        )
        devices = [torch.cuda.current_device()] if device == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.device(device):
            torch.manual_seed(0)
            return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()

    @property
    def block_weights(self) -> int:
        """Weights of all blocks' matrices: each costs a token one multiplication."""
        head = self.width // self.heads
        attention = 2 * self.width * head * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    def useful_flops(self, sequences: int, length: int, scored: int, edges: int) -> float:
        """Floating-point operations that attribution cannot do without.

        length: tokens the model reads of each sequence, of which ``scored`` predict a scored one. Forward and
        backward to activations cost a multiplication and an addition a weight and token each, the causal half of
        attention two products forward and four backward, an edge one product with a position's features.
        """
        tokens = sequences * length
        weights = 4 * self.block_weights * tokens
        attention = 6 * self.layers * tokens * length * self.width
        unembedding = 4 * self.vocabulary * self.width * sequences * scored
        return float(weights + attention + unembedding + 2 * edges * tokens * self.width)

    def flop_bound(self, sequences: int, length: int, scored: int, edges: int, granularity: str) -> float:
        """The useful operations of attribution over the floor's: the ratio of times if all ran at one rate.

        The operations of making the heads' outputs and gradients count too, of one writer and three readers a head.
        """
        floor = self.useful_flops(sequences, length, scored, edges=0)
        heads = 8 * self.layers * self.width**2 * sequences * length if granularity == "head" else 0
        return (self.useful_flops(sequences, length, scored, edges) + heads) / floor


# The model of docs/performance.md's CPU tables.
SMALL = Shape("small", "llama", layers=8, width=512, inner=1376, heads=8, kv_heads=8, vocabulary=8000)
# The shape of SmolLM2-135M: as deep as a 7B model, and narrow, so that contraction is a large share of the work.
DEEP = Shape(
    "smollm2-135m",
    "llama",
    layers=30,
    width=576,
    inner=1536,
    heads=9,
    kv_heads=3,
    vocabulary=49152,
    tied=True,
)
LARGE = [
    Shape("llama-2-7b", "llama", layers=32, width=4096, inner=11008, heads=32, kv_heads=32, vocabulary=32000),
    Shape("mistral-7b", "mistral", layers=32, width=4096, inner=14336, heads=32, kv_heads=8, vocabulary=32000),
    Shape("qwen2.5-7b", "qwen2", layers=28, width=3584, inner=18944, heads=28, kv_heads=4, vocabulary=152064),
]
LARGER = Shape(
    "qwen2.5-14b",
    "qwen2",
    layers=48,
    width=5120,
    inner=13824,
    heads=40,
    kv_heads=8,
    vocabulary=152064,
    together={"sublayer": 16, "head": 4},
)
