"""Sources: what loads from where, and by what a checkpoint is known again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from accelerate import dispatch_model
from helpers.core_inputs import fixed_sequences, tiny
from helpers.tiny_checkpoints import TOKENS, save_checkpoint, tiny_tokenizer, touch_weight
from helpers.tiny_models import build

from rlcircuits import Checkpoint, attribute
from rlcircuits.checkpoints.source import CheckpointSource, Source, check_same_vocabulary
from rlcircuits.common.errors import RLCircuitsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model")


def source(folder: Path, **options: str) -> CheckpointSource:
    return CheckpointSource(str(folder), device=None if "device_map" in options else "cpu", **options)


def append(name: str, text: str = " ") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return change


def test_it_loads_and_knows_its_tokenizer(folder: Path) -> None:
    known = source(folder)
    assert isinstance(known, Source)
    checkpoint = known.load()
    assert checkpoint.name == known.name == str(folder)
    assert torch.equal(
        attribute(checkpoint, fixed_sequences()).values, attribute(tiny("llama-gqa"), fixed_sequences()).values
    )
    assert checkpoint.tokenizer.get_vocab() == known.tokenizer().get_vocab() == {t: i for i, t in enumerate(TOKENS)}


def test_the_fingerprint_is_of_the_contents_alone(folder: Path, tmp_path: Path) -> None:
    first = source(folder).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", first)
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    (copied / "README.md").write_text("other")
    (copied / "trainer_state.json").write_text("{}")
    assert source(copied).fingerprint() == first
    assert CheckpointSource(str(folder), device_map="auto").fingerprint() == first


@pytest.mark.parametrize(
    "change",
    [
        touch_weight,
        append("config.json"),
        append("tokenizer.json"),
        append("tokenizer_config.json"),
        append("generation_config.json"),
        append("chat_template.jinja", "{{ messages[0].content }}"),
    ],
)
def test_the_fingerprint_changes_with_what_the_model_is(folder: Path, change: Callable[[Path], None]) -> None:
    first = source(folder).fingerprint()
    change(folder)
    assert source(folder).fingerprint() != first


def test_the_fingerprint_changes_with_the_dtype_and_not_the_place(folder: Path) -> None:
    first = source(folder).fingerprint()
    assert source(folder, dtype="bfloat16").fingerprint() != first
    assert source(folder, device_map="auto").fingerprint() == first


def test_the_fingerprint_reads_bytes_and_loads_nothing(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no safetensors at all")
    assert re.fullmatch("[0-9a-f]{64}", source(folder).fingerprint())


def test_a_folder_without_weights_has_no_fingerprint(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(RLCircuitsError, match=r"has no \*\.safetensors file"):
        source(folder).fingerprint()


def test_sharded_weights(folder: Path, tmp_path: Path) -> None:
    sharded = save_checkpoint(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    assert torch.equal(
        attribute(source(sharded).load(), fixed_sequences()).values,
        attribute(source(folder).load(), fixed_sequences()).values,
    )
    first = source(sharded).fingerprint()
    touch_weight(sharded, sorted(file.name for file in sharded.glob("model-*"))[-1])
    assert source(sharded).fingerprint() != first


def test_a_missing_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RLCircuitsError, match=r"model has no tokenizer that loads: there is no tokenizer\.json in it"):
        source(folder).tokenizer()


def test_a_folder_has_no_revisions(folder: Path) -> None:
    with pytest.raises(RLCircuitsError, match="is a folder and has no revisions, but revision 'main' was asked for"):
        source(folder, revision="main").fingerprint()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds two commits of one model; the network is off."""
    cache = tmp_path / "cache"
    repository = cache / "models--team--model"
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        save_checkpoint(repository / "snapshots" / commit, seed=seed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "refs" / "tuned").write_text("b" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_a_hub_id_is_its_cached_snapshot(cache: Path) -> None:
    main, tuned = CheckpointSource("team/model"), CheckpointSource("team/model", revision="tuned")
    assert main.folder == cache / "models--team--model" / "snapshots" / ("a" * 40)
    assert (main.name, tuned.name) == ("team/model", "team/model@tuned")
    assert main.fingerprint() == CheckpointSource("team/model", revision="a" * 40).fingerprint() != tuned.fingerprint()
    loaded = tuned.load()
    assert loaded.name == "team/model@tuned"
    for found, wanted in zip(loaded.model.parameters(), build("llama-gqa", seed=1).parameters(), strict=True):
        assert torch.equal(found, wanted)
    assert Checkpoint.load("team/model", revision="tuned", device="cpu").name == "team/model"


def test_a_moving_branch_stays_put_for_one_source(cache: Path) -> None:
    main = CheckpointSource("team/model")
    first = main.fingerprint()
    (cache / "models--team--model" / "refs" / "main").write_text("b" * 40)
    assert main.fingerprint() == first != CheckpointSource("team/model").fingerprint()


def test_a_hub_id_that_is_not_there(cache: Path) -> None:
    with pytest.raises(RLCircuitsError, match="team/other is no folder here, and cannot be loaded from the hub: "):
        CheckpointSource("team/other").fingerprint()


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gpt-neox", "qwen3", "gemma2"])
def test_the_architecture_is_the_one_that_loads(name: str, tmp_path: Path) -> None:
    """Whatever the family calls it in its config."""
    found = source(save_checkpoint(tmp_path, name))
    parts = found.load().parts
    assert tuple(found.architecture().values())[1:4] == (len(parts.blocks), parts.n_heads, parts.n_kv_heads)
    assert all(found.architecture().values())


# One vocabulary for a pair


def with_tokens(folder: Path, tokens: tuple[str, ...]) -> CheckpointSource:
    tiny_tokenizer(tokens).save_pretrained(folder)
    return CheckpointSource(str(folder))


def test_one_vocabulary(tmp_path: Path) -> None:
    before, more = with_tokens(tmp_path / "a", TOKENS), with_tokens(tmp_path / "b", (*TOKENS, "Z"))
    check_same_vocabulary(before, more)
    check_same_vocabulary(before, more, ids=[3, 4])
    with pytest.raises(RLCircuitsError, match=rf"id {len(TOKENS)} is None in the first and 'Z' in the second"):
        check_same_vocabulary(before, more, ids=[3, len(TOKENS)])


def test_mixed_tokenizers(tmp_path: Path) -> None:
    swapped = (*TOKENS[:5], TOKENS[6], TOKENS[5], *TOKENS[7:])
    before, after = with_tokens(tmp_path / "a", TOKENS), with_tokens(tmp_path / "b", swapped)
    with pytest.raises(
        RLCircuitsError, match=r"have different tokenizers: id 5 is '2' in the first and '3' in the second"
    ):
        check_same_vocabulary(before, after)
    check_same_vocabulary(before, after, ids=[3, 4, 7])


def test_a_renamed_mark_of_the_chat_template_is_no_other_vocabulary(tmp_path: Path) -> None:
    """Post-training gives reserved tokens a meaning."""
    tiny_tokenizer(additional_special_tokens=["<reserved>"]).save_pretrained(tmp_path / "a")
    tiny_tokenizer(additional_special_tokens=["<turn>"]).save_pretrained(tmp_path / "b")
    before, after = (CheckpointSource(str(tmp_path / name)) for name in "ab")
    check_same_vocabulary(before, after)
    with pytest.raises(RLCircuitsError, match="'<reserved>' in the first and '<turn>' in the second"):
        check_same_vocabulary(before, after, ids=[len(TOKENS)])


# Several devices


def test_a_device_map(folder: Path) -> None:
    split = source(folder, device_map="auto").load()
    assert torch.equal(
        attribute(split.model.cpu(), fixed_sequences()).values, attribute(tiny("llama-gqa"), fixed_sequences()).values
    )
    with pytest.raises(RLCircuitsError, match=r"cannot be loaded: .*device_map"):
        source(folder, device_map="sideways").load()
    with pytest.raises(RLCircuitsError, match="device 'cpu' and device_map 'auto' were both asked for"):
        CheckpointSource(str(folder), device="cpu", device_map="auto").load()


def test_weights_on_no_device_are_refused(tmp_path: Path) -> None:
    parts = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.norm", "lm_head")
    model = dispatch_model(
        build("llama-gqa", seed=3), dict.fromkeys(parts, "cpu") | {"model.layers.1": "disk"}, offload_dir=str(tmp_path)
    )
    with pytest.raises(RLCircuitsError, match=r"weight model\.layers\.1\.\S+ is on no device"):
        attribute(model, fixed_sequences())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_a_model_split_over_two_devices(granularity: str) -> None:
    first = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "lm_head")
    places: dict[str, str | int] = dict.fromkeys(first, "cpu") | {"model.layers.1": 0, "model.norm": 0}
    model = dispatch_model(build("llama-gqa", seed=3), places, main_device="cpu")
    torch.testing.assert_close(
        attribute(model, fixed_sequences(), granularity).values,
        attribute(tiny("llama-gqa"), fixed_sequences(), granularity).values,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_file_that_may_not_be_read_is_not_called_missing_or_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened = Path.open

    def refuse(file: Path, *options: Any, **more: Any) -> Any:
        if file.name == name:
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *options, **more)

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    for act in (source(folder).fingerprint, source(folder).load, source(folder).tokenizer):
        with pytest.raises(
            RLCircuitsError, match=rf"{re.escape(str(folder / name))} cannot be read: Permission denied"
        ):
            act()
