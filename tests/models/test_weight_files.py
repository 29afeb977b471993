"""All weights of a folder's files are loaded, and no others; the fingerprint covers exactly those."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlcircuits import Checkpoint, attribute
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.weight_files import first_left_over, weight_files

UP = "model.layers.0.mlp.up_proj.weight"
Weights = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        Checkpoint.load(folder, device="cpu")


def rewrite(folder: Path, change: Callable[[Weights], object], file: str = "model.safetensors") -> None:
    weights = load_file(folder / file)
    change(weights)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / file, metadata={"format": "pt"})


def configure(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def spread(folder: Path, *names: str, index: str = "model.safetensors.index.json") -> None:
    """Save the weights in several files of these names, with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: names[place % len(names)] for place, name in enumerate(sorted(weights))}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({key: weights[key] for key, file in places.items() if file == name}, folder / name)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


# Which files


@pytest.mark.parametrize(
    "names", [("a.safetensors", "b.safetensors"), ("shards/a.safetensors", "shards/deep/b.safetensors")]
)
def test_shards_are_loaded_and_known_wherever_the_index_says(folder: Path, names: tuple[str, ...]) -> None:
    wanted = attribute(Checkpoint.load(folder, device="cpu"), fixed_sequences()).values
    spread(folder, *names)
    assert torch.equal(attribute(Checkpoint.load(folder, device="cpu"), fixed_sequences()).values, wanted)
    first = CheckpointSource(str(folder)).fingerprint()
    for name in names:
        rewrite(folder, lambda weights: next(iter(weights.values())).view(-1)[:1].add_(1), name)
        assert CheckpointSource(str(folder)).fingerprint() != first
        first = CheckpointSource(str(folder)).fingerprint()


def test_a_shard_of_the_same_size_and_age_is_another(folder: Path) -> None:
    spread(folder, "shards/a.safetensors", "shards/b.safetensors")
    shard = folder / "shards" / "a.safetensors"
    change = lambda weights: next(iter(weights.values())).view(-1)[:1].add_(1)  # noqa: E731
    rewrite(folder, change, "shards/a.safetensors")
    first, state = CheckpointSource(str(folder)).fingerprint(), shard.stat()
    rewrite(folder, change, "shards/a.safetensors")
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert shard.stat().st_size == state.st_size
    assert CheckpointSource(str(folder)).fingerprint() != first


def test_weights_that_nothing_loads_do_not_count(folder: Path) -> None:
    first = CheckpointSource(str(folder)).fingerprint()
    save_file({"x": torch.zeros(1)}, folder / "optimizer.safetensors")
    assert CheckpointSource(str(folder)).fingerprint() == first


