"""Save a checkpoint that is in memory into a temporary folder, for what loads a folder by itself.

The folder loads as exactly the weights in memory, bit by bit and in their dtype, with the same end tokens and
generation settings. It holds what other programs expect of a checkpoint too: the weights under their published names,
the tokenizer's files, and a processor's where the model reads images.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.common.stage_times import stage
from rlcircuits.common.temporary_folder import check_room, temporary_folder
from rlcircuits.models.folder import GENERATION_CONFIG
from rlcircuits.models.quiet import quiet

__all__ = ["saved_folder"]

_PROCESSOR, _CODE = "*processor_config.json", "**/*.py"
"""Files that go with a model and are not made from what is in memory: image processors, and code of its own."""


@contextmanager
def saved_folder(model: Source | Checkpoint, notify: Notify = log_stage) -> Iterator[Path]:
    """Yield a temporary folder with a checkpoint as it is in memory. The folder is deleted afterwards.

    Args:
        model: a checkpoint; or a source of one, which is loaded and then freed before the folder is yielded.
        notify: called with one line of text that says what is written, and where.

    Raises:
        RLCircuitsError: the checkpoint cannot be loaded, or the disk has too little room.
    """
    with temporary_folder(notify) as folder:
        _save(model, folder, notify)
        if not isinstance(model, Checkpoint):
            gc.collect()  # a model's modules refer to one another
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        yield folder


@stage("load")
def _save(model: Source | Checkpoint, folder: Path, notify: Notify) -> None:
    checkpoint = model if isinstance(model, Checkpoint) else model.load()
    size = checkpoint.nbytes
    check_room(folder, size, f"{model.name}, which is made in memory,")
    notify(f"{model.name} is saved into {folder} for as long as it is loaded from there ({size / 1e9:,.2f} GB)")
    try:
        _write(checkpoint, folder)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else one_line(error)
        raise RLCircuitsError(
            f"{model.name} cannot be saved into the temporary folder {folder} ({size / 1e9:,.2f} GB): {reason}; set "
            "TMPDIR to a folder on a disk with more room"
        ) from error


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    dtype, architectures, generation = model.config.dtype, model.config.architectures, model.generation_config
    try:
        # transformers refuses to save some settings that it loads, such as a temperature without sampling.
        model.generation_config = GenerationConfig()
        with quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    finally:
        model.config.dtype, model.config.architectures, model.generation_config = dtype, architectures, generation
    generation.to_json_file(folder / GENERATION_CONFIG)
    if (origin := checkpoint._folder) is not None:
        # Code that was not trusted when the checkpoint was loaded is left behind.
        for pattern in (_PROCESSOR, _CODE) if _is_own_code(model) or _is_own_code(tokenizer) else (_PROCESSOR,):
            _copy(origin, pattern, folder)


def _is_own_code(instance: object) -> bool:
    """Return whether an object's class is code of a checkpoint's own repository, which transformers has loaded."""
    return bool(type(instance).__module__.partition(".")[0] == TRANSFORMERS_DYNAMIC_MODULE_NAME)


def _copy(origin: Path, pattern: str, folder: Path) -> None:
    """Copy the files that match a pattern, but for those that are there."""
    for file in origin.glob(pattern):
        target = folder / file.relative_to(origin)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
