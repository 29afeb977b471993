"""Write a damaged checkpoint as a folder that loads like any other, with a record of what was done."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.damage.stored_dtypes import cast_to, stored_dtypes, write_loaded_dtype
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import Notify
from rlcircuits.common.json_files import read_json_object
from rlcircuits.common.new_folder import check_new_folder, new_folder
from rlcircuits.models.folder import CONFIG, GENERATION_CONFIG, contents, has_tokenizer, tokenizer_files
from rlcircuits.models.quiet import quiet

__all__ = ["DAMAGE_FILE", "SavedDamage", "save_damaged"]

DAMAGE_FILE = "damage.json"
"""The record of the damage in a damaged checkpoint's folder."""

_WHAT = "the damaged checkpoint"


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
def save_damaged(source: DamagedSource, folder: str | Path, notify: Notify | None = None) -> SavedDamage:
    """Write a damaged checkpoint: weights, config, tokenizer and ``damage.json``, the record of what was done.

    The record has the kind, strength, target and seed of each step, the names and fingerprints of the checkpoints that
    were used, the changed parameters, and the sha256 of each file. Each tensor has the dtype that it is stored in. The
    folder appears only when it is complete.

    Args:
        source: what to write; the innermost ``base`` must be a CheckpointSource.
        folder: where to write it; it must not exist yet, or be empty, and be in none of the checkpoints' folders.
        notify: called with one line of text about what a killed run had left and was removed.

    Raises:
        RLCircuitsError: the folder holds files or cannot be written; or the damage is not possible, or changes nothing.
    """
    folder = check_new_folder(folder, _WHAT)
    root, steps = _steps(source)
    _check_outside(folder, root, steps)
    _check_changes(source, steps)
    record: dict[str, Any] = {
        "base": {**_identity(root), "damage": _record_of(root.folder)},
        "steps": [_describe(step) for step in steps],
        "fingerprint": source.fingerprint(),
    }
    with new_folder(folder, _WHAT, notify) as partial:
        checkpoint = root.load()
        before = _hashes(checkpoint, tied_twice=True)
        for step in steps:
            step.damage(checkpoint)
            checkpoint.name = step.name
        after = _hashes(checkpoint)
        changed = tuple(name for name, digest in after.items() if before.get(name) != digest)
        if not changed:
            raise _changes_nothing(source, f"all {len(after)} tensors stay as they are")
        try:
            _write_checkpoint(checkpoint, root, partial)
            record |= {"changed": list(changed), "parameters": len(after), "files": contents(partial)}
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            (partial / DAMAGE_FILE).write_text(text, encoding="utf-8")
        # safetensors has an error of its own for a full disk.
        except (OSError, SafetensorError) as error:
            raise RLCircuitsError(f"{folder} cannot be written: {_reason(error)}; choose another folder") from error
    return SavedDamage(folder, changed, len(after))


def _check_outside(folder: Path, root: CheckpointSource, steps: list[DamagedSource]) -> None:
    """Raise RLCircuitsError for a folder in one of the checkpoints', whose files are no place for another one."""
    for source in (root, *(each for step in steps for each in (step.reference, step.origin))):
        read = source.root if isinstance(source, DamagedSource) else source
        for place in (read.folder, read.model_folder) if isinstance(read, CheckpointSource) else ():
            if folder.resolve().is_relative_to(place.resolve()):
                raise RLCircuitsError(f"{_WHAT}: {folder} is in the checkpoint {place}; name a folder outside of it")


def _check_changes(source: DamagedSource, steps: list[DamagedSource]) -> None:
    """Raise RLCircuitsError for damage that is known to change nothing before anything is loaded."""
    if all(step.is_identity for step in steps):
        raise _changes_nothing(source, f"a strength of {source.strength:g} is none")
    for step in steps if len(steps) == 1 else ():
        start = step.origin or step.base
        if step.reference is not None and step.reference.fingerprint() == start.fingerprint():
            raise _changes_nothing(source, f"{step.reference.name} and {start.name} are the same, so the update is 0")


def _changes_nothing(source: DamagedSource, why: str) -> RLCircuitsError:
    return RLCircuitsError(
        f"damage {source.description} changes nothing: {why}; choose another strength or target, or copy the folder"
    )


def _reason(error: OSError | SafetensorError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else one_line(error)


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
    dtype = checkpoint.model.dtype
    cast_to(checkpoint.model, stored_dtypes(root, checkpoint.model))
    with quiet():
        checkpoint.model.save_pretrained(folder)
    write_loaded_dtype(folder, dtype)
    for file in folder.glob("*.safetensors"):  # safetensors lets only the owner read them
        shutil.copymode(folder / CONFIG, file)
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
        name: hashlib.sha256(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, parameter in checkpoint.model.named_parameters(remove_duplicate=not tied_twice)
    }
