"""A quantised checkpoint is the model whose weights its codes stand for, and its codes are never taken for weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error
from helpers.quantised_folders import FORMATS, MXFP4, SIZES, configure, rewrite, write, write_llama
from helpers.tiny_checkpoints import save_checkpoint, tiny_tokenizer
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from rlcircuits import Checkpoint, attribute
from rlcircuits.checkpoints.comparability import comparability_warnings
from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.damage.folder import save_damaged
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.folder import check_folder
from rlcircuits.models.loading import load_model
from rlcircuits.models.shrunk import tiny_model
from rlcircuits.release.plan_models import PlannedModel

UP = "model.layers.1.mlp.up_proj.weight"
ONE = torch.ones(1, 4)
_ROUNDED = {"nf4": 2**-8, "int8": 2**-8, "int4": 2**-8}
"""How far a format rounds the values. NF4 states the dtype in which it is dequantised, bfloat16; compressed-tensors
dequantises in that of the scales."""


def source(folder: Path, **options: str) -> CheckpointSource:
    return CheckpointSource(str(folder), device="cpu", **options)


def load(folder: Path, dtype: torch.dtype | str = torch.float32) -> Any:
    return load_model(folder, dtype, None, trust_remote_code=False)


def save_whole(folder: Path, values: dict[str, Tensor], like: Path) -> Path:
    """Save values as an ordinary checkpoint in float32, with the config of another folder."""
    model = load(like)
    model.load_state_dict({name: value.float() for name, value in values.items()})
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def assert_are(model: Any, values: dict[str, Tensor], rounded: float) -> None:
    parameters = dict(model.named_parameters())
    assert parameters.keys() == values.keys()
    for name, value in values.items():
        error = (parameters[name].double() - value).abs()
        assert (error <= rounded * value.abs() + 1e-30).all(), name


@pytest.mark.parametrize("form", FORMATS)
def test_its_weights_are_what_the_codes_stand_for(form: str, tmp_path: Path) -> None:
    values = write_llama(tmp_path, form)
    assert_are(load(tmp_path), values, _ROUNDED.get(form, 2**-22))
    model = load(tmp_path, "auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert_are(model, values, 2**-8 + _ROUNDED.get(form, 0))


def test_gpt_oss_experts_are_what_the_codes_stand_for(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "gpt_oss", vocab_size=61, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    values = write(tmp_path, MXFP4, tiny_model(config), lambda name, weight: weight.ndim == 3)
    check_folder(tmp_path)
    assert_are(load(tmp_path), values, 0)  # every value is a bfloat16
    assert_are(load(tmp_path, "auto"), values, 0)
    rewrite(tmp_path, lambda tensors: tensors.pop("model.layers.1.mlp.experts.down_proj_scales"))
    with pytest.raises(RLCircuitsError, match=r"experts\.down_proj_blocks is stored as U8 without its scale"):
        check_folder(tmp_path)


def test_experts_that_are_stored_apart_are_stacked(tmp_path: Path) -> None:
    values = write_llama(tmp_path, "fp8", name="qwen3-moe", moe_intermediate_size=32, head_dim=16)
    found = dict(load(tmp_path).named_parameters())
    for expert in range(4):
        at = f"model.layers.0.mlp.experts.{expert}."
        gate, up, down = (values[f"{at}{name}_proj.weight"] for name in ("gate", "up", "down"))
        stacked = found["model.layers.0.mlp.experts.gate_up_proj"][expert]
        assert torch.equal(stacked, torch.cat([gate, up]).float())
        assert torch.equal(found["model.layers.0.mlp.experts.down_proj"][expert], down.float())


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), scale=st.floats(-20, 20), form=st.sampled_from(["fp8", "mxfp8", "int8", "int4"]))
def test_whatever_the_weights_are(tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float, form: str) -> None:
    folder = tmp_path_factory.mktemp("model")
    model = build("llama", seed=seed, hidden_size=32, intermediate_size=32, num_hidden_layers=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0**scale)
    values = write(folder, FORMATS[form], model, lambda name, weight: weight.ndim == 2 and ".layers." in name)
    assert_are(load(folder), values, _ROUNDED.get(form, 2**-22))


@pytest.mark.parametrize("form", ["fp8", "int4", "nf4"])
def test_its_scores_are_those_of_the_dequantised_model(form: str, tmp_path: Path) -> None:
    values = write_llama(tmp_path / "packed", form)
    whole = save_whole(tmp_path / "whole", values, tmp_path / "packed")
    packed = Checkpoint.load(tmp_path / "packed", device="cpu", dtype="float32")
    found = attribute(packed, fixed_sequences()).values
    wanted = attribute(Checkpoint.load(whole, device="cpu"), fixed_sequences()).values
    assert relative_error(found, wanted) < (1e-5 if form == "fp8" else 2e-2)


def test_a_comparison_of_weights_sees_the_values_and_not_the_codes(tmp_path: Path) -> None:
    values = write_llama(tmp_path / "packed", "fp8")
    whole = save_whole(tmp_path / "whole", values, tmp_path / "packed")
    packed = source(tmp_path / "packed", dtype="float32")
    assert not compare_weights(source(whole), packed).changed
    original = save_whole(tmp_path / "original", {n: p.double() for n, p in _llama().items()}, tmp_path / "packed")
    found = {change.name: change for change in compare_weights(source(original), packed).tensors}
    for name, value in values.items():
        update = float((value - _llama()[name].double()).norm())
        assert found[name].update_norm == pytest.approx(update, rel=1e-4, abs=1e-9)


def _llama() -> dict[str, Tensor]:
    model = build("llama", **SIZES).to(torch.bfloat16)
    return dict(model.named_parameters())


def test_the_noise_control_is_of_the_values(tmp_path: Path) -> None:
    values = write_llama(tmp_path / "packed", "fp8")
    whole = save_whole(tmp_path / "whole", values, tmp_path / "packed")
    after = CheckpointSource(str(save_checkpoint_like(tmp_path / "after")), device="cpu", dtype="float32")
    noised = [
        NoisedSource(source(before, dtype="float32"), after, draw=0).load().model.state_dict()
        for before in (tmp_path / "packed", whole)
    ]
    for name, tensor in noised[0].items():
        assert float((tensor - noised[1][name]).norm() / tensor.norm()) < 1e-4, name


def save_checkpoint_like(folder: Path) -> Path:
    build("llama", seed=5, **SIZES).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_damage_is_written_as_an_ordinary_checkpoint(tmp_path: Path) -> None:
    write_llama(tmp_path / "packed", "fp8")
    saved = save_damaged(DamagedSource(source(tmp_path / "packed"), "scale", 0.5, "mlp.1"), tmp_path / "damaged")
    assert "quantization_config" not in (saved.folder / "config.json").read_text()
    packed, damaged = (Checkpoint.load(each, device="cpu").model for each in (tmp_path / "packed", saved.folder))
    assert torch.equal(damaged.model.layers[0].mlp.up_proj.weight, packed.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(damaged.model.layers[1].mlp.down_proj.weight, packed.model.layers[1].mlp.down_proj.weight / 2)


def test_an_adapter_is_merged_into_the_dequantised_base(tmp_path: Path) -> None:
    values = write_llama(tmp_path / "packed", "nf4")
    whole = save_whole(tmp_path / "whole", values, tmp_path / "packed")
    merged = []
    for base in (tmp_path / "packed", whole):
        torch.manual_seed(0)
        model = Checkpoint.load(base, device="cpu", dtype="float32").model
        tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        tuned.peft_config["default"].base_model_name_or_path = str(base)
        tuned.save_pretrained(base.with_name(f"{base.name}-lora"))
        found = Checkpoint.load(base.with_name(f"{base.name}-lora"), device="cpu", dtype="float32")
        merged.append(found.model.model.layers[1].self_attn.q_proj.weight)
    assert relative_error(merged[0], merged[1]) < 2**-8


@pytest.mark.parametrize(
    ("form", "gone"),
    [
        ("fp8", f"{UP}_scale_inv"), ("mxfp8", f"{UP}_scale_inv"), ("int8", f"{UP}_scale"), ("int4", f"{UP}_scale"),
        ("bnb8", f"{UP.removesuffix('weight')}SCB"), ("nf4", f"{UP}.absmax"),
    ],
)  # fmt: skip
def test_codes_without_their_scale_are_refused(form: str, gone: str, tmp_path: Path) -> None:
    write_llama(tmp_path, form)
    rewrite(tmp_path, lambda tensors: tensors.pop(gone))
    with pytest.raises(RLCircuitsError, match=r"mlp\.up_proj\.weight\w* is stored as \w+ without its scale"):
        Checkpoint.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("fp8", lambda tensors: tensors.update({f"{UP}_scale_inv": torch.ones(7, 3)})),
        ("int4", lambda tensors: tensors.pop(f"{UP}_shape")),
        ("nf4", lambda tensors: tensors.pop(f"{UP}.quant_state.bitsandbytes__nf4")),
    ],
)
def test_codes_and_scales_that_do_not_fit_are_refused(
    form: str, change: Callable[[dict[str, Tensor]], object], tmp_path: Path
) -> None:
    write_llama(tmp_path, form)
    rewrite(tmp_path, change)
    with pytest.raises(RLCircuitsError, match="cannot be dequantised"):
        Checkpoint.load(tmp_path, device="cpu")


def test_a_scale_of_no_weight_is_refused_and_one_of_activations_is_not(tmp_path: Path) -> None:
    values = write_llama(tmp_path, "int8")
    scale = torch.ones(1, dtype=torch.bfloat16)
    rewrite(tmp_path, lambda tensors: tensors.update({UP.replace("weight", "input_scale"): scale}))
    assert_are(load(tmp_path), values, 2**-8)
    rewrite(tmp_path, lambda tensors: tensors.update({UP.replace("layers.1", "layers.9") + "_scale": scale}))
    with pytest.raises(RLCircuitsError, match=r"has no place for, the first is model\.layers\.9"):
        load(tmp_path)


def test_four_bits_that_are_dequantised_wrongly_are_refused(tmp_path: Path) -> None:
    # bitsandbytes 0.50 takes blocks of 64 row by row on the CPU: right for rows of 64 and 128, wrong for rows of 96.
    write_llama(tmp_path, "nf4", intermediate_size=96)
    try:
        model = load(tmp_path)
    except RLCircuitsError as error:
        assert "mlp.down_proj.weight is stored in 4 bits, and bitsandbytes does not" in str(error)  # noqa: PT017
    else:  # a later version may be right
        assert_are(model, write_llama(tmp_path, "nf4", intermediate_size=96), 2**-8)


@pytest.mark.parametrize("nested", [False, True])
def test_four_bits_that_the_library_wrote_itself(tmp_path: Path, nested: bool) -> None:
    build("llama", **SIZES).to(torch.bfloat16).save_pretrained(tmp_path / "whole")
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=nested)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", quantization_config=how, device_map="cpu")
    model.save_pretrained(tmp_path / "packed")
    whole, packed = load(tmp_path / "whole"), load(tmp_path / "packed")
    for name, parameter in packed.named_parameters():
        weight = whole.get_parameter(name)
        assert float((parameter - weight).norm() / weight.norm()) < 0.2, name


def test_nan_in_a_scale_is_found(tmp_path: Path) -> None:
    write_llama(tmp_path, "fp8")
    rewrite(tmp_path, lambda tensors: tensors[f"{UP}_scale_inv"].fill_(float("nan")))
    with pytest.raises(RLCircuitsError, match=f"weight {UP} holds NaN or Inf"):
        Checkpoint.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantised \('gptq'\); dequantised when they are loaded are fp8"),
        ({"quant_method": "awq"}, r"'awq'.*give the unquantised checkpoint"),
        ({"quant_method": ["fp8"]}, r"\['fp8'\]"),
        ({"bits": 4}, r"quantised \(None\)"),
        ("fp8", r"quantised \('fp8'\)"),
        ({**FORMATS["int8"].config, "transform_config": {"config_groups": {"u": {}}}}, "'transform_config'"),
        (FORMATS["int8"].config, "is no packed weight|without its scale"),
        (MXFP4.config, "is no packed weight of mxfp4"),
    ],
)
def test_another_method_than_the_codes_are_of_is_refused(fields: object, said: str, tmp_path: Path) -> None:
    write_llama(tmp_path, "fp8")
    configure(tmp_path, quantization_config=fields)
    for check in (check_folder, lambda folder: compare_weights(source(folder), source(folder))):
        with pytest.raises(RLCircuitsError, match=said):
            check(tmp_path)


def test_a_config_that_calls_whole_weights_quantised_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    configure(folder, quantization_config=FORMATS["fp8"].config)
    with pytest.raises(RLCircuitsError, match="but the files hold none that is; remove the field"):
        Checkpoint.load(folder, device="cpu")


def test_codes_of_which_the_config_says_nothing_are_refused(tmp_path: Path) -> None:
    write_llama(tmp_path, "fp8")
    configure(tmp_path, quantization_config=None)
    with pytest.raises(RLCircuitsError, match=r"is stored as F8_E4M3; only weights in one of"):
        Checkpoint.load(tmp_path, device="cpu")
    configure(tmp_path, text_config={"quantization_config": FORMATS["fp8"].config})
    with pytest.raises(RLCircuitsError, match=r"field 'text_config\.quantization_config'.*only field"):
        Checkpoint.load(tmp_path, device="cpu")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path, "nf4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else name)
    with pytest.raises(RLCircuitsError, match=r"needs bitsandbytes, which is not installed.*rlcircuits\[quantised\]"):
        check_folder(tmp_path)


def test_a_model_that_is_quantised_in_memory_is_refused(tmp_path: Path) -> None:
    build("llama", **SIZES).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="cpu"
    )
    with pytest.raises(RLCircuitsError, match=r"q_proj\.weight is quantised \(torch\.int8\); load the checkpoint with"):
        Checkpoint(model)


def test_gguf_files_are_called_by_their_name(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    for path in (tmp_path, tmp_path / "tiny.gguf"):
        with pytest.raises(RLCircuitsError, match=r"tiny\.gguf .*GGUF.*convert"):
            Checkpoint.load(path, device="cpu")


def test_the_result_says_that_weights_were_dequantised(tmp_path: Path) -> None:
    write_llama(tmp_path / "rl", "nf4")
    before = save_checkpoint_like(tmp_path / "sft")
    warnings = comparability_warnings(source(before), source(tmp_path / "rl"))
    assert any("rl are stored quantised (bitsandbytes, 4 bits)" in warning for warning in warnings)
    assert "what quantising rounded is part of the update between the two" in warnings
    assert not any("stored quantised" in one for one in comparability_warnings(source(before), source(before)))


def test_a_plan_counts_the_dequantised_weights(tmp_path: Path) -> None:
    values = write_llama(tmp_path, "int4")
    plan = PlannedModel(source(tmp_path), Path()).plan(10)
    assert plan.problem is None
    assert plan.parameters == sum(value.numel() for value in values.values())
    assert plan.weight_bytes == 2 * plan.parameters


def test_a_packed_unembedding_that_is_tied_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path, "fp8")
    configure(tmp_path, tie_word_embeddings=True)
    rewrite(
        tmp_path,
        lambda tensors: tensors.update(
            {
                "lm_head.weight": torch.zeros(61, 64).to(torch.float8_e4m3fn),
                "lm_head.weight_scale_inv": torch.ones(1, 4),
            }
        ),
    )
    with pytest.raises(RLCircuitsError, match="lm_head"):
        Checkpoint.load(tmp_path, device="cpu")


@pytest.mark.parametrize("value", [None, "x", [], 1.5, {}, [0, 0], True])
@pytest.mark.parametrize("field", ["weight_block_size", "activation_scheme", "modules_to_not_convert", "dequantize"])
def test_any_value_in_the_quantisations_config_loads_the_same_or_is_one_error(
    field: str, value: object, tmp_path: Path
) -> None:
    values = write_llama(tmp_path, "fp8")
    configure(tmp_path, quantization_config={**FORMATS["fp8"].config, field: value})
    try:
        model = load(tmp_path)
    except RLCircuitsError:
        return
    assert_are(model, values, 2**-22)
