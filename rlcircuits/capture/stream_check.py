"""The stream check: that no writer or reader of the residual stream was missed.

The parts of a model are found by name (``rlcircuits.models.parts``). This check shows by numbers that they are all of
its writers and readers, so that a model with an unknown one is an error and not a wrong score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcircuits.capture.batch_slices import WHOLE_BATCH
from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.capture.model_graph import model_graph
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.projection_check import verify_projections
from rlcircuits.capture.recording import forward_logits, recorded, sequence_losses
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph, build_layered_graph
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.families import is_added
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts

# How far the stream may be from the sum of its writers, relative to its norm. A missing or doubled
# writer is off by its whole norm; rounding at each of 2L additions is not.
_STREAM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_PROBE_TOKENS = 8


@dataclass(frozen=True)
class Agreement:
    """Two things that must be equal but for rounding.

    Args:
        what: What was compared with what.
        error: The largest relative difference, ‖found − wanted‖ / ‖wanted‖.
        allowed: The most that is allowed in the model's dtype.
    """

    what: str
    error: float
    allowed: float


def verify_stream(model: nn.Module, parts: ModelParts) -> tuple[Agreement, ...]:
    """Check on a few tokens that ``parts`` are all that writes to and reads from the residual stream.

    Three things must agree, but for rounding:

    1. the stream that each reader reads, and the sum of the writers before it;
    2. the sum of the heads of each attention, and what the attention writes;
    3. the gradient that reaches the first block through the readers' nodes, and that of the untouched model.

    In a family that a user added, q and k must also do what q and k do (``rlcircuits.capture.projection_check``).

    Args:
        model: The causal LM.
        parts: Its parts, as ``locate_parts`` found them.

    Returns:
        How well each of the three agrees; the second is left out if no layer has an attention.

    Raises:
        RLCircuitsError: if two of these do not agree, naming the first sublayer; or if the loss is not finite.
    """
    graph = model_graph(parts, "sublayer")
    batch, tolerance = probe_batch(model, parts), stream_tolerance(model)
    with (
        frozen(model),
        recorded(model, parts, graph, batch, on_reader_grads=lambda readers: None, keep_streams=True) as recording,
    ):
        losses = sequence_losses(recording.logits, batch)
        if first_non_finite(batch, losses):
            raise explain_non_finite(
                model, batch, f"{type(model).__name__} has a non-finite loss on {_PROBE_TOKENS} tokens"
            )
        outputs = {w.indices.start: w.outputs(WHOLE_BATCH)[0].double() for w in recording.writers}
        streams = _verify_streams(model, parts, graph, recording.streams, outputs, tolerance)
        (ours,) = torch.autograd.grad(losses.sum(), recording.entry)
    with frozen(model):
        heads = _verify_heads(model, parts, graph, batch, outputs, tolerance)
        plain = plain_gradient(model, parts, batch)
        if is_added(model.config):
            verify_projections(model, parts, batch, tolerance)
    readers = agree(
        ours.double(), plain.double(), 2 * tolerance, "the gradient through the readers found", "the model's own"
    )
    agreements = (
        Agreement("the stream that each reader reads, and the sum of the writers before it", streams, tolerance),
        Agreement("the sum of each attention's heads, and what the attention writes", heads, tolerance),
        Agreement("the gradient through the readers, and the model's own", readers, 2 * tolerance),
    )
    has_attention = any(block.attention is not None for block in parts.blocks)
    return agreements if has_attention else (agreements[0], agreements[2])


def probe_batch(model: nn.Module, parts: ModelParts) -> Batch:
    """Return a batch of one sequence of a few tokens, on the model's device."""
    tokens = torch.randint(parts.vocabulary, (_PROBE_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    batch = make_batch([AnswerSequence(tuple(tokens[:-2]), tuple(tokens[-2:]))], [0])
    return batch.to(model.get_input_embeddings().weight.device)  # type: ignore[operator]


def stream_tolerance(model: nn.Module) -> float:
    """Return how far two equal streams may be apart in the model's dtype, relative to their norm."""
    return _STREAM_TOLERANCE.get(next(iter(model.parameters())).dtype, 5e-2)


def _verify_streams(
    model: nn.Module,
    parts: ModelParts,
    graph: EdgeGraph,
    streams: dict[str, Tensor],
    outputs: dict[int, Tensor],
    tolerance: float,
) -> float:
    """Check that each sublayer's stream is the sum of its writers' ``outputs``, keyed by the graph's index.

    Returns:
        The largest relative difference.
    """
    largest = 0.0
    scales = edge_scales(parts, graph)
    for reader, name in enumerate(graph.readers):
        sublayer = name.removesuffix(".q")  # q, k and v read one stream
        if sublayer.endswith((".k", ".v")):
            continue
        if sublayer not in streams:
            raise RLCircuitsError(
                f"{type(model).__name__} did not run the norm before {sublayer}, which attribution needs"
            )
        stream = streams[sublayer].double()
        before = [u for u in outputs if graph.mask[u, reader]]
        total = sum(outputs[u].to(stream.device) * (1 if scales is None else float(scales[u, reader])) for u in before)
        largest = max(largest, agree(stream, total, tolerance, f"the stream {sublayer} reads", "its writers' sum"))
    return largest


def _verify_heads(
    model: nn.Module, parts: ModelParts, graph: EdgeGraph, batch: Batch, outputs: dict[int, Tensor], tolerance: float
) -> float:
    """Check that the heads and the output bias of each attention add up to its entry of ``outputs``.

    Returns:
        The largest relative difference.
    """
    largest = 0.0
    # Heads are nodes here even of a model whose heads cannot be readers: what they write is known all the same.
    by_head = build_layered_graph(parts.layers, parts.n_heads, "head")
    with recorded(model, parts, by_head, batch) as recording:
        heads = {w.indices.start: w for w in recording.writers}
        for layer, block in enumerate(parts.blocks):
            if block.attention is None:
                continue
            total = heads[by_head.writers.index(f"attn.{layer}.h0")].outputs(WHOLE_BATCH).double().sum(0)
            bias = getattr(block.output, "bias", None)
            if bias is not None and block.attention_post_norm is None:
                total = total + bias.detach().double() * parts.residual_multiplier * block.attention_multiplier
            whole = outputs[graph.writers.index(f"attn.{layer}")]
            what = f"the sum of the heads of attn.{layer}"
            largest = max(largest, agree(total, whole.to(total.device), tolerance, what, "what it writes"))
    return largest


def plain_gradient(model: nn.Module, parts: ModelParts, batch: Batch) -> Tensor:
    """Return ∂ℓ/∂(the first block's input), [batch, pos, width], of the model without any readers' hooks.

    The model's weights must not need gradients.
    """
    entry: list[Tensor] = []

    def make_leaf(hidden: Tensor) -> Tensor:
        entry.append(hidden.detach().requires_grad_(True))
        return entry[0]

    with Hooks() as hooks, torch.enable_grad():
        hooks.replace_input(parts.blocks[0].module, make_leaf)
        logits = forward_logits(model, batch)[batch.rows, batch.columns]
        (gradient,) = torch.autograd.grad(sequence_losses(logits, batch).sum(), entry[0])
    return gradient


def agree(found: Tensor, wanted: Tensor | int, tolerance: float, what: str, other: str) -> float:
    """Return ‖found − wanted‖ / ‖wanted‖. Raises RLCircuitsError unless it is at most ``tolerance``."""
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
    return error
