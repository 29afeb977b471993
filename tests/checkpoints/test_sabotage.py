"""The sabotage suite lists what it says: names, tags, and checkpoints that load and differ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.paths import FIXTURES
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.sabotage import TAGS, Variant, sabotage_variants
from rlcircuits.checkpoints.source import CheckpointSource


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
    assert {"trained+noise-4x", "trained+int4", "trained+int3", "trained+mlp.0-x0.5"} <= names.keys()
    assert {"update-of-seed-8", "update-of-seed-9", "update-permuted-0", "update-x-1", "update-x2"} <= names.keys()
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
    core = [each for each in sabotage_variants(base, tuned) if each.core]
    assert len(core) >= 15
    for each in core:
        checkpoint = each.after.load()
        assert checkpoint.name == each.after.name
