"""Files below a URL of an object store: list, upload, download and remove, each object whole or not at all.

The library obstore does the work. It tries again what fails in transit, for :data:`PATIENCE`. What it raises in the end
becomes one sentence here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rlcircuits.common.errors import RLCircuitsError, one_line, truncate, truncated_repr
from rlcircuits.common.files import write_atomically
from rlcircuits.common.urls import check_url, protocol_of

__all__ = ["RemoteFile", "RemoteFolder"]

PATIENCE = timedelta(seconds=90)
"""How long a request that fails is tried again, with growing pauses."""

_CONNECT = timedelta(seconds=10)
_WHOLE_REQUEST = timedelta(minutes=30)
_MOST_RETRIES = 12

_LARGEST_AT_ONCE = 2**30
"""Bytes of the largest file that is sent in one request, which alone can be conditional."""

_DOWNLOADS = 3
"""How often a download is made whose size is not that of the object."""

_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|credential", re.IGNORECASE)
_DENIED = re.compile(r"\b(401 Unauthorized|403 Forbidden)|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch")

_REQUEST = re.compile(r"Error performing [A-Z]+ (?P<server>https?://[^/\s]+)\S* in .*? - (?P<reason>.*)", re.DOTALL)
"""What obstore says of a request that failed."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Environment variables that name another server than Amazon's."""

_CREDENTIALS: Mapping[str, str] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION or AWS_ENDPOINT_URL where they are needed",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or log in with gcloud auth application-default login",
}


@dataclass(frozen=True)
class RemoteFile:
    """What a listing tells of an object."""

    size: int
    tag: str
    """Changes with the content: the entity tag."""


