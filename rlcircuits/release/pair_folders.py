"""Find the folders of results to verify, and read their files, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rlcircuits.answers.recorded import SIDES
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE, STORE
from rlcircuits.comparison.storage import check_names, load_comparison
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.supervised import FOLDER as CONTROL

_T = TypeVar("_T")

_WANTED = "the output folder of a run, or one pair's folder in it, is wanted; see compare --output"


def find_pair_folders(folder: str | Path) -> tuple[Path, ...]:
    """Return the folders of pairs in a folder of results, sorted by name, each before that of its supervised control.

    A folder that holds a pair's answers or scores but no ``comparison.json`` is a pair's folder too: the pair was not
    finished, or the file was removed.

    Args:
        folder: the output folder of a run, one pair's folder in it, or the ``comparison.json`` in that.

    Raises:
        RLCircuitsError: there is no such folder, it cannot be read, it holds no pair, or it holds one pair twice.
    """
    folder = _existing(folder)
    pairs = [path for path in _candidates(folder) if _is_pair(path)]
    _check_once(pairs)
    found = tuple(each for path in pairs for each in _with_control(path))
    if not found:
        raise RLCircuitsError(f"{folder}: holds no {COMPARISON_FILE}, neither do its subfolders; {_WANTED}")
    return found


def left_out_controls(folder: str | Path) -> dict[Path, str]:
    """Return the supervised controls' folders that :func:`find_pair_folders` leaves out, each with why.

    An earlier run left them: the pair was measured again without a supervised control, or its own results were removed.

    Args:
        folder: as for :func:`find_pair_folders`.
    """
    found = {}
    for path in _candidates(_existing(folder)):
        control = path / CONTROL
        if not _is_pair(control):
            continue
        if not _is_pair(path):
            found[control] = "the folder that it lies in has no pair's results"
        elif control not in _with_control(path):
            found[control] = f"the {COMPARISON_FILE} of its pair states no supervised control"
    return found


def pair_name(folder: Path, name: str | None = None) -> str:
    """Return the name of a pair in messages: that of a supervised control has its pair's folder before it.

    Args:
        folder: the pair's folder.
        name: the pair's name, if it is known; else the folder's is used.
    """
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if _is_control(folder) else name or folder.name


def store_of(folder: Path) -> Path:
    """Return the store of the run that wrote a pair's folder."""
    folder = folder.resolve()
    return (folder.parent.parent if _is_control(folder) else folder.parent) / STORE


def path_exists(path: Path, what: str) -> bool:
    """Return whether a file or folder exists.

    Raises:
        RLCircuitsError: nobody can tell, since the folder that it is in may not be searched.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RLCircuitsError(f"{path}: cannot be read as {what}: {error.strerror or error}") from None
    return True


def read_result(load: Callable[[Path], _T], path: Path, what: str) -> _T:
    """Return what ``load`` reads from one of a pair's files.

    Raises:
        RLCircuitsError: naming the file, and saying whether it is missing, cannot be read, or is damaged.
    """
    if not path_exists(path, what):
        raise RLCircuitsError(
            f"{path}: there is no such file, so that nothing can be recomputed; copy it from where the others came "
            f"from, or measure the pair again"
        )
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise RLCircuitsError(
            f"{path}: cannot be read as {what}: {error.strerror or error}; see that it is a file which you may read"
        ) from None
    try:
        return load(path)
    except RLCircuitsError as error:
        text = str(error)
        advice = "the file is damaged or cut short: copy it again from where it came, or measure the pair again"
        raise RLCircuitsError(text if "measure the pair again" in text else f"{text}; {advice}") from None


def _existing(folder: str | Path) -> Path:
    """Return the folder of results that is meant."""
    folder = Path(folder)
    if not path_exists(folder, "a folder of results"):
        raise RLCircuitsError(f"{folder}: there is no such folder; {_WANTED}")
    if folder.name == COMPARISON_FILE and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise RLCircuitsError(f"{folder}: it is a file; {_WANTED}")
    return folder


def _candidates(folder: Path) -> tuple[Path, ...]:
    """Return the folders that may be pairs': the folder itself if it is one, else its subfolders, sorted by name."""
    if _is_pair(folder):
        return (folder,)
    try:
        return tuple(sorted(path for path in folder.iterdir() if path.is_dir() and path.name != STORE))
    except OSError as error:
        raise RLCircuitsError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _check_once(folders: Sequence[Path]) -> None:
    """Raise RLCircuitsError if two folders hold a pair of one name, such as a copy beside its original."""
    comparisons, files = [], []
    for folder in folders:
        with suppress(RLCircuitsError):  # a file that is missing or damaged is told of when it is read for its results
            comparisons.append(load_comparison(folder))
            files.append(folder / COMPARISON_FILE)
    check_names(comparisons, files)


def _is_pair(folder: Path) -> bool:
    files = [file(folder, side) for side in SIDES for file in (answers_file, scores_file)]
    return any(path_exists(path, "a result") for path in (folder / COMPARISON_FILE, *files))


def _is_control(folder: Path) -> bool:
    return folder.name == CONTROL and _is_pair(folder.parent)


def _with_control(folder: Path) -> tuple[Path, ...]:
    """Return a pair's folder, and that of its control unless an earlier run left it, of which the pair says nothing."""
    control = folder / CONTROL
    if not _is_pair(control):
        return (folder,)
    try:
        stated = load_comparison(folder).supervised is not None
    except RLCircuitsError:  # which will be told of the pair itself
        stated = True
    return (folder, control) if stated else (folder,)
