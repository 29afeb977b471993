"""Draw damage at random: several damages together, in layers and of strengths that no list names.

A gate that was tuned on a list of sabotage may be fooled by what is not on it. What is drawn here depends on the seed
alone, on every machine and in every version of Python: only ``random.Random.random`` is used, whose sequence is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.layout import Layout
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.choices import DamageKind

__all__ = ["NOISE_SEED", "Update", "random_damage"]

NOISE_SEED = 1000
"""The first seed of noise, far from those of the noise control's draws: 0, 1, 2, …."""

_T = TypeVar("_T")

_Draw = Callable[[Source], tuple[str, DamagedSource]]
"""Damages a checkpoint by what is drawn, and returns a name of it too."""


@dataclass(frozen=True)
class _Strengths:
    """What the strengths of one combination are drawn from."""

    outputs: tuple[float, ...]
    """Factors of the outputs of MLPs, attentions and mixers."""
    shared: tuple[float, ...]
    """Factors of what every token passes: embeddings, norms, unembedding."""
    powers: tuple[float, ...]
    """Powers of the singular values."""
    bits: tuple[int, ...]
    noise: tuple[float, ...]
    update: tuple[float, ...]
    parts: int
    """The most parts that are damaged alike."""


# Half of the combinations are gentle. They keep most of what the checkpoint can do, as one that fools a gate does.
_GENTLE = _Strengths(
    outputs=(0.85, 0.9, 0.95, 1.05, 1.1, 1.15),
    shared=(0.9, 0.95, 1.05, 1.1, 1.25, 1.4),
    powers=(0.9, 1.1, 1.2, 1.3),
    bits=(5, 6, 8),
    noise=(0.25, 0.5, 0.75, 1.0),
    update=(0.25, 0.5),
    parts=1,
)
_HARSH = _Strengths(
    outputs=(0.5, 0.6, 0.7, 0.8, 1.2, 1.3, 1.5),
    shared=(0.6, 0.7, 0.8, 1.25, 1.5, 2.0),
    powers=(0.7, 1.5, 2.0),
    bits=(3, 4),
    noise=(1.5, 2.0, 3.0, 4.0, 8.0),
    update=(1.0, 1.5, 2.0),
    parts=3,
)


@dataclass(frozen=True)
class Update:
    """The update of a training, which some damage disorders.

    Args:
        origin: The checkpoint before training.
        reference: The checkpoint after it.
    """

    origin: Source
    reference: Source


def random_damage(source: Source, layout: Layout, update: Update, seed: int) -> Iterator[tuple[str, DamagedSource]]:
    """Yield a checkpoint with two or three damages of different kinds, without end and never the same twice.

    Args:
        source: the checkpoint to damage.
        layout: the sublayers of its layers.
        update: the update that noise, permuted and redirected updates are made of.
        seed: decides what is drawn.

    Yields:
        The damages in words, such as ``mlp.0,mlp.2-x0.7+int4``, and the damaged checkpoint.
    """
    random = _Random(seed)
    yielded = set()
    while True:
        kinds = _kinds(random, random.choose((_GENTLE, _HARSH)), layout, update)
        count = random.choose((2, 2, 3))
        left, names, damaged = list(kinds), [], source
        for _ in range(count):
            kind = random.choose(left)
            left.remove(kind)
            name, damaged = kinds[kind](damaged)
            names.append(name)
        text = "+".join(names)
        if text not in yielded and isinstance(damaged, DamagedSource):
            yielded.add(text)
            yield text, damaged


class _Random:
    """Draws that depend on the seed alone."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, count: int) -> int:
        """Return a whole number from 0 to count - 1."""
        return int(self._random.random() * count)

    def choose(self, options: Sequence[_T]) -> _T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[_T], most: int) -> list[_T]:
        """Return from one to ``most`` of the options, in their order."""
        left = list(range(len(options)))
        while len(left) > min(most, len(options)):
            left.pop(self.below(len(left)))
        for _ in range(self.below(len(left))):
            left.pop(self.below(len(left)))
        return [options[place] for place in left]


def _kinds(random: _Random, strengths: _Strengths, layout: Layout, update: Update) -> Mapping[str, _Draw]:
    """Return what draws each kind of damage, by name."""
    heads = [f"attn.{layer}.h{head}" for layer in layout.layers_with("attn") for head in range(layout.heads)]
    neighbours = layout.neighbours()

    def scaled(source: Source) -> tuple[str, DamagedSource]:
        part = random.choose(layout.parts)
        target = ",".join(f"{part}.{layer}" for layer in random.some(layout.layers_with(part), strengths.parts))
        return _scaled(source, target, random.choose(strengths.outputs))

    def rescaled(source: Source) -> tuple[str, DamagedSource]:
        target = random.choose(("final-norm", "unembedding", "embeddings", "norms"))
        return _scaled(source, target, random.choose(strengths.shared))

    def zeroed(source: Source) -> tuple[str, DamagedSource]:
        chosen = random.some(heads, strengths.parts)
        return f"{','.join(chosen)}-zeroed", DamagedSource(source, "zero", target=",".join(chosen))

    def quantised(source: Source) -> tuple[str, DamagedSource]:
        bits = random.choose(strengths.bits)
        return f"int{bits}", DamagedSource(source, "quantise", bits)

    def sharpened(source: Source) -> tuple[str, DamagedSource]:
        target, power = random.choose(("unembedding", "embeddings", *layout.parts)), random.choose(strengths.powers)
        return f"{target}-sharpened-{power:g}", DamagedSource(source, "sharpen", power, target)

    def noisy(source: Source) -> tuple[str, DamagedSource]:
        strength, seed = random.choose(strengths.noise), NOISE_SEED + random.below(1_000)
        name = f"noise-{strength:g}x-{seed}"
        return name, _from_update(source, "noise", strength, update, seed)

    def disordered(source: Source) -> tuple[str, DamagedSource]:
        kind: DamageKind = random.choose(("permute", "redirect"))
        strength, seed = random.choose(strengths.update), random.below(1_000)
        return f"{kind}-update-{strength:g}x-{seed}", _from_update(source, kind, strength, update, seed)

    def swapped(source: Source) -> tuple[str, DamagedSource]:
        first, second = random.choose(neighbours)
        return f"layers-{first}-{second}-swapped", DamagedSource(source, "swap", target=f"{first},{second}")

    kinds: dict[str, _Draw] = {
        "scaled": scaled,
        "rescaled": rescaled,
        **({"zeroed": zeroed} if heads else {}),
        "quantised": quantised,
        "sharpened": sharpened,
        "noisy": noisy,
        "disordered": disordered,
    }
    return kinds | {"swapped": swapped} if neighbours and strengths is _HARSH else kinds


def _scaled(source: Source, target: str, factor: float) -> tuple[str, DamagedSource]:
    return f"{target}-x{factor:g}", DamagedSource(source, "scale", factor, target)


def _from_update(source: Source, kind: DamageKind, strength: float, update: Update, seed: int) -> DamagedSource:
    return DamagedSource(source, kind, strength, reference=update.reference, origin=update.origin, seed=seed)
