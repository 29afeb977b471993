"""A checkpoint's files: where they are, whether they are all there, and what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
from transformers import AutoTokenizer

from rlcircuits.errors import RLCircuitsError

ADAPTER_CONFIG = "adapter_config.json"
_TOKENIZER = ("tokenizer*", "vocab*", "merges*", "added_tokens.json", "special_tokens_map.json", "*.model")
_TEMPLATES = ("chat_template*", "additional_chat_templates/*")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# generation_config.json names the tokens that end an answer.
_IDENTITY = ("config.json", "generation_config.json", ADAPTER_CONFIG, *_TOKENIZER, *_TEMPLATES, *_WEIGHTS)
# The same weights once more, in the formats of the models' makers.
_DOUBLES = ("consolidated*", "original/*", "metal/*")

# What was read once need not be read again: by (path, size, time of change), for the life of the process.
_digests: dict[tuple[str, int, int], str] = {}


def local_folder(path: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: ``path`` itself, or the cached snapshot of a hub id (downloaded if need be).

    Raises RLCircuitsError for a path that is no folder, a revision of a folder, or a hub id that cannot be had.
    """
    folder = Path(path)
    if folder.is_dir():
        if revision is not None:
            raise RLCircuitsError(f"{path} is a folder and has no revisions, but revision {revision!r} was asked for")
        return folder
    if folder.is_absolute() or path.startswith((".", "~")):
        raise RLCircuitsError(f"{path} is no folder; a checkpoint folder or a hub id is needed")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                path, revision=revision, allow_patterns=list(_IDENTITY), ignore_patterns=list(_DOUBLES)
            )
        )
    # huggingface_hub raises its own errors, and lets those of its HTTP client through.
    except Exception as error:
        raise RLCircuitsError(
            f"{path} is no folder here, and cannot be loaded from the hub: {first_line(error)}"
        ) from error


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file that makes the checkpoint what it is, by its name in the folder.

    These are config, tokenizer, templates and weights; reports and training states beside them do not count.
    """
    return {file.relative_to(folder).as_posix(): _digest(file) for file in _files(folder, _IDENTITY)}


def check_folder(folder: Path) -> None:
    """Find what is missing or damaged in a checkpoint folder, before anything large is read.

    Raises RLCircuitsError where config.json or a weights file is missing, or an index or a weights file is damaged.
    """
    if not (folder / "config.json").is_file():
        raise RLCircuitsError(f"{folder} has no config.json; a checkpoint folder in Hugging Face format is needed")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise RLCircuitsError(f"{index} is no index of safetensors shards: {error}") from error
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RLCircuitsError(f"{folder} has no *.safetensors file; other weight formats are not loaded")
    for file in files:
        if not file.is_file():
            raise RLCircuitsError(f"{file} is missing; {index.name} lists it")
        check_weights_file(file)


def check_weights_file(file: Path) -> None:
    """Raise RLCircuitsError for a safetensors file that is damaged or cut short."""
    try:
        # Opening reads the header and compares its offsets with the file's size.
        with safetensors.safe_open(str(file), framework="pt"):
            pass
    except (OSError, safetensors.SafetensorError) as error:
        raise RLCircuitsError(f"{file} is damaged or cut short: {error}") from error


def has_tokenizer(folder: Path) -> bool:
    """Whether there are a tokenizer's files in the folder."""
    return any(_files(folder, ("tokenizer*", "vocab*", "*.model")))


def load_tokenizer(folder: Path, name: str, **options: Any) -> Any:
    """The tokenizer of a folder. Raises RLCircuitsError, calling the checkpoint ``name``, if none loads."""
    try:
        return AutoTokenizer.from_pretrained(str(folder), **options)
    except Exception as error:  # whatever a damaged file makes the tokenizer's library raise
        reason = first_line(error) if has_tokenizer(folder) else "there is no tokenizer.json in it"
        raise RLCircuitsError(f"{name} has no tokenizer that loads: {reason}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """The files that match any of the patterns, each once, by name."""
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return iter(sorted(found))


def _digest(file: Path) -> str:
    state = file.stat()
    key = (str(file.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _digests:
        with file.open("rb") as opened:
            _digests[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _digests[key]
