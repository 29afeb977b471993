"""The sabotage suite lists what it says: names, tags, and checkpoints that load and differ."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers.paths import FIXTURES
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import HYBRIDS, build
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.layout import uniform_layout
from rlcircuits.checkpoints.random_damage import Update, random_damage
from rlcircuits.checkpoints.sabotage import TAGS, Variant, sabotage_variants
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.errors import RLCircuitsError


def shipped(place: str) -> CheckpointSource:
    return CheckpointSource(str(FIXTURES / "llama-sums" / place), device="cpu")


@pytest.fixture(scope="module")
def variants() -> list[Variant]:
    return sabotage_variants(
        shipped("seed-7/sft"),
        shipped("seed-7/grpo"),
        supervised={name: shipped(f"seed-7/{name}") for name in ("sft-more", "sft-clean")},
        others={f"seed-{seed}": (shipped(f"seed-{seed}/sft"), shipped(f"seed-{seed}/grpo")) for seed in (8, 9)},
    )


def test_every_variant_is_another_pair(variants: list[Variant]) -> None:
    pairs = [(each.before.fingerprint(), each.after.fingerprint()) for each in variants]
    assert len(set(pairs)) == len({each.name for each in variants}) == len(variants)
    tags = Counter(each.tag for each in variants)
    assert tuple(tags) == TAGS
    assert tags["harmless"] == 3
    assert tags["supervised"] == 6
    assert tags["along-update"] == 6
    core = Counter(each.tag for each in variants if each.core)
    assert core.keys() == set(TAGS)
    assert 15 <= core.total() <= 30


def test_the_families_of_sabotage_are_there(variants: list[Variant]) -> None:
    names = {each.name: each for each in variants}
    for part in ("mlp", "attn"):
        assert {f"{part}.{layer}-x{factor}" for layer in range(4) for factor in (0.5, 0.9, 0.95)} <= names.keys()
    assert {f"attn.{layer}.h{head}-zeroed" for layer in range(4) for head in range(4)} <= names.keys()
    assert {f"layers-{one}-{other}-swapped" for one in range(4) for other in range(one + 1, 4)} <= names.keys()
    assert {"int8", "int4", "int3", "noise-0.5x", "noise-8x", "final-norm-x0.8", "final-norm-x1.5"} <= names.keys()
    damaged = {
        "noise-1x",
        "noise-8x",
        "int4",
        "int3",
        "mlp.0-x0.5",
        "attn.3-x0.8",
        "attn.0.h0-zeroed",
        "final-norm-x0.8",
    }
    assert {f"trained+{name}" for name in (*damaged, "layers-0-1-swapped", "embeddings-x0.5")} <= names.keys()
    assert {"trained+int8", "trained+noise-0.5x", "sft-more+x2+sharp", "sft-clean+sharp"} <= names.keys()
    assert {"unembedding-x0.8", "embeddings-x2", "norms-x0.9", "update-redirected-1"} <= names.keys()
    assert {
        "update-of-seed-8",
        "update-of-seed-9",
        "update-permuted-0",
        "update-x-1",
        "update-x0.1",
        "update-x3",
    } <= names.keys()
    swapped = names["swapped-pair"]
    assert (swapped.before, swapped.after) == (shipped("seed-7/grpo"), shipped("seed-7/sft"))
    assert all(each.before == shipped("seed-7/sft") for each in variants if each is not swapped)


def test_no_noise_is_that_of_a_noise_control(variants: list[Variant]) -> None:
    noises = 0
    for each in variants:
        inner = each.after
        while isinstance(inner, DamagedSource):
            if inner.kind == "noise":
                assert inner.seed >= 1000, each.name
                noises += 1
            inner = inner.base
    assert noises >= 10


def steps(source: Source) -> list[DamagedSource]:
    """Return the damage of a source, the first one first."""
    return [*steps(source.base), source] if isinstance(source, DamagedSource) else []


def test_combinations_are_drawn_by_the_seed_alone() -> None:
    base, trained = shipped("seed-7/sft"), shipped("seed-7/grpo")

    def drawn(**options: int) -> dict[str, str]:
        every = sabotage_variants(base, trained, **options)
        return {each.name: each.after.fingerprint() for each in every if "composed" in each.name}

    few = drawn(composed=4)
    assert len(few) == 8
    assert few == drawn(composed=4, seed=0)
    assert few.items() <= drawn(composed=9).items()
    assert not set(few.values()) & set(drawn(composed=9, seed=1).values())
    assert drawn(composed=0) == {}
    # These names are fixed, so that a table can be made again on any machine.
    assert min(few) == "composed-0-int3+embeddings-sharpened-2+unembedding-x1.25"


@pytest.mark.parametrize(("options", "says"), [({"composed": -1}, "composed is -1"), ({"seed": -1}, "seed is -1")])
def test_numbers_that_draw_nothing_are_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(RLCircuitsError, match=f"sabotage: {says}; a whole number from 0"):
        sabotage_variants(shipped("seed-7/sft"), shipped("seed-7/grpo"), **options)


@given(st.integers(1, 40), st.integers(1, 32), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_drawn_combination_is_of_two_kinds_at_least_and_in_layers_that_there_are(
    layers: int, heads: int, seed: int
) -> None:
    base, trained = CheckpointSource("base"), CheckpointSource("trained")
    found = list(islice(random_damage(base, uniform_layout(layers, heads), Update(base, trained), seed), 20))
    assert len({name for name, _ in found}) == 20
    for name, damaged in found:
        chain = steps(damaged)
        assert damaged.root is base
        assert 2 <= len(chain) <= 3
        assert len({(step.kind, step.target) for step in chain}) == len(chain), name
        assert not any(step.is_identity for step in chain)
        for step in chain:
            assert step.reference in (None, trained)
            assert (step.origin is None) == (step.reference is None)
            numbers = [tuple(map(int, re.findall(r"\d+", part))) for part in (step.target or "").split(",")]
            assert all(layer < layers for layer, *_ in filter(None, numbers))
            assert all(head < heads for _, *rest in filter(None, numbers) for head in rest)


@pytest.mark.slow
@pytest.mark.parametrize("tag", TAGS)
def test_the_core_variants_load_and_differ_from_what_they_are_made_of(variants: list[Variant], tag: str) -> None:
    for each in variants:
        if each.core and each.tag == tag and isinstance(each.after, DamagedSource):
            inner = each.after.base
            found, origin = (dict(source.load().model.named_parameters()) for source in (each.after, inner))
            assert any(not torch.equal(found[name], origin[name]) for name in origin), each.name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gemma3", "olmo2-gqa"])
def test_variants_of_other_families_load(tmp_path: Path, name: str) -> None:
    for seed, side in enumerate(("base", "tuned")):
        save_checkpoint(tmp_path / side, name, seed=seed)
    base, tuned = (CheckpointSource(str(tmp_path / side), device="cpu") for side in ("base", "tuned"))
    tried = [each for each in sabotage_variants(base, tuned) if each.core or "composed" in each.name]
    assert len(tried) >= 15 + 24
    for each in tried:
        checkpoint = each.after.load()
        assert checkpoint.name == each.after.name


@pytest.mark.parametrize("name", sorted(HYBRIDS))
def test_the_suite_damages_each_sublayer_that_a_model_with_mixers_has(tmp_path: Path, name: str) -> None:
    base, tuned = (CheckpointSource(str(save_checkpoint(tmp_path / side, name)), device="cpu") for side in "ab")
    suite = {each.name: each for each in sabotage_variants(base, tuned)}
    assert len(suite) == len(sabotage_variants(base, tuned))
    blocks = Checkpoint(build(name)).parts.blocks
    has = {(part, layer) for layer, block in enumerate(blocks) for group in block.reads for part in group}
    scaled = {re.fullmatch(r"(mlp|attn|mixer)\.(\d+)-x0\.5", each) for each in suite}
    assert {(found[1], int(found[2])) for found in scaled if found} == has
    zeroed = {re.fullmatch(r"attn\.(\d+)\.h0-zeroed", each) for each in suite}
    assert {int(found[1]) for found in zeroed if found} == {layer for part, layer in has if part == "attn"}
    assert Counter(each.tag for each in suite.values() if each.core).keys() >= {"untrained", "damaged", "harmless"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HYBRIDS))
def test_variants_of_a_model_with_mixers_load_and_differ(tmp_path: Path, name: str) -> None:
    base, tuned = (
        CheckpointSource(str(save_checkpoint(tmp_path / str(seed), name, seed=seed)), device="cpu") for seed in (0, 1)
    )
    one_of_each = {each.kind: each for each in reversed(sabotage_variants(base, tuned, composed=2))}
    for each in one_of_each.values():
        if isinstance(each.after, DamagedSource):
            found, origin = (dict(source.load().model.named_parameters()) for source in (each.after, each.after.base))
            assert any(not torch.equal(found[weight], origin[weight]) for weight in origin), each.name


def test_a_model_without_attention_is_damaged_in_its_mixers(tmp_path: Path) -> None:
    build("qwen3-5", layer_types=["linear_attention"] * 3).save_pretrained(tmp_path)
    source = CheckpointSource(str(tmp_path), device="cpu")
    names = {each.name for each in sabotage_variants(source, source)}
    assert {"mixer.0-x0.5", "sharp+last-mixer-x0.9", "mixers-sharpened-1.2+final-norm-x1.3"} <= names
    assert not any("attn" in name for name in names)
