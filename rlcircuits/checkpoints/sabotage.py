"""The sabotage suite: checkpoints that a gate must not take for good ones, and some that it must.

Each variant is a pair of sources, before and after, and a tag that says what a gate may conclude:

    untrained    nothing was trained, or nothing that was learnt is left: it must never show the study's pattern
    damaged      a trained checkpoint, damaged: it must fail where accuracy is lost and the release claims it
    harmless     a trained checkpoint, changed in a way that keeps what was learnt: it must not fail
    supervised   trained without RL, sharpened or extrapolated: it must not show the study's pattern
    along-update less or more of the update that online RL made: it may show the pattern, if accuracy rose

The list has damage of one part at a time, and combinations that were chosen to look like training. Others are drawn:
see :mod:`rlcircuits.checkpoints.random_damage`. Nothing is loaded until a variant's source is. A gate can be tried with
a variant's folder too: see :func:`rlcircuits.checkpoints.damage.folder.save_damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Literal, get_args

from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.layout import Layout, layout_of
from rlcircuits.checkpoints.random_damage import NOISE_SEED, Update, random_damage
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import DamageKind
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number

__all__ = ["TAGS", "Tag", "Variant", "sabotage_variants"]

Tag = Literal["untrained", "damaged", "harmless", "supervised", "along-update"]

TAGS: tuple[Tag, ...] = get_args(Tag)
"""What a gate may conclude of a variant; the module's docstring says what each means."""

