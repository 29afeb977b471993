"""A folder of this machine that mirrors an output folder in an object store.

A run reads and writes the local folder as any other. The mirror brings files here before they are looked for, and
uploads what is new, batch by batch, while the run goes on. How depends on the kind of file:

===================== ===================================================== ============================================
file                  what may happen to it                                 uploaded
===================== ===================================================== ============================================
answers in the store  grow, by whole batches                                if it is longer than the one there
others in the store   nothing: their key says what they hold                unless one is there
a pair's results      are replaced as a whole by another measurement        once the pair is finished, comparison.json
                                                                            last, after a stale one was removed
===================== ===================================================== ============================================

So whatever two machines do at a time, the URL has the union of their work, and never a part of a file or of a finished
pair. Locks hold among processes of one machine only: two machines may do the same work twice. Its results are the same
bit by bit, so that it matters not whose are kept.

Left out are lock files, files that are being written, and the throughput, which is that of a machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from uuid import uuid4

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import (
    COMPARISON_FILE,
    STORE,
    Notify,
    content_hash,
    fetching,
    safe_file_name,
    try_write_lock,
)
from rlcircuits.common.logs import log_stage
from rlcircuits.common.mirror_notes import LocalFile, MirrorNotes
from rlcircuits.common.remote_folder import RemoteFile, RemoteFolder

__all__ = ["SCRATCH_VARIABLE", "Mirror", "scratch_folder"]

SCRATCH_VARIABLE = "RLCIRCUITS_SCRATCH"
"""The environment variable with the folder that mirrors lie in."""

_EVERY_S = 3.0
"""Seconds between two looks at what is new."""

_GROWING_S = 20.0
"""Fewest seconds between two uploads of a file that grows."""

_SHARE_OF_TIME = 10
"""How many times as long as its last upload took a file that grows is left alone."""

_LOOKS = 5
"""How often results are fetched that somebody replaces meanwhile."""

_MEASURED = (".jsonl", ".safetensors")
"""Endings of a pair's files that its comparison is of, which is written after them."""

_OF_THIS_MACHINE = ("pace.jsonl",)


def scratch_folder(url: str) -> Path:
    """Return the folder of this machine that keeps what belongs to a URL."""
    given = os.environ.get(SCRATCH_VARIABLE, "").strip()
    cache = os.environ.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache"
    root = Path(given) if given else Path(cache) / "rlcircuits" / "outputs"
    url = url.rstrip("/")
    return root.expanduser().resolve() / f"{safe_file_name(url)}-{content_hash(url)[:12]}"


