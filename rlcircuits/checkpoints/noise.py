"""The matched control: the checkpoint before, with noise of the update's size and no direction.

Damage moves the metrics too, activation intensity above all. So an effect of training is compared with what an
update of the same size does that learned nothing: Gaussian noise on every parameter tensor that the training
changed, of the norm of that tensor's change, within 0.1 % where rounding allows. Several draws show how much one
differs from another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import short_name
from rlcircuits.common.reprs import elided_repr, short_repr

NORM_TOLERANCE = 1e-3
"""How far, relatively, the norm of what rounding leaves of the noise may be from the update's."""

_BISECTIONS = 50

# By the fingerprints of before and after: the draws of a pair need after's weights once, not once each.
_known_norms: dict[tuple[str, str], dict[str, float]] = {}


@dataclass(frozen=True)
class NoisedSource:
    """`before` plus Gaussian noise, tensor by tensor of the norm of (after - before). A :class:`Source`."""

    before: Source
    after: Source
    draw: int
    """Which noise: another number is another draw, the same number is the same on every machine."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        before, after = elided_repr(self.before.name), elided_repr(self.after.name)
        return short_repr(self, before, f"noise {self.draw}", f"of {after}")

    @property
    def name(self) -> str:
        """The base's name, the draw's number, and whose update the noise is as large as."""
        return f"{self.before.name} + noise {self.draw} of {short_name(self.after.name)}"

    @property
    def context_length(self) -> int | None:
        """That of before, where it is known without loading it."""
        return getattr(self.before, "context_length", None)

    def fingerprint(self) -> str:
        """Hex sha256 of both checkpoints' fingerprints and the draw."""
        parts = ("noise", self.before.fingerprint(), self.after.fingerprint(), str(self.draw))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """The tokenizer of before."""
        return self.before.tokenizer()

    def load(self) -> Checkpoint:
        """Load before and add the noise to it in place.

        Raises RLCircuitsError where before and after do not have the same parameters in the same shapes.
        """
        checkpoint = self.before.load()
        key = (self.before.fingerprint(), self.after.fingerprint())
        if key not in _known_norms:
            # On the CPU, beside the one model that may be on the device.
            after = _on_cpu(self.after).load()
            _known_norms[key] = update_norms(checkpoint.model, after.model, self.before.name, self.after.name)
        add_noise(checkpoint.model, _known_norms[key], self.draw)
        checkpoint.name = self.name
        return checkpoint


def update_norms(
    before: nn.Module, after: nn.Module, before_name: str = "before", after_name: str = "after"
) -> dict[str, float]:
    """Frobenius norm of after - before for each parameter tensor, by name; a tied one stands there once.

    The models may lie on different devices: tensors are brought to the CPU one at a time and compared in float32.

    Raises RLCircuitsError naming the first parameter that one model lacks or has in another shape.
    """
    ours, theirs = dict(before.named_parameters()), dict(after.named_parameters())
    for name in [*ours, *theirs]:
        found = [tuple(side[name].shape) if name in side else None for side in (ours, theirs)]
        if found[0] != found[1]:
            shapes = [f"{list(shape)} in" if shape is not None else "missing in" for shape in found]
            raise RLCircuitsError(
                f"noise of the update's norm needs the same parameters before and after: {name} is "
                f"{shapes[0]} {before_name} and {shapes[1]} {after_name}; without it (noise_draws = 0) only p is judged"
            )
    return {name: _distance(ours[name], theirs[name]) for name in ours}


@torch.no_grad()
def add_noise(model: nn.Module, norms: Mapping[str, float], draw: int) -> None:
    """Add Gaussian noise to each parameter of `model` that has a norm above 0 in `norms`, of that norm, in place.

    Drawn in float32 on the CPU and seeded by draw and name, so that it depends on neither the device nor the order.
    """
    for name, parameter in model.named_parameters():
        norm = norms[name]
        if norm > 0:
            noise = torch.randn(parameter.shape, generator=_generator(draw, name), dtype=torch.float32)
            noise *= norm / _norm(noise)
            parameter.copy_(_moved(parameter, noise.to(parameter.device), norm))


def _moved(parameter: Tensor, noise: Tensor, norm: float) -> Tensor:
    """Parameter + noise in the parameter's dtype, the noise scaled so that its norm is `norm` *after* rounding.

    In bfloat16 most of a small update is rounded away, the real one's as well: what is left of the noise must
    be as large as what was left of it. An element rounds further away the larger the scale, so the norm grows
    with it and the scale is found by bisection; in float32 the first is right.
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


def _generator(draw: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{draw}\n{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def _on_cpu(source: Source) -> Source:
    if isinstance(source, CheckpointSource):
        return replace(source, path=str(source.folder), revision=None, device="cpu", device_map=None)
    return source
