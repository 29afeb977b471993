"""Look into a folder for checkpoints: which there are, and by which files a change of each is noticed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.adapters import check_adapter_weights
from rlcircuits.models.folder import CONFIG, check_folder, is_adapter, result_files
from rlcircuits.release.training_run import checkpoints_in, is_checkpoint
from rlcircuits.release.watch_states import Files

__all__ = ["Look", "SeenCheckpoint", "check_complete", "look_into"]


@dataclass(frozen=True)
class SeenCheckpoint:
    """A checkpoint as it was at one look."""

    folder: Path
    files: Files

    def is_unchanged(self, *, code: bool = False) -> bool:
        """Return whether its files are still those of the look; not if the checkpoint is gone."""
        try:
            return _files(self.folder, code) == self.files
        except OSError:
            return False


@dataclass(frozen=True)
class Look:
    """What a folder holds at one moment."""

    checkpoints: Mapping[str, SeenCheckpoint]
    """By the name of the subfolder that holds them, complete or not."""
    unfinished: tuple[str, ...]
    """Subfolders with a config and no weights, which are being written."""
    left_out: Mapping[str, str]
    """Why other subfolders that hold something of a checkpoint are left out, by name; ``.`` is the folder itself."""


def look_into(folder: Path, without: Collection[Path] = (), *, code: bool = False) -> Look:
    """Return the checkpoints in a folder: one in each subfolder, or somewhere below it.

    Passed over are hidden folders, those named as unfinished (``tmp-…``, ``….part``), those without a checkpoint, and
    links from one to another (``latest``).

    Args:
        folder: the folder.
        without: folders that are none of its checkpoints, by their resolved paths.
        code: whether the checkpoints' Python files count too.

    Raises:
        RLCircuitsError: the folder cannot be read.
    """
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not _is_passed_over(path.name))
    except OSError as error:
        raise RLCircuitsError(f"{folder}: cannot be read: {error.strerror or error}") from None
    checkpoints: dict[str, SeenCheckpoint] = {}
    unfinished, left_out = [], {}
    if is_checkpoint(folder):
        left_out["."] = "a checkpoint in the folder itself, which is not judged; new checkpoints are its subfolders"
    for path in below:
        try:
            if path.resolve() in without or _is_linked(path, folder):
                continue
            below_it = (each for each in checkpoints_in(path) if not _is_linked(each, folder))
            found = [each for each in below_it if each.resolve() not in without]
            if len(found) == 1:
                checkpoints[path.name] = SeenCheckpoint(found[0], _files(found[0], code))
            elif found:
                names = f"{found[0].relative_to(path)} and {found[1].relative_to(path)}"
                left_out[path.name] = f"it holds {len(found)} checkpoints, {names} among them; watch this folder"
            elif (path / CONFIG).is_file() or is_adapter(path):
                unfinished.append(path.name)
        except FileNotFoundError:  # the trainer has just deleted it
            continue
        except OSError as error:
            left_out[path.name] = f"it cannot be read: {error.strerror or error}"
    return Look(checkpoints, tuple(unfinished), left_out)


def check_complete(folder: Path) -> None:
    """Raise RLCircuitsError, which names the file, unless all weights that a checkpoint's files state are there."""
    if is_adapter(folder):
        check_adapter_weights(folder)
    else:
        check_folder(folder)


def _is_passed_over(name: str) -> bool:
    return name.startswith((".", "tmp-", "tmp_")) or name.endswith((".tmp", ".part", ".partial", ".incomplete"))


def _is_linked(path: Path, folder: Path) -> bool:
    """Return whether a path in the folder leads by a link such as ``latest`` to another place in the folder."""
    place, whole = path.resolve(), folder.resolve()
    return place.is_relative_to(whole) and place != whole / path.relative_to(folder)


def _files(folder: Path, code: bool) -> Files:
    """Return the state of a checkpoint's files. Raises FileNotFoundError if one vanishes meanwhile."""
    found = []
    for file in result_files(folder, code=code):
        state = file.stat()
        found.append((file.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(found)
