"""The noise control: the checkpoint before training, plus noise as large as the weight update.

Damage to a model changes the metrics too, above all activation intensity. So the effect of training is compared with
the effect of an update of the same size that has learnt nothing: Gaussian noise on every parameter tensor that
training changed, with the norm of that tensor's change, within 0.1 % where rounding allows. Several draws show how
much the noise itself varies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.parameters import describe_first_unlike, seeded_generator
from rlcircuits.checkpoints.source import Source, on_cpu
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import short_name
from rlcircuits.common.reprs import elided_repr, short_repr

NORM_TOLERANCE = 1e-3
"""Largest relative difference between the norm of the noise, after rounding, and the norm of the update."""

_BISECTIONS = 50

# The update norms by the fingerprints of before and after, so that all draws of a pair load after's weights once.
_known_norms: dict[tuple[str, str], dict[str, float]] = {}


@dataclass(frozen=True)
class NoisedSource:
    """A :class:`Source`: ``before`` plus Gaussian noise with, for each tensor, the norm of (after - before)."""

    before: Source
    """The checkpoint that gets the noise."""
    after: Source
    """The checkpoint whose update gives the noise its size."""
    draw: int
    """The seed of the noise; the same number gives the same noise on every machine."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        before, after = elided_repr(self.before.name), elided_repr(self.after.name)
        return short_repr(self, before, f"noise {self.draw}", f"of {after}")

    @property
    def name(self) -> str:
        """The name of ``before``, the draw's number, and the short name of ``after``."""
        return f"{self.before.name} + noise {self.draw} of {short_name(self.after.name)}"

    @property
    def context_length(self) -> int | None:
        """The context length of ``before``, or None if it is not known before loading."""
        return getattr(self.before, "context_length", None)

    def fingerprint(self) -> str:
        """Return the hex sha256 of both checkpoints' fingerprints and the draw."""
        parts = ("noise", self.before.fingerprint(), self.after.fingerprint(), str(self.draw))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """Return the tokenizer of ``before``."""
        return self.before.tokenizer()

    def load(self) -> Checkpoint:
        """Load ``before`` and add the noise to it in place.

        Raises:
            RLCircuitsError: ``before`` and ``after`` differ in the names or shapes of their parameters.
        """
        checkpoint = self.before.load()
        key = (self.before.fingerprint(), self.after.fingerprint())
        if key not in _known_norms:
            # On the CPU, because the device may have memory for one model only.
            after = on_cpu(self.after).load()
            _known_norms[key] = update_norms(checkpoint.model, after.model, self.before.name, self.after.name)
        add_noise(checkpoint.model, _known_norms[key], self.draw)
        checkpoint.name = self.name
        return checkpoint


def update_norms(
    before: nn.Module, after: nn.Module, before_name: str = "before", after_name: str = "after"
) -> dict[str, float]:
    """Return the Frobenius norm of after - before for each parameter tensor, by name; a tied tensor counts once.

    The models may be on different devices: tensors are moved to the CPU one at a time and compared in float32.

    Args:
        before: the model before training.
        after: the model after training.
        before_name: what errors call ``before``.
        after_name: what errors call ``after``.

    Raises:
        RLCircuitsError: naming the first parameter that one model lacks or has in another shape.
    """
    ours, theirs = dict(before.named_parameters()), dict(after.named_parameters())
    unlike = describe_first_unlike(ours, before_name, theirs, after_name)
    if unlike is not None:
        raise RLCircuitsError(
            f"noise of the update's norm needs the same parameters before and after: {unlike}; without it "
            f"(noise_draws = 0) only p is judged"
        )
    return {name: _distance(ours[name], theirs[name]) for name in ours}


@torch.no_grad()
def add_noise(model: nn.Module, norms: Mapping[str, float], draw: int) -> None:
    """Add Gaussian noise of the given norm to each parameter of a model, in place.

    The noise is drawn in float32 on the CPU, seeded by draw and parameter name, so that it depends neither on the
    device nor on the order of the parameters.

    Args:
        model: the model to change.
        norms: the norm of the noise by parameter name; a parameter of norm 0 stays unchanged.
        draw: the seed.
    """
    for name, parameter in model.named_parameters():
        norm = norms[name]
        if norm > 0:
            noise = torch.randn(parameter.shape, generator=seeded_generator(f"{draw}\n{name}"), dtype=torch.float32)
            noise *= norm / _norm(noise)
            parameter.copy_(_moved(parameter, noise.to(parameter.device), norm))


def _moved(parameter: Tensor, noise: Tensor, norm: float) -> Tensor:
    """Return parameter + noise in the parameter's dtype, with the noise scaled to ``norm`` *after* rounding.

    In bfloat16 rounding removes most of a small update, of the real one as of the noise, so the norms are compared
    after it. The norm grows with the scale, so bisection finds the scale; in float32 the first guess is right.
    """
    exact = torch.promote_types(parameter.dtype, torch.float32)
    origin, noise = parameter.to(exact), noise.to(exact)

    def at(scale: float) -> tuple[Tensor, float]:
        moved = (origin + scale * noise).to(parameter.dtype)
        return moved, _norm(moved.to(exact) - origin)

    low, high, scale = 0.0, math.inf, 1.0
    moved, found = at(scale)
    for _ in range(_BISECTIONS):
        if abs(found - norm) <= NORM_TOLERANCE * norm:
            break
        if found < norm:
            low = scale
        else:
            high = scale
        scale = 2 * scale if math.isinf(high) else (low + high) / 2
        moved, found = at(scale)
    return moved


def _distance(before: Tensor, after: Tensor) -> float:
    return _norm(after.detach().to("cpu", torch.float32) - before.detach().to("cpu", torch.float32))


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
