"""A model that is kept for the next stage: the same one, as it would be loaded, and one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.release.loaded_once import LoadedOnce, free_kept_model, keep_last_model


@pytest.fixture(autouse=True)
def keeping() -> Iterator[None]:
    keep_last_model()
    yield
    keep_last_model(False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[CheckpointSource, CheckpointSource]:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in save_tiny_pair(tmp_path))
    return before, after


def use(source: Source) -> Checkpoint:
    """Load a model as a stage does; it is left before this returns."""
    with LoadedOnce(source) as loaded:
        checkpoint = loaded.load()
        assert checkpoint.name == source.name
        return checkpoint


def elements(checkpoint: Checkpoint) -> int:
    return sum(parameter.numel() for parameter in checkpoint.model.parameters())


def test_stages_on_one_model_load_it_once(pair: tuple[CheckpointSource, CheckpointSource]) -> None:
    before, after = pair
    first = use(before)
    assert use(CheckpointSource(before.path, device="cpu")) is first  # an equal source
    assert elements(first) > 0
    fresh = before.load()
    for kept, loaded in zip(first.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(kept, loaded)
    assert use(after) is not first
    assert elements(first) == 0  # freed when the other was loaded


def test_noise_of_another_draw_is_another_model(pair: tuple[CheckpointSource, CheckpointSource]) -> None:
    one, other = NoisedSource(*pair, 0), NoisedSource(*pair, 1)
    first = use(one)
    assert use(NoisedSource(*pair, 0)) is first
    assert use(other) is not first
    assert use(one) is not first


def test_files_that_changed_are_loaded(pair: tuple[CheckpointSource, CheckpointSource]) -> None:
    before, after = pair
    first = use(before)
    shutil.copy(Path(after.path) / "model.safetensors", Path(before.path) / "model.safetensors")
    second = use(before)
    assert second is not first
    assert torch.equal(next(second.model.parameters()), next(after.load().model.parameters()))


def test_a_model_whose_stage_failed_is_not_kept(pair: tuple[CheckpointSource, CheckpointSource]) -> None:
    with suppress(ValueError), LoadedOnce(pair[0]) as loaded:
        failed = loaded.load()
        raise ValueError("in a stage")
    assert elements(failed) == 0
    assert elements(use(pair[0])) > 0


def test_the_kept_model_is_freed_at_will(pair: tuple[CheckpointSource, CheckpointSource]) -> None:
    first = use(pair[0])
    free_kept_model()
    assert elements(first) == 0
    assert elements(second := use(pair[0])) > 0
    keep_last_model(False)
    assert elements(second) == 0
    assert elements(use(pair[0])) == 0  # none is kept any more
