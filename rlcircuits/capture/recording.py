"""One forward and one backward: what writers wrote and what readers felt.

The phases, in order:

1. Forward (``recorded``). Hooks on the original model keep what each writer added to the residual
   stream, and put one node of the autograd graph in place of each reader's norm. The stream itself
   flows on untouched. The unembedding sees the scored positions only.
2. Loss (``sequence_losses``). Each sequence has its own loss; their sum gives every sequence its own
   gradients in one backward.
3. Backward (``torch.autograd.grad`` of that sum to the first block's input), to activations only.
   Each reader's node delivers ∂ℓ/∂x_v as the backward passes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rlcircuits.capture.reader_grads import OnReaderGrads
from rlcircuits.capture.reader_hooks import ReaderInput, hook_input, hook_readers
from rlcircuits.capture.writers import WriterOutputs, hook_writers, one_writer
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import Batch
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts


@dataclass
class Recording:
    """What one forward left behind.

    logits: [scored, vocabulary] at the scored positions. writers: what each writer added to the
    stream, in the order it ran. entry: the stream at the first block, the leaf of the backward.
    streams: sublayer → the stream it reads, [batch, pos, width], only where they were asked for.
    """

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    writers: list[WriterOutputs] = field(default_factory=list)
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
) -> Iterator[Recording]:
    """Run the model on a batch and record it; run the backward inside. The model's hooks are as before at the end.

    deliver: takes the readers' gradients when the backward is run. Without it the forward leaves no
    graph and only the writers are kept. keep_streams: also keep what every sublayer reads. recompute: keep no more
    of a block than its input, and run it again when the backward comes to it.
    """
    recording = Recording()
    streams = recording.streams

    # The nodes of the graph hold this function. If it held the recording, whose logits hold the graph, nothing would
    # ever free either: the garbage collector does not see references that go through autograd.
    def on_stream(name: str, stream: Tensor) -> None:
        if keep_streams:
            streams[name] = stream

    def make_leaf(hidden: Tensor) -> Tensor:
        recording.entry = hidden.detach().requires_grad_(on_reader_grads is not None)
        recording.writers.append(one_writer(0, hidden.detach()))
        return recording.entry

    def scored(hidden: Tensor) -> Tensor:
        return hidden[batch.rows.to(hidden.device), batch.columns.to(hidden.device)][None]

    with ExitStack() as stack:
        # A block that runs again writes nothing anew, but its readers are where they were.
        with ExitStack() as forward_only, torch.set_grad_enabled(on_reader_grads is not None):
            once = Hooks(forward_only)
            once.replace_input(parts.blocks[0].module, make_leaf)
            hook_writers(once, parts, graph, recording.writers)
            if on_reader_grads is None:
                once.replace_input(parts.unembedding, scored)
            else:
                hooks = Hooks(stack)
                hook_readers(hooks, stack, parts, graph, on_reader_grads, on_stream)
                final = ReaderInput(hooks, parts.final_norm, lambda stream: on_stream("logits", stream))
                hook_input(hooks, parts.unembedding, final, len(graph.readers) - 1, on_reader_grads, then=scored)
                if recompute:
                    for block in parts.blocks:
                        stack.enter_context(_recomputed(block.module))
            recording.logits = forward_logits(model, batch)[0]
        yield recording


@contextmanager
def _recomputed(module: nn.Module) -> Iterator[None]:
    """Make the module's forward keep its input only, and run again in the backward."""
    own = vars(module).get("forward")  # accelerate puts one there to move inputs between devices
    module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def forward_logits(model: nn.Module, batch: Batch) -> Tensor:
    """The model's own forward. Padding is masked and positions count from each first real token."""
    padding: dict[str, Tensor] = {}
    if batch.attention_mask is not None:
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp_(min=0)
        padding = {"attention_mask": batch.attention_mask, "position_ids": positions}
    return model(input_ids=batch.input_ids, use_cache=False, **padding).logits  # type: ignore[no-any-return]


def sequence_losses(logits: Tensor, batch: Batch) -> Tensor:
    """ℓ of each sequence: the mean over its scored tokens of −log p(token), in nats.

    logits: [scored, vocabulary], any floating dtype. Returns [batch] in float32 (float64 for float64
    logits). Source: arXiv 2509.21044, the loss of the model's own answer.
    """
    work = torch.float64 if logits.dtype == torch.float64 else torch.float32
    losses = torch.nn.functional.cross_entropy(logits.to(work), batch.targets, reduction="none")
    # Counted like this and not by bincount, for which the CPU would wait.
    count = losses.new_zeros(len(batch.indices)).index_add(0, batch.rows, torch.ones_like(losses))
    return losses.new_zeros(len(batch.indices)).index_add(0, batch.rows, losses) / count
