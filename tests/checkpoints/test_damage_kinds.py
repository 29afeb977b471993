"""What each kind of damage does to a model's weights; a part's output is compared with what a hook makes of it."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from helpers.tiny_models import ATTENTION_ONLY, HYBRIDS, POST_NORMS, VOCABULARY, build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.kinds import (
    damage_outputs,
    damage_update,
    quantise,
    round_rows,
    sharpen,
    swap_layers,
)
from rlcircuits.common.errors import RLCircuitsError

IDS = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(0))
FACTOR = 0.7
FAMILIES = ("llama-gqa", "gpt2", "gpt-neox", "qwen3-moe")


@functools.cache
def _verified(name: str) -> Checkpoint:
    return Checkpoint(build(name))


def fresh(name: str) -> Checkpoint:
    """Return a tiny checkpoint of its own; each architecture is verified once."""
    return copy.deepcopy(_verified(name))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS).logits


def times(factor: float) -> Callable[..., Any]:
    """Return a forward hook that multiplies a module's output."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        return (output[0] * factor, *output[1:]) if isinstance(output, tuple) else output * factor

    return hook


def named(model: nn.Module, pattern: str) -> Iterator[nn.Module]:
    return (module for name, module in model.named_modules() if re.fullmatch(pattern, name))


OUTPUTS = {
    "attn.1": r".*(layers|h)\.1\.(self_attn|attn|attention|self_attention)",
    "mlp.1": r".*(layers|h)\.1\.(mlp|feed_forward|block_sparse_moe)",
    "mlp": r".*(layers|h)\.\d+\.(mlp|feed_forward|block_sparse_moe)",
    "embeddings": r".*\.(embed_tokens|embed_in|wte|word_embeddings|wpe)",
    "unembedding": r"lm_head|embed_out",
    "final-norm": r"model\.(norm|final_layernorm)|transformer\.ln_f|gpt_neox\.final_layer_norm",
    "norms": r"(?!.*\.self_attn\.).*(layernorm|layer_norm|ln_\w+|model\.norm)",
}
"""The modules whose outputs a target multiplies."""


def outputs_of(name: str, target: str) -> str:
    """Return the pattern of a target's modules in a model, whose sublayers may end in a norm."""
    if name not in POST_NORMS or target not in ("attn.1", "mlp.1", "mlp"):
        return OUTPUTS[target]
    attention, mlp = POST_NORMS[name]
    layer = r"\d+" if target == "mlp" else "1"
    return rf"model\.layers\.{layer}\.{attention if target == 'attn.1' else mlp}"


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_the_output_of_a_part_is_multiplied_as_a_hook_would(name: str) -> None:
    plain = build(name)
    undamaged = logits(plain)
    for target in OUTPUTS:
        hooked = list(named(plain, outputs_of(name, target)))
        assert hooked
        with ExitStack() as stack:
            for module in hooked:
                stack.callback(module.register_forward_hook(times(FACTOR)).remove)
            wanted = logits(plain)
        damaged = fresh(name)
        damage_outputs(damaged, target, FACTOR)
        torch.testing.assert_close(logits(damaged.model), wanted, rtol=1e-4, atol=1e-4, msg=target)
        assert not torch.allclose(undamaged, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(HYBRIDS))
