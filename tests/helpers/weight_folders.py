"""Checkpoints of which only the weights are read, and tiny models that were moved as training moves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from helpers.tiny_models import build
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.checkpoints.tensor_reader import StoredTensors


def source(folder: Path, **options: str) -> CheckpointSource:
    return CheckpointSource(str(folder), device="cpu", **options)


class FilesOnly(CheckpointSource):
    """A checkpoint whose model must not be loaded."""

    def load(self) -> Checkpoint:
        raise AssertionError("loaded")


def written(folder: Path, tensors: Mapping[str, Tensor], **config: object) -> CheckpointSource:
    """Write a folder that only its weights are read from."""
    folder.mkdir(exist_ok=True)
    fields = {"model_type": "llama", "num_hidden_layers": 1, "tie_word_embeddings": False, **config}
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(dict(tensors), folder / "model.safetensors")
    return source(folder)


def memory_at_reads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the process's own memory, in MiB, at each reading of a weight from a file.

    Pages of the mapped files do not count: the system takes them back.
    """
    read, used = StoredTensors.read, []

    def measured(tensors: StoredTensors, key: str) -> Tensor:
        used.append(int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1024)
        return read(tensors, key)

    monkeypatch.setattr(StoredTensors, "read", measured)
    return used


def forty_layers(folder: Path) -> CheckpointSource:
    """Write forty weights of 2 MiB each in float64, in which they are read."""
    written(folder, {f"model.layers.{layer}.mlp.up_proj.weight": torch.ones(512, 512) for layer in range(40)})
    return source(folder, dtype="float64")


def moved(name: str, seed: int, every: int = 2) -> PreTrainedModel:
    """Return a tiny model of which every second parameter, or every `every`th, was moved."""
    model = build(name, seed=3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            if place % every == 0:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def saved(folder: Path, model: PreTrainedModel, **options: str) -> CheckpointSource:
    model.save_pretrained(folder, **options)
    return source(folder)


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return Gaussian weights of these names and shapes, rounded to a dtype."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name, shape in shapes.items()
    }
