"""The matrices of a weight, against the parts that attribution finds, and against files that hold them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, tiny
from helpers.tiny_models import build
from helpers.weight_folders import saved
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.parts import locate_parts
from rlcircuits.models.tensor_groups import group_of
from rlcircuits.models.weight_matrices import matrix_places


def matrices(model: PreTrainedModel) -> dict[str, dict[str, Tensor]]:
    """Return weight → matrix → values."""
    return {
        name: {place.name: place.take(weight) for place in matrix_places(name, tuple(weight.shape), model.config)}
        for name, weight in model.state_dict().items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_q_k_and_v_are_those_that_attribution_reads(name: str) -> None:
    model = tiny(name)
    found = matrices(model)
    names = {id(module): path for path, module in model.named_modules()}
    for block in locate_parts(model).blocks:
        for projection in block.projections:
            pieces = found[f"{names[id(projection.module)]}.weight"]
            fused = len(projection.features) > 1
            if "gate" in pieces:  # q has a gate beside it in each head
                by_head = (pieces[kind].unflatten(0, (4, -1)) for kind in ("q", "gate"))
                pieces = {"": torch.cat(list(by_head), 1).flatten(0, 1)}
            assert set(pieces) == (set(projection.features) if fused else {""})
            for kind, features in projection.features.items():
                projection = replace(projection, multiplier=1.0)
                wanted, piece = projection.rows(features), pieces[kind if fused else ""]
                assert torch.equal(piece if piece.shape == wanted.shape and name != "gpt2" else piece.T, wanted)
        if block.latent is not None:
            down, up = (found[f"{names[id(module)]}.weight"] for module in (block.latent.down, block.latent.up))
            assert torch.equal(torch.cat([down["latent"], down["rotated k"]]), block.latent.down.weight)
            assert len(down["latent"]) == block.latent.rank
            for kind, features in block.latent.features.items():
                assert torch.equal(up[kind], block.latent.up_rows(features))


@pytest.mark.parametrize("name", NAMES)
def test_every_element_is_in_one_matrix(name: str) -> None:
    model = tiny(name)
    for key, weight in model.named_parameters():
        places = matrix_places(key, tuple(weight.shape), model.config)
        wanted = group_of(key) in ("attention", "MLP") and weight.ndim > 1 and not key.endswith("bias")
        assert bool(places) == wanted, key
        if wanted:
            numbers = torch.arange(weight.numel()).view(weight.shape)
            taken = torch.cat([place.take(numbers).flatten() for place in places])
            assert torch.equal(taken.sort().values, numbers.flatten())
            rebuilt = torch.full_like(numbers, -1)
            for place in places:
                place.put(rebuilt, place.take(numbers))
            assert torch.equal(rebuilt, numbers)


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_experts_are_those_that_the_files_hold_apart(name: str, tmp_path: Path) -> None:
    model = build(name, seed=3)
    stored = load_file(saved(tmp_path, model).folder / "model.safetensors")
    gate, up, down = ("w1", "w3", "w2") if name == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    block = "block_sparse_moe" if name == "mixtral" else "mlp"
    found = matrices(model)
    for expert in range(4):
        for whole, piece, file in (
            ("gate_up_proj", " gate", gate),
            ("gate_up_proj", " up", up),
            ("down_proj", "", down),
        ):
            ours = found[f"model.layers.0.mlp.experts.{whole}"][f"expert {expert}{piece}"]
            assert torch.equal(ours, stored[f"model.layers.0.{block}.experts.{expert}.{file}.weight"])


def test_a_fused_gate_comes_first() -> None:
    model = tiny("phi3")
    mlp = model.model.layers[0].mlp
    pieces = matrices(model)["model.layers.0.mlp.gate_up_proj.weight"]
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    hidden = torch.nn.functional.silu(x @ pieces["gate"].T) * (x @ pieces["up"].T)
    torch.testing.assert_close(mlp.down_proj(hidden), mlp(x))


def test_gate_and_up_in_the_columns_of_experts() -> None:
    """Llama 4 has the gates first, gpt-oss each gate beside its up; the experts' own forward tells which is which."""
    model: Any = tiny("llama4")
    experts = model.model.layers[1].feed_forward.experts
    pieces = matrices(model)["model.layers.1.feed_forward.experts.gate_up_proj"]
    x = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0))
    gate, up = (torch.stack([pieces[f"expert {e} {kind}"] for e in range(4)]) for kind in ("gate", "up"))
    hidden = torch.nn.functional.silu(x @ gate) * (x @ up)
    torch.testing.assert_close((hidden @ experts.down_proj).flatten(0, 1), experts(x.flatten(0, 1)))

    model = tiny("gpt-oss")
    experts = model.model.layers[1].mlp.experts
    pieces = matrices(model)["model.layers.1.mlp.experts.gate_up_proj"]
    both = x[0] @ experts.gate_up_proj[2] + experts.gate_up_proj_bias[2]
    plain = both - experts.gate_up_proj_bias[2]
    ours = torch.stack([x[0] @ pieces["expert 2 gate"], x[0] @ pieces["expert 2 up"]], -1).flatten(-2)
    torch.testing.assert_close(ours, plain)
    gated = experts._apply_gate(torch.stack([torch.zeros(24), torch.ones(24)], -1).flatten())
    assert (gated == 0).all()  # a gate of zero closes whatever up is


def test_granites_files_hold_gate_and_up_in_one_weight(tmp_path: Path) -> None:
    model = build("granite-moe", seed=3)
    stored = load_file(saved(tmp_path, model).folder / "model.safetensors")
    key = "model.layers.1.block_sparse_moe.input_linear.weight"
    places = {place.name: place for place in matrix_places(key, tuple(stored[key].shape), model.config)}
    ours = matrices(model)["model.layers.1.block_sparse_moe.experts.gate_up_proj"]
    assert places.keys() == ours.keys()
    assert all(torch.equal(places[name].take(stored[key]), piece) for name, piece in ours.items())


def test_what_cannot_be_split() -> None:
    key = "model.layers.0.self_attn.qkv_proj.weight"
    with pytest.raises(RLCircuitsError, match=r"model_type 'bert' is not mapped.*llama"):
        matrix_places(key, (96, 32), SimpleNamespace(model_type="bert"))
    with pytest.raises(RLCircuitsError, match=r"qkv_proj\.weight is \[95, 32\]; by the config .* is 64, of q, k, v"):
        matrix_places(key, (95, 32), tiny("phi3").config)
