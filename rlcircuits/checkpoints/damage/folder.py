"""Write a damaged checkpoint as a folder that loads like any other, with a record of what was done."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_folder, fsync_folder
from rlcircuits.common.json_files import read_json_object
from rlcircuits.models.folder import GENERATION_CONFIG, contents, has_tokenizer, tokenizer_files
from rlcircuits.models.quiet import quiet

__all__ = ["DAMAGE_FILE", "SavedDamage", "save_damaged"]

DAMAGE_FILE = "damage.json"
"""The record of the damage in a damaged checkpoint's folder."""


@dataclass(frozen=True)
class SavedDamage:
    """A damaged checkpoint that was written.

    Args:
        folder: Its folder.
        changed: The names of the parameters that differ from the undamaged checkpoint's.
        parameters: The number of all its parameters (tensors).
    """

    folder: Path
    changed: tuple[str, ...]
    parameters: int


@validate_arguments
def save_damaged(source: DamagedSource, folder: str | Path) -> SavedDamage:
    """Write a damaged checkpoint: weights, config, tokenizer and ``damage.json``, the record of what was done.

    The record has the kind, strength, target and seed of each step, the names and fingerprints of the checkpoints that
    were used, the changed parameters, and the sha256 of each file. The folder appears only when it is complete.

    Args:
        source: what to write; the innermost ``base`` must be a CheckpointSource.
        folder: where to write it; it must not exist yet, or be empty.

    Raises:
        RLCircuitsError: the folder holds files or cannot be written, or the damage is not possible.
    """
    folder = Path(folder)
    _check_free(folder)
    root, steps = _steps(source)
    ensure_writable_folder(folder.absolute().parent, "the damaged checkpoint")
    checkpoint = root.load()
    before = _hashes(checkpoint, tied_twice=True)
    for step in steps:
        step.damage(checkpoint)
        checkpoint.name = step.name
    after = _hashes(checkpoint)
    changed = tuple(name for name, digest in after.items() if before.get(name) != digest)
    # Complete under another name first, so that an interrupted run leaves no folder that looks complete.
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{uuid4().hex}.tmp")
    try:
        _write_checkpoint(checkpoint, root, partial)
        record = {
            "base": {**_identity(root), "damage": _record_of(root.folder)},
            "steps": [_describe(step) for step in steps],
            "fingerprint": source.fingerprint(),
            "changed": list(changed),
            "parameters": len(after),
            "files": contents(partial),
        }
        (partial / DAMAGE_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
        fsync_folder(folder.absolute().parent)
    except OSError as error:
        raise RLCircuitsError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SavedDamage(folder, changed, len(after))


def _check_free(folder: Path) -> None:
    if folder.is_dir():
        if found := next(iter(sorted(folder.iterdir())), None):
            raise RLCircuitsError(f"{folder} is not empty, it holds {found.name}; name a new folder, or empty this one")
    elif folder.exists() or folder.is_symlink():
        raise RLCircuitsError(f"{folder} is a file; the name of a new folder is wanted")


def _steps(source: DamagedSource) -> tuple[CheckpointSource, list[DamagedSource]]:
    """Return the undamaged checkpoint, on the CPU, and the damage in the order in which it is done."""
    steps: list[DamagedSource] = []
    inner: Source = source
    while isinstance(inner, DamagedSource):
        steps.insert(0, inner)
        inner = inner.base
    if not isinstance(inner, CheckpointSource):
        raise RLCircuitsError(
            f"{inner.name} is no checkpoint in a folder or on the hub; only such a one can be written"
        )
    return replace(inner, device="cpu", device_map=None), steps


def _write_checkpoint(checkpoint: Checkpoint, root: CheckpointSource, folder: Path) -> None:
    with quiet():
        checkpoint.model.save_pretrained(folder)
    # What goes with the weights is copied byte for byte, and not written anew by another version of transformers.
    own, base = root.folder, root.model_folder
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    if (base / GENERATION_CONFIG).is_file():
        shutil.copyfile(base / GENERATION_CONFIG, folder / GENERATION_CONFIG)
    origin = own if has_tokenizer(own) else base
    for file in tokenizer_files(origin):
        target = folder / file.relative_to(origin)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _describe(step: DamagedSource) -> dict[str, Any]:
    return {
        "description": step.description,
        "kind": step.kind,
        "strength": step.strength,
        "target": step.target,
        "seed": step.seed,
        "reference": None if step.reference is None else _identity(step.reference),
        "origin": None if step.origin is None else _identity(step.origin),
    }


def _identity(source: Source) -> dict[str, str]:
    return {"name": source.name, "fingerprint": source.fingerprint()}


def _record_of(folder: Path) -> dict[str, Any] | None:
    """Return the record of a checkpoint that was damaged before, or None."""
    return read_json_object(folder / DAMAGE_FILE) if (folder / DAMAGE_FILE).is_file() else None


def _hashes(checkpoint: Checkpoint, *, tied_twice: bool = False) -> dict[str, str]:
    """Return the sha256 of each parameter's bytes; of a tied one under its first name, or under each of its names."""
    return {
        name: hashlib.sha256(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, parameter in checkpoint.model.named_parameters(remove_duplicate=not tied_twice)
    }
