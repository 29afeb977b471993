"""``rlcircuits check`` says what is supported and what is not, and shows what it finds all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.quantised_folders import write_llama
from helpers.tiny_checkpoints import TOKENS, save_checkpoint, tiny_tokenizer
from helpers.tiny_models import HYBRIDS, VOCABULARY, build
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.cli.main import main
from rlcircuits.models.shrunk import tiny_model

_SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command with ``--json`` on the CPU; return the exit code and the document."""

    def run(*arguments: object, code: int) -> dict[str, Any]:
        assert main(["check", *map(str, arguments), "--device", "cpu", "--json"]) == code
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    return run


def one(document: dict[str, Any]) -> dict[str, Any]:
    (model,) = document["models"]
    assert model["supported"] == document["supported"] == (not model["problems"])
    return model  # type: ignore[no-any-return]


def edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_tells_what_is_found_in_a_supported_checkpoint(checked: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama-gqa")
    found = one(checked(folder, code=0))
    checkpoint = Checkpoint.load(folder, device="cpu")
    assert (found["family"], found["model_class"]) == ("llama", "LlamaForCausalLM")
    assert (found["layers"], found["heads"], found["kv_heads"], found["width"]) == (2, 4, 2, 32)
    assert found["parameters"] == sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert (found["stored_dtypes"], found["dtype"], found["tied_embeddings"]) == (["F32"], "float32", True)
    assert (found["context_length"], found["chat_template"], found["end_tokens"]) == (96, False, {"2": "<eos>"})
    for size in found["graphs"]:
        graph = graph_of(checkpoint, size["granularity"])
        assert (size["edges"], size["nodes"]) == (graph.n_edges, len(graph.writers) + len(graph.readers))
    assert found["parts"]["attention"] == "model.layers.{0–1}.self_attn"
    assert found["checked"] == "the checkpoint"
    assert [one["error"] <= one["allowed"] for one in found["agreements"]] == [True] * 3


def test_the_text_says_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "gpt2")
    assert main(["check", str(folder), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{folder}: supported", "gpt2 (GPT2LMHeadModel)", "2 layers, 4 heads of 8 features", "chat template  no",
        "<eos> (2)", "transformer.h.{0–1}.attn.c_attn", "the gradient through the readers", "embeddings tied",
        "each has its place and is finite",
    ):  # fmt: skip
        assert words in out


def test_config_only_reads_no_weights(checked: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "qwen3-moe")
    (folder / "model.safetensors").write_bytes(b"")
    found = one(checked(folder, "--config-only", code=0))
    assert found["notes"] == ["the weights were not read"]
    assert found["checked"] == "a tiny random model of this architecture"
    whole = build("qwen3-moe")
    assert found["parameters"] == sum(parameter.numel() for parameter in whole.parameters())
    assert [size["edges"] for size in found["graphs"]] == [
        graph_of(Checkpoint(whole), size["granularity"]).n_edges for size in found["graphs"]
    ]


@pytest.mark.parametrize("name", sorted(HYBRIDS))
def test_layers_without_attention_or_mlp_are_checked_whole_and_by_their_config(
    checked: Any, name: str, tmp_path: Path
) -> None:
    folder, bare = save_checkpoint(tmp_path / "whole", name), tmp_path / "bare"
    checkpoint = Checkpoint.load(folder, device="cpu")
    checkpoint.model.config.save_pretrained(bare)
    graph = graph_of(checkpoint, "sublayer")
    whole, by_config = one(checked(folder, code=0)), one(checked(bare, "--config-only", code=0))
    assert whole["checked"] == "the checkpoint"
    assert by_config["checked"] == "a tiny random model of this architecture"
    for found in (whole, by_config):
        mixture = checkpoint.parts.no_experts is None
        size, *others = found["graphs"]  # heads beside mixers cannot be nodes
        assert [each["granularity"] for each in others] == ["expert"] * (mixture and found is whole)
        assert (size["granularity"], size["nodes"]) == ("sublayer", len(graph.writers) + len(graph.readers))
        assert size["edges"] == graph.n_edges
        assert found["layers"] == len(checkpoint.parts.blocks)
        assert found["parameters"] == sum(parameter.numel() for parameter in checkpoint.model.parameters())
        assert {"attention", "mixer", "MLP"} <= found["parts"].keys()
        assert [one["error"] <= one["allowed"] for one in found["agreements"]] == [True] * (3 + mixture)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_size": "big"}, "'hidden_size'"),
        ({"num_attention_heads": 5}, "attention heads (5)"),
        ({"model_type": "nonesuch"}, "`nonesuch`"),
        ({"is_encoder_decoder": True}, "'is_encoder_decoder'"),
        ({"num_hidden_layers": 9}, "'num_hidden_layers' is 9"),
        ({"hidden_size": 0}, "'hidden_size' is 0; at least 1"),
        ({"vocab_size": -1}, "'vocab_size' is -1; at least 1"),
        ({"num_key_value_heads": 0}, "'num_key_value_heads' is 0; at least 1"),
        ({"num_key_value_heads": 3}, "'num_key_value_heads' is 3; a divisor of the 4"),
    ],
)
def test_a_broken_config_is_one_problem(checked: Any, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    edit(folder / "config.json", **fields)
    found = one(checked(folder, code=1))
    (problem,) = found["problems"]
    assert said in problem
    assert str(folder / "config.json") in problem
    assert found["stored_dtypes"] == ["F32"], "what the weights' headers say is shown all the same"


def test_a_config_that_is_cut_short_is_one_problem(checked: Any, tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, "llama") / "config.json"
    file.write_text(file.read_text()[:40])
    (problem,) = one(checked(tmp_path, code=1))["problems"]
    assert problem.startswith(f"{file} holds no JSON object")


def test_an_unmapped_family_is_one_sentence_beside_the_other_findings(checked: Any, tmp_path: Path) -> None:
    config = AutoConfig.for_model("ctrl", vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, dff=48)
    tiny_model(config).save_pretrained(tmp_path)
    tiny_tokenizer(chat_template="{{ messages[0]['content'] }}").save_pretrained(tmp_path)
    found = one(checked(tmp_path, code=1))
    (problem,) = found["problems"]
    assert "model_type 'ctrl' is not mapped" in problem
    assert "llama, llama4_text" in problem
    assert (found["family"], found["layers"], found["chat_template"]) == ("ctrl", 2, True)
    assert found["parameters"] > 0
    assert found["graphs"] == []


def test_an_encoder_is_called_one(checked: Any, tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **_SMALL)).save_pretrained(tmp_path)
    (problem,) = one(checked(tmp_path, code=1))["problems"]
    assert "model_type 'bert' is an encoder" in problem


