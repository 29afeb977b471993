"""Families that a user adds: named with care, and judged by numbers like those of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as replace_names
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, fixed_sequences, relative_error, tiny
from helpers.tiny_models import build
from torch import nn

from rlcircuits import ModuleNames, RLCircuitsError, attribute, register_family
from rlcircuits.capture.projection_check import verify_projections
from rlcircuits.graph.sequences import make_batch
from rlcircuits.models.families import FAMILIES
from rlcircuits.models.parts import locate_parts
from rlcircuits.models.tensor_groups import group_of, layer_of


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    kept = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(kept)


def renamed() -> Any:
    """Return a Llama of a family that nobody maps, whose modules have names of their own."""
    model: Any = build("llama-gqa", seed=3)
    model.config.model_type = "wanderer"
    for layer in model.model.layers:
        for old, new in (("input_layernorm", "norm_a"), ("post_attention_layernorm", "norm_b")):
            layer._modules[new] = layer._modules[old]
            layer.__dict__[old] = layer._modules.pop(old)
    return model


WANDERER = ModuleNames(attention_norm="norm_a", mlp_norm="norm_b")


def test_an_added_family_is_scored_as_the_model_it_is() -> None:
    model = renamed()
    with pytest.raises(RLCircuitsError, match=r"'wanderer' is not mapped: .*register_family adds another"):
        attribute(model, fixed_sequences())
    register_family("wanderer", WANDERER)
    register_family("wanderer", WANDERER)  # a file that is imported twice
    for granularity in ("sublayer", "head", "kv-head"):
        found = attribute(model, fixed_sequences(), granularity).values
        assert relative_error(found, attribute(tiny("llama-gqa"), fixed_sequences(), granularity).values) < 1e-6


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (ModuleNames(attention_norm="norm_c"), r"a wanderer model should have a module model\.layers\.0\.norm_c"),
        (ModuleNames(attention_norm="norm_b", mlp_norm="norm_a"), r"ran before the norm"),
        (
            ModuleNames(attention_norm=None, mlp_norm="norm_b"),
            r"is not",
        ),
        (ModuleNames(attention_norm="norm_a", mlp_norm="norm_b", mlp="self_attn"), r"ran before the norm"),
        (ModuleNames(attention_norm="norm_a", mlp_norm="norm_b", attention_post_norm="norm_a"), r"is not"),
        (
            ModuleNames(attention_norm="norm_a", mlp_norm="norm_b", projections=("q_proj", "v_proj", "q_proj")),
            r"q_proj maps 32 to 32 features; the config says 32 to 16",
        ),
    ],
)
def test_names_that_are_wrong_are_an_error_and_never_a_score(names: ModuleNames, message: str) -> None:
    register_family("wanderer", names)
    with pytest.raises(RLCircuitsError, match=message):
        attribute(renamed(), fixed_sequences())


@pytest.mark.parametrize(("order", "wrong"), [("qvk", "k"), ("kqv", "q"), ("vkq", "q"), ("kvq", "q"), ("vqk", "q")])
@pytest.mark.parametrize("name", ["llama", "hunyuan", "gpt-oss"])
def test_projections_of_one_shape_that_change_places_are_noticed(name: str, order: str, wrong: str) -> None:
    model = build(name, seed=3, num_key_value_heads=4)
    model_type, projections = model.config.model_type, [f"{kind}_proj" for kind in order]
    register_family(model_type, replace_names(FAMILIES[model_type], projections=tuple(projections)), replace=True)
    with pytest.raises(RLCircuitsError, match=f"the projection that is named as {wrong} is another one"):
        attribute(model, fixed_sequences())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_every_family_of_the_table_would_pass_as_an_added_one(name: str, dtype: torch.dtype) -> None:
    model = build(name, seed=3, dtype=dtype)
    batch = make_batch(fixed_sequences(1), [0])
    verify_projections(model, locate_parts(model), batch, 1e-3 if dtype == torch.float32 else 5e-2)


def test_a_family_that_is_there_is_replaced_only_when_asked() -> None:
    before = dict(FAMILIES)
    for family, message in (("llama", "in the table already"), ("gemma3n_text", "not supported: its AltUp")):
        with pytest.raises(RLCircuitsError, match=rf"model_type '{family}' .*{message}.*replace=True"):
            register_family(family, WANDERER)
    assert before == FAMILIES
    register_family("llama", WANDERER, replace=True)
    assert FAMILIES["llama"] is WANDERER


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": "model..layers"}, r"ModuleNames: layers has 'model\.\.layers'; names of modules, joined by dots"),
        ({"output": "o proj"}, r"output has 'o proj'"),
        ({"attention_norm": ""}, r"attention_norm has ''"),
        ({"projections": ("q_proj", "k_proj")}, r"projections has 2 names; three .* or one"),
        ({"projections": "qkv_proj"}, r"projections is 'qkv_proj'; a list of strings"),
        ({"fused": "mixed"}, r"fused is 'mixed'; one of stacked, interleaved, grouped is wanted"),
        ({"gate_up": "both"}, r"gate_up is 'both'; one of rows, columns, alternating columns is wanted"),
        ({"mlp": 3}, r"mlp is 3; a string is wanted"),
        ({"mlp_outputs": ("down_proj", ("up", "to stream"))}, r"mlp_outputs has 'to stream'"),
        ({"layer_kinds": {"ssm": ("mixer",)}}, r"layer_kinds has a mixer in 'ssm', but mixer, its name, is None"),
        (
            {"layer_kinds": {"ssm": ("conv",)}},
            r"layer_kinds has \('conv',\) for 'ssm'; one or more of attn, mixer, mlp",
        ),
    ],
)
def test_names_that_cannot_be_modules_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        ModuleNames(**fields)
    with pytest.raises(RLCircuitsError, match="model_type is empty"):
        register_family("", ModuleNames())


def test_the_weights_of_an_added_family_are_grouped() -> None:
    assert (group_of("net.blocks.3.mixing.q.weight"), layer_of("net.blocks.3.mixing.q.weight")) == ("other", None)
    register_family("wanderer", ModuleNames(layers="net.blocks", attention="mixing", mlp="thinking"))
    assert (group_of("net.blocks.3.mixing.q.weight"), layer_of("net.blocks.3.mixing.q.weight")) == ("attention", 3)
    assert group_of("net.blocks.3.thinking.up.weight") == "MLP"


def test_other_names_are_checked_anew() -> None:
    model = build("llama", seed=3)
    attribute(model, fixed_sequences())
    register_family("llama", ModuleNames(projections=("v_proj", "k_proj", "q_proj")), replace=True)
    with pytest.raises(RLCircuitsError, match="named as q is another one"):
        attribute(model, fixed_sequences())


def test_a_second_writer_of_an_added_family_is_noticed() -> None:
    class Louder(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.self_attn, self.mlp = layer.self_attn, layer.mlp
            self.norm_a, self.norm_b = layer.norm_a, layer.norm_b
            self.inner = [layer]

        def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return 1.1 * self.inner[0](hidden, *args, **kwargs)

    model = renamed()
    model.model.layers[0] = Louder(model.model.layers[0])
    register_family("wanderer", WANDERER)
    with pytest.raises(RLCircuitsError, match="has a writer or reader that is not mapped"):
        attribute(model, fixed_sequences())
