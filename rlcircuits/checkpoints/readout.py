"""The readout: the final norm and the unembedding, which turn the residual stream into the distribution of tokens.

A change of the readout alone can raise accuracy and move every metric, without any change of what the layers compute: a
sharper distribution is sampled with fewer errors, and the gradient at the logits, which all scores begin with, follows
it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.parameters import describe_first_unlike
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["Readout", "graft_readout", "is_tied", "readout_of", "readout_parameters", "untie"]

_NORM, _UNEMBEDDING = "norm", "unembedding"


@dataclass(frozen=True, eq=False)
class Readout:
    """The weights of a checkpoint's readout."""

    checkpoint: str
    """The checkpoint's name."""
    weights: Mapping[str, Tensor]
    """By ``norm.`` or ``unembedding.`` and the parameter's name within that module; copies, on the CPU."""


def readout_of(checkpoint: Checkpoint) -> Readout:
    """Return copies of the weights of a checkpoint's readout, on the CPU in their own dtype."""
    weights = {name: each.detach().to("cpu", copy=True) for name, each in _weights(checkpoint).items()}
    return Readout(checkpoint.name, weights)


def readout_parameters(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the names of a checkpoint's parameters that its readout uses, by their keys in :class:`Readout`.

    That of an unembedding which is tied is the embedding's.
    """
    names = {id(parameter): name for name, parameter in checkpoint.model.named_parameters()}
    return {key: names[id(parameter)] for key, parameter in _weights(checkpoint).items()}


@torch.no_grad()
def graft_readout(checkpoint: Checkpoint, readout: Readout, keys: Collection[str] | None = None) -> None:
    """Give a checkpoint another one's readout, in place. Embeddings stay: where they are tied they are untied first.

    Args:
        checkpoint: the checkpoint to change.
        readout: what :func:`readout_of` returned for a checkpoint of the same architecture.
        keys: the weights to take over, by their keys in the readout; None for all.

    Raises:
        RLCircuitsError: naming the first parameter that one readout lacks or has in another shape.
    """
    ours = _weights(checkpoint)
    unlike = describe_first_unlike(ours, checkpoint.name, readout.weights, readout.checkpoint)
    if unlike is not None:
        raise RLCircuitsError(f"the readouts differ: {unlike}; a pair needs two checkpoints of one architecture")
    for key in readout.weights if keys is None else keys:
        value = readout.weights[key].to(ours[key].device, ours[key].dtype)
        if not torch.equal(ours[key], value):
            if key.startswith(_UNEMBEDDING):
                untie(checkpoint)
            _weights(checkpoint)[key].copy_(value)


def is_tied(checkpoint: Checkpoint) -> bool:
    """Return whether the unembedding shares the embedding's weight."""
    return checkpoint.parts.unembedding.weight is checkpoint.model.get_input_embeddings().weight


def untie(checkpoint: Checkpoint) -> None:
    """Give the unembedding a weight of its own where it shares the embedding's."""
    if not is_tied(checkpoint):
        return
    model, head = checkpoint.model, checkpoint.parts.unembedding
    weight = head.weight
    assert isinstance(weight, nn.Parameter)
    head.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _weights(checkpoint: Checkpoint) -> dict[str, nn.Parameter]:
    modules = {_NORM: checkpoint.parts.final_norm.module, _UNEMBEDDING: checkpoint.parts.unembedding}
    return {f"{kind}.{name}": each for kind, module in modules.items() for name, each in module.named_parameters()}