def test_an_encoder_decoder_is_called_one(checked: Any, tmp_path: Path) -> None:
    config = AutoConfig.for_model("t5", vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    found = one(checked(tmp_path, code=1))
    (problem,) = found["problems"]
    assert "'is_encoder_decoder' is true" in problem
    assert found["tokenizer"] is not None
    assert found["parameters"] > 0


def test_a_weight_of_nan_is_named_and_the_architecture_checked_without_it(checked: Any, tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, "llama") / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    found = one(checked(tmp_path, code=1))
    assert found["problems"] == [
        f"{tmp_path}: weight model.layers.1.mlp.up_proj.weight holds NaN or Inf; the checkpoint is damaged"
    ]
    assert found["notes"] == [
        "the architecture is supported: a tiny random model of this architecture passes the checks"
    ]
    assert found["checked"] == "a tiny random model of this architecture"
    assert found["layers"] == 3
    assert found["graphs"][0]["edges"] == 4 * 9 + 3 * 3 + 1


def test_without_a_tokenizer_it_is_supported_and_a_note_says_what_that_means(checked: Any, tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    found = one(checked(tmp_path, code=0))
    (note,) = found["notes"]
    assert "has no tokenizer that loads" in note
    assert "can answer no questions" in note
    assert found["chat_template"] is None


def test_a_folder_without_anything_is_not_supported_and_none_is_bad_input(
    checked: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (problem,) = one(checked(tmp_path, code=1))["problems"]
    assert problem.startswith(f"{tmp_path} has no config.json")
    assert main(["check", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err


def lora(base: Path, folder: Path) -> Path:
    model = Checkpoint.load(base, device="cpu").model
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    return folder


def test_an_adapter_is_checked_merged_into_its_base(checked: Any, tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", "llama")
    found = one(checked(lora(base, tmp_path / "lora"), code=0))
    assert found["adapter_base"] == str(base)
    assert found["checked"] == "the checkpoint"
    edit(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
    (problem,) = one(checked(tmp_path / "lora", code=1))["problems"]
    assert "the adapter's base was not found" in problem


def test_config_only_reads_the_configs_of_an_adapter_and_its_base_alone(
    checked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_checkpoint(tmp_path / "base", "llama")
    adapter = lora(base, tmp_path / "lora")
    (base / "model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").unlink()
    found = one(checked(adapter, "--config-only", code=0))
    assert (found["adapter_base"], found["notes"]) == (str(base), ["the weights were not read"])
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str], **_: Any) -> str:
        assert name in ("team/lora", "team/base")
        asked.append(allow_patterns)
        return str(adapter if name == "team/lora" else base)

    monkeypatch.setattr("rlcircuits.models.folder.huggingface_hub.snapshot_download", download)
    edit(adapter / "adapter_config.json", base_model_name_or_path="team/base")
    document = checked("team/lora", "team/base", "--config-only", code=0)
    assert [model["name"] for model in document["models"]] == ["team/lora", "team/base"]
    assert {"adapter_config.json"} < set(asked[0])
    assert not any("safetensors" in pattern for patterns in asked for pattern in patterns)


def test_a_device_that_is_not_there_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    assert main(["check", str(folder), "--device", "cuda:99"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert "device is 'cuda:99', which cannot be used here" in found.err
    assert main(["check", str(folder), "--device", "cuda:99", "--config-only"]) == 0  # it is not used


def test_of_two_it_says_what_differs_beside_the_weights(checked: Any, tmp_path: Path) -> None:
    before, after = save_checkpoint(tmp_path / "sft"), save_checkpoint(tmp_path / "rl", seed=4)
    tiny_tokenizer(chat_template="{{ messages[0]['content'] }}").save_pretrained(after)
    document = checked(before, after, code=0)
    assert [model["name"] for model in document["models"]] == [str(before), str(after)]
    assert document["differences"]["problems"] == []
    (warning,) = document["differences"]["warnings"]
    assert warning.startswith("the chat template")


def test_what_two_have_in_common_is_told_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before, after = save_checkpoint(tmp_path / "sft"), save_checkpoint(tmp_path / "rl", seed=4)
    assert main(["check", str(before), str(after)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("unembedding") == shown.count("projection to q") == shown.count("\nsublayer") == 1
    assert f"the same as in {before}: family, size" in shown
    other = save_checkpoint(tmp_path / "other", "gpt2")
    main(["check", str(before), str(other)])
    assert capsys.readouterr().out.count("\nfamily ") == 2


def test_two_that_cannot_be_compared_are_not_supported_as_a_pair(checked: Any, tmp_path: Path) -> None:
    before = save_checkpoint(tmp_path / "two", "llama")
    build("llama", num_hidden_layers=1).save_pretrained(tmp_path / "one")
    tiny_tokenizer((*TOKENS[:5], TOKENS[6], TOKENS[5], *TOKENS[7:])).save_pretrained(tmp_path / "one")
    document = checked(before, tmp_path / "one", code=1)
    assert not document["supported"]
    assert all(model["supported"] for model in document["models"])
    architecture, vocabulary = document["differences"]["problems"]
    assert "num_hidden_layers is 3 in the first and 1" in architecture
    assert "different tokenizers" in vocabulary


def test_estimates_what_a_question_set_takes(checked: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    file = tmp_path / "ours.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(5)))
    document = checked(folder, "--questions", file, "--n", "2", "--max-new-tokens", "8", "--batch-size", "4", code=0)
    cost = document["cost"]
    assert (cost["questions"], cost["asked"], cost["answers_each"], cost["pair"]) == ("ours", 5, 2, None)
    (model,) = cost["models"]
    assert model["answer_tokens"] == 5 * 2 * 8
    parameters = document["models"][0]["parameters"]
    assert model["weight_bytes"] == 4 * parameters
    # 2 layers, keys and values of 2 heads of 8 features in float32, for 4 prompts of 5 tokens and answers of 8.
    assert model["cache_bytes"] == 2 * 2 * 2 * 8 * 4 * 4 * (5 + 8)
    assert model["seconds"] > 0
    assert cost["answer_tokens_per_second"] > 0
    assert cost["scored_tokens_per_second"] > 0


def test_of_two_it_estimates_the_whole_pair(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folders = [str(save_checkpoint(tmp_path / name, seed=seed)) for name, seed in (("sft", 3), ("rl", 4))]
    arguments = ["--questions", "arithmetic", "--question-count", "20", "--device", "cpu"]
    assert main(["check", *folders, *arguments]) == 0
    out = capsys.readouterr().out
    assert "On 20 questions of arithmetic, each answered 8 times:" in out
    assert "tokens a second generated" in out
    assert "noise draws" in out


def test_a_question_set_that_cannot_be_asked_is_bad_input_after_the_findings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path)
    assert main(["check", str(folder), "--questions", "nonesuch", "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert f"{folder}: supported" in shown.out
    assert "nonesuch" in shown.err


def test_a_revision_without_a_second_checkpoint_is_bad_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["check", str(tmp_path), "--revision-after", "main"]) == 2
    assert "--revision-after" in capsys.readouterr().err


def test_what_is_not_the_config_of_the_weights_is_told_with_the_weight(checked: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    edit(folder / "config.json", intermediate_size=64)
    (problem,) = one(checked(folder, code=1))["problems"]
    assert "has the shape [48, 32]" in problem or "has the shape [32, 48]" in problem


def test_quantised_weights_are_said_to_be_dequantised(
    checked: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = write_llama(tmp_path, "fp8")
    found = one(checked(tmp_path, code=0))
    assert (found["quantised"], found["dtype"]) == ("fp8", "bfloat16")
    assert found["parameters"] == sum(value.numel() for value in values.values())
    assert main(["check", str(tmp_path), "--device", "cpu"]) == 0
    assert "stored as BF16 and F32 and F8_E4M3, quantised (fp8), dequantised to bfloat16" in capsys.readouterr().out
    edit(tmp_path / "config.json", quantization_config={"quant_method": "gptq"})
    found = one(checked(tmp_path, code=1))
    (problem,) = found["problems"]
    assert "give the unquantised checkpoint that it was made from" in problem
    assert found["checked"] == "a tiny random model of this architecture"


@pytest.mark.parametrize("said", [{"quant_method": "awq", "bits": 4}, {}])
def test_what_the_config_says_of_quantisation_counts_without_the_weights_too(
    checked: Any, tmp_path: Path, said: dict[str, object]
) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    edit(folder / "config.json", quantization_config=said)
    whole, by_config = (one(checked(folder, *more, code=1))["problems"] for more in ([], ["--config-only"]))
    assert by_config == whole
    assert "'quantization_config' says that the weights are quantised" in whole[0]


def test_weights_of_another_dtype_than_the_model_runs_in(checked: Any, tmp_path: Path) -> None:
    build("llama", dtype=torch.bfloat16).save_pretrained(tmp_path)
    found = one(checked(tmp_path, "--dtype", "float32", code=0))
    assert (found["stored_dtypes"], found["dtype"]) == (["BF16"], "float32")


def test_experts_of_a_mixture_are_counted_and_checked(checked: Any, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "qwen3-moe")
    found = one(checked(folder, code=0))
    graph = graph_of(Checkpoint(build("qwen3-moe")), "expert")
    size = found["graphs"][-1]
    assert (size["granularity"], size["edges"], size["writers"]) == ("expert", graph.n_edges, len(graph.writers))
    assert found["agreements"][-1]["what"].startswith("the sum of each mixture's experts")
