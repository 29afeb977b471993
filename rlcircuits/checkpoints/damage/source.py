"""A damaged checkpoint as a source: loaded like any other, known by its fingerprint before it is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlcircuits.capture.nonfinite import first_bad_weight
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.kinds import (
    KINDS,
    Kind,
    Update,
    damage_outputs,
    damage_update,
    quantise,
    sharpen,
    swap_layers,
)
from rlcircuits.checkpoints.damage.stored_dtypes import round_to, stored_dtypes
from rlcircuits.checkpoints.damage.targets import EVERYTHING, normalise_target, two_layers
from rlcircuits.checkpoints.parameters import describe_first_unlike
from rlcircuits.checkpoints.source import Source, on_cpu, processor_of
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.choices import DAMAGE_KINDS, DamageKind
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import content_hash, short_name
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.models.images import ImageProcessor

__all__ = ["DamagedSource"]

_BITS = range(2, 9)


@dataclass(frozen=True)
class DamagedSource:
    """A :class:`Source`: ``base`` with damage of one kind, to test whether a gate notices it.

    A damaged source can be the base of another, so that damage adds up. The same fields give the same weights on every
    machine.
    """

    base: Source
    """The checkpoint that is damaged."""
    kind: DamageKind
    """``scale``, ``zero``, ``noise``, ``quantise``, ``swap``, ``permute``, ``redirect`` or ``delta``."""
    strength: float | None = None
    """A factor: of an output (``scale``), of the update (``delta``, ``permute``, ``redirect``) or of its norm
    (``noise``). The bits that remain for ``quantise``. ``zero`` and ``swap`` take none."""
    target: str | None = None
    """What is damaged: ``mlp.2``, ``attn.2``, ``attn.2.h1``, ``mlp``, ``attn``, ``embeddings``, ``unembedding``,
    ``final-norm``, ``norms``, a tensor's name or a pattern of names; several with commas between them. Two layers for
    ``swap``: ``0,2``. None for all tensors, where the kind allows it."""
    reference: Source | None = None
    """The checkpoint whose update is used, for ``noise``, ``permute``, ``redirect`` and ``delta``."""
    origin: Source | None = None
    """The checkpoint that the update starts from; None for ``base``. Another one takes over another model's update."""
    seed: int = 0
    """The seed of ``noise``, ``permute`` and ``redirect``."""

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.kind not in KINDS:
            raise RLCircuitsError(
                f"damage: kind is {truncated_repr(self.kind)}; one of {', '.join(DAMAGE_KINDS)} is wanted"
            )
        check_number("seed", self.seed, f"damage {self.kind}: seed")
        object.__setattr__(self, "strength", _checked_strength(self.kind, self.strength))
        object.__setattr__(self, "target", _checked_target(self.kind, self.target))
        _check_update(self)

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.base.name), elided_repr(self.description))

    @property
    def description(self) -> str:
        """What was done to ``base``, such as ``mlp.2 × 0.9`` or ``int4``."""
        return describe_damage(self)

    @property
    def name(self) -> str:
        """The name of ``base`` and the description of the damage."""
        return f"{self.base.name} + {self.description}"

    @property
    def root(self) -> Source:
        """The innermost base, which is not damaged."""
        inner = self.base
        while isinstance(inner, DamagedSource):
            inner = inner.base
        return inner

    @property
    def context_length(self) -> int | None:
        """The context length of ``base``, or None if it is not known before loading."""
        return getattr(self.base, "context_length", None)

    @property
    def is_identity(self) -> bool:
        """Whether the strength is the one that changes nothing: a factor of 1, or none of an update."""
        return self.strength is not None and self.strength == KINDS[self.kind].identity

    def fingerprint(self) -> str:
        """Return the hex sha256 of the base's fingerprint and all that decides the damage; the base's own for none.

        Raises:
            RLCircuitsError: as the fingerprints of ``base``, ``reference`` and ``origin``.
        """
        if self.is_identity:
            return self.base.fingerprint()
        parts: dict[str, Any] = {
            "damage": self.kind,
            "base": self.base.fingerprint(),
            "strength": self.strength,
            "target": self.target,
        }
        if self.reference is not None:
            parts["reference"] = self.reference.fingerprint()
            parts["origin"] = (self.origin or self.base).fingerprint()
        if KINDS[self.kind].random:
            parts["seed"] = self.seed
        return content_hash(parts)

    def tokenizer(self) -> Any:
        """Return the tokenizer of ``base``."""
        return self.base.tokenizer()

    def processor(self) -> ImageProcessor:
        """Return the processor of images of ``base``."""
        return processor_of(self.base)

    def load(self) -> Checkpoint:
        """Load ``base`` and damage it in place.

        Raises:
            RLCircuitsError: a target that the model does not have, an update between checkpoints whose parameters
                differ in names or shapes, or damage that leaves NaN or Inf.
        """
        checkpoint = self.base.load()
        self.damage(checkpoint)
        checkpoint.name = self.name
        return checkpoint

    def damage(self, checkpoint: Checkpoint) -> None:
        """Do this damage to a loaded checkpoint, in place.

        Args:
            checkpoint: what ``base`` loads.
        """
        strength, target = self.strength, self.target or EVERYTHING
        if self.kind == "quantise":
            quantise(checkpoint, target, int(strength or 0))
        elif self.kind == "sharpen":
            sharpen(checkpoint, target, float(strength or 0))
        elif self.kind == "swap":
            swap_layers(checkpoint, target)
        elif self.reference is not None:
            update = self._update(checkpoint, self.reference)
            damage_update(checkpoint, self.kind, target, float(strength or 0), update, self.seed)
        else:
            damage_outputs(checkpoint, target, 0.0 if self.kind == "zero" else float(strength or 0))
        round_to(checkpoint.model, stored_dtypes(self.root, checkpoint.model))
        bad = first_bad_weight(checkpoint.model)
        if bad is not None:
            raise RLCircuitsError(f"damage {self.description} leaves NaN or Inf in {bad}; give a smaller strength")

    def _update(self, checkpoint: Checkpoint, reference: Source) -> Update:
        """Return the function that gives reference − origin. Raises RLCircuitsError if their parameters differ."""
        ours = _tensors(checkpoint)
        # On the CPU, because the device may have memory for one model only.
        after = _tensors(_on_cpu(reference).load())
        _check_same_parameters(after, reference.name, ours, checkpoint.name)
        before = ours
        if self.origin is not None:
            before = _tensors(_on_cpu(self.origin).load())
            _check_same_parameters(before, self.origin.name, ours, checkpoint.name)

        def update(name: str) -> torch.Tensor:
            return _exact(after[name]) - _exact(before[name])

        own = {id(parameter): name for name, parameter in reversed(list(checkpoint.model.named_parameters()))}
        for name, parameter in checkpoint.model.named_parameters(remove_duplicate=False):
            first = own[id(parameter)]
            if name != first and not torch.equal(update(name), update(first)):
                raise RLCircuitsError(
                    f"damage by an update: {name} and {first} are one tensor in {checkpoint.name} (tied) and were "
                    f"trained apart in {reference.name}; save the first with untied embeddings"
                )
        return update


