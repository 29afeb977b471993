"""A checkpoint of a pair with Gaussian noise as large as the pair's update, as a source that can be answered.

The matched noise of the control (:mod:`rlcircuits.checkpoints.matched_noise`) repeats what of an update is only
a rescaling, which sharpens a model and so can make it *more* accurate, or on the way back less. Flatness asks for
random directions, so this noise has nothing of the update but its norm, tensor by tensor, and is the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.gaussian_noise import add_noise
from rlcircuits.checkpoints.parameters import describe_first_unlike
from rlcircuits.checkpoints.source import Source, on_cpu, processor_of
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, short_name
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.models.images import ImageProcessor

__all__ = ["ShakenSource"]

# The last pair's norms, so that all its draws load the other checkpoint once.
_known_norms: dict[frozenset[str], dict[str, float]] = {}


@dataclass(frozen=True)
class ShakenSource:
    """A :class:`~rlcircuits.checkpoints.source.Source`: a checkpoint plus noise of the norm of the way to another."""

    checkpoint: Source
    """The checkpoint that gets the noise."""
    other: Source
    """The other checkpoint of the pair: each tensor's noise has the norm of the two's difference."""
    draw: int
    """The seed of the noise; the same number gives both checkpoints of a pair the same noise."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        names = elided_repr(self.checkpoint.name), f"draw {self.draw}", f"of {elided_repr(self.other.name)}"
        return short_repr(self, *names)

    @property
    def name(self) -> str:
        """The name of the checkpoint, and what was added to it."""
        return f"{self.checkpoint.name} + Gaussian {self.draw} as far as {short_name(self.other.name)}"

    @property
    def context_length(self) -> int | None:
        """The context length of the checkpoint, or None if it is not known before loading."""
        return getattr(self.checkpoint, "context_length", None)

    def fingerprint(self) -> str:
        """Return the hash of both checkpoints' fingerprints and the draw."""
        return content_hash(
            {"Gaussian": self.draw, "on": self.checkpoint.fingerprint(), "as far as": self.other.fingerprint()}
        )

    def tokenizer(self) -> Any:
        """Return the tokenizer of the checkpoint."""
        return self.checkpoint.tokenizer()

    def processor(self) -> ImageProcessor:
        """Return the processor of images of the checkpoint."""
        return processor_of(self.checkpoint)

    def load(self) -> Checkpoint:
        """Load the checkpoint and add the noise to it, in place.

        Raises:
            RLCircuitsError: the two checkpoints differ in the names or shapes of their parameters.
        """
        checkpoint = self.checkpoint.load()
        key = frozenset((self.checkpoint.fingerprint(), self.other.fingerprint()))
        if key not in _known_norms:
            norms = self._norms(checkpoint)
            _known_norms.clear()  # the draws of one pair follow one another
            _known_norms[key] = norms
        add_noise(checkpoint.model, _known_norms[key], self.draw)
        checkpoint.name = self.name
        return checkpoint

    @torch.no_grad()
    def _norms(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Return the norm of each parameter's difference, by its name."""
        # On the CPU, because the device may have memory for one model only.
        other = on_cpu(self.other).load()
        ours, theirs = dict(checkpoint.model.named_parameters()), dict(other.model.named_parameters())
        unlike = describe_first_unlike(ours, self.checkpoint.name, theirs, self.other.name)
        if unlike is not None:
            raise RLCircuitsError(f"noise of the update's size needs the same parameters before and after: {unlike}")
        return {
            name: float(torch.linalg.vector_norm(parameter.cpu().float() - theirs[name].float()))
            for name, parameter in ours.items()
        }
