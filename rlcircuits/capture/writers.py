"""The writers' side of a capture: keep what each writer adds to the residual stream.

What a writer wrote is taken after the post-norm where the family has one, with the output bias, and
after the residual multiplier. It is kept as the model produced it, never copied into one tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import Block, ModelParts


@dataclass(frozen=True)
class WriterOutputs:
    """Consecutive writers of the graph, with a way to make their tensors.

    wrote(window) is [len(indices), batch, pos, width] of the window. Heads are made only when they are
    contracted: kept are their z, which are n_heads times smaller.
    """

    indices: range
    outputs: Callable[[BatchSlice], Tensor]

    def minus(self, other: WriterOutputs) -> WriterOutputs:
        """What these writers wrote less what they wrote in another run, position by position."""
        return WriterOutputs(self.indices, lambda batch_slice: self.outputs(batch_slice) - other.outputs(batch_slice))


def hook_writers(hooks: Hooks, parts: ModelParts, graph: EdgeGraph, found: list[WriterOutputs]) -> None:
    """Hook attention and MLP of every block; ``found`` grows in graph order while the model runs."""
    index = {name: i for i, name in enumerate(graph.writers)}
    for layer, block in enumerate(parts.blocks):
        if graph.granularity == "sublayer":
            after = block.attention if block.attention_post_norm is None else block.attention_post_norm.module
            hooks.see_output(after, _keep(found, index[f"attn.{layer}"], parts.residual_multiplier))
        else:
            _hook_heads(hooks, parts, block, index[f"attn.{layer}.h0"], found)
        after = block.mlp if block.mlp_post_norm is None else block.mlp_post_norm.module
        hooks.see_output(after, _keep(found, index[f"mlp.{layer}"], parts.residual_multiplier))


def one_writer(index: int, written: Tensor, multiplier: float = 1.0) -> WriterOutputs:
    """A single writer whose output [batch, pos, width] is at hand."""
    return WriterOutputs(
        range(index, index + 1), lambda batch_slice: _scaled(batch_slice.of(written)[None], multiplier)
    )


def _keep(found: list[WriterOutputs], index: int, multiplier: float) -> Callable[[Tensor], None]:
    return lambda written: found.append(one_writer(index, written, multiplier))


def _hook_heads(hooks: Hooks, parts: ModelParts, block: Block, first: int, found: list[WriterOutputs]) -> None:
    """Each head writes z_h W_O^h; behind a post-norm, its share at the scale of the whole output.

    The output bias belongs to no head.
    """
    weight = block.head_output_weight(parts.n_heads).detach()
    kept: dict[str, Tensor] = {}

    def keep_output(whole: Tensor) -> None:
        z = kept.pop("z")

        def outputs(batch_slice: BatchSlice) -> Tensor:
            by_head = batch_slice.of(z).unflatten(-1, (parts.n_heads, -1))
            outputs = torch.einsum("bthd,hdm->hbtm", by_head, weight)
            if block.attention_post_norm is not None:
                outputs = block.attention_post_norm.scale_part(batch_slice.of(whole), outputs)
            return _scaled(outputs, parts.residual_multiplier)

        found.append(WriterOutputs(range(first, first + parts.n_heads), outputs))

    hooks.see_input(block.output, lambda z: kept.update(z=z))
    hooks.see_output(block.output, keep_output)


def _scaled(tensor: Tensor, multiplier: float) -> Tensor:
    return tensor if multiplier == 1 else tensor * multiplier