_FACTORS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""What the outputs of MLPs and attentions are multiplied by."""

_SHARPER = 1.25
"""A factor of the final norm that sharpens the distribution of tokens, as a lower temperature does."""

_Damage = tuple[DamageKind, float, str | None]
"""Kind, strength and target."""

_READOUT: tuple[_Damage, ...] = (("sharpen", 1.6, "unembedding"), ("scale", 1.35, "unembedding"))
"""A readout that held as online RL on an untrained base, while the noise control did not sharpen."""


@dataclass(frozen=True)
class Variant:
    """One pair of the suite.

    Args:
        name: Its name, unique in the list of one family.
        tag: What a gate may conclude.
        kind: The kind of sabotage, under which a table counts it.
        before: The checkpoint before.
        after: The checkpoint after, which is damaged unless the pair is only swapped.
        core: Whether it is in the small part that stands for all.
    """

    name: str
    tag: Tag
    kind: str
    before: Source
    after: Source
    core: bool = False


@validate_arguments
def sabotage_variants(
    base: CheckpointSource,
    trained: CheckpointSource,
    *,
    supervised: Mapping[str, CheckpointSource] = MappingProxyType({}),
    others: Mapping[str, tuple[CheckpointSource, CheckpointSource]] = MappingProxyType({}),
    composed: int = 12,
    seed: int = 0,
) -> list[Variant]:
    """Return the variants of one family of checkpoints. Only their configs are read.

    Args:
        base: the checkpoint before training.
        trained: the checkpoint that online RL (GRPO, for example) made of it.
        supervised: checkpoints that supervised training made of the same base, by name: ``sft-more``.
        others: base and trained checkpoint of other training seeds of the same architecture, by name: ``seed-8``.
        composed: how many combinations of damage to draw, of the base and as many of the trained checkpoint.
        seed: the seed of these draws.

    Raises:
        RLCircuitsError: a config that cannot be read, or without numbers of layers and heads; or a negative number.
    """
    check_number("seed", seed, "sabotage: seed")
    if composed < 0:
        raise RLCircuitsError(f"sabotage: composed is {composed}; a whole number from 0 is wanted")
    layout = layout_of(base)
    return [
        *_noisy(base, trained),
        *_without_parts(base, layout),
        *_rescaled(base),
        *_sharpened(base, layout),
        *_sharper_answers(base, layout),
        *_unlearnt_updates(base, trained, others),
        *_combined(base, trained, layout),
        *_composed("untrained", base, trained, layout, composed, 2 * seed),
        *_damaged(base, trained, layout),
        *_composed("damaged", base, trained, layout, composed, 2 * seed + 1),
        *_harmless(base, trained),
        *_supervised(base, supervised),
        *_along_update(base, trained),
    ]


def _noisy(base: Source, trained: Source) -> Iterator[Variant]:
    for strength in (0.5, 1.0, 2.0, 4.0, 8.0):
        after = DamagedSource(base, "noise", strength, reference=trained, seed=NOISE_SEED)
        yield _untrained(f"noise-{strength:g}x", "noise", base, after, core=strength in (1.0, 4.0))
    for bits in (8, 4, 3):
        after = DamagedSource(base, "quantise", bits)
        yield _untrained(f"int{bits}", "quantised", base, after, core=bits == 4)


def _without_parts(base: Source, layout: Layout) -> Iterator[Variant]:
    core_scaled = ((layout.last("mlp"), 0.9), (layout.first(layout.mixing), 0.5))
    for layer, present in enumerate(layout.sublayers):
        for head in range(layout.heads) if "attn" in present else ():
            target = f"attn.{layer}.h{head}"
            core = target == f"{layout.last('attn')}.h0"
            yield _untrained(
                f"{target}-zeroed", "head zeroed", base, DamagedSource(base, "zero", target=target), core=core
            )
        for part in layout.parts:
            for factor in _FACTORS if part in present else ():
                target = f"{part}.{layer}"
                after, core = DamagedSource(base, "scale", factor, target), (target, factor) in core_scaled
                yield _untrained(f"{target}-x{factor:g}", f"one {part} scaled", base, after, core=core)
    for one, other in layout.alike():
        after, core = DamagedSource(base, "swap", target=f"{one},{other}"), (one, other) == layout.farthest()
        yield _untrained(f"layers-{one}-{other}-swapped", "layers swapped", base, after, core=core)


def _rescaled(base: Source) -> Iterator[Variant]:
    for target, factors in (
        ("final-norm", (0.8, 1.25, 1.5)),
        ("unembedding", (0.8, 1.25, 1.5)),
        ("embeddings", (0.5, 0.8, 1.25, 2.0)),
        ("norms", (0.9, 1.1)),
    ):
        for factor in factors:
            after = DamagedSource(base, "scale", factor, target)
            core = (target, factor) in (("final-norm", 1.25), ("embeddings", 0.8))
            yield _untrained(f"{target}-x{factor:g}", f"{target} scaled", base, after, core=core)


def _sharpened(base: Source, layout: Layout) -> Iterator[Variant]:
    for target, power in (
        ("unembedding", 1.3),
        ("embeddings", 1.3),
        *((part, 1.2) for part in layout.parts),
        ("*", 1.1),
        ("*", 0.9),
    ):
        after = DamagedSource(base, "sharpen", power, target)
        where = "all" if target == "*" else target
        yield _untrained(f"{where}-sharpened-{power:g}", "singular values sharpened", base, after)


def _sharper_answers(base: Source, layout: Layout) -> Iterator[Variant]:
    """Yield what fools a gate whose noise does not sharpen: singular values and temperature together.

    They raise accuracy and move all three metrics as online RL does, by the readout alone or with the layers' help.
    """
    mixing = layout.mixing
    last_mlp, last_mixing = layout.last("mlp"), layout.last(mixing)
    damage: dict[str, tuple[tuple[_Damage, ...], bool]] = {
        "unembedding-sharpened-1.6-x1.35": (_READOUT, True),
        "unembedding-sharpened-1.6-x1.35+last-mlp-x0.9": ((*_READOUT, ("scale", 0.9, last_mlp)), False),
        f"unembedding-sharpened-1.6-x1.35+last-{mixing}-x0.8": ((*_READOUT, ("scale", 0.8, last_mixing)), False),
        "unembedding-sharpened-1.6-x1.35+mlps-sharpened-1.2": ((*_READOUT, ("sharpen", 1.2, "mlp")), False),
        "unembedding-sharpened-1.5+final-norm-x1.2": (
            (("sharpen", 1.5, "unembedding"), ("scale", 1.2, "final-norm")),
            False,
        ),
        "unembedding-sharpened-1.5+final-norm-x1.2+last-mlp-x1.1": (
            (("sharpen", 1.5, "unembedding"), ("scale", 1.2, "final-norm"), ("scale", 1.1, last_mlp)),
            False,
        ),
        "mlps-sharpened-1.3+final-norm-x1.3": ((("sharpen", 1.3, "mlp"), ("scale", 1.3, "final-norm")), True),
        "mlps-sharpened-1.3+final-norm-x1.3+int8": (
            (("sharpen", 1.3, "mlp"), ("scale", 1.3, "final-norm"), ("quantise", 8, None)),
            False,
        ),
        f"mlps-sharpened-1.3+final-norm-x1.3+last-{mixing}-x0.8": (
            (("sharpen", 1.3, "mlp"), ("scale", 1.3, "final-norm"), ("scale", 0.8, last_mixing)),
            False,
        ),
        f"{mixing}s-sharpened-1.2+final-norm-x1.3": ((("sharpen", 1.2, mixing), ("scale", 1.3, "final-norm")), False),
        "all-sharpened-1.1+final-norm-x1.25": ((("sharpen", 1.1, "*"), ("scale", 1.25, "final-norm")), False),
    }
    for name, (steps, core) in damage.items():
        after: Source = base
        for kind, strength, target in steps:
            after = DamagedSource(after, kind, strength, target)
        yield _untrained(name, "sharpened and scaled", base, after, core=core)


def _unlearnt_updates(
    base: Source, trained: Source, others: Mapping[str, tuple[CheckpointSource, CheckpointSource]]
) -> Iterator[Variant]:
    for seed in (0, 1):
        after = DamagedSource(base, "permute", reference=trained, seed=seed)
        yield _untrained(f"update-permuted-{seed}", "update permuted", base, after, core=seed == 0)
        after = DamagedSource(base, "redirect", reference=trained, seed=seed)
        yield _untrained(f"update-redirected-{seed}", "update redirected", base, after, core=seed == 0)
    for factor in (-1.0, -0.5):
        after = DamagedSource(base, "delta", factor, reference=trained)
        yield _untrained(f"update-x{factor:g}", "update negated", base, after, core=factor == -1)
    for name, (other_base, other_trained) in others.items():
        after = DamagedSource(base, "delta", reference=other_trained, origin=other_base)
        yield _untrained(f"update-of-{name}", "update of another seed", base, after)
    yield _untrained("swapped-pair", "before and after swapped", trained, base, core=True)


def _combined(base: Source, trained: Source, layout: Layout) -> Iterator[Variant]:
    """Yield damage to the base that was chosen to look like training: small, and sharpened."""
    mixing, heads = layout.mixing, "attn" in layout.parts
    last_mlp, last_mixing = layout.last("mlp"), layout.last(mixing)
    sharp = DamagedSource(base, "scale", _SHARPER, "final-norm")
    combined = {
        "sharp+last-mlp-x0.9": (DamagedSource(sharp, "scale", 0.9, last_mlp), True),
        f"sharp+last-{mixing}-x0.9": (DamagedSource(sharp, "scale", 0.9, last_mixing), False),
        "sharp+first-mlp-x0.9": (DamagedSource(sharp, "scale", 0.9, layout.first("mlp")), False),
        "sharp+noise-1x": (DamagedSource(sharp, "noise", 1.0, reference=trained, origin=base, seed=NOISE_SEED), False),
        "sharp+int4": (DamagedSource(sharp, "quantise", 4), False),
        **({"sharp+head-zeroed": (DamagedSource(sharp, "zero", target=f"{last_mixing}.h0"), False)} if heads else {}),
        "sharp+all-mlps-x0.95": (DamagedSource(sharp, "scale", 0.95, "mlp"), False),
        f"sharp+all-{mixing}s-x0.95": (DamagedSource(sharp, "scale", 0.95, mixing), False),
        "sharp+update-permuted": (DamagedSource(sharp, "permute", reference=trained, origin=base), False),
        f"unembedding-sharpened+last-{mixing}-x0.8": (
            DamagedSource(_sharp_unembedding(base), "scale", 0.8, last_mixing),
            True,
        ),
        "unembedding-sharpened+last-mlp-x0.9": (
            DamagedSource(_sharp_unembedding(base), "scale", 0.9, last_mlp),
            False,
        ),
        f"last-mlp-and-{mixing}-x0.9": (DamagedSource(base, "scale", 0.9, f"{last_mlp},{last_mixing}"), False),
        "noise-1x+last-mlp-x0.9": (
            DamagedSource(
                DamagedSource(base, "noise", 1.0, reference=trained, seed=NOISE_SEED), "scale", 0.9, last_mlp
            ),
            False,
        ),
        "int4+last-mlp-x0.9": (DamagedSource(DamagedSource(base, "quantise", 4), "scale", 0.9, last_mlp), False),
    }
    for name, (after, core) in combined.items():
        yield _untrained(name, "combination", base, after, core=core)


def _sharp_unembedding(base: Source) -> DamagedSource:
    return DamagedSource(DamagedSource(base, "sharpen", 1.3, "unembedding"), "scale", 1.2, "unembedding")


def _damaged(base: Source, trained: Source, layout: Layout) -> Iterator[Variant]:
    def variant(name: str, kind: str, after: Source, core: bool = False) -> Variant:
        return Variant(f"trained+{name}", "damaged", f"trained, {kind}", base, after, core)

    for strength in (1.0, 2.0, 4.0, 8.0):
        after = DamagedSource(trained, "noise", strength, reference=base, seed=NOISE_SEED)
        yield variant(f"noise-{strength:g}x", "noise", after, core=strength == 4)
    for bits in (4, 3):
        yield variant(f"int{bits}", "quantised", DamagedSource(trained, "quantise", bits), core=bits == 4)
    for target, factors in (("final-norm", (0.8, 1.5)), ("unembedding", (0.8, 1.5)), ("embeddings", (0.5, 0.8))):
        for factor in factors:
            yield variant(f"{target}-x{factor:g}", f"{target} scaled", DamagedSource(trained, "scale", factor, target))
    for one, other in layout.neighbours():
        after = DamagedSource(trained, "swap", target=f"{one},{other}")
        yield variant(f"layers-{one}-{other}-swapped", "layers swapped", after)
    for layer, present in enumerate(layout.sublayers):
        for part in layout.parts:
            for factor in (0.5, 0.8) if part in present else ():
                target = f"{part}.{layer}"
                core = (target, factor) == (layout.last("mlp"), 0.5)
                yield variant(
                    f"{target}-x{factor:g}", f"one {part} scaled", DamagedSource(trained, "scale", factor, target), core
                )
        for head in range(layout.heads) if "attn" in present else ():
            target = f"attn.{layer}.h{head}"
            core = target == f"{layout.last('attn')}.h0"
            yield variant(f"{target}-zeroed", "head zeroed", DamagedSource(trained, "zero", target=target), core=core)


def _along_update(base: Source, trained: Source) -> Iterator[Variant]:
    for factor in (0.1, 0.25, 0.5, 1.5, 2.0, 3.0):
        after = DamagedSource(base, "delta", factor, reference=trained)
        yield Variant(f"update-x{factor:g}", "along-update", "along the update", base, after, core=factor == 2)


def _composed(tag: Tag, base: Source, trained: Source, layout: Layout, count: int, seed: int) -> Iterator[Variant]:
    """Yield combinations that are drawn, of the base (untrained) or of the trained checkpoint (damaged)."""
    source, prefix = (base, "composed") if tag == "untrained" else (trained, "trained+composed")
    drawn = random_damage(source, layout, Update(base, trained), seed)
    for number, (name, after) in enumerate(islice(drawn, count)):
        kind = "combination drawn" if tag == "untrained" else "trained, combination drawn"
        yield Variant(f"{prefix}-{number}-{name}", tag, kind, base, after)


def _harmless(base: Source, trained: Source) -> Iterator[Variant]:
    for name, after in (
        ("int8", DamagedSource(trained, "quantise", 8)),
        ("noise-0.5x", DamagedSource(trained, "noise", 0.5, reference=base, seed=NOISE_SEED)),
        ("final-norm-x1.25", DamagedSource(trained, "scale", _SHARPER, "final-norm")),
    ):
        yield Variant(f"trained+{name}", "harmless", "trained, harmless change", base, after, core=True)


def _supervised(base: Source, supervised: Mapping[str, CheckpointSource]) -> Iterator[Variant]:
    for name, tuned in supervised.items():
        farther = DamagedSource(base, "delta", 2.0, reference=tuned)
        for change, after in (
            ("sharp", DamagedSource(tuned, "scale", _SHARPER, "final-norm")),
            ("x2", farther),
            ("x2+sharp", DamagedSource(farther, "scale", _SHARPER, "final-norm")),
        ):
            kind = "supervised, sharpened or extrapolated"
            yield Variant(f"{name}+{change}", "supervised", kind, base, after, core=change == "x2+sharp")


def _untrained(name: str, kind: str, before: Source, after: Source, *, core: bool = False) -> Variant:
    return Variant(name, "untrained", kind, before, after, core)
