"""Warnings of what differs between two checkpoints beside their weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import SEED_7
from helpers.tiny_checkpoints import TOKENS, Unloadable, save_checkpoint, tiny_tokenizer
from helpers.tiny_models import build
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.checkpoints.comparability import _difference, comparability_warnings
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return save_checkpoint(tmp_path / "before"), save_checkpoint(tmp_path / "after", seed=4)


def source(folder: Path, **options: str) -> CheckpointSource:
    return CheckpointSource(str(folder), device="cpu", **options)


def warnings(folders: tuple[Path, Path], **options: str) -> tuple[str, ...]:
    return comparability_warnings(*(source(folder, **options) for folder in folders))


def change_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def retokenize(folder: Path, template: str | None = None, tokens: tuple[str, ...] = TOKENS, **options: Any) -> None:
    tokenizer = tiny_tokenizer(tokens, **options)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def test_other_weights_alone_are_no_reason_to_warn(folders: tuple[Path, Path]) -> None:
    assert warnings(folders) == ()


@pytest.mark.parametrize("after", ["grpo", "sft-more", "dpo"])
def test_shipped_pairs_are_comparable(after: str) -> None:
    assert warnings((SEED_7 / "sft", SEED_7 / after)) == ()


def test_a_chat_template_that_training_set(folders: tuple[Path, Path]) -> None:
    retokenize(folders[1], "{{ messages[0].content }}")
    assert warnings(folders) == (
        "the chat template (tokenizer_config.json and chat_template.jinja) is missing before and "
        "'{{ messages[0].content }}' after",
    )


def test_long_templates_are_shown_where_they_differ(folders: tuple[Path, Path]) -> None:
    start, end = "{{ bos_token }}" * 30, "{{ messages }}" * 30
    retokenize(folders[0], f"{start}<user>{end}")
    retokenize(folders[1], f"{start}<turn>{end}")
    (warning,) = warnings(folders)
    assert warning.startswith("the chat template (chat_template.jinja) is … ")
    before, after = warning.split(" before and ")
    assert "<user>" in before
    assert "<turn>" in after
    assert len(warning) < 250


def test_special_tokens_by_role_and_by_id(folders: tuple[Path, Path]) -> None:
    new = len(TOKENS)
    retokenize(folders[0], additional_special_tokens=["<reserved>"])
    retokenize(folders[1], additional_special_tokens=["<turn>", "<end>"])
    change_json(folders[1] / "tokenizer_config.json", eos_token="<turn>")
    assert warnings(folders) == (
        f"the tokenizer's eos_token is '<eos>' (id 2) before and '<turn>' (id {new}) after",
        f"the tokenizer's special token of id {new} is '<reserved>' before and '<turn>' after "
        "(the first of 2 ids that differ)",
    )


def test_a_special_token_with_another_id(folders: tuple[Path, Path]) -> None:
    retokenize(folders[1], tokens=(TOKENS[0], TOKENS[2], TOKENS[1], *TOKENS[3:]))
    assert "the tokenizer's eos_token is '<eos>' (id 2) before and '<eos>' (id 1) after" in warnings(folders)


def test_generation_configs(folders: tuple[Path, Path]) -> None:
    file = folders[1] / "generation_config.json"
    change_json(file, eos_token_id=[2, 5], temperature=0.6, transformers_version="4.1", use_cache=False, top_p=None)
    assert warnings(folders) == (
        "generation_config.json, field 'eos_token_id', is 2 before and [2, 5] after",
        "generation_config.json, field 'temperature', is missing before and 0.6 after; the run samples both alike and "
        "does not use it",
    )


def test_without_a_generation_config_the_config_names_the_tokens(folders: tuple[Path, Path]) -> None:
    (folders[1] / "generation_config.json").unlink()
    assert warnings(folders) == ()
    change_json(folders[1] / "config.json", eos_token_id=7)
    assert warnings(folders) == ("generation_config.json, field 'eos_token_id', is 2 before and 7 after",)


def test_dtypes(folders: tuple[Path, Path]) -> None:
    build("llama-gqa", dtype=torch.bfloat16).save_pretrained(folders[1])
    stored = ("the dtype of the stored weights (*.safetensors) is F32 before and BF16 after",)
    assert warnings(folders) == stored
    assert warnings(folders, dtype="bfloat16") == stored


def test_a_config_that_asks_for_another_dtype(folders: tuple[Path, Path]) -> None:
    change_json(folders[1] / "config.json", dtype="bfloat16")
    assert warnings(folders) == (
        "config.json, field 'dtype', in which the weights are loaded, is float32 before and bfloat16 after",
    )
    assert warnings(folders, dtype="bfloat16") == ()


def test_one_tokenizer_is_missing(folders: tuple[Path, Path]) -> None:
    for file in folders[1].glob("tokenizer*"):
        file.unlink()
    (warning,) = warnings(folders)
    assert warning.startswith("chat template and special tokens were not compared: ")
    assert "there is no tokenizer.json in it" in warning
    assert warnings((folders[1], folders[1])) == ()


def test_another_source_is_compared_by_its_tokenizer_and_nothing_is_loaded(folders: tuple[Path, Path]) -> None:
    retokenize(folders[1], "{{ messages }}")
    before, after = (Unloadable(source(folder)) for folder in folders)
    assert len(comparability_warnings(before, after)) == 1


def test_an_adapter_has_the_configs_of_its_base(folders: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    fields = {"peft_type": "LORA", "base_model_name_or_path": str(folders[1]), "r": 1, "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(fields))
    (adapter / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    change_json(folders[1] / "generation_config.json", eos_token_id=7)
    assert warnings((folders[0], adapter)) == warnings(folders) != ()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("damage", [lambda file: file.write_text("{"), lambda file: file.write_bytes(b"\xff")])
def test_a_damaged_config(folders: tuple[Path, Path], name: str, damage: Callable[[Path], None]) -> None:
    damage(folders[1] / name)
    with pytest.raises(RLCircuitsError, match=rf"after/{name}"):
        warnings(folders)


texts = st.none() | st.text(max_size=200)


@given(texts, texts, st.text(max_size=300))
def test_two_values_are_shown_unless_they_are_equal(before: str | None, after: str | None, start: str) -> None:
    ours, theirs = (None if text is None else start + text for text in (before, after))
    found = _difference(ours, theirs)
    assert (found is None) == (ours == theirs)
    if found is not None:
        assert len(found) < 200
        shown, _, other = found.removesuffix(" after").partition(" before and ")
        assert shown != other or " before and " in start + str(before) + str(after)
