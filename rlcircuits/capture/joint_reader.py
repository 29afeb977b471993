"""A reader that reads the stream through several modules, whose outputs make what one sublayer writes.

Gemma 4's mixtures read the stream at three places: in a norm before the dense MLP, in another before the experts, and
in the router. All three are one reader. Its gradient is the sum of the three, each of which autograd computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.capture.reader_grads import OnReaderGrads, from_tensor
from rlcircuits.capture.reader_input import OnStream
from rlcircuits.models.hooks import Hooks


def hook_joint_reader(
    hooks: Hooks,
    modules: Sequence[nn.Module],
    sublayer: str,
    reader: int,
    on_reader_grads: OnReaderGrads,
    on_stream: OnStream,
) -> None:
    """Make the inputs of several modules one reader.

    Args:
        hooks: Where the hooks are registered. They must stay until the backward has ended.
        modules: The modules, in the order in which they run. The first is called with the stream
            [batch, pos, width], the others with it or with its tokens [batch · pos, width].
        sublayer: The reader's sublayer.
        reader: The graph's index of the reader.
        on_reader_grads: Called in the backward with the reader's gradient.
        on_stream: Called in the forward with the sublayer's name and the stream.
    """
    read = _JointRead(len(modules), lambda grad: on_reader_grads(from_tensor(reader, grad[None])))

    def enter(hidden: Tensor) -> Tensor:
        read.shape = hidden.shape
        on_stream(sublayer, hidden.detach())
        return read.of(hidden)

    hooks.replace_input(modules[0], enter)
    for module in modules[1:]:
        hooks.replace_input(module, read.of)


class _JointRead:
    """The nodes of one read, whose gradients are delivered once each has come."""

    def __init__(self, nodes: int, deliver: Any) -> None:
        self.shape = torch.Size()
        self._nodes = nodes
        self._deliver = deliver
        self._came = 0
        self._sum: Tensor | None = None

    def of(self, hidden: Tensor) -> Tensor:
        """Return a module's input as a node of the graph."""
        return _Node.apply(hidden, self)  # type: ignore[no-any-return, no-untyped-call]

    def add(self, grad: Tensor) -> None:
        """Take the gradient of one node, in the shape of its module's input."""
        grad = grad.reshape(self.shape)
        self._sum = grad if self._sum is None else self._sum + grad
        self._came += 1
        if self._came == self._nodes:
            total, self._sum, self._came = self._sum, None, 0
            self._deliver(total)


class _Node(torch.autograd.Function):
    """The identity, whose gradient is also added to the read's."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, read: _JointRead) -> Tensor:
        ctx.read = read
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.read.add(grad)
        return grad, None
