"""The stream check: that the parts found are all that writes to and reads from the residual stream."""

from __future__ import annotations

import math
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from rlcircuits.capture.batch_slices import WHOLE_BATCH
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.recording import forward_logits, recorded, sequence_losses
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts

# How far the stream may be from the sum of its writers, relative to its norm. A missing or doubled
# writer is off by its whole norm; rounding at each of 2L additions is not.
_STREAM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_PROBE_TOKENS = 8


def verify_stream(model: nn.Module, parts: ModelParts) -> None:
    """Check by numbers that the parts found are all that writes to and reads from the stream.

    On a few tokens: every reader's stream is the sum of the writers before it, what a sublayer's heads write
    adds up to what the sublayer writes, and the gradient that reaches the first block through the readers is the
    one the untouched model has. Raises RLCircuitsError naming the first reader or sublayer for which it is not so.
    """
    graph = build_graph(len(parts.blocks), parts.n_heads, "sublayer", parallel=parts.parallel)
    tokens = torch.randint(parts.vocabulary, (_PROBE_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    batch = make_batch([AnswerSequence(tuple(tokens[:-2]), tuple(tokens[-2:]))], [0])
    weight = next(iter(model.parameters()))
    batch = batch.to(model.get_input_embeddings().weight.device)  # type: ignore[operator]
    tolerance = _STREAM_TOLERANCE.get(weight.dtype, 5e-2)
    with (
        frozen(model),
        recorded(model, parts, graph, batch, on_reader_grads=lambda readers: None, keep_streams=True) as found,
    ):
        losses = sequence_losses(found.logits, batch)
        if first_non_finite(batch, losses):
            raise explain_non_finite(
                model, batch, f"{type(model).__name__} has a non-finite loss on {_PROBE_TOKENS} tokens"
            )
        written = {w.indices.start: w.outputs(WHOLE_BATCH)[0].double() for w in found.writers}
        for reader, name in enumerate(graph.readers):
            sublayer = name.removesuffix(".q")  # q, k and v read one stream
            if sublayer.endswith((".k", ".v")):
                continue
            if sublayer not in found.streams:
                raise RLCircuitsError(f"{type(model).__name__} did not run the norm before {sublayer}, as it must")
            stream = found.streams[sublayer].double()
            total = sum(tensor.to(stream.device) for u, tensor in written.items() if graph.mask[u, reader])
            _agree(stream, total, tolerance, f"the stream {sublayer} reads", "its writers' sum")
        (ours,) = torch.autograd.grad(losses.sum(), found.entry)
    with frozen(model):
        _verify_heads(model, parts, graph, batch, written, tolerance)
        plain = plain_gradient(model, parts, batch)
    _agree(ours.double(), plain.double(), 2 * tolerance, "the gradient through the readers found", "the model's own")


def _verify_heads(
    model: nn.Module, parts: ModelParts, graph: EdgeGraph, batch: Batch, written: dict[int, Tensor], tolerance: float
) -> None:
    """Check that heads and the output's bias add up to ``written``, by the writer's place in ``graph``."""
    by_head = build_graph(len(parts.blocks), parts.n_heads, "head", parallel=parts.parallel)
    with recorded(model, parts, by_head, batch) as found:
        heads = {w.indices.start: w for w in found.writers}
        for layer, block in enumerate(parts.blocks):
            total = heads[by_head.writers.index(f"attn.{layer}.h0")].outputs(WHOLE_BATCH).double().sum(0)
            bias = getattr(block.output, "bias", None)
            if bias is not None and block.attention_post_norm is None:
                total = total + bias.detach().double() * parts.residual_multiplier
            whole = written[graph.writers.index(f"attn.{layer}")]
            _agree(total, whole.to(total.device), tolerance, f"the sum of the heads of attn.{layer}", "what it writes")


def plain_gradient(model: nn.Module, parts: ModelParts, batch: Batch) -> Tensor:
    """∂ℓ/∂(first block's input) of the untouched model, [batch, pos, width], weights being frozen."""
    entry: list[Tensor] = []

    def make_leaf(hidden: Tensor) -> Tensor:
        entry.append(hidden.detach().requires_grad_(True))
        return entry[0]

    with ExitStack() as stack, torch.enable_grad():
        Hooks(stack).replace_input(parts.blocks[0].module, make_leaf)
        logits = forward_logits(model, batch)[batch.rows, batch.columns]
        (gradient,) = torch.autograd.grad(sequence_losses(logits, batch).sum(), entry[0])
    return gradient


def _agree(found: Tensor, wanted: Tensor | int, tolerance: float, what: str, other: str) -> None:
    wanted = torch.as_tensor(wanted, device=found.device)
    size = float(wanted.norm())
    error = float((found - wanted).norm()) / (size or 1)
    if math.isnan(error):
        raise RLCircuitsError(f"{what} or {other} is not finite: a weight may be infinite, or the model overflows")
    if not error <= tolerance:
        raise RLCircuitsError(
            f"{what} is not {other} (relative difference {error:.2g}, at most {tolerance:.2g} allowed): this model's "
            "residual stream has a writer or reader that is not mapped, or a hook, a subclass or autocast changes one"
        )
