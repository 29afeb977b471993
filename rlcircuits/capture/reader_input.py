"""The autograd nodes that stand in for the norms before the readers.

The gradient with respect to each reader's input, ∂ℓ/∂x_v, is wanted for q, k and v apart, though all three read one
stream through one norm. Three norms (or three attentions) would give it at three times the cost. Instead:

1. In the forward, the stream leaves the autograd graph before the norm. The norm and the projections to q, k and v
   compute without gradients.
2. Each projection's output joins the graph again as one custom node, whose only input is the stream.
3. In the backward, each node receives ∂ℓ/∂output and computes ∂ℓ/∂x_v in closed form from the projection's weight and
   the norm's VJP. Autograd adds up what the nodes return, as for any stream that is read several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.norms import Norm, NormVJP

OnStream = Callable[[str, Tensor], None]
"""Takes a sublayer's name and the stream it reads, [batch, pos, width], detached from the autograd graph."""

ReaderBackward = Callable[[Tensor, NormVJP], Tensor]
"""From ∂ℓ/∂output of a node and the norm's VJP at the stream to ∂ℓ/∂stream, [batch, pos, width]."""

_NO_NORM = NormVJP(lambda grad: grad)


class ReaderInput:
    """The input of sublayers that share a norm: the stream before the norm, or before the projections without one.

    Args:
        hooks: Where the hook on the norm is registered.
        norm: The norm before the sublayers, or None.
        sublayers: The names that ``on_stream`` is called with, each once. Mostly one.
        on_stream: Called with the stream that the sublayers read.
        nodes: How many nodes one forward joins here: one for each module that projects the norm's output.
    """

    def __init__(
        self, hooks: Hooks, norm: Norm | None, sublayers: Iterable[str], on_stream: OnStream, nodes: int = 1
    ) -> None:
        self._norm = norm
        self._sublayers = tuple(dict.fromkeys(sublayers))
        self._on_stream = on_stream
        self._nodes = nodes
        self._read: _StreamRead | None = None
        if norm is not None:
            hooks.replace_input(norm.module, self._leave_graph)

    def detached(self, hidden: Tensor) -> Tensor:
        """Return the input of a projection, [batch, pos, width], outside the graph. Hook this on the projection."""
        if self._norm is not None:  # the norm's input left the graph, so its output is outside
            return hidden
        # Without a norm, the stream leaves the graph at the first projection.
        return self._leave_graph(hidden) if self._read is None else hidden.detach()

    def join(self, output: Tensor, backward: ReaderBackward) -> Tensor:
        """Return ``output``, computed from the detached stream, as a node of the graph whose input is the stream.

        Args:
            output: The output of a projection, [batch, pos, features].
            backward: Computes the node's gradient with respect to the stream.
        """
        read = self._read
        if read is None:
            raise RLCircuitsError(
                f"{' and '.join(self._sublayers)} ran before the norm that is said to be before it; the names of its "
                "modules are wrong"
            )
        stream = read.open_node()
        if read.stream is None:  # this was the last node
            self._read = None
        return _ReaderNode.apply(stream, output, read, backward)  # type: ignore[no-any-return, no-untyped-call]

    def _leave_graph(self, hidden: Tensor) -> Tensor:
        weight = None if self._norm is None else next(self._norm.module.parameters(), None)
        if weight is not None:  # a model split over devices: the norm may be on another one than the block before it
            hidden = hidden.to(weight.device)
        self._read = _StreamRead(hidden, self._norm, self._nodes)
        for sublayer in self._sublayers:
            self._on_stream(sublayer, hidden.detach())
        return hidden.detach()


class _StreamRead:
    """One read of the stream by a sublayer's n nodes, from the forward to the last node's backward.

    The life of a read, with what it keeps alive at each step:

        step                         calls     open nodes      stream            norm's VJP
        the stream leaves the graph  1         0               kept              –
        open_node, in the forward    n         1, 2, …, n      released at n     –
        run_node, in the backward    n         n−1, …, 1, 0    –                 made at n−1, released at 0

    From the n-th node on, the graph keeps the stream as the nodes' saved tensor. A reference from here would keep it
    alive under gradient checkpointing. The VJP holds tensors of the stream's size, so it lives no longer than needed;
    the nodes themselves live until the whole backward has ended.
    """

    def __init__(self, stream: Tensor, norm: Norm | None, nodes: int) -> None:
        self.stream: Tensor | None = stream
        self._norm = norm
        self._nodes = nodes
        self._norm_vjp: NormVJP | None = None
        self._open_nodes = 0

    def open_node(self) -> Tensor:
        """Count one more node and return its input: the stream, in the graph."""
        stream = self.stream
        assert stream is not None
        self._open_nodes += 1
        if self._open_nodes == self._nodes:
            self.stream = None
        return stream

    def run_node(self, stream: Tensor, grad: Tensor, backward: ReaderBackward) -> Tensor:
        """Run one node's backward. All nodes of the read share one VJP of the norm."""
        if self._norm_vjp is None:
            self._norm_vjp = _NO_NORM if self._norm is None else self._norm.vjp_at(stream)
        norm_vjp = self._norm_vjp
        self._open_nodes -= 1
        if self._open_nodes == 0:
            self._norm_vjp = None
        return backward(grad, norm_vjp)


class _ReaderNode(torch.autograd.Function):
    """(stream, output) → output, with a backward to the stream that the reader defines."""

    @staticmethod
    def forward(ctx: Any, stream: Tensor, output: Tensor, read: _StreamRead, backward: ReaderBackward) -> Tensor:
        ctx.save_for_backward(stream)
        ctx.read, ctx.reader_backward = read, backward
        return output.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (stream,) = ctx.saved_tensors
        return ctx.read.run_node(stream, grad, ctx.reader_backward), None, None, None