@pytest.mark.parametrize(
    "name", ["../out.safetensors", "a/../../out.safetensors", "/out.safetensors", "C:\\out.safetensors"]
)
def test_a_shard_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "out.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    weights = load_file(folder / "a.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "a.safetensors") | {UP: name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for call in (CheckpointSource(str(folder)).fingerprint, CheckpointSource(str(folder)).load):
        with pytest.raises(RLCircuitsError, match=r"field 'weight_map\.\S+' is .*, which leads out of the folder"):
            call()


NAMES = st.one_of(
    st.sampled_from(
        ["model.safetensors", "a.safetensors", "../a.safetensors", "/a.safetensors", "", ".", "..", "a.bin"]
    ),
    st.text(max_size=20),
    st.integers(),
    st.none(),
    st.lists(st.text(max_size=3), max_size=2),
)
INDEXES = st.one_of(
    st.fixed_dictionaries(
        {"metadata": st.just({}), "weight_map": st.dictionaries(st.text(max_size=5), NAMES, max_size=3)}
    ),
    st.dictionaries(
        st.sampled_from(["metadata", "weight_map"]), st.one_of(NAMES, st.booleans(), st.floats()), max_size=2
    ),
    st.recursive(NAMES, lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)


@given(INDEXES)
def test_files_are_only_ever_in_the_folder(tmp_path_factory: pytest.TempPathFactory, index: object) -> None:
    """For any index, the result is files that exist below the folder, or one error that names the index."""
    folder = tmp_path_factory.mktemp("index")
    (folder / "a.safetensors").write_bytes(b"")
    (folder.parent / "a.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found, problem = (), f"{folder}"
    try:
        found = weight_files(folder)
    except RLCircuitsError as error:
        problem = str(error)
    assert all(file.is_file() and folder in file.resolve().parents for file in found)
    assert str(folder) in problem
    assert problem.isprintable()


def test_two_sets_of_weights_in_one_folder_are_refused(folder: Path) -> None:
    single = (folder / "model.safetensors").read_bytes()
    spread(folder, "a.safetensors", "b.safetensors")
    (folder / "model.safetensors").write_bytes(single)
    refused(folder, r"has both model\.safetensors and model\.safetensors\.index\.json")
    with pytest.raises(RLCircuitsError, match="has both"):
        CheckpointSource(str(folder)).fingerprint()


def test_an_index_of_the_one_file_is_no_second_set(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    Checkpoint.load(folder, device="cpu")


def test_a_distributed_checkpoint_is_refused(folder: Path) -> None:
    """transformers would load it in place of the usual files."""
    save_file({"x": torch.zeros(1)}, folder / "shard-00001-model-00001-of-00001.safetensors")
    refused(folder, "is part of a distributed checkpoint")


def test_a_weight_in_two_shards_is_refused(folder: Path) -> None:
    spread(folder, "a.safetensors", "b.safetensors")
    other = load_file(folder / "b.safetensors")
    rewrite(folder, lambda weights: weights.update(list(other.items())[:1]), "a.safetensors")
    refused(folder, r"b\.safetensors: weight \S+ is in \S+a\.safetensors too; one of the files is stale")


def test_a_weight_that_the_index_does_not_list_is_refused(folder: Path) -> None:
    spread(folder, "a.safetensors", "b.safetensors")
    rewrite(folder, lambda weights: weights.update(stray=torch.zeros(1)), "a.safetensors")
    refused(folder, r"a\.safetensors: weight stray is in it; model\.safetensors\.index\.json does not say so")


def test_a_config_that_names_other_files_is_refused(folder: Path) -> None:
    configure(folder, transformers_weights="other.safetensors")
    refused(folder, "field 'transformers_weights' names 'other.safetensors' as the weights")


# Which weights


def add(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[Weights], object]:
    return lambda weights: weights.update({name: torch.ones(shape).to(dtype)})


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (add("model.layers.0.self_attn.q_norm.weight", 8), "model.layers.0.self_attn.q_norm.weight"),
        (add("model.layers.0.self_attn.sinks", 4), "model.layers.0.self_attn.sinks"),
        (add("model.layers.2.mlp.up_proj.weight", 48, 32), "model.layers.2.mlp.up_proj.weight"),
        (add("model.layers.0.mlp.up_proj.weight_scale", 1), "model.layers.0.mlp.up_proj.weight_scale"),
        (add("model.layers.0.mlp.up_proj.lora_A.default.weight", 4, 32), "model.layers.0.mlp.up_proj.lora_A"),
        (add("v_head.summary.weight", 1, 32), "v_head.summary.weight"),
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused(
    folder: Path, change: Callable[[Weights], object], first: str
) -> None:
    rewrite(folder, change)
    refused(folder, f"has no place for, the first is {first}")


def test_biases_without_a_place_are_refused(folder: Path) -> None:
    configure(folder, attention_bias=False)
    refused(folder, r"has no place for, the first is model\.layers\.0\.self_attn\.k_proj\.bias")


def test_fewer_layers_than_the_files_hold_are_refused(folder: Path) -> None:
    configure(folder, num_hidden_layers=1)
    refused(folder, r"has no place for, the first is model\.layers\.1\.input_layernorm\.weight")


@pytest.mark.parametrize("layers", [3, 10**9])
def test_more_layers_than_the_files_hold_are_refused_before_they_are_built(folder: Path, layers: int) -> None:
    configure(folder, num_hidden_layers=layers)
    refused(folder, f"field 'num_hidden_layers' is {layers}; the weights are of 2 layers")


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("llama-gqa", {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}),
        ("llama-gqa", {"model.embeddings.position_ids": torch.arange(9)}),
        ("gpt2", {"transformer.h.0.attn.bias": torch.ones(1, 1, 96, 96, dtype=torch.uint8)}),
        ("gpt2", {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}),
        ("gpt-neox", {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 96, 96, dtype=torch.bool)}),
    ],
)
def test_buffers_that_every_model_makes_anew_are_left_alone(tmp_path: Path, name: str, extra: Weights) -> None:
    folder = save_checkpoint(tmp_path, name)
    wanted = attribute(build(name, seed=3), fixed_sequences()).values
    rewrite(folder, lambda weights: weights.update(extra))
    assert torch.equal(attribute(Checkpoint.load(folder, device="cpu"), fixed_sequences()).values, wanted)


def test_a_bias_that_is_learnt_is_no_buffer() -> None:
    assert first_left_over(["model.layers.0.self_attn.q_proj.bias"]) is not None
    assert first_left_over(["transformer.h.0.attn.c_attn.bias", "transformer.h.0.attn.bias"]) is not None


@pytest.mark.parametrize(
    ("dtype", "called"),
    [(torch.int8, "I8"), (torch.bool, "BOOL"), (torch.complex64, "C64"), (torch.float8_e4m3fn, "F8_E4M3")],
)
def test_weights_that_are_no_floats_are_refused(folder: Path, dtype: torch.dtype, called: str) -> None:
    rewrite(folder, lambda weights: weights.update({UP: weights[UP].to(dtype)}))
    refused(
        folder, rf"model\.safetensors: weight {UP} is stored as {called}; only weights in one of F64, F32, F16, BF16"
    )


@pytest.mark.parametrize("table", [{"quant_method": "no-such", "bits": 4}, {"quant_method": "gptq"}, {"bits": 4}, {}])
def test_quantised_weights_are_refused_whatever_the_method(folder: Path, table: dict[str, Any]) -> None:
    configure(folder, quantization_config=table)
    refused(folder, r"config\.json: field 'quantization_config' says that the weights are quantised")


def test_a_config_without_quantisation_may_say_so(folder: Path) -> None:
    configure(folder, quantization_config=None)
    Checkpoint.load(folder, device="cpu")


def test_tied_embeddings_of_which_the_file_has_two_are_refused(folder: Path) -> None:
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, lambda weights: weights.update({"lm_head.weight": embedding.clone()}))
    Checkpoint.load(folder, device="cpu")
    rewrite(folder, lambda weights: weights["lm_head.weight"].view(-1)[:1].add_(1))
    refused(folder, r"weight lm_head\.weight differs from the embedding, .* \(tie_word_embeddings\)")