class Mirror(AbstractContextManager["Mirror"]):
    """An output folder at a URL, and the folder of this machine that mirrors it.

    Within the context a thread uploads what is new, and the end of the context uploads the rest. Contexts of one mirror
    do not nest.

    Args:
        url: of the output folder.
        scratch: where the local folder lies; by default :func:`scratch_folder`.
        notify: called with one line of text when the URL is not reached while the run goes on.
        create: whether the folder of a ``file://`` URL is made if it is missing.

    Raises:
        RLCircuitsError: as :class:`~rlcircuits.common.remote_folder.RemoteFolder`. Every method raises it too.
    """

    def __init__(
        self, url: str, scratch: Path | None = None, notify: Notify = log_stage, *, create: bool = True
    ) -> None:
        self.url = url.rstrip("/")
        self._remote = RemoteFolder(url, create=create)
        scratch = scratch or scratch_folder(self.url)
        self.folder = scratch / "output"
        """The local folder."""
        self._notes = MirrorNotes(scratch / "synced")
        self._notify = notify
        self._pairs: set[str] = set()
        self._uploading = threading.Lock()
        self._ended = threading.Event()
        self._not_before: dict[str, float] = {}
        self._open: ExitStack | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RLCircuitsError(
                f"{self.folder}: results for {self.url} cannot be kept here until they are uploaded: "
                f"{error.strerror or error}; set {SCRATCH_VARIABLE} to a folder that can be written"
            ) from None

    def __enter__(self) -> Mirror:
        self._ended.clear()
        self._open = ExitStack()
        self._open.enter_context(fetching(self.folder / STORE, self.fetch_key))
        thread = threading.Thread(target=self._upload_again_and_again, daemon=True)
        thread.start()
        self._open.callback(thread.join)
        self._open.callback(self._ended.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        assert self._open is not None, "the context was entered"
        self._open.close()
        if error is not None and not isinstance(error, Exception):  # interrupted: the next run uploads it
            return
        try:
            self.upload()
        except RLCircuitsError as problem:
            if error is None:
                raise
            self._notify(str(problem))

    def forget(self) -> None:
        """Remove the local folder if there is nothing in it."""
        with suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def check_writable(self) -> None:
        """Raise RLCircuitsError before any work if nothing can be written at the URL."""
        name = f".write-check-{uuid4().hex}"
        self._remote.replace(name, b"", None)
        self._remote.remove(name)

    def fetch_results(self, names: Iterable[str] | None = None) -> None:
        """Bring results here that are not here yet, as they were at one moment.

        A finished pair that was not uploaded yet is kept as it is here.

        Args:
            names: the pairs; by default all that is not in the store.
        """
        wanted = None if names is None else tuple(names)
        found = self._results(wanted)
        here = (name.partition("/")[0] for name in self._local_names() if not _in_store(name))
        self._pairs.update(here if wanted is None else wanted)
        for _ in range(_LOOKS):
            ours = {folder for folder in {os.path.dirname(name) for name in found} if self._is_ours(folder)}
            for name in sorted(found, key=_comparison_last):
                if os.path.dirname(name) not in ours:
                    self._fetch(name, found[name], replace=True)
            before, found = found, self._results(wanted)
            if found == before:
                return
        raise RLCircuitsError(
            f"{self.url}: its results change again and again; try again when no other run writes them"
        )

    def removed_pairs(self) -> tuple[str, ...]:
        """Return the pairs that were fetched or uploaded, and are no longer at the URL."""
        there = self._results(None)
        ours = (name for name in self._local_names() if name.endswith(COMPARISON_FILE) and not _in_store(name))
        gone = (
            name for name in ours if name not in there and self._notes.local(name, LocalFile.of(self.folder / name))
        )
        return tuple(sorted(os.path.dirname(name) for name in gone))

    def fetch_key(self, digits: str) -> None:
        """Bring the files of a key of the store here; all files of the store for no digits."""

        def wanted(name: str) -> bool:
            return f"-{digits}" in name.rpartition("/")[2] if digits else True

        found, folders = self._remote.level(STORE)
        found = {name: file for name, file in found.items() if wanted(name)}
        for folder in filter(wanted, folders):
            found |= self._remote.files(folder)
        for name in sorted(found, key=_manifest_first):
            self._fetch(name, found[name], replace=False)

    def upload(self, *, in_passing: bool = False) -> None:
        """Upload what is new here.

        Args:
            in_passing: leave out files that grow and were uploaded a short while ago.
        """
        with self._uploading:
            try:
                if not in_passing:
                    self._forget_removed()
                for name in sorted(self._local_names(STORE), key=_manifest_first):
                    with suppress(FileNotFoundError):  # removed meanwhile, as batches are that became one file
                        self._upload_stored(name, in_passing)
                # A supervised control lies within its pair's folder, and is uploaded before.
                folders = {os.path.dirname(name) for name in self._local_names() if not _in_store(name)}
                for folder in sorted(folders, key=lambda each: (-each.count("/") - bool(each), each)):
                    self._upload_results(folder)
            except (RLCircuitsError, OSError) as error:
                why = str(error) if isinstance(error, RLCircuitsError) else f"{self.url}: {one_line(error)}"
                raise RLCircuitsError(
                    f"{why}; results that are not uploaded yet are in {self.folder}, and the same command on this "
                    "machine uploads them"
                ) from None

    def _results(self, names: tuple[str, ...] | None) -> dict[str, RemoteFile]:
        """Return the objects that are results, of all or of some pairs; without pairs that are being uploaded."""
        if names is not None:
            found = {name: file for pair in names for name, file in self._remote.files(pair).items()}
        else:
            found, folders = self._remote.level("")
            for folder in folders:
                found |= {} if folder == STORE else self._remote.files(folder)
        unfinished = {
            folder
            for folder in {os.path.dirname(name) for name in found if name.endswith(_MEASURED)}
            if _in(folder, COMPARISON_FILE) not in found
        }
        # A URL that holds several runs has a store in each.
        stored = {folder for folder in map(os.path.dirname, found) if STORE in folder.split("/")}
        return {name: file for name, file in found.items() if os.path.dirname(name) not in unfinished | stored}

    def _fetch(self, name: str, there: RemoteFile, *, replace: bool) -> None:
        """Bring one file here.

        Args:
            name: its name.
            there: what the listing says of it.
            replace: whether another file here is replaced that was written since; else only by a longer one that grows.
        """
        path = self.folder / name
        here = LocalFile.of(path)
        if self._notes.remote(name) == there and self._notes.local(name, here):
            return
        if here is None or replace or self._notes.local(name, here):
            self._download(name, path)
        elif _grows(name) and there.size > here.size:
            with try_write_lock(path) as free:
                if free:  # else a process of this machine makes it longer
                    self._download(name, path)

    def _download(self, name: str, path: Path) -> None:
        found = self._remote.download(name, path)
        if found is not None and (here := LocalFile.of(path)) is not None:
            self._notes.note(name, here, found)

    def _is_ours(self, folder: str) -> bool:
        """Return whether a pair was finished here and is not uploaded yet."""
        name = _in(folder, COMPARISON_FILE)
        here = LocalFile.of(self.folder / name)
        return here is not None and not self._notes.local(name, here) and self._is_settled(folder)

    def _is_settled(self, folder: str) -> bool:
        """Return whether a pair's results are finished, or a folder has no pair's."""
        files = [path for path in (self.folder / folder).iterdir() if path.suffix in _MEASURED and _is_kept(path.name)]
        comparison = LocalFile.of(self.folder / folder / COMPARISON_FILE)
        times = [found.mtime_ns for path in files if (found := LocalFile.of(path)) is not None]
        return not times or (comparison is not None and comparison.mtime_ns >= max(times))

    def _forget_removed(self) -> None:
        """Forget what is noted of the run's files that were removed from the URL, so that they are uploaded again."""
        there = self._remote.files(STORE)
        gone = {name for name in self._local_names(STORE) if name not in there}
        for pair in self._pairs:
            there, ours = self._remote.files(pair), list(self._local_names(pair))
            missing = {name for name in ours if name not in there}
            unfinished = {os.path.dirname(name) for name in missing if name.endswith(COMPARISON_FILE)}
            gone |= missing | {name for name in ours if os.path.dirname(name) in unfinished}
        for name in gone:
            self._notes.forget(name)

    def _upload_stored(self, name: str, in_passing: bool) -> None:
        path = self.folder / name
        here = LocalFile.of(path)
        if here is None or self._notes.local(name, here):
            return
        if _grows(name):
            if not in_passing or time.monotonic() >= self._not_before.get(name, 0):
                self._upload_growing(name, path, here)
        elif self._notes.remote(name) is None:
            self._notes.note(name, here, self._remote.create(name, path))
        else:  # made again, since it was damaged
            self._notes.note(name, here, self._remote.overwrite(name, path))

    def _upload_growing(self, name: str, path: Path, here: LocalFile) -> None:
        start = time.monotonic()
        while True:
            data = path.read_bytes()
            data = data[: data.rfind(b"\n") + 1]  # the last line may be half written
            there = self._remote.find(name)
            if there is None or there.size < len(data):
                there = self._remote.replace(name, data, there)
            if there is not None:  # else another machine was faster
                break
        if there.size == len(data) == here.size:
            self._notes.note(name, here, there)
        took = time.monotonic() - start
        self._not_before[name] = time.monotonic() + max(_GROWING_S, _SHARE_OF_TIME * took)

    def _upload_results(self, folder: str) -> None:
        found = [path for path in (self.folder / folder).iterdir() if path.is_file() and _is_kept(path.name)]
        named = {_in(folder, path.name): path for path in found}
        changed = {name: path for name, path in named.items() if not self._notes.local(name, LocalFile.of(path))}
        if not changed or not self._is_settled(folder):
            return
        last = _in(folder, COMPARISON_FILE)
        if last in changed and len(changed) > 1:
            self._remote.remove(last)
        for name in sorted(changed, key=_comparison_last):
            here = LocalFile.of(changed[name])
            if here is None or (name == last and not self._is_settled(folder)):  # measured again meanwhile
                return
            self._notes.note(name, here, self._remote.overwrite(name, changed[name]))

    def _local_names(self, under: str = "") -> Iterator[str]:
        for folder, _, files in os.walk(self.folder / under):
            for file in files:
                if _is_kept(file):
                    yield (Path(folder) / file).relative_to(self.folder).as_posix()

    def _upload_again_and_again(self) -> None:
        told = False
        while not self._ended.wait(_EVERY_S):
            try:
                self.upload(in_passing=True)
                told = False
            except (RLCircuitsError, OSError) as error:  # the run goes on, and the end of the context tries it again
                if not told:
                    self._notify(f"{error}; it is tried again")
                told = True


def _is_kept(file: str) -> bool:
    """Return whether a file of this name is one of the run's, and no lock or partial file."""
    return file not in _OF_THIS_MACHINE and not (file.startswith(".") and file.endswith((".lock", ".tmp")))


def _in(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _in_store(name: str) -> bool:
    return name.startswith(f"{STORE}/")


def _grows(name: str) -> bool:
    """Return whether a file of the store is one of answers, to which batches are added."""
    return name.endswith(".jsonl") and name.count("/") == 1 and _in_store(name)


def _comparison_last(name: str) -> tuple[int, bool, str]:
    """Sort a pair's comparison after its other files, and after the pairs in its folder."""
    folder, _, file = name.rpartition("/")
    return -folder.count("/") - bool(folder), file == COMPARISON_FILE, name


def _manifest_first(name: str) -> tuple[bool, str]:
    """Sort what says how batches are cut before the batches."""
    return not name.endswith(".json"), name
