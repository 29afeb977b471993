"""Find the files that transformers loads a checkpoint's weights from, and read their headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import safetensors

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.input_files import check_readable
from rlcircuits.common.json_files import read_json_object

__all__ = [
    "FLOATS",
    "StoredTensor",
    "check_weights_file",
    "first_left_over",
    "is_recomputed",
    "stored_tensors",
    "tensor_headers",
    "weight_files",
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# The files of a distributed checkpoint. transformers prefers them to any other weights in the folder.
_DISTRIBUTED = "shard-*-model-*.safetensors"
FLOATS = ("F64", "F32", "F16", "BF16")
"""The dtypes of weights that are stored whole, as safetensors names them."""

# Buffers that older versions of transformers stored. Every version computes them from the config.
_REMADE = re.compile(r"(?:^|\.)(?:inv_freq|position_ids|(?:attn|attention)\.(?:masked_bias|bias))$")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file: the file, and what the header says of the tensor.

    Args:
        file: The file.
        dtype: The dtype as safetensors names it: ``F32``, ``BF16``, ….
        shape: The shape.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that transformers loads the weights of ``folder`` from.

    Returns:
        ``model.safetensors``; or the shards that ``model.safetensors.index.json`` names, which may be in folders below
        this one, and the index itself.

    Raises:
        RLCircuitsError: if the folder has neither of these files, or both, or a distributed checkpoint; if the index
            cannot be read; or if a shard is missing or its name leads out of the folder.
    """
    single, index = folder / SINGLE, folder / INDEX
    if distributed := sorted(folder.glob(_DISTRIBUTED)):
        raise RLCircuitsError(f"{distributed[0]} is part of a distributed checkpoint; save it consolidated: {SINGLE}")
    if not index.is_file():
        if not single.is_file():
            raise RLCircuitsError(f"{folder} has no *.safetensors file that is loaded: {_what_is_there(folder)}")
        return (single,)
    shards = sorted(set(_weight_map(folder).values()))
    if shards == [SINGLE]:
        return (single,)
    if single.is_file():
        raise RLCircuitsError(
            f"{folder} has both {SINGLE} and {INDEX}, which names other files ({shards[0]}, …); transformers would "
            f"load the first and leave out the others: remove the one that is not meant"
        )
    return (*(folder / name for name in shards), index)


def stored_tensors(folder: Path, *, packed: bool = False) -> dict[str, StoredTensor]:
    """Return every tensor of a folder's weights, by name. Only the files' headers are read.

    Args:
        folder: The checkpoint's folder.
        packed: Whether weights may be packed, that is, stored as codes of a quantised checkpoint.

    Raises:
        RLCircuitsError: as :func:`weight_files` does; if a file is damaged; if a tensor is in two files or not in the
            one that the index names; or, unless ``packed``, if a weight is not of floating point (quantised,
            complex).
    """
    found: dict[str, StoredTensor] = {}
    files = [file for file in weight_files(folder) if file.suffix == ".safetensors"]
    for file in files:
        for name, tensor in tensor_headers(file):
            if name in found:
                raise RLCircuitsError(f"{file}: weight {name} is in {found[name].file} too; one of the files is stale")
            if not packed:
                _check_dtype(name, tensor)
            found[name] = tensor
    if len(files) > 1 or files[0].name != SINGLE:
        _check_index(folder, found)
    return found


def check_weights_file(file: Path) -> None:
    """Raise RLCircuitsError for a safetensors file that is damaged, cut short or holds quantised or complex weights."""
    for name, tensor in tensor_headers(file):
        _check_dtype(name, tensor)


def _check_dtype(name: str, tensor: StoredTensor) -> None:
    if tensor.dtype not in FLOATS and not is_recomputed(name):
        raise RLCircuitsError(
            f"{tensor.file}: weight {name} is stored as {tensor.dtype}; only weights in one of {', '.join(FLOATS)} "
            f"are loaded: save the model unquantised"
        )


def first_left_over(names: Iterable[str]) -> str | None:
    """Return the first of the tensor names that a model has no place for, or None.

    Buffers that every model computes from its config are passed over.
    """
    return next((name for name in sorted(names) if not is_recomputed(name)), None)


def is_recomputed(name: str) -> bool:
    """Return whether a tensor of this name is a buffer that every model computes from its config, and not a weight."""
    return _REMADE.search(name) is not None


def tensor_headers(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the name and header of each tensor in a file. Raises RLCircuitsError if it is unreadable or damaged."""
    check_readable(file)
    try:
        # Opening reads the header and compares its offsets with the file's size.
        with safetensors.safe_open(str(file), framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a dict)
                piece = opened.get_slice(name)
                yield name, StoredTensor(file, piece.get_dtype(), tuple(piece.get_shape()))
    except (OSError, safetensors.SafetensorError) as error:
        raise RLCircuitsError(f"{file} is damaged or cut short: {one_line(error)}") from error


def _weight_map(folder: Path) -> dict[str, str]:
    """Return the index's map from tensor to file name. Raises RLCircuitsError unless each is a file in the folder."""
    index = folder / INDEX
    content = read_json_object(index)
    found = content.get("weight_map")
    if not isinstance(found, dict) or not found:
        raise RLCircuitsError(f"{index}: field 'weight_map' is missing or empty; it must name the file of every weight")
    if not isinstance(content.get("metadata"), dict):
        raise RLCircuitsError(f"{index}: field 'metadata' must be an object (it may be empty)")
    for tensor, name in found.items():
        where = f"{index}: field 'weight_map.{tensor[:80]}'"
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise RLCircuitsError(f"{where} is {truncated_repr(name)}; the name of a *.safetensors file is wanted")
        if _leaves(name):
            raise RLCircuitsError(
                f"{where} is {truncated_repr(name)}, which leads out of the folder; only files in it load"
            )
        if not _is_file(folder / name):
            raise RLCircuitsError(f"{folder}: the file {truncated_repr(name)} is missing; {INDEX} lists it")
    return found


def _check_index(folder: Path, found: dict[str, StoredTensor]) -> None:
    """Raise RLCircuitsError unless the index names the tensors of ``found``, each with its file, and no others."""
    said = _weight_map(folder)
    for name in sorted(said.keys() | found.keys()):
        if name not in found:
            raise RLCircuitsError(f"{folder / said[name]}: weight {name} is not in it; {INDEX} says that it is")
        if name not in said or folder / said[name] != found[name].file:
            raise RLCircuitsError(f"{found[name].file}: weight {name} is in it; {INDEX} does not say so")


def _leaves(name: str) -> bool:
    """Return whether a relative path leads out of its folder, on any operating system."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the system, or with a null character in it
        return False


def _what_is_there(folder: Path) -> str:
    others = sorted(
        file.name for pattern in ("*.safetensors", "*.bin", "*.pt", "*.gguf") for file in folder.glob(pattern)
    )
    there = f"there is {others[0]}" if others else "there are no weights"
    return f"{SINGLE} or {INDEX} is needed, {there}; other weight formats are not loaded"
