"""Checkpoints: what loads, and the one clear error for each thing that does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, fixed_sequences, tiny
from helpers.tiny_models import VOCABULARY, build
from safetensors.torch import load_file, save_file

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.parts import locate_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build("llama-gqa", seed=3).save_pretrained(tmp_path)
    return tmp_path


def refuses(folder: Path | str, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        Checkpoint.load(folder, device="cpu")


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def rewrite(folder: Path, change: Any) -> None:
    tensors = load_file(weights(folder))
    change(tensors)
    save_file(tensors, weights(folder), metadata={"format": "pt"})


def test_a_saved_model_loads_and_scores_as_in_memory(folder: Path) -> None:
    loaded = Checkpoint.load(folder, device="cpu")
    assert (loaded.name, loaded.context_length) == (str(folder), 96)
    assert not loaded.model.training
    torch.testing.assert_close(
        attribute(loaded, fixed_sequences()).values, attribute(tiny("llama-gqa"), fixed_sequences()).values
    )


@pytest.mark.parametrize(("dtype", "wanted"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype_is_the_stored_one_unless_asked(folder: Path, dtype: str | None, wanted: torch.dtype) -> None:
    assert Checkpoint.load(folder, device="cpu", dtype=dtype).model.dtype == wanted


def test_sharded_weights_load_and_a_missing_shard_is_named(folder: Path) -> None:
    weights(folder).unlink()
    build("llama-gqa", seed=3).save_pretrained(folder, max_shard_size="20KB")
    Checkpoint.load(folder, device="cpu")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    refuses(folder, f"the file '{shard.name}' is missing; model.safetensors.index.json lists it")


def test_a_soft_capped_model_is_loaded_with_attention_that_caps(tmp_path: Path) -> None:
    build("gemma2", seed=3).save_pretrained(tmp_path)
    loaded = Checkpoint.load(tmp_path, device="cpu")
    assert loaded.model.config._attn_implementation == "eager"
    torch.testing.assert_close(
        attribute(loaded, fixed_sequences()).values, attribute(tiny("gemma2"), fixed_sequences()).values
    )


def test_a_missing_tokenizer_is_an_error_only_where_it_is_needed(folder: Path) -> None:
    checkpoint = Checkpoint.load(folder, device="cpu")
    attribute(checkpoint, fixed_sequences())
    with pytest.raises(RLCircuitsError, match=f"{re.escape(str(folder))} has no tokenizer that loads"):
        _ = checkpoint.tokenizer


def test_a_damaged_tokenizer_says_so_where_it_is_needed(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model":')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    checkpoint = Checkpoint.load(folder, device="cpu")
    with pytest.raises(RLCircuitsError, match=r"has no tokenizer that loads: .+"):
        _ = checkpoint.tokenizer


@pytest.mark.parametrize("device", ["banana", "cuda:97"])
def test_a_device_that_cannot_be_used(folder: Path, device: str) -> None:
    with pytest.raises(RLCircuitsError, match=f"device is '{device}', which cannot be used here: "):
        Checkpoint.load(folder, device=device)


def test_a_name_that_is_neither_a_folder_nor_on_the_hub() -> None:
    refuses("no-such-team/no-such-model", "is no folder here, and cannot be loaded from the hub: ")


def test_a_config_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    refuses(folder, r"config.json holds no JSON object")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    refuses(tmp_path / "nowhere", "nowhere is no folder")


def test_a_folder_without_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    refuses(folder, "has no config.json")


def test_other_weight_formats_are_not_loaded(folder: Path) -> None:
    weights(folder).rename(folder / "pytorch_model.bin")
    refuses(folder, r"has no \*.safetensors file")


@pytest.mark.parametrize("size", [0, 4, 100, -40])
def test_truncated_weights(folder: Path, size: int) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:size])
    refuses(folder, "model.safetensors is damaged or cut short")


def test_overwritten_header(folder: Path) -> None:
    data = bytearray(weights(folder).read_bytes())
    data[8:40] = b"#" * 32
    weights(folder).write_bytes(data)
    refuses(folder, "model.safetensors is damaged or cut short")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(folder: Path, value: float) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda tensors: tensors[name].view(-1)[7].fill_(value))
    refuses(folder, f"weight {name} holds NaN or Inf")


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.0.self_attn.q_proj.weight"))
    refuses(folder, "has missing weights, the first is model.layers.0.self_attn.q_proj.weight")


def test_an_unmapped_family_says_which_are_mapped(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "ctrl", "architectures": ["GPTJForCausalLM"]})
    )
    with pytest.raises(RLCircuitsError):
        Checkpoint.load(folder, device="cpu")
    model = tiny("llama")
    model.config.model_type, kept = "ctrl", model.config.model_type
    try:
        with pytest.raises(RLCircuitsError, match=r"model_type 'ctrl' is not mapped: .* deepseek_v3, .*, qwen3_moe, "):
            locate_parts(model)
    finally:
        model.config.model_type = kept


def test_a_family_whose_stream_is_no_sum_is_refused_with_the_reason() -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="gemma3n_text"))
    with pytest.raises(RLCircuitsError, match=r"model_type 'gemma3n_text' is not supported: .*AltUp mixes"):
        locate_parts(model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "field", "value", "why"),
    [
        ("gemma4-moe", "hidden_size_per_layer_input", 8, "third sublayer"),
        ("gemma4-moe", "num_kv_shared_layers", 1, "those of another layer"),
        ("gemma4-moe", "use_bidirectional_attention", "all", "see later ones"),
        ("falcon", "alibi", True, "its bias twice"),
    ],
)
def test_a_model_with_a_part_that_is_not_mapped_is_refused_by_the_field_of_its_config(
    name: str, field: str, value: object, why: str
) -> None:
    with pytest.raises(RLCircuitsError, match=rf"' with {field} is not supported: .*{why}"):
        locate_parts(build(name, **{field: value}))


def test_a_missing_part_is_named() -> None:
    model = build("llama")
    del model.model.layers[1].self_attn.o_proj
    with pytest.raises(RLCircuitsError, match=r"should have a module model.layers.1.self_attn.o_proj"):
        attribute(model, fixed_sequences())


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_passes_the_check_of_its_stream(name: str) -> None:
    verify_stream(tiny(name), locate_parts(tiny(name)))


def test_a_writer_that_is_not_mapped_is_noticed() -> None:
    model = build("llama")

    def add_more(_: Any, args: Any, output: Any) -> Any:  # a second writer in block 1, as an adapter might be
        return (output[0] + 0.1, *output[1:]) if isinstance(output, tuple) else output + 0.1

    model.model.layers[1].register_forward_hook(add_more)
    with pytest.raises(RLCircuitsError, match=r"the stream attn.2 reads is not its writers' sum"):
        attribute(model, fixed_sequences())


def test_a_reader_that_is_not_mapped_is_noticed() -> None:
    model = build("llama")
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    # The MLP also reads the attention's normalised input, past every reader known.
    norm = model.model.layers[1].input_layernorm
    norm.register_forward_hook(lambda _, __, output: norm.__dict__.update(kept=output))
    mlp.forward = lambda x: forward(x) + 0.5 * norm.kept
    with pytest.raises(RLCircuitsError, match="the gradient through the readers found is not the model's own"):
        attribute(model, fixed_sequences())


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (AnswerSequence((), (3,)), "sequence 1 has an empty prompt"),
        (AnswerSequence((3, 4), ()), "sequence 1 has an empty answer"),
        (
            AnswerSequence((3, VOCABULARY), (3,)),
            "token id 61 at prompt position 1, outside the model's vocabulary of 61",
        ),
        (AnswerSequence((3,), (4, 5, -1)), "token id -1 at answer position 2"),
        (AnswerSequence((3,) * 90, (4,) * 8), "sequence 1 is 97 tokens long, more than the model's context of 96"),
    ],
)
def test_a_sequence_that_cannot_be_scored_is_named(sequence: AnswerSequence, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        attribute(tiny("llama"), [AnswerSequence((3, 4), (5,)), sequence])


def test_the_longest_sequence_that_fits_is_scored() -> None:
    attribute(tiny("gpt2"), [AnswerSequence((3,) * 90, (4,) * 7)])


def test_corrupted_sequences_have_to_match() -> None:
    clean = AnswerSequence((3, 4), (5,))
    with pytest.raises(RLCircuitsError, match="0 corrupted sequences for 1 sequences"):
        attribute(tiny("llama"), [clean], corrupted=[])
    with pytest.raises(RLCircuitsError, match="corrupted sequence 0 has 3 prompt and 1 answer tokens"):
        attribute(tiny("llama"), [clean], corrupted=[AnswerSequence((3, 4, 5), (5,))])


def test_no_sequences_give_no_scores() -> None:
    scores = attribute(tiny("llama"), [])
    assert scores.values.shape == (0, *scores.graph.mask.shape)


def test_a_non_finite_loss_names_the_sequence_and_the_weight() -> None:
    model = build("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[17] = float("nan")
    batch = [AnswerSequence((3, 4), (5,)), AnswerSequence((3, 17), (5,)), AnswerSequence((3, 4), (6,))]
    with pytest.raises(
        RLCircuitsError, match=r"sequence 1 has a non-finite loss: weight model.embed_tokens.weight holds"
    ):
        attribute(model, batch)


def test_a_non_finite_loss_from_finite_weights_names_the_first_module() -> None:
    model = build("llama")
    with torch.no_grad():  # finite, but the product of gate and up overflows for this token only
        model.model.embed_tokens.weight[17] = 3.0
        model.model.layers[0].mlp.gate_proj.weight.mul_(1e25)
        model.model.layers[0].mlp.up_proj.weight.mul_(1e25)
    with pytest.raises(
        RLCircuitsError, match=r"the first module with a non-finite output is model.layers.0.mlp.down_proj"
    ):
        attribute(model, [AnswerSequence((3, 17), (5,))])


class Memory:
    """A device that holds ``limit`` tokens: its forward fails as PyTorch does when a batch is larger."""

    def __init__(self, model: Any, limit: int) -> None:
        self.sizes: list[int] = []
        self.limit = limit
        self.handle = model.model.embed_tokens.register_forward_pre_hook(self.check)

    def check(self, _: Any, args: Any) -> None:
        self.sizes.append(args[0].numel())
        if args[0].numel() > self.limit:
            raise torch.OutOfMemoryError("out of memory")


def test_out_of_memory_halves_the_batch_and_says_so() -> None:
    model = build("llama", seed=3)
    batch = fixed_sequences(6)
    wanted = attribute(model, batch)
    memory = Memory(model, limit=40)
    with pytest.warns(UserWarning, match=r"out of memory on a batch of 6 sequences .*batch_tokens=\d+ avoids"):
        found = attribute(model, batch)
    memory.handle.remove()
    assert len([size for size in memory.sizes if size <= 40]) > 1
    torch.testing.assert_close(found.values, wanted.values)
    torch.testing.assert_close(found.loss, wanted.loss)


def test_out_of_memory_on_one_sequence_is_an_error() -> None:
    model = build("llama", seed=3)
    memory = Memory(model, limit=40)
    attribute(model, fixed_sequences(1))
    memory.limit = 4
    with pytest.raises(RLCircuitsError, match=r"out of memory on sequence 0 alone \(8 tokens\)"):
        attribute(model, fixed_sequences(1))
