"""Hooks that keep what each expert of a mixture adds to the residual stream.

An expert adds something at the tokens that chose it, and nothing at others. So a mixture is kept as a few choices at
each token, not as all of its experts:

- Choices. What the experts read, which of them each token chose, and with which weights, is kept from the forward. The
  experts' shares are computed when they are contracted, by the model's own experts, which are called with each token
  once for each of its choices (``rlcircuits.models.mixtures``). That costs one more forward of the experts, and no
  memory: autograd keeps the same inputs.
- Weighted inputs (Llama 4). There every expert is called with every token, times the router's weight. The rows of the
  chosen experts are kept from what the experts return.
- The rest. What the MLP writes less what the experts' sum joins the stream as: shared experts, or a bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.mixtures import Mixture

__all__ = ["ExpertOutputs", "KeptExperts"]


@dataclass(frozen=True)
class ExpertOutputs:
    """What the experts of one mixture add to the stream: a few choices at each token, computed one slice at a time.

    Args:
        indices: The experts, as indices of the graph.
        chosen: int64 [choices, batch, pos], the expert of each choice, counted from 0 within ``indices``. One expert
            may be more than one of a token's choices.
        outputs: From a batch slice to what each choice adds, [choices, batch, pos, width].
    """

    indices: range
    chosen: Tensor
    outputs: Callable[[BatchSlice], Tensor]

    @property
    def choices(self) -> int:
        """The number of choices at each token."""
        return len(self.chosen)

    def chosen_in(self, batch_slice: BatchSlice) -> Tensor:
        """Return the expert of each choice in a slice, [choices, batch, pos]."""
        return batch_slice.of(self.chosen[..., None])[..., 0]

    def minus(self, other: ExpertOutputs) -> ExpertOutputs:
        """Return these outputs minus those of the same experts in another run, position by position.

        The tokens of the other run may have chosen other experts, so its choices stand beside these.
        """
        return ExpertOutputs(
            self.indices,
            torch.cat([self.chosen, other.chosen]),
            lambda batch_slice: torch.cat([self.outputs(batch_slice), other.outputs(batch_slice).neg()]),
        )


class KeptExperts:
    """What one forward kept of a mixture's experts."""

    def __init__(self, hooks: Hooks, mixture: Mixture) -> None:
        """Hook the experts.

        Args:
            hooks: Where the hooks are registered.
            mixture: The mixture of an MLP.
        """
        self._mixture = mixture
        self._read: tuple[Any, ...] | None = None
        self._weights = torch.empty(0)
        self._returned = torch.empty(0)
        hooks.observe_call(mixture.experts, self._keep_call)
        hooks.observe_output(mixture.experts, self._keep_returned)
        if mixture.router is not None:
            hooks.observe_output(mixture.router, self._keep_weights)

    def _keep_call(self, *read: Any) -> None:
        self._read = read

    def _keep_returned(self, returned: Tensor) -> None:
        self._returned = returned

    def _keep_weights(self, weights: Tensor) -> None:
        self._weights = weights

    def take(self, first: int, shape: torch.Size, multiplier: float) -> tuple[ExpertOutputs, Tensor]:
        """Return the experts' outputs, and what their sum joins the stream as, once the mixture has run.

        Args:
            first: The graph's index of the first expert.
            shape: That of the stream, [batch, pos, width].
            multiplier: What the MLP's output is multiplied by before it is added to the stream.

        Returns:
            The outputs; and the sum before the multiplier, [batch, pos, width].

        Raises:
            RLCircuitsError: the experts did not run.
        """
        read, returned, mixture = self._read, self._returned, self._mixture
        if read is None:
            raise RLCircuitsError(
                f"{type(mixture.module).__name__} did not run its module of experts, which says what each writes"
            )
        self._read, self._returned = None, torch.empty(0)
        indices = range(first, first + mixture.count)
        if mixture.router is not None:
            by_expert = returned.view(mixture.count, *shape)
            weights, self._weights = self._weights.view(*shape[:2], -1), torch.empty(0)
            outputs = _of_rows(mixture, indices, by_expert, weights, multiplier)
            return outputs, mixture.written(by_expert.sum(0))
        hidden, chosen, weights = (tensor.detach().view(*shape[:2], -1) for tensor in read)
        outputs = _of_choices(mixture, indices, hidden, chosen, weights, multiplier)
        return outputs, mixture.written(returned.view(*shape[:2], -1))


def _of_choices(
    mixture: Mixture, indices: range, hidden: Tensor, chosen: Tensor, weights: Tensor, multiplier: float
) -> ExpertOutputs:
    """Return outputs that are computed anew from what the experts read, [batch, pos, features or choices] each."""

    @torch.no_grad()
    def outputs(batch_slice: BatchSlice) -> Tensor:
        read, experts, shares = (batch_slice.of(each).flatten(0, 1) for each in (hidden, chosen, weights))
        written = mixture.written(mixture.shares(read, experts, shares))
        written = written.view(*batch_slice.of(hidden).shape[:2], *written.shape[1:]).permute(2, 0, 1, 3)
        return written if multiplier == 1 else written * multiplier

    return ExpertOutputs(indices, chosen.permute(2, 0, 1), outputs)


def _of_rows(mixture: Mixture, indices: range, by_expert: Tensor, weights: Tensor, multiplier: float) -> ExpertOutputs:
    """Return outputs that are rows of what every expert returned for every token.

    Args:
        mixture: The mixture.
        indices: The experts, as indices of the graph.
        by_expert: [experts, batch, pos, features].
        weights: The router's, [batch, pos, experts], zero for experts that a token did not choose.
        multiplier: What the outputs are multiplied by.
    """
    most = int((weights != 0).sum(-1).max())
    chosen = weights.topk(max(most, 1)).indices.permute(2, 0, 1)
    rows = mixture.written(by_expert.gather(0, chosen[..., None].expand(-1, -1, -1, by_expert.shape[-1])))
    rows = rows if multiplier == 1 else rows * multiplier
    return ExpertOutputs(indices, chosen, lambda batch_slice: batch_slice.of(rows))
