"""Tell the URL of an output folder in an object store from a path, without importing what reads one."""

from __future__ import annotations

import re

from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["PROTOCOLS", "check_no_url", "is_url"]

PROTOCOLS = ("s3", "gs", "file")
"""Protocols of URLs that an output folder may have: S3 and what speaks its protocol, Google Cloud Storage, a folder."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_url(text: object) -> bool:
    """Return whether a text is a URL and no path; ``C:/`` is a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def check_no_url(text: object, shown: str) -> None:
    """Raise RLCircuitsError if a text is a URL, and a folder is wanted.

    Args:
        text: what was given.
        shown: the option or argument, for the message.
    """
    if is_url(text):
        raise RLCircuitsError(
            f"{shown}: {truncated_repr(text)} is a URL, and a folder of this machine is wanted; compare --output, "
            "track --output, report, verify and pytest --rlcircuits-output take a URL, so copy it to a folder for this"
        )
