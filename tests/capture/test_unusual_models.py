"""Unusual models and callers: scored correctly, or an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error, tiny
from helpers.oracle import edge_scores
from helpers.tiny_models import build
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.common.errors import RLCircuitsError


class Wrapped(torch.nn.Module):
    """A norm whose formula is not recognised, since it is wrapped in another module."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_a_norm_that_is_not_recognised_is_differentiated_by_autograd(granularity: str) -> None:
    wanted = attribute(tiny("gpt2"), fixed_sequences(), granularity).values
    model = build("gpt2", seed=3)
    for block in model.transformer.h:
        block.ln_1 = Wrapped(block.ln_1)
    assert relative_error(attribute(model, fixed_sequences(), granularity).values, wanted) < 1e-5


def test_a_norm_whose_weight_is_zero() -> None:
    model = build("gpt2", seed=3)
    with torch.no_grad():
        model.transformer.h[0].ln_1.weight.zero_()
    wanted, _ = edge_scores(model, fixed_sequences())
    assert relative_error(attribute(model, fixed_sequences()).values, wanted) < 1e-4


def test_a_sequence_is_not_rotated_by_the_factors_of_a_longer_one() -> None:
    """Phi-3's longrope: the model rotates a whole batch by the factors of its longest sequence."""
    longrope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": 12,
    }
    model = build("phi3", seed=3, original_max_position_embeddings=12, rope_parameters=longrope)
    ids = torch.randint(3, 60, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    batch = [AnswerSequence(ids[:20], ids[20:25]), AnswerSequence(ids[25:30], ids[30:33])]
    together = attribute(model, batch)
    for index, sequence in enumerate(batch):
        alone = attribute(model, [sequence])
        assert relative_error(together.values[index : index + 1], alone.values) < 1e-5


def test_float16_gradients_do_not_vanish_where_the_stream_is_large() -> None:
    model = build("qwen2", seed=3)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 10_000
    model = model.half().float()
    wanted = attribute(model, fixed_sequences()).values
    assert relative_error(attribute(model.half(), fixed_sequences()).values, wanted) < 1e-2


def test_a_hook_registered_after_the_first_call_is_noticed() -> None:
    model = build("qwen2", seed=3)
    attribute(model, fixed_sequences())
    handle = model.model.layers[1].self_attn.q_proj.register_forward_hook(lambda _, __, output: 2 * output)
    with pytest.raises(RLCircuitsError, match="a hook"):
        attribute(model, fixed_sequences())
    handle.remove()
    attribute(model, fixed_sequences())


def test_an_output_that_is_not_the_sum_of_its_heads_is_an_error() -> None:
    model = build("qwen2", seed=3)
    model.model.layers[0].self_attn.o_proj.register_forward_hook(lambda _, __, output: 2 * output)
    with pytest.raises(RLCircuitsError, match=r"the sum of the heads of attn\.0 is not what it writes"):
        attribute(model, fixed_sequences(), "head")


@pytest.mark.parametrize("granularity", ["head", "kv-head"])
def test_heads_that_share_a_part_of_k_in_another_way_are_refused(
    granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DeepseekV3Attention, "expand_kv")
    model = Checkpoint(tiny("deepseek-v3"))
    with pytest.raises(
        RLCircuitsError, match=rf"'{granularity}'.*DeepseekV3.* heads share, in another way .*'sublayer'"
    ):
        attribute(model, fixed_sequences(), granularity)


def test_the_norm_of_a_latent_may_be_one_that_is_not_recognised() -> None:
    wanted = attribute(tiny("deepseek-v3"), fixed_sequences(), "head").values
    model = build("deepseek-v3", seed=3)
    for layer in model.model.layers:
        layer.self_attn.kv_a_layernorm = Wrapped(layer.self_attn.kv_a_layernorm)
        layer.self_attn.q_a_layernorm = Wrapped(layer.self_attn.q_a_layernorm)
    assert relative_error(attribute(model, fixed_sequences(), "head").values, wanted) < 1e-5


def test_a_latent_attention_is_as_it_was_after_its_heads_were_parted() -> None:
    model = tiny("deepseek-v3")
    before = [dict(vars(layer.self_attn)) for layer in model.model.layers]
    attribute(model, fixed_sequences(), "head")
    with pytest.raises(RLCircuitsError, match=r"non-finite|no finite|metric"):
        attribute(model, fixed_sequences(), "head", metric=lambda logits, batch: logits.sum() * float("nan"))
    assert [vars(layer.self_attn).keys() for layer in model.model.layers] == [each.keys() for each in before]
    assert all(not layer.self_attn._forward_pre_hooks for layer in model.model.layers)


def test_left_padding_that_a_model_counts_is_refused() -> None:
    with pytest.raises(RLCircuitsError, match=r"padding_side is 'left', but .* Llama4ForCausalLM .*; use 'right'"):
        attribute(tiny("llama4"), fixed_sequences(), padding_side="left")


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_caller_may_have_gradients_off(off: Any) -> None:
    wanted = attribute(build("llama", seed=3), fixed_sequences()).values
    model = build("llama", seed=3)
    with off():
        found = attribute(model, fixed_sequences()).values
    assert torch.equal(found, wanted)


def test_the_default_dtype_changes_nothing() -> None:
    model = build("llama", seed=3)
    wanted = attribute(model, fixed_sequences()).values
    torch.set_default_dtype(torch.float64)
    try:
        found = attribute(model, fixed_sequences()).values
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)
