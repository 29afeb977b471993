"""Record one forward and one backward: what each writer adds to the stream, and each reader's gradient.

The phases, in order:

1. Forward (:func:`recorded`). Hooks on the original model keep what each writer adds to the residual stream
   (``rlcircuits.capture.writers``). In place of each reader's norm, they put one node into the autograd graph
   (``rlcircuits.capture.reader_hooks``). The stream itself is not changed. The unembedding runs on the scored
   positions only.
2. Loss (:func:`sequence_losses`). Each sequence has a loss of its own. The caller sums the losses, so that one
   backward gives every sequence its own gradients.
3. Backward (the caller's ``torch.autograd.grad`` of the sum, to the first block's input). It runs to activations
   only. Each reader's node delivers ∂ℓ/∂x_v when the backward comes to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rlcircuits.capture.reader_grads import OnReaderGrads
from rlcircuits.capture.reader_hooks import hook_readers
from rlcircuits.capture.reader_input import OnStream
from rlcircuits.capture.writers import AnyOutputs, hook_writers, one_writer
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import Batch
from rlcircuits.models.backward_rules import NO_RULES, BackwardRules, hook_rules
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.images import as_model_inputs, check_reads_images, image_positions
from rlcircuits.models.mixers import mask_padding
from rlcircuits.models.parts import ModelParts


@dataclass
class Recording:
    """What one forward recorded.

    Args:
        logits: [scored, vocabulary], at the scored positions.
        writers: What each writer adds to the stream, in the order in which the writers ran.
        entry: The stream at the first block, [batch, pos, width]: the leaf of the backward.
        streams: Sublayer → the stream that it reads, [batch, pos, width]. Empty unless it was asked for.
    """

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    writers: list[AnyOutputs] = field(default_factory=list)
    entry: Tensor = field(default_factory=lambda: torch.empty(0))
    streams: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def recorded(
    model: nn.Module,
    parts: ModelParts,
    graph: EdgeGraph,
    batch: Batch,
    *,
    on_reader_grads: OnReaderGrads | None = None,
    keep_streams: bool = False,
    recompute: bool = False,
    start: Tensor | None = None,
    rules: BackwardRules = NO_RULES,
) -> Iterator[Recording]:
    """Run the forward on a batch and yield its recording; run the backward inside the context.

    Leaving the context removes all hooks from the model.

    Args:
        model: The causal LM, its weights without gradients.
        parts: The parts of the model.
        graph: The graph whose writers and readers are recorded.
        batch: The batch, on the model's device.
        on_reader_grads: Called in the backward with the gradients of some readers, until each had its turn. If None,
            only the writers are recorded, and the forward builds no autograd graph.
        keep_streams: Also keep the stream that each sublayer reads.
        recompute: Gradient checkpointing: keep only each block's input, and run the block again in the backward.
        start: What the first block reads in place of the batch's embeddings, [batch, pos, width].
        rules: What replaces parts of the backward.
    """
    recording = Recording()

    def make_leaf(hidden: Tensor) -> Tensor:
        hidden = hidden if start is None else start
        recording.entry = hidden.detach().requires_grad_(on_reader_grads is not None)
        recording.writers.append(one_writer(0, hidden.detach()))
        return recording.entry

    scored = partial(select_scored, batch)
    # Two lifetimes: a block that runs again in the backward needs the readers' hooks, but writes nothing new.
    with Hooks() as until_backward:
        if batch.attention_mask is not None:
            mask_padding(until_backward, parts)
        if on_reader_grads is not None:
            # The nodes of the autograd graph hold on_stream. It must not hold the recording, whose logits hold the
            # graph: such a cycle is never freed, since the garbage collector does not see through autograd.
            on_stream: OnStream = recording.streams.__setitem__ if keep_streams else _ignore_stream
            hook_readers(until_backward, parts, graph, on_reader_grads, on_stream, scored, rules)
            hook_rules(until_backward, parts, rules)
            if recompute:
                for block in parts.blocks:
                    until_backward.enter_context(_recomputed(block.module))
        with Hooks() as forward_only, torch.set_grad_enabled(on_reader_grads is not None):
            forward_only.replace_input(parts.blocks[0].module, make_leaf)
            hook_writers(forward_only, parts, graph, recording.writers.append)
            if on_reader_grads is None:
                forward_only.replace_input(parts.unembedding, scored)
            recording.logits = forward_logits(model, batch)[0]
        yield recording


def select_scored(batch: Batch, hidden: Tensor) -> Tensor:
    """Return the scored positions as one sequence: [batch, pos, width] → [1, scored, width]."""
    return hidden[batch.rows.to(hidden.device), batch.columns.to(hidden.device)][None]


def _ignore_stream(sublayer: str, stream: Tensor) -> None:
    """Keep no stream."""


def _recomputed(module: nn.Module) -> AbstractContextManager[None]:
    """Make the module's forward keep only its input, and run again in the backward."""
    forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
    return forward_replaced(module, forward)


def forward_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of the model's own forward, [batch, pos, vocabulary].

    Padding is masked, and each sequence's positions count from its first token that is not padding.
    """
    if batch.images:  # a model without a vision tower would pass over them
        check_reads_images(model.config, type(model).__name__)
    inputs = as_model_inputs(model, batch.images)
    if batch.attention_mask is not None:
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp_(min=0)
        inputs |= {"attention_mask": batch.attention_mask, "position_ids": positions}
    if batch.images:
        places = image_positions(model, batch.input_ids, batch.attention_mask, batch.images)
        inputs |= {} if places is None else {"position_ids": places}
    return model(input_ids=batch.input_ids, use_cache=False, **inputs).logits  # type: ignore[no-any-return]


def sequence_losses(logits: Tensor, batch: Batch) -> Tensor:
    """Return each sequence's loss ℓ: the mean over its scored tokens of −log p(token), in nats.

    Args:
        logits: [scored, vocabulary], any floating dtype.
        batch: The batch, whose ``targets`` and ``rows`` [scored] say which token and sequence each row of logits is of.

    Returns:
        [batch] in float32 (float64 for float64 logits). Source: arXiv 2509.21044, the loss of the model's own answer.
    """
    work = torch.float64 if logits.dtype == torch.float64 else torch.float32
    losses = torch.nn.functional.cross_entropy(logits.to(work), batch.targets, reduction="none")
    # index_add rather than bincount, which would make the CPU wait for the device.
    count = losses.new_zeros(len(batch.indices)).index_add(0, batch.rows, torch.ones_like(losses))
    return losses.new_zeros(len(batch.indices)).index_add(0, batch.rows, losses) / count
