"""Removing edges and nodes beside TransformerLens with hooks: the same weights, tokens and edges, in the same run.

TransformerLens has no function that removes edges of the head graph. Here each reader's input hook subtracts what the
removed writers wrote earlier in the same run, as one would write it with its hook points. First the logits are
compared, so that both do the same work; then the time. It runs with ``--rlcircuits-thorough`` only, since no gate
removes edges.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from measure import compare, equal_sequences
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlcircuits import Checkpoint, ablated
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph

pytest.importorskip("transformer_lens", reason="transformer_lens is not installed")

LAYERS, HEADS, WIDTH, VOCABULARY = 4, 8, 256, 2000
COUNT, PROMPT, ANSWER = 4, 48, 16
# Other code multiplies and adds in another order.
TOLERANCE = 1e-4

Hook = tuple[str, Callable[..., Any]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """A GPT-2 with random weights, whose biases of queries, keys, values and MLPs are random too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, n_positions=256, vocab_size=VOCABULARY)
        model = GPT2LMHeadModel(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith(("c_attn.bias", "c_fc.bias")):
                torch.nn.init.normal_(parameter, std=0.02)
    return Checkpoint(model)


@pytest.fixture(scope="module")
def bridge(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TransformerLens' bridge to the same weights, and a hook point for each reader."""
    from transformer_lens.model_bridge import TransformerBridge

    folder = tmp_path_factory.mktemp("gpt2")
    checkpoint.model.config.architectures = ["GPT2LMHeadModel"]
    checkpoint.model.save_pretrained(folder)
    words = {str(i): i for i in range(VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="0"))
    special = dict.fromkeys(("eos_token", "bos_token", "pad_token"), "0")
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), device="cpu").eval()


def edge_hooks(graph: EdgeGraph, kept: Tensor) -> list[Hook]:
    """Hooks that keep what each writer writes, and subtract that of the removed ones from each reader's input."""
    removed = (graph.mask & ~kept).float()
    place = {name: i for i, name in enumerate(graph.readers)}
    written: dict[int, Tensor] = {}

    def keep(first: int, value: Tensor, hook: Any) -> None:
        for head in range(value.shape[2] if value.ndim == 4 else 1):
            written[first + head] = value[:, :, head] if value.ndim == 4 else value

    def lost(readers: list[int]) -> Tensor:
        """What these readers lose, [batch, pos, readers, width]."""
        writers = sorted(written)
        values = torch.stack([written[writer] for writer in writers])
        taken = removed[writers][:, readers].T @ values.flatten(1)
        return taken.view(len(readers), *values.shape[1:]).permute(1, 2, 0, 3)

    def subtract(readers: list[int], value: Tensor, hook: Any) -> Tensor:
        taken = lost(readers)
        return value - (taken if value.ndim == 4 else taken[:, :, 0])

    def keep_embedding(value: Tensor, hook: Any) -> None:
        written[0] = value

    hooks: list[Hook] = [("blocks.0.hook_in", keep_embedding)]
    for layer in range(LAYERS):
        for kind in "qkv":
            readers = [place[f"attn.{layer}.h{head}.{kind}"] for head in range(HEADS)]
            hooks.append((f"blocks.{layer}.attn.hook_{kind}_input", partial(subtract, readers)))
        first = graph.writers.index(f"attn.{layer}.h0")
        hooks.append((f"blocks.{layer}.attn.hook_result", partial(keep, first)))
        hooks.append((f"blocks.{layer}.hook_mlp_in", partial(subtract, [place[f"mlp.{layer}"]])))
        hooks.append((f"blocks.{layer}.mlp.hook_out", partial(keep, graph.writers.index(f"mlp.{layer}"))))
    return [*hooks, ("ln_final.hook_in", partial(subtract, [place["logits"]]))]


def node_hooks(writer: str) -> list[Hook]:
    """A hook that makes a head write nothing, as users of TransformerLens do."""
    _, layer, head = writer.split(".")

    def silence(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        value[:, :, int(head[1:])] = 0
        return value

    return [(f"blocks.{layer}.attn.o.hook_in", silence)]


def mask_of(what: str, graph: EdgeGraph) -> Tensor:
    """A random half of the edges; all but one; or all but those out of one head."""
    kept = graph.mask.clone()
    if what == "half of the edges":
        kept &= torch.rand(kept.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    elif what == "one edge":
        kept[graph.writers.index("attn.1.h3"), graph.readers.index("attn.3.h1.v")] = False
    else:
        kept[graph.writers.index("attn.1.h3")] = False
    return kept


@pytest.mark.benchmark(group="ablation, ours over transformer_lens")
@pytest.mark.parametrize("what", ["half of the edges", "one edge", "one head"])
def test_transformer_lens(benchmark: Any, checkpoint: Checkpoint, bridge: Any, what: str, thorough: bool) -> None:
    if not thorough:
        pytest.skip("runs with --rlcircuits-thorough")
    graph = build_graph(LAYERS, HEADS, "head")
    kept = mask_of(what, graph)
    sequences = equal_sequences(COUNT, PROMPT, ANSWER, VOCABULARY)
    tokens = torch.tensor([[*s.prompt_ids, *s.answer_ids[:-1]] for s in sequences])
    hooks = node_hooks("attn.1.h3") if what == "one head" else edge_hooks(graph, kept)
    # Writing each head's output by itself is what the hooks for edges need, and only they.
    for name in ("attn_result", "split_qkv_input", "hook_mlp_in"):
        getattr(bridge, f"set_use_{name}")(what != "one head")

    def ours() -> Any:
        return ablated(checkpoint, sequences, kept, batch_tokens=tokens.numel())

    @torch.no_grad()
    def peer() -> Tensor:
        found: Tensor = bridge.run_with_hooks(tokens, fwd_hooks=hooks)
        return found[:, -ANSWER:]

    found = torch.stack(ours().logits)
    effect = found - torch.stack(ablated(checkpoint, sequences, graph.mask).logits)
    error = (peer() - found).norm()
    assert error < min(TOLERANCE * found.norm(), 0.01 * effect.norm()), "the two remove different edges"
    compare(benchmark, ours, peer, device=checkpoint.device, tokens=tokens.numel(), rounds=5)
