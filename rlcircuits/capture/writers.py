"""Hooks that keep what each writer adds to the residual stream.

A writer's output is what it adds: after the post-norm if the family has one, with the output bias, and times the
residual multiplier. Outputs are kept as the model produced them and never copied into one tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.capture.expert_outputs import ExpertOutputs, KeptExperts
from rlcircuits.common.linear_product import product_of_heads
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import Block, ModelParts


@dataclass(frozen=True)
class WriterOutputs:
    """What consecutive writers add to the stream, computed one batch slice at a time.

    The outputs of heads are computed only when they are contracted. Until then only their input to the output
    projection is kept, which is n_heads times smaller.

    Args:
        indices: The writers, as indices of the graph.
        outputs: From a batch slice to the writers' outputs in it, [len(indices), batch, pos, width].
    """

    indices: range
    outputs: Callable[[BatchSlice], Tensor]

    def minus(self, other: WriterOutputs) -> WriterOutputs:
        """Return these outputs minus those of the same writers in another run, position by position."""
        return WriterOutputs(self.indices, lambda batch_slice: self.outputs(batch_slice) - other.outputs(batch_slice))


AnyOutputs = WriterOutputs | ExpertOutputs

OnWriterOutputs = Callable[[AnyOutputs], None]
"""Takes what some writers add to the stream, while the model runs."""


def hook_writers(
    hooks: Hooks,
    parts: ModelParts,
    graph: EdgeGraph,
    on_outputs: OnWriterOutputs,
    *,
    before_post_norms: bool = False,
) -> None:
    """Hook attention, mixer and MLP of every block.

    Args:
        hooks: Where the hooks are registered.
        parts: The parts of the model.
        graph: The graph whose writers are hooked.
        on_outputs: Called with the outputs of each sublayer's writers, in the order in which the sublayers run.
        before_post_norms: Whether the outputs of heads behind a post-norm are taken before it, and before the residual
            multiplier. By default each is the head's share of what the attention adds to the stream.
    """
    index = {name: i for i, name in enumerate(graph.writers)}
    for layer, block in enumerate(parts.blocks):
        if block.attention is not None and not graph.has_heads:
            last = block.attention if block.attention_post_norm is None else block.attention_post_norm.module
            multiplier = parts.residual_multiplier * block.attention_multiplier
            hooks.observe_output(last, _on_output(on_outputs, index[f"attn.{layer}"], multiplier))
        elif block.attention is not None:
            raw = before_post_norms and block.attention_post_norm is not None
            _hook_heads(hooks, parts, block, index[f"attn.{layer}.h0"], on_outputs, raw=raw)
        if block.mixer is not None:
            multiplier = parts.residual_multiplier * block.mixer_multiplier
            hooks.observe_output(block.mixer, _on_output(on_outputs, index[f"mixer.{layer}"], multiplier))
        if block.mixture is not None and graph.granularity == "expert":
            shared = index.get(f"mlp.{layer}.shared")
            _hook_experts(hooks, block, index[f"mlp.{layer}.e0"], shared, on_outputs, parts.residual_multiplier)
        elif block.mlp is not None:
            copied = parts.names.mlp_changed_after
            _hook_mlp(hooks, block, copied, _on_output(on_outputs, index[f"mlp.{layer}"], parts.residual_multiplier))


def one_writer(index: int, output: Tensor, multiplier: float = 1.0) -> WriterOutputs:
    """Return a single writer that adds ``multiplier`` · ``output`` [batch, pos, width] to the stream."""
    return WriterOutputs(range(index, index + 1), lambda batch_slice: _scaled(batch_slice.of(output)[None], multiplier))


def _on_output(on_outputs: OnWriterOutputs, index: int, multiplier: float) -> Callable[[Tensor], None]:
    return lambda output: on_outputs(one_writer(index, output, multiplier))


def _hook_mlp(hooks: Hooks, block: Block, copied: bool, on_output: Callable[[Tensor], None]) -> None:
    """Make an MLP one writer: the sum of what its modules return, once each has run.

    With ``copied`` the block changes in place what the MLP returns. What a module returns gets the shape of its input:
    Llama 4's mixtures return [batch · pos, width].
    """
    if block.mlp_post_norm is not None:
        hooks.observe_output(block.mlp_post_norm.module, on_output)
        return
    modules = block.mlp_modules
    shapes: list[torch.Size] = []
    outputs: list[Tensor] = []
    shape = torch.Size()

    def keep_shape(hidden: Tensor) -> None:
        nonlocal shape
        shape = hidden.shape

    def take(output: Tensor) -> None:
        output = output.clone() if copied else output
        outputs.append(output.view(shapes.pop()))
        if len(outputs) == len(modules):
            total = sum(outputs[1:], outputs[0])
            outputs.clear()
            on_output(total.view(shape))

    hooks.observe_input(modules[0], keep_shape)

    for module in modules:
        hooks.observe_input(module, lambda hidden: shapes.append(hidden.shape))
        hooks.observe_output(module, take)


def _hook_experts(
    hooks: Hooks, block: Block, first: int, shared: int | None, on_outputs: OnWriterOutputs, multiplier: float
) -> None:
    """Make each expert of a mixture one writer, and what none of them writes another, if there is any.

    Args:
        hooks: Where the hooks are registered.
        block: A block whose MLP is a mixture.
        first: The graph's index of the first expert.
        shared: That of what no expert writes; None if there is nothing.
        on_outputs: Called with the outputs.
        multiplier: What the MLP's output is multiplied by before it is added to the stream.
    """
    assert block.mixture is not None, "only a mixture has experts"
    kept = KeptExperts(hooks, block.mixture)

    def take(whole: Tensor) -> None:
        experts, total = kept.take(first, whole.shape, multiplier)
        on_outputs(experts)
        if shared is not None:
            on_outputs(one_writer(shared, whole - total.to(whole.dtype), multiplier))

    _hook_mlp(hooks, block, False, take)


def _hook_heads(
    hooks: Hooks, parts: ModelParts, block: Block, first: int, on_outputs: OnWriterOutputs, *, raw: bool
) -> None:
    """Make each attention head one writer.

    Head h adds z_h W_O^h, with z_h its part of the output projection's input [batch, pos, n_heads · head_dim]. Behind a
    post-norm, that is scaled as the whole output is, unless ``raw``. The output bias belongs to no head.
    """
    weight = block.head_output_weight(parts.n_heads).detach()
    kept: dict[str, Tensor] = {}

    def take_heads(whole: Tensor) -> None:
        z = kept.pop("z")

        def outputs(batch_slice: BatchSlice) -> Tensor:
            by_head = batch_slice.of(z).unflatten(-1, (parts.n_heads, -1))
            outputs = product_of_heads(by_head, weight)
            if raw:
                return outputs
            if block.attention_post_norm is not None:
                outputs = block.attention_post_norm.scale_part(batch_slice.of(whole), outputs)
            return _scaled(outputs, parts.residual_multiplier * block.attention_multiplier)

        on_outputs(WriterOutputs(range(first, first + parts.n_heads), outputs))

    assert block.output is not None, "only an attention has heads"
    hooks.observe_input(block.output, lambda z: kept.update(z=z))
    hooks.observe_output(block.output, take_heads)


def _scaled(tensor: Tensor, multiplier: float) -> Tensor:
    return tensor if multiplier == 1 else tensor * multiplier
