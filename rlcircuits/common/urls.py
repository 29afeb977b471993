"""Tell the URL of an output folder in an object store from a path, without importing what reads one."""

from __future__ import annotations

import re
from urllib.parse import unquote

from rlcircuits.common.errors import RLCircuitsError, truncate, truncated_repr

__all__ = ["PROTOCOLS", "check_no_url", "check_url", "is_url", "protocol_of"]

PROTOCOLS = ("s3", "gs", "file")
"""Protocols of URLs that an output folder may have: S3 and what speaks its protocol, Google Cloud Storage, a folder."""

_URL = re.compile(rf"\s*(?:[A-Za-z][A-Za-z0-9+.-]+:/|(?:{'|'.join(PROTOCOLS)}):)", re.IGNORECASE)

_CUT_OR_REPLACED = re.compile(r"[?#\\]")
"""Characters that readers of URLs cut off with what follows, or take for a slash."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Characters that no name in an object store may have."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


def is_url(text: object) -> bool:
    """Return whether a text is a URL, if only a mistyped one, and no path; ``C:/`` is a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def protocol_of(url: str) -> str:
    """Return a URL's protocol in lower case, without the colon."""
    return url.partition(":")[0].lower()


def check_url(url: str) -> None:
    """Raise RLCircuitsError, which says what to write, for a URL that is none of an output folder."""
    shown, protocol = truncate(url, 200), protocol_of(url)
    if url != url.lstrip():
        raise RLCircuitsError(f"{truncated_repr(url)}: a URL with space before it; leave the space out")
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise RLCircuitsError(f"{shown}: the protocol {protocol}:// is not known; {known} are")
    if (found := _CUT_OR_REPLACED.search(url)) is not None:
        raise RLCircuitsError(
            f"{truncated_repr(url)}: {found[0]!r} would not become part of the folder's name; leave it out, or write "
            f"%{ord(found[0]):02X} for it"
        )
    if (found := _UNPRINTABLE.search(unquote(url))) is not None:
        raise RLCircuitsError(f"{truncated_repr(url)}: no name may have the character {found[0]!r}; leave it out")
    host, _, path = url.partition(":")[2].removeprefix("//").partition("/")
    if protocol == "file":
        _check_file_url(url, shown, host, path)
    else:
        _check_bucket(url, shown, host, path)


def _check_file_url(url: str, shown: str, host: str, path: str) -> None:
    if not url[len("file:") :].startswith("//") or host not in ("", "localhost"):
        raise RLCircuitsError(f"{shown}: names no folder by its whole path; write file:///FOLDER")
    if not path.strip("/"):
        raise RLCircuitsError(f"{shown}: names no folder; write file:///FOLDER")


def _check_bucket(url: str, shown: str, bucket: str, path: str) -> None:
    protocol = protocol_of(url)
    if "@" in bucket:  # a password may stand before it, and is not repeated
        raise RLCircuitsError(
            f"{protocol}://…@{bucket.rpartition('@')[2]}: credentials in a URL are not read; leave them out, and set "
            "them as environment variables"
        )
    if not url[len(protocol) + 1 :].startswith("//") or not bucket:
        raise RLCircuitsError(f"{shown}: names no bucket and folder; write {protocol}://BUCKET/FOLDER")
    if _BUCKET.fullmatch(bucket) is None:
        server = "; AWS_ENDPOINT_URL names another server" if ":" in bucket else ""
        raise RLCircuitsError(f"{shown}: no bucket can have the name {truncated_repr(bucket)}{server}")
    if "//" in f"/{unquote(path)}".rstrip("/"):
        raise RLCircuitsError(f"{shown}: a folder in it has an empty name; write one slash between two folders")


def check_no_url(text: object, shown: str, wanted: str = "folder") -> None:
    """Raise RLCircuitsError if a text is a URL, and a folder or file is wanted.

    Args:
        text: what was given.
        shown: the option or argument, for the message.
        wanted: what is wanted: ``folder``, or ``file``.
    """
    if is_url(text):
        raise RLCircuitsError(
            f"{shown}: {truncated_repr(text)} is a URL, and a {wanted} of this machine is wanted; compare --output, "
            "track --output, report, verify and pytest --rlcircuits-output take a URL, "
            + ("so copy it to a folder for this" if wanted == "folder" else "so write a file and copy it there")
        )
