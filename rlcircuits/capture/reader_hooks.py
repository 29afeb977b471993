"""The readers' side of a capture: one node of the autograd graph in place of each reader's norm.

The norm (and, for q, k and v, the projection) runs outside the graph. A node then joins the result
to the stream again; its backward is the norm's Jacobian, so it holds ∂ℓ/∂x_v for each reader apart
at the cost of no second norm, projection or attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.capture.reader_grads import OnReaderGrads, PendingReaderGrads, ReaderGrads, from_tensor
from rlcircuits.common.devices import can_use_triton, to_device_async
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.norms import Norm, NormVJP
from rlcircuits.models.parts import ModelParts, Projection, as_index

# (gradient at a node's output, its norm at the stream) → gradient at the stream
ReaderBackward = Callable[[Tensor, NormVJP], Tensor]

_NO_NORM = NormVJP(lambda grad: grad)


class ReaderInput:
    """Where a sublayer takes from the stream: before its norm, or directly where it has none.

    see: shown the stream as it is read, [batch, pos, width], out of the graph. nodes: how many read through it.
    """

    def __init__(self, hooks: Hooks, norm: Norm | None, on_stream: Callable[[Tensor], None], nodes: int = 1) -> None:
        self._norm = norm
        self._see = on_stream
        self._nodes = nodes
        self._stream: Tensor | None = None
        self._linearised: NormVJP | None = None
        self._joined = self._carried = 0
        if norm is not None:
            hooks.replace_input(norm.module, self._leave_graph)

    def arrive(self, hidden: Tensor) -> Tensor:
        """The input of the sublayer's first module, out of the graph."""
        return self._leave_graph(hidden) if self._norm is None else hidden

    def join(self, computed: Tensor, backward: ReaderBackward) -> Tensor:
        """Put ``computed``, made from the sublayer's input outside the graph, back into the graph."""
        stream = self._stream
        assert stream is not None, "a sublayer ran before its norm"
        self._joined = (self._joined + 1) % self._nodes
        if self._joined == 0:  # the graph has it from here on
            self._stream = None
        return _ReaderFunction.apply(stream, computed, self, backward)  # type: ignore[no-any-return, no-untyped-call]

    def run_backward(self, stream: Tensor, backward: ReaderBackward, grad: Tensor) -> Tensor:
        """Run one node's backward. The norm is linearised once for all nodes that read through it."""
        if self._linearised is None:
            self._linearised = _NO_NORM if self._norm is None else self._norm.vjp_at(stream)
        linearised = self._linearised
        self._carried = (self._carried + 1) % self._nodes
        if self._carried == 0:
            self._linearised = None
        return backward(grad, linearised)

    def _leave_graph(self, hidden: Tensor) -> Tensor:
        weight = None if self._norm is None else next(self._norm.module.parameters(), None)
        if weight is not None:  # a model split over devices: the norm may be on another one than the block before it
            hidden = hidden.to(weight.device)
        self._stream = hidden
        self._see(hidden.detach())
        return hidden.detach()


class _ReaderFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, stream: Tensor, computed: Tensor, reader_input: ReaderInput, backward: ReaderBackward
    ) -> Tensor:
        ctx.save_for_backward(stream)
        ctx.reader_input, ctx.reader_backward = reader_input, backward
        return computed.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (stream,) = ctx.saved_tensors
        return ctx.reader_input.run_backward(stream, ctx.reader_backward, grad), None, None, None


def hook_readers(
    hooks: Hooks,
    stack: ExitStack,
    parts: ModelParts,
    graph: EdgeGraph,
    on_reader_grads: OnReaderGrads,
    on_stream: Callable[[str, Tensor], None],
) -> None:
    """Hook every reader but ``logits``. see: shown (sublayer name, the stream it reads)."""
    index: dict[tuple[str, str], int] = {}  # of each sublayer's first reader of a kind
    for place, (sublayer, kind) in enumerate(map(_sublayer_and_kind, graph.readers)):
        index.setdefault((sublayer, kind), place)
    group = parts.n_heads // parts.n_kv_heads if graph.granularity == "head" else 1
    copies = {"q": 1, "k": group, "v": group}
    for layer, block in enumerate(parts.blocks):
        attention = ReaderInput(hooks, block.attention_norm, _named(on_stream, f"attn.{layer}"), len(block.projections))
        if group > 1:
            stack.enter_context(_ungrouped(block.attention, parts))
        for projection in block.projections:
            first = {kind: index[f"attn.{layer}", kind] for kind in projection.features}
            if graph.granularity == "sublayer":
                _hook_projection(hooks, attention, projection, first, on_reader_grads)
            else:
                _hook_heads(hooks, attention, projection, copies, first, on_reader_grads)
        mlp = ReaderInput(hooks, block.mlp_norm, _named(on_stream, f"mlp.{layer}"))
        hook_input(hooks, block.mlp, mlp, index[f"mlp.{layer}", ""], on_reader_grads)


def hook_input(
    hooks: Hooks,
    module: nn.Module,
    reader_input: ReaderInput,
    reader: int,
    on_reader_grads: OnReaderGrads,
    then: Callable[[Tensor], Tensor] = lambda joined: joined,
) -> None:
    """Make a module's whole input one reader; the module is given ``then(input)``."""

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        felt = norm.vjp(grad)
        on_reader_grads(from_tensor(reader, felt[None]))
        return felt

    hooks.replace_input(module, lambda hidden: then(reader_input.join(reader_input.arrive(hidden), backward)))


