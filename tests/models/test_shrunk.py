"""A tiny model of a config is of the config's architecture: it has the same parts, and passes the same checks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_models import ARCHITECTURES
from transformers import AutoConfig, PretrainedConfig

from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.layer_kinds import layers_by_config
from rlcircuits.models.part_paths import part_paths
from rlcircuits.models.parts import locate_parts
from rlcircuits.models.shrunk import shrink, tiny_model

_QWEN3 = {
    "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "eos_token_id": 151645,
}  # fmt: skip


def config(kind: str, **fields: Any) -> PretrainedConfig:
    return AutoConfig.for_model(kind, **fields)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_passes_the_checks_that_the_model_passes(name: str) -> None:
    whole = ARCHITECTURES[name]()
    tiny = tiny_model(whole.config)
    assert type(tiny) is type(whole)
    checkpoint = Checkpoint(tiny)
    assert part_paths(tiny, checkpoint.parts).keys() == part_paths(whole, Checkpoint(whole).parts).keys()
    assert checkpoint.parts.head_dim == Checkpoint(whole).parts.head_dim
    for agreement in verify_stream(tiny, checkpoint.parts):
        assert 0 < agreement.error <= agreement.allowed


def test_is_small_for_a_large_config_which_stays_as_it_is() -> None:
    large = config("qwen3", **_QWEN3)
    before = large.to_dict()
    tiny = tiny_model(large)
    assert large.to_dict() == before
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 3_000_000
    assert tiny.config.num_attention_heads == 2 * tiny.config.num_key_value_heads == 4
    assert tiny.config.head_dim == 128


def test_has_the_same_weights_each_time_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (tiny_model(config("qwen3", **_QWEN3)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_norm_is_one_and_no_bias_zero() -> None:
    for name in ("llama-gqa", "gpt2"):
        for key, parameter in tiny_model(ARCHITECTURES[name]().config).named_parameters():
            assert parameter.std() > 0.01, key


def test_each_kind_of_layer_occurs() -> None:
    large = config("gemma3_text", **{**_QWEN3, "num_hidden_layers": 34})
    assert len(set(large.layer_types)) == 2
    small = shrink(large)
    assert set(small.layer_types) == set(large.layer_types)
    assert len(small.layer_types) == small.num_hidden_layers < 10


LATE_ATTENTION = ["linear_attention", "mlp"] * 9 + ["full_attention", "mlp"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("falcon_h1", {}),
        ("falcon_h1", {"mamba_d_ssm": None}),
        ("nemotron_h", {"hidden_size": 1024, "layers_block_type": LATE_ATTENTION}),
    ],
)
def test_layers_without_attention_or_mlp_are_made_small_too(kind: str, fields: dict[str, Any]) -> None:
    large = config(kind, **fields)
    tiny = tiny_model(large)
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 25_000_000
    assert set(locate_parts(tiny).layers) == set(layers_by_config(large))


def test_a_delta_net_keeps_its_heads_of_values_for_each_of_keys() -> None:
    large = config("qwen3_next", hidden_size=2048)
    small = shrink(large)
    assert (small.linear_num_key_heads, small.linear_num_value_heads) == (2, 4)
    assert set(small.layer_types) == set(large.layer_types)


def test_keeps_experts_enough_for_a_token() -> None:
    small = shrink(config("qwen3_moe", **_QWEN3, num_experts=128, num_experts_per_tok=8))
    assert small.num_experts == 16


def test_a_config_that_no_model_fits_is_an_error() -> None:
    broken = config("llama", hidden_size=32, num_attention_heads=4, num_hidden_layers=2, vocab_size=16)
    broken.hidden_act = "no such function"
    with pytest.raises(RLCircuitsError, match=r"no tiny model of this architecture can be built.*no such function"):
        tiny_model(broken)
