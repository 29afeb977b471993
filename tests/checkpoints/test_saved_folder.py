"""A checkpoint that is saved into a temporary folder loads as the one in memory, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES
from helpers.full_disk import largest_file
from helpers.quantised_folders import FORMATS, MXFP4, write, write_llama
from helpers.slow_cases import slow_unless
from helpers.tiny_checkpoints import save_checkpoint, tiny_tokenizer
from helpers.tiny_images import IMAGE_FAMILIES, save_with_processor
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.saved_folder import saved_folder
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.temporary_folder import temporary_folder
from rlcircuits.models.shrunk import tiny_model

QUICK = {"llama", "llama-gqa", "gpt2", "mixtral", "gemma3", "deepseek-v3", "qwen3-5"}  # gqa, gpt2, gemma3: tied


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let temporary folders be made in an empty folder, and fail if one is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def load(folder: Path, **options: Any) -> Checkpoint:
    return CheckpointSource(str(folder), device="cpu", **options).load()


def noised(folder: Path, name: str, draw: int = 1, dtype: str | None = None) -> NoisedSource:
    """Return a model of an architecture with noise; two random models make an update that also unties embeddings."""
    folders = [folder / side for side in ("before", "after")]
    for seed, each in enumerate(folders):
        if not each.exists():
            save_checkpoint(each, name, seed)
    return NoisedSource(*(CheckpointSource(str(each), device="cpu", dtype=dtype) for each in folders), draw)


def check_saved(model: Source | Checkpoint) -> None:
    """Check that the folder loads as the model: weights and buffers bit by bit, dtypes, tying, end tokens, settings."""
    checkpoint = model if isinstance(model, Checkpoint) else model.load()
    wanted = checkpoint.model
    with saved_folder(model) as folder:
        found = load(folder)
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(each, kind)(remove_duplicate=False)) for each in (wanted, found.model))
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype
            assert torch.equal(tensor.reshape(-1).view(torch.uint8), theirs[name].reshape(-1).view(torch.uint8)), name
    shared = [{id(each) for each in model.parameters()} for model in (wanted, found.model)]
    assert len(shared[0]) == len(shared[1]), "tied weights are not tied in the same way"
    generation = [each.generation_config.to_diff_dict() for each in (wanted, found.model)]
    assert generation[0] == generation[1]
    assert checkpoint.tokenizer.get_vocab() == found.tokenizer.get_vocab()
    assert checkpoint.tokenizer.eos_token_id == found.tokenizer.eos_token_id
    assert checkpoint.tokenizer.pad_token_id == found.tokenizer.pad_token_id


@pytest.mark.parametrize("name", slow_unless(QUICK.__contains__, [(name,) for name in NAMES]))
def test_noise_on_every_architecture(name: str, tmp_path: Path) -> None:
    check_saved(noised(tmp_path, name))


ENDS = st.one_of(st.none(), st.integers(0, 60), st.lists(st.integers(0, 60), min_size=1, max_size=3, unique=True))
GENERATION = st.fixed_dictionaries(
    {"eos_token_id": ENDS},
    optional={
        "temperature": st.floats(0.1, 2.0),
        "top_p": st.floats(0.1, 1.0),
        "do_sample": st.booleans(),
        "repetition_penalty": st.floats(1.0, 2.0),
    },
)


@given(
    draw=st.integers(0, 1000),
    dtype=st.sampled_from([None, "float32", "bfloat16", "float16"]),
    generation=GENERATION,
    name=st.sampled_from(["llama", "llama-gqa", "gpt2", "mixtral"]),
)
@settings(max_examples=8)
def test_whatever_the_draw_dtype_and_settings(
    draw: int, dtype: str | None, generation: dict[str, Any], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = noised(tmp_path_factory.mktemp("models"), name, draw, dtype)
    file = Path(source.before.name) / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **generation}))
    check_saved(source)


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["embed_tokens"], ["lm_head"]])
@pytest.mark.parametrize("name", ["llama", "llama-gqa"])
def test_adapters(name: str, targets: list[str], tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", name)
    torch.manual_seed(0)
    tuned = get_peft_model(load(base).model, LoraConfig(r=3, target_modules=targets, init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    check_saved(CheckpointSource(str(tmp_path / "adapter"), device="cpu"))


@pytest.mark.parametrize("form", slow_unless({"fp8", "nf4"}.__contains__, [(form,) for form in FORMATS]))
def test_quantised_checkpoints(form: str, tmp_path: Path) -> None:
    write_llama(tmp_path / "model", form)
    source = CheckpointSource(str(tmp_path / "model"), device="cpu")
    check_saved(source)
    with saved_folder(source) as folder:
        assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_quantised_experts_that_are_stacked_when_they_are_loaded(tmp_path: Path) -> None:
    write_llama(tmp_path / "model", "fp8", name="qwen3-moe", moe_intermediate_size=32, head_dim=16)
    check_saved(CheckpointSource(str(tmp_path / "model"), device="cpu"))


def test_quantised_experts_of_gpt_oss(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "gpt_oss", vocab_size=61, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    write(tmp_path / "model", MXFP4, tiny_model(config), lambda name, weight: weight.ndim == 3)
    check_saved(CheckpointSource(str(tmp_path / "model"), device="cpu"))


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_vision_language_models_with_their_processor(family: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    before, after = (save_with_processor(tmp_path / str(moved), family, moved=moved) for moved in (0.0, 0.1))
    source = NoisedSource(*(CheckpointSource(str(each), device="cpu") for each in (before, after)), draw=1)
    check_saved(source)
    with saved_folder(source) as folder:
        processors = {file.name for file in before.glob("*processor_config.json")}
        assert processors
        assert processors <= {file.name for file in folder.iterdir()}


def test_a_loaded_model_stays_as_it_is(tmp_path: Path) -> None:
    checkpoint = Checkpoint(build("llama-gqa", dtype=torch.bfloat16), tiny_tokenizer(), name="ours")
    model = checkpoint.model
    before = model.config.to_dict(), model.generation_config
    check_saved(checkpoint)
    assert (model.config.to_dict(), model.generation_config) == before


def test_the_log_says_where_and_how_much(tmp_path: Path, room: Path) -> None:
    lines: list[str] = []
    source = noised(tmp_path, "llama")
    with saved_folder(source, lines.append) as folder:
        assert folder.parent == room
    size = sum(each.numel() * each.element_size() for each in source.load().model.parameters())
    assert lines == [
        f"{source.name} is saved into {folder} for as long as it is loaded from there ({size / 1e9:,.2f} GB)"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no device"), RLCircuitsError("no memory")])
def test_nothing_is_left_after_an_error(error: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(error if isinstance(error, type) else type(error)) as raised,
        saved_folder(noised(tmp_path, "llama")),
    ):
        raise error
    assert raised.value is error or isinstance(error, type)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = noised(tmp_path, "llama")
    with (
        largest_file(20_000),
        pytest.raises(RLCircuitsError, match=r"cannot be saved into the temporary folder .*TMPD"),
    ):
        saved_folder(source).__enter__()
    free = type("Usage", (), {"free": 12_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    monkeypatch.setattr(Checkpoint, "nbytes", 15_200_000_000)
    with pytest.raises(
        RLCircuitsError, match=r"noise 1 of .* takes 15\.20 GB in a temporary folder, and .* has 0\.01 GB left; set TMP"
    ):
        saved_folder(source).__enter__()


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = noised(tmp_path, "llama")
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(RLCircuitsError, match=r"no temporary folder can be made in .*file: .*; set TMPDIR to a folder"):
        saved_folder(source).__enter__()


def test_no_temporary_folder_anywhere(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(room / "none")])
    with pytest.raises(RLCircuitsError, match=r"no temporary folder can be made: No usable .*; set TMPDIR to a folder"):
        temporary_folder(print).__enter__()


KILLED = """
import os, signal, sys
from rlcircuits.common.temporary_folder import temporary_folder
with temporary_folder(print) as folder:
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    {end}
"""


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_process_left_is_deleted_and_a_living_ones_is_not(
    killed: bool, tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noised(tmp_path, "llama")
    monkeypatch.setenv("TMPDIR", str(room))
    end = "os.kill(os.getpid(), signal.SIGKILL)" if killed else "sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(end=end)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    assert folder.parent == room
    if killed:
        assert other.wait(60) == -signal.SIGKILL
    lines: list[str] = []
    with saved_folder(source, lines.append):
        assert folder.exists() != killed
    assert (f"deleted {folder}, which a run that was killed had left" in lines) == killed
    other.communicate(timeout=60)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = {model_type!r}
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_a_repositorys_code_goes_with_the_model_if_it_is_trusted(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    original = save_checkpoint(tmp_path / "model")
    (original / "own_code.py").write_text(CODE.format(model_type="llama"))
    code = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"}
    file = original / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": code}))
    with saved_folder(load(original, trust_remote_code=trusted)) as folder:
        assert bool(list(folder.rglob("*.py"))) == trusted
        found = load(folder, trust_remote_code=trusted).model
    assert type(found).__name__ == ("OwnModel" if trusted else "LlamaForCausalLM")