def test_a_shape_that_the_config_does_not_give_names_both(folder: Path) -> None:
    configure(folder, num_key_value_heads=4)
    refused(
        folder,
        r"weight model\.layers\.0\.self_attn\.k_proj\.weight has the shape \[16, 32\]; by \S+ it must be \[32, 32\]",
    )


@pytest.mark.parametrize("experts", [3, 5])
def test_another_number_of_experts_is_refused(tmp_path: Path, experts: int) -> None:
    folder = save_checkpoint(tmp_path, "mixtral")
    configure(folder, num_local_experts=experts)
    refused(folder, r"config\.json: the model that it describes has weights of other shapes than the files hold")


# Configs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "no-such"}, r"config\.json describes no model .*: field 'hidden_act': KeyError: 'no-such'"),
        ({"hidden_act": 3}, "'hidden_act' expected str, got int"),
        ({"rope_parameters": {"rope_type": "no-such"}}, r"field 'rope_parameters\.rope_type'"),
        ({"rope_parameters": 3}, "'rope_parameters' with value 3"),
        ({"dtype": "no-such"}, "field 'dtype': module 'torch' has no attribute 'no-such'"),
        ({"pad_token_id": "x"}, "'pad_token_id' with value 'x'"),
        ({"num_hidden_layers": "2"}, "'num_hidden_layers' expected int, got str"),
        ({"max_position_embeddings": -1}, "field 'max_position_embeddings' is -1; at least 1 is wanted"),
        ({"sliding_window": "x"}, "the model loads and does not run: "),
        ({"return_dict": False}, "the model loads and does not run: "),
        ({"model_type": "no-such"}, "does not recognize this architecture"),
    ],
)
def test_values_of_the_wrong_kind_are_one_error(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    configure(folder, **fields)
    refused(folder, message)


@pytest.mark.parametrize("text", ['{"eos_token_id": 2', "", "[]", "\ufeff{}"])
def test_a_generation_config_that_is_cut_short_is_refused(folder: Path, text: str) -> None:
    """transformers would continue without it, and answers would end at other tokens."""
    (folder / "generation_config.json").write_text(text)
    refused(folder, r"generation_config\.json holds (no JSON object|a JSON array)")


@pytest.mark.parametrize("token", ["2", [2, None], 2.0, True, -1, {"id": 2}])
def test_an_end_token_that_is_no_token_id_is_refused(folder: Path, token: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": token}))
    refused(folder, r"generation_config\.json: field 'eos_token_id' is .*; a token id, a list of token ids or null")