class RemoteFolder:
    """The objects below a URL, by their names relative to it.

    Args:
        url: such as ``s3://bucket/runs/candidate``.
        create: whether the folder of a ``file://`` URL is made; else it is one without files until it is there.

    Raises:
        RLCircuitsError: the URL is none of an output folder, or obstore is not installed. Every method
            raises it where the store denies access or is not reached.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        check_url(url)
        self.url = url.rstrip("/")
        self._protocol = protocol_of(url)
        try:
            import obstore
        except ImportError as error:
            raise RLCircuitsError(
                f"{self.url}: obstore, which reads it, is not installed ({error}); pip install 'rlcircuits[remote]'"
            ) from None
        self._obstore: Any = obstore
        with self._explained():
            self._store: Any = self._opened(create)

    def _opened(self, create: bool) -> Any:
        from obstore.store import from_url

        if self._protocol == "file":
            there = create or _folder_of(self.url).is_dir()
            return from_url(self.url, mkdir=True) if there else self._obstore.store.MemoryStore()
        servers = [_server(name) for name in _ENDPOINTS] if self._protocol == "s3" else []
        plain_http = any(server.startswith("http://") for server in servers)
        return from_url(
            self.url,
            client_options={"connect_timeout": _CONNECT, "timeout": _WHOLE_REQUEST, "allow_http": plain_http},
            retry_config={"max_retries": _MOST_RETRIES, "retry_timeout": PATIENCE},
        )

    def files(self, under: str = "") -> dict[str, RemoteFile]:
        """Return all objects, or those below a folder, however deep."""
        with self._explained():
            found = [each for part in self._obstore.list(self._store, under or None) for each in part]
        return {each["path"]: _remote_file(each) for each in found}

    def level(self, under: str) -> tuple[dict[str, RemoteFile], tuple[str, ...]]:
        """Return the objects in a folder, and the folders in it, by their whole names."""
        with self._explained():
            found = self._obstore.list_with_delimiter(self._store, under or None)
        return {each["path"]: _remote_file(each) for each in found["objects"]}, tuple(found["common_prefixes"])

    def find(self, name: str) -> RemoteFile | None:
        """Return what is known of an object; None if there is none."""
        with self._explained():
            try:
                return _remote_file(self._obstore.head(self._store, name))
            except FileNotFoundError:
                return None

    def create(self, name: str, path: Path) -> RemoteFile:
        """Upload a file unless an object of the name is there, and return what is there then."""
        if path.stat().st_size > _LARGEST_AT_ONCE:
            return self.find(name) or self.overwrite(name, path)
        made = self._put_if(name, path, path.stat().st_size, None)
        if made is None and (made := self.find(name)) is None:
            return self.overwrite(name, path)  # removed meanwhile
        return made

    def replace(self, name: str, data: bytes, known: RemoteFile | None) -> RemoteFile | None:
        """Upload an object unless it has changed.

        Args:
            name: its name.
            data: its new content.
            known: what :meth:`find` returned.

        Returns:
            What is there now; None if it has changed since ``known``, and was left alone. In a folder of this machine
            (``file://``) a change within the last instant is overwritten.
        """
        return self._put_if(name, data, len(data), known)

    def overwrite(self, name: str, path: Path) -> RemoteFile:
        """Upload a file in place of what is there."""
        with self._explained():
            size = path.stat().st_size
            done = self._obstore.put(self._store, name, path, chunk_size=16 * 2**20)
        return RemoteFile(size, str(done["e_tag"]))

    def download(self, name: str, path: Path) -> RemoteFile | None:
        """Write an object to a file, atomically, and return what it was; None if there is none."""
        found = RemoteFile(0, "")

        def write(partial: Path) -> None:
            nonlocal found
            for _ in range(_DOWNLOADS):
                got = self._obstore.get(self._store, name)
                found = _remote_file(got.meta)
                with partial.open("wb") as file:
                    for part in got.stream():
                        file.write(part)
                if partial.stat().st_size == found.size:
                    return
            raise RLCircuitsError(
                f"{self.url}/{name}: {_DOWNLOADS} downloads had other sizes than the object's {found.size:,} bytes; "
                "try again"
            )

        with self._explained():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, write)
            except FileNotFoundError:
                return None
            except OSError as error:
                if _of_obstore(error):
                    raise
                raise RLCircuitsError(
                    f"{path}: {self.url}/{name} cannot be written to it: {error.strerror or error}"
                ) from None
        return found

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._explained():
            try:
                self._obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def _put_if(self, name: str, content: Path | bytes, size: int, known: RemoteFile | None) -> RemoteFile | None:
        """Upload if there is no object, or the known one is there still; else return None."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def put(mode: object) -> Any:
            return self._obstore.put(self._store, name, content, mode=mode, use_multipart=False)

        with self._explained():
            try:
                done = _or_without(put, "create" if known is None else {"e_tag": known.tag})
            except (AlreadyExistsError, PreconditionError):
                return None
        return RemoteFile(size, str(done["e_tag"]))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what obstore raises into one sentence."""
        try:
            yield
        except RLCircuitsError:
            raise
        except BaseException as error:  # obstore's panics are no Exception
            if not _of_obstore(error):
                raise
            raise RLCircuitsError(f"{self.url}: {self._why(error)}") from None

    def _why(self, error: BaseException) -> str:
        text = str(error).partition("Debug source")[0]
        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text or "404 Not Found" in text:
            return "there is no such bucket, or it is not yours; create it, or correct the URL"
        if _NO_CREDENTIALS.search(text):
            return f"no credentials were found; {_CREDENTIALS.get(self._protocol, 'see the access rights')}"
        if isinstance(error, PermissionError) or _DENIED.search(text) or type(error).__name__ in _REFUSALS:
            return "access is denied; the credentials must allow to list, read, write and delete objects there"
        if (found := _REQUEST.search(text)) is not None:
            text = f"{found['server']}: {found['reason']}"
        return f"not reached: {truncate(one_line(Exception(text)), 160)}"


_OF_OBSTORE = ("Debug source", "(os error ")
"""Words in the texts of exceptions that obstore raises."""

_REFUSALS = ("PermissionDeniedError", "UnauthenticatedError")


def _folder_of(url: str) -> Path:
    """Return the folder of a ``file://`` URL."""
    return Path(unquote(urlsplit(url).path))


def _server(variable: str) -> str:
    """Return the server that an environment variable names, where obstore would panic unless it is a URL."""
    if (named := os.environ.get(variable)) is None:
        return ""
    with suppress(ValueError):  # what no port can be
        found = urlsplit(named)
        if found.scheme in ("http", "https") and found.hostname and found.port != 0 and not re.search(r"\s", named):
            return named
    raise RLCircuitsError(
        f"{variable}: {truncated_repr(named)} is no server's URL; write https://HOST or http://HOST, or unset it"
    )


def _or_without(put: Callable[[object], Any], mode: object) -> Any:
    """Put under a condition, or without one in a store that knows none."""
    try:
        return put(mode)
    except NotImplementedError:
        return put("overwrite")
    except Exception as error:
        if "501 Not Implemented" not in str(error):
            raise
        return put("overwrite")


def _of_obstore(error: BaseException) -> bool:
    """Return whether obstore raised an exception; some of its own are those of Python."""
    return type(error).__module__.startswith(("obstore", "pyo3_runtime")) or any(
        words in str(error) for words in _OF_OBSTORE
    )


def _remote_file(found: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(int(found["size"]), str(found["e_tag"]))