def describe_damage(source: DamagedSource) -> str:
    """Return what was done to a source's base, in a few words."""
    kind = KINDS[source.kind]
    reference = "" if source.reference is None else short_name(source.reference.name)
    strength = "" if source.strength is None else f"{source.strength:g}"
    text = kind.title.format(s=strength, t=(source.target or "").replace(",", " and "), r=reference)
    if source.origin is not None:
        text += f" from {short_name(source.origin.name)}"
    if source.target is not None and not kind.needs_target:
        text += f" in {source.target}"
    return f"{text} (seed {source.seed})" if kind.random else text


def _checked_strength(name: DamageKind, strength: float | None) -> float | None:
    """Return the strength, or the kind's default. Raises RLCircuitsError for one that the kind does not take."""
    kind = KINDS[name]
    if kind.strength is None:
        if strength is not None:
            raise RLCircuitsError(f"damage {name} takes no strength, but {strength:g} was given; leave it out")
        return None
    value = kind.default if strength is None else strength
    if value is None:
        raise RLCircuitsError(f"damage {name} needs a strength ({kind.strength})")
    if (
        not math.isfinite(value)
        or (name in ("noise", "sharpen") and value < 0)
        or (name == "quantise" and value not in _BITS)
    ):
        allowed = {
            "quantise": "a whole number of bits from 2 to 8",
            **dict.fromkeys(("noise", "sharpen"), "a number of at least 0"),
        }
        raise RLCircuitsError(f"damage {name}: strength is {value:g}; {allowed.get(name, 'a finite number')} is wanted")
    return float(value)


def _checked_target(name: DamageKind, target: str | None) -> str | None:
    """Return the target in the one way to write it. Raises RLCircuitsError if the kind needs one that is not given."""
    if target is None:
        if KINDS[name].needs_target:
            what = "two layers: 0,2" if name == "swap" else "such as mlp.2, attn.2, attn.2.h1 or final-norm"
            raise RLCircuitsError(f"damage {name} needs a target, {what}")
        return None
    normal = normalise_target(target)
    if name == "swap":
        two_layers(normal)
    return None if normal == EVERYTHING and not KINDS[name].needs_target else normal


def _check_update(source: DamagedSource) -> None:
    kind: Kind = KINDS[source.kind]
    if kind.needs_update and source.reference is None:
        raise RLCircuitsError(
            f"damage {source.kind} needs a reference: the checkpoint whose update it uses, such as the trained one"
        )
    for field in ("reference", "origin"):
        if not kind.needs_update and getattr(source, field) is not None:
            raise RLCircuitsError(f"damage {source.kind} uses no update; leave out the {field}")


def _check_same_parameters(
    ours: dict[str, torch.Tensor], our_name: str, theirs: dict[str, torch.Tensor], their_name: str
) -> None:
    unlike = describe_first_unlike(ours, our_name, theirs, their_name)
    if unlike is not None:
        raise RLCircuitsError(f"damage by an update needs checkpoints of one architecture: {unlike}")


def _tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    # A tied tensor under both names, so that tied and untied checkpoints have the same names.
    return {name: each.detach() for name, each in checkpoint.model.named_parameters(remove_duplicate=False)}


def _exact(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("cpu", torch.float64)


def _on_cpu(source: Source) -> Source:
    return replace(source, base=_on_cpu(source.base)) if isinstance(source, DamagedSource) else on_cpu(source)