def _hook_projection(
    hooks: Hooks,
    reader_input: ReaderInput,
    projection: Projection,
    first: dict[str, int],
    on_reader_grads: OnReaderGrads,
) -> None:
    """Readers q, k and v of a whole sublayer: each felt what its own output features felt."""

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        total: Tensor | None = None
        for kind, features in projection.features.items():
            felt = norm.vjp(grad[..., as_index(features, grad.device)] @ projection.rows(features))
            on_reader_grads(from_tensor(first[kind], felt[None]))
            total = felt if total is None else total + felt
        assert total is not None
        return total

    hooks.replace_input(projection.module, reader_input.arrive)
    hooks.replace_output(projection.module, lambda output: reader_input.join(output, backward))


def _hook_heads(
    hooks: Hooks,
    reader_input: ReaderInput,
    projection: Projection,
    copies: dict[str, int],
    first: dict[str, int],
    on_reader_grads: OnReaderGrads,
) -> None:
    """Readers q, k and v of every head.

    copies: how many heads read each head's features, by kind. Where k and v are read by a group of query heads, each
    is given its own copy of them, so that each copy's gradient is that head's; ``_ungrouped`` makes the attention
    expect the copies.
    """
    read = {kind: f.repeat_interleave(copies[kind], dim=0) for kind, f in projection.features.items()}
    copied = None
    given = read
    if any(copies[kind] > 1 for kind in read):  # the copies lie one after another
        copied = torch.cat([features.flatten() for features in read.values()])
        sizes = [features.numel() for features in read.values()]
        places = torch.arange(sum(sizes)).split(sizes)
        given = {kind: place.view_as(read[kind]) for kind, place in zip(read, places, strict=True)}

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        for kind, features in read.items():
            by_head = grad[..., as_index(given[kind], grad.device)].unflatten(-1, features.shape)
            weight = projection.rows(features).unflatten(0, features.shape)
            on_reader_grads(_reader_grads_by_head(first[kind], by_head, weight, norm))
        if copied is not None:
            everything = torch.cat([f.flatten() for f in projection.features.values()])
            folded = grad.new_zeros(*grad.shape[:-1], len(everything))
            grad = folded.index_add_(-1, to_device_async(copied, grad.device), grad)
        return norm.vjp(grad @ projection.rows(torch.arange(grad.shape[-1])))

    def join(output: Tensor) -> Tensor:
        return reader_input.join(
            output if copied is None else output[..., to_device_async(copied, output.device)], backward
        )

    hooks.replace_input(projection.module, reader_input.arrive)
    hooks.replace_output(projection.module, join)


def _reader_grads_by_head(first: int, grad: Tensor, weight: Tensor, norm: NormVJP) -> PendingReaderGrads:
    """What each head's reader felt, from the gradient at its features.

    grad: [batch, pos, heads, head_dim]. weight: [heads, head_dim, width]. The norm's scale goes onto the
    features and what is the same at all positions onto the projection, both n_heads times smaller than the result;
    its direction is taken off by the kernel that makes the heads, or else left to the contraction.
    """
    factors = norm.factors
    if factors is None:
        return from_tensor(first, norm.vjp(torch.einsum("bthd,hdm->hbtm", grad, weight)))
    scaled = (grad.to(factors.scale.dtype) * factors.scale[..., None]).to(grad.dtype).flatten(-2)
    weight = factors.through(weight).to(grad.dtype)
    indices = range(first, first + len(weight))

    def felt(batch_slice: BatchSlice) -> ReaderGrads:
        features, direction = batch_slice.of(scaled).unflatten(-1, weight.shape[:2]), batch_slice.of(factors.direction)
        if can_use_triton(features):
            from rlcircuits.capture.triton_heads import reader_grads_by_head

            rounding = None if factors.rounding_correction is None else batch_slice.of(factors.rounding_correction[..., None])[..., 0]
            return ReaderGrads(indices, reader_grads_by_head(features, weight, direction.to(features.dtype), rounding))
        return ReaderGrads(indices, torch.einsum("bthd,hdm->hbtm", features, weight), direction)

    return PendingReaderGrads(indices, felt, scaled.nbytes, scaled.device)


@contextmanager
def _ungrouped(attention: nn.Module, parts: ModelParts) -> Iterator[None]:
    """Make a grouped-query attention take one k and v per query head, as ``_hook_heads`` gives it."""
    saved: list[tuple[nn.Module, str, object]] = []

    def swap(owner: nn.Module, name: str, value: object) -> None:
        saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    try:
        swap(attention, "num_key_value_groups", 1)
        if hasattr(attention, "num_key_value_heads"):
            swap(attention, "num_key_value_heads", parts.n_heads)
        norm = getattr(attention, "k_norm", None)
        if norm is not None and norm.weight.numel() > parts.head_dim:
            # A norm over all k features (OLMo 2): copies of whole groups have the same mean square.
            heads = norm.weight.detach().unflatten(0, (parts.n_kv_heads, -1))
            heads = heads.repeat_interleave(parts.n_heads // parts.n_kv_heads, dim=0)
            swap(norm, "weight", nn.Parameter(heads.flatten(), requires_grad=False))
        yield
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)


def _sublayer_and_kind(reader: str) -> tuple[str, str]:
    """``attn.0.h3.q`` → attn.0 and q; ``mlp.0`` → itself and nothing."""
    name = reader.split(".")
    return ".".join(name[:2]), name[-1] if len(name) > 2 else ""


def _named(on_stream: Callable[[str, Tensor], None], name: str) -> Callable[[Tensor], None]:
    return lambda stream: on_stream(name, stream)
