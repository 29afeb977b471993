"""Files of a checkpoint that exist but cannot be used: an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError

READ = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [*READ, "adapter_config.json", "model.safetensors.index.json", "config.json"])
@pytest.mark.parametrize("kind", ["gone", "loop", "folder"])
def test_a_file_that_cannot_be_read_is_not_taken_for_none(folder: Path, name: str, kind: str) -> None:
    file = folder / name
    file.unlink(missing_ok=True)
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(file if kind == "loop" else folder / "gone")
    with pytest.raises(RLCircuitsError, match=f"{name} is (a link to a file that is gone|no file); restore the file"):
        Checkpoint.load(folder)
    with pytest.raises(RLCircuitsError, match=f"{name} is "):
        CheckpointSource(str(folder)).fingerprint()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_types": 3}, "config.json describes no model"),
        ({"id2label": 3}, "config.json describes no model"),
        ({"is_encoder_decoder": True}, "config.json: field 'is_encoder_decoder' is true; a model that is a decoder"),
    ],
)
def test_a_config_that_is_wrong_is_not_the_tokenizers_fault(
    folder: Path, fields: dict[str, object], message: str
) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(RLCircuitsError, match=message) as error:
        open_both(folder)
    assert "has no tokenizer" not in str(error.value)


def open_both(folder: Path) -> None:
    CheckpointSource(str(folder)).tokenizer()
    Checkpoint.load(folder)


@pytest.mark.parametrize("text", ["null", "[]", "3"])
def test_a_config_that_is_no_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(RLCircuitsError, match=r"config\.json"):
        CheckpointSource(str(folder)).tokenizer()


@pytest.mark.parametrize("token", ["x", [], {}, True, 1.5])
def test_a_padding_token_that_is_none(folder: Path, token: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"pad_token_id": token}))
    with pytest.raises(
        RLCircuitsError, match=r"generation_config\.json: field 'pad_token_id' is .* a token id or null"
    ):
        Checkpoint.load(folder)


def test_a_name_that_no_folder_can_have() -> None:
    with pytest.raises(RLCircuitsError, match=r"is no folder|maximum length"):
        Checkpoint.load("x" * 5000)
