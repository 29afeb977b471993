"""The groups of weights by name, against the modules that hold the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors
from helpers.core_inputs import NAMES, tiny
from helpers.tiny_models import stored_weights
from torch import nn

from rlcircuits.models.parts import Block, Norm, locate_parts
from rlcircuits.models.tensor_groups import GROUPS, group_of, is_token_embedding, layer_of


def norms_of(block: Block) -> list[Norm]:
    norms = (block.attention_norm, block.mlp_norm, block.attention_post_norm, block.mlp_post_norm)
    return [norm for norm in norms if norm is not None]


def holders(model: nn.Module) -> dict[int, tuple[str, int | None]]:
    """Return the group and layer of each parameter, by its id, from the modules that were located by their shapes."""
    found: dict[int, tuple[str, int | None]] = {}

    def put(module: nn.Module, group: str, layer: int | None = None) -> None:
        found.update((id(parameter), (group, layer)) for parameter in module.parameters())

    parts = locate_parts(model)
    put(parts.unembedding, "unembedding")
    for module in model.modules():  # after the unembedding, so that a tied weight is the embedding
        if isinstance(module, nn.Embedding):
            put(module, "embeddings")
    for layer, block in enumerate(parts.blocks):
        experts = [getattr(block.module, name, None) for name in ("router", "experts")]  # beside the MLP (Gemma 4)
        groups = {"attention": (block.attention,), "mixer": (block.mixer,), "MLP": (*block.mlp_modules, *experts)}
        for group, modules in groups.items():
            for module in filter(None, modules):
                put(module, group, layer)
        for norm in norms_of(block):
            put(norm.module, "norms", layer)
        for module in block.module.modules():
            if "Norm" in type(module).__name__:
                put(module, "norms", layer)
    put(parts.final_norm.module, "norms")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_in_the_group_and_layer_of_the_module_that_holds_it(name: str) -> None:
    model = tiny(name)
    wanted = holders(model)
    parameters = dict(model.named_parameters())
    assert {key: (group_of(key), layer_of(key)) for key in parameters} == {
        key: wanted[id(parameter)] for key, parameter in parameters.items()
    }
    embedding = model.get_input_embeddings().weight
    assert [key for key in parameters if is_token_embedding(key)] == [
        key for key, parameter in parameters.items() if parameter is embedding
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_names_in_the_files_are_in_the_same_groups(name: str, tmp_path: Path) -> None:
    """Where a file names a weight otherwise, or has a fused weight in parts, the groups' sizes are the same."""
    model = tiny(name)
    model.save_pretrained(tmp_path)
    stored, loaded = dict.fromkeys(GROUPS, 0), dict.fromkeys(GROUPS, 0)
    for key, parameter in stored_weights(model).items():
        loaded[group_of(key)] += parameter.numel()
    with safetensors.safe_open(str(tmp_path / "model.safetensors"), framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            stored[group_of(key)] += file.get_tensor(key).numel()
    assert stored == loaded
    assert stored["other"] == 0 < min(stored[group] for group in ("embeddings", "norms", "attention", "MLP"))


def test_a_name_that_no_family_has() -> None:
    assert group_of("model.vision_tower.patch.weight") == "other"
    assert layer_of("model.norm.weight") is None