def test_the_outputs_of_a_model_with_mixers_are_multiplied_as_a_hook_would(name: str) -> None:
    plain, undamaged = _verified(name), logits(_verified(name).model)
    blocks = plain.parts.blocks
    modules = {
        "attn": [block.attention for block in blocks if block.attention is not None],
        "mixer": [block.mixer for block in blocks if block.mixer is not None],
        "mlp": [module for block in blocks for module in block.mlp_modules],
    }
    for target, hooked in modules.items():
        with ExitStack() as stack:
            for module in hooked:
                stack.callback(module.register_forward_hook(times(FACTOR)).remove)
            wanted = logits(plain.model)
        damaged = fresh(name)
        damage_outputs(damaged, target, FACTOR)
        torch.testing.assert_close(logits(damaged.model), wanted, rtol=1e-4, atol=1e-4, msg=target)
        assert not torch.allclose(undamaged, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_a_zeroed_head_writes_nothing(name: str) -> None:
    plain, damaged = build(name), fresh(name)
    (output,) = named(
        plain, r".*(layers|h)\.1\.(self_attn|attn|attention|self_attention)\.(o_proj|c_proj|out_proj|dense)"
    )
    heads = plain.config.num_attention_heads

    def without_head(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        by_head = inputs[0].unflatten(-1, (heads, -1)).clone()
        by_head[..., 2, :] = 0
        return (by_head.flatten(-2),)

    handle = output.register_forward_pre_hook(without_head)
    wanted = logits(plain)
    handle.remove()
    damage_outputs(damaged, "attn.1.h2", 0.0)
    torch.testing.assert_close(logits(damaged.model), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(plain), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_a_factor_of_one_changes_no_bit(name: str) -> None:
    checkpoint = Checkpoint(build(name, dtype=torch.bfloat16))
    origin = tensors(checkpoint.model)
    damage_outputs(checkpoint, "attn,mlp,norms", 1.0)
    damage_outputs(checkpoint, "attn.0.h0", 1.0)
    assert all(torch.equal(origin[name], found) for name, found in tensors(checkpoint.model).items())


def test_a_tensor_that_is_named_is_multiplied_itself() -> None:
    checkpoint = fresh("gemma3")
    origin = tensors(checkpoint.model)
    damage_outputs(checkpoint, "model.layers.*.input_layernorm.weight,model.norm.weight", 3.0)
    for name, found in tensors(checkpoint.model).items():
        factor = 3.0 if "input_layernorm" in name or name == "model.norm.weight" else 1.0
        assert torch.equal(found, origin[name] * factor), name


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mlp.2", "layer 2, but .* has the layers 0 to 1"),
        ("attn.0.h4", "has the heads 0 to 3 in a layer"),
        ("lm_hed*", r"'lm_hed\*' is no part and no tensor"),
        ("attn.0,attn.0.h1", "names model.layers.0.self_attn.o_proj.weight twice"),
        ("mixer", "mixer, but .* has no layer with one"),
    ],
)
def test_a_target_that_the_model_lacks_is_refused(target: str, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        damage_outputs(fresh("qwen2"), target, 0.5)


weights = st.tuples(
    st.integers(0, 2**31), st.sampled_from([1e-6, 0.02, 1.0, 300.0]), st.sampled_from([(5, 9), (3, 4, 7)])
)


@given(weights, st.integers(2, 8), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=20, deadline=None)
def test_rows_are_rounded_to_the_nearest_of_evenly_spaced_values(
    drawn: tuple[int, float, tuple[int, ...]], bits: int, dtype: torch.dtype
) -> None:
    seed, size, shape = drawn
    weight = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)
    weight.view(-1, shape[-1])[0] = 0  # a row of zeros stays one
    rounded = round_rows(weight, bits)
    top = 2 ** (bits - 1) - 1
    assert rounded.dtype == dtype
    for row, found in zip(weight.view(-1, shape[-1]).double(), rounded.view(-1, shape[-1]).double(), strict=True):
        largest = float(row.abs().max())
        step = largest / top
        nearest = torch.tensor([min((k * step for k in range(-top, top + 1)), key=lambda v: abs(v - x)) for x in row])
        precision = float(torch.finfo(dtype).eps) * largest
        # A value in the middle between two may be rounded to either.
        assert float((found - row).abs().max()) <= float((nearest - row).abs().max()) + precision
        assert len(set(found.tolist())) <= 2 * top + 1
        assert float(found.abs().max()) == largest
    assert torch.equal(round_rows(rounded, bits), rounded) or dtype == torch.bfloat16


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_is_what_one_output_is_computed_from(name: str) -> None:
    checkpoint = fresh(name)
    origin = tensors(checkpoint.model)
    quantise(checkpoint, "*", 3)
    matrices = 0
    for module in checkpoint.model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.ndim > 1:
                rows = parameter.T if isinstance(module, Conv1D) else parameter.flatten(0, -2)
                assert max(len(row.unique()) for row in rows) <= 7 < len(parameter.unique())
                matrices += 1
    assert matrices >= 8
    for key, found in tensors(checkpoint.model).items():
        assert torch.equal(found, origin[key]) == (found.ndim == 1), key


@pytest.mark.parametrize("name", FAMILIES)
def test_sharpened_matrices_keep_their_directions_and_norms(name: str) -> None:
    checkpoint = fresh(name)
    checkpoint.model.double()
    origin = tensors(checkpoint.model)
    sharpen(checkpoint, "*", 3.0)
    for key, found in tensors(checkpoint.model).items():
        if found.ndim == 1:
            assert torch.equal(found, origin[key]), key
            continue
        # w wᵀ w has the singular vectors of w, and the third powers of its singular values.
        cubed = origin[key] @ origin[key].mT @ origin[key]
        norms = [torch.linalg.matrix_norm(each, keepdim=True) for each in (origin[key], cubed)]
        torch.testing.assert_close(found, cubed * norms[0] / norms[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_damage_of_matrices_does_not_pass_over_vectors(name: str) -> None:
    checkpoint = fresh(name)
    origin = tensors(checkpoint.model)
    for damage in (sharpen, quantise):
        with pytest.raises(RLCircuitsError, match=r"norms has no weight matrix in .*, only vectors such as \S+, which"):
            damage(checkpoint, "norms", 4)
    sharpen(checkpoint, "norms,mlp.0", 2.0)  # the norms have no part in it
    changed = [key for key, found in tensors(checkpoint.model).items() if not torch.equal(found, origin[key])]
    assert changed


def test_sharpening_keeps_zeros() -> None:
    checkpoint = fresh("llama")
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.zero_()
    sharpen(checkpoint, "*", 1.5)
    assert all(not tensor.any() for tensor in tensors(checkpoint.model).values())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox", "gemma3", "mixtral"])
def test_swapped_layers_exchange_their_weights(name: str) -> None:
    checkpoint = fresh(name)
    origin = tensors(checkpoint.model)
    swap_layers(checkpoint, "0,1")
    other = {"0": "1", "1": "0"}
    for key, found in tensors(checkpoint.model).items():
        partner = re.sub(r"\.(layers|h)\.([01])\.", lambda m: f".{m[1]}.{other[m[2]]}.", key)
        assert torch.equal(found, origin[partner]), key
    swap_layers(checkpoint, "0,1")
    assert all(torch.equal(found, origin[key]) for key, found in tensors(checkpoint.model).items())


def test_layers_of_other_shapes_are_not_swapped() -> None:
    with pytest.raises(RLCircuitsError, match=r"layers 0 and 1 of .* differ in mlp\.\w+"):
        swap_layers(fresh("qwen3-moe"), "0,1")
    with pytest.raises(RLCircuitsError, match="layer 5, but"):
        swap_layers(fresh("llama"), "0,5")


def updated(name: str, kind: Any, strength: float, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what damage by an update added to each tensor of a model of zeros, and the update."""
    checkpoint = fresh(name)
    update = {key: tensor.double() for key, tensor in tensors(build(name, seed=1)).items()}
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.zero_()
    damage_update(checkpoint, kind, "*", strength, update.__getitem__, seed)
    return {key: tensor.double() for key, tensor in tensors(checkpoint.model).items()}, update


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("kind", "strength"), [("noise", 0.0), ("noise", 4.0), ("permute", 0.5), ("redirect", 0.5), ("delta", 3.0)]
)
def test_an_update_keeps_its_norm_times_the_strength(name: str, kind: str, strength: float) -> None:
    added, update = updated(name, kind, strength)
    for key, wanted in update.items():
        assert float(added[key].norm()) == pytest.approx(strength * float(wanted.norm()), rel=1e-4), key


@pytest.mark.parametrize("name", FAMILIES)
def test_what_each_kind_keeps_of_an_update(name: str) -> None:
    permuted, update = updated(name, "permute", 2.0)
    redirected, _ = updated(name, "redirect", 2.0)
    delta, _ = updated(name, "delta", -2.0)
    embeddings = ("embed", "wte", "wpe")
    for key, wanted in update.items():
        torch.testing.assert_close(permuted[key].flatten().sort()[0], 2 * wanted.flatten().sort()[0])
        torch.testing.assert_close(redirected[key].abs().flatten().sort()[0], 2 * wanted.abs().flatten().sort()[0])
        torch.testing.assert_close(delta[key], -2 * wanted)
        assert not torch.allclose(permuted[key], 2 * wanted)
        assert not torch.allclose(redirected[key], 2 * wanted)
        if wanted.ndim > 1:
            # An orthogonal map of the outputs keeps the inner products of the inputs.
            outputs_last = (
                any(part in key for part in (*embeddings, "c_attn", "c_proj", "c_fc")) and "embed_out" not in key
            )

            def gram(matrix: Tensor, outputs_last: bool = outputs_last) -> Tensor:
                return matrix @ matrix.mT if outputs_last else matrix.mT @ matrix

            torch.testing.assert_close(gram(redirected[key]), 4 * gram(wanted))
            assert not torch.allclose(gram(permuted[key]), 4 * gram(wanted))


@given(st.integers(0, 2**31), st.sampled_from(["noise", "permute", "redirect"]))
@settings(max_examples=3, deadline=None)
def test_the_seed_decides_what_is_random(seed: int, kind: str) -> None:
    first, _ = updated("llama", kind, 1.0, seed)
    again, _ = updated("llama", kind, 1.0, seed)
    other, _ = updated("llama", kind, 1.0, seed + 1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("kind", ["noise", "permute", "redirect", "delta"])
def test_an_update_reaches_the_named_tensors_only(kind: Any) -> None:
    checkpoint = fresh("qwen3")
    origin, update = tensors(checkpoint.model), tensors(build("qwen3", seed=1))
    damage_update(checkpoint, kind, "attn.1,final-norm", 1.0, lambda name: update[name].double(), 0)
    moved = {key for key, found in tensors(checkpoint.model).items() if not torch.equal(found, origin[key])}
    assert moved == {key for key in origin if "layers.1.self_attn" in key or key == "model.norm.weight"}
    with pytest.raises(RLCircuitsError, match=r"attn\.1\.h2 is a head, .* name attn\.1"):
        damage_update(checkpoint, kind, "attn.1.h2", 1.0, lambda name: update[name].double(), 0)
