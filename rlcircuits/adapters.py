"""LoRA adapters as checkpoints: find the base, and merge the adapter into it in memory."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from rlcircuits.errors import RLCircuitsError
from rlcircuits.folder import ADAPTER_CONFIG, check_weights_file, first_line, local_folder

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Base:
    """The checkpoint an adapter was trained on, found: its folder and what its adapter calls it."""

    folder: Path
    name: str


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and not a whole checkpoint."""
    return (folder / ADAPTER_CONFIG).is_file()


def find_base(adapter: Path) -> Base:
    """Find the base an adapter names in ``base_model_name_or_path``.

    A path is taken from the working directory first, then from the adapter's own folder. Raises RLCircuitsError
    for a config that cannot be read, another method than LoRA, missing weights, or a base that is not found.
    """
    file = adapter / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind, name, revision = (config.get(key) for key in ("peft_type", "base_model_name_or_path", "revision"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise RLCircuitsError(f"{file} cannot be read as an adapter's config: {error}") from error
    if kind != "LORA":
        raise RLCircuitsError(f"{file}: field 'peft_type' is {kind!r}; only LORA adapters can be merged")
    if not isinstance(name, str) or not name:
        raise RLCircuitsError(f"{file}: field 'base_model_name_or_path' is {name!r}; it must name the base")
    if not (adapter / WEIGHTS).is_file():
        raise RLCircuitsError(f"{adapter} has no {WEIGHTS}; other weight formats are not loaded")
    check_weights_file(adapter / WEIGHTS)
    beside = adapter / name
    path = str(beside) if beside.is_dir() and not Path(name).is_dir() else name
    try:
        return Base(local_folder(path, revision), name)
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{file}: the adapter's base was not found: {error}") from error


def merge(model: Any, adapter: Path) -> Any:
    """The base ``model`` with the adapter's update added to its weights, in memory.

    Raises RLCircuitsError where peft is not installed or the adapter does not fit the model.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise RLCircuitsError(
            f"{adapter} is a LoRA adapter, and merging it needs peft, which is not installed: pip install peft"
        ) from error
    try:
        with warnings.catch_warnings():
            # An adapter that covers only some of the modules it names was trained on another model.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, UserWarning, safetensors.SafetensorError) as error:
        raise RLCircuitsError(f"{adapter} does not fit its base: {first_line(error)}") from error
