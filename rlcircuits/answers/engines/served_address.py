"""The address of a server: its URL, and the name of one of its models. This module imports no torch."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["check_address", "split_address"]

_ADDRESS = re.compile(r"(?P<url>https?://[^\s/?#@]+(/[^\s?#]*)?)(#(?P<model>\S+))?")

_PASSWORD = re.compile(r"//[^/\s]*@")
"""What must not get into a log."""


def check_address(address: str, where: str = "server") -> None:
    """Raise RLCircuitsError unless this is the address of a server."""
    split_address(address, where)


def split_address(address: str, where: str = "server") -> tuple[str, str | None]:
    """Return the URL that requests start with, and the name of the served model if one is given.

    Args:
        address: ``http://host:8000/v1``, or ``http://host:8000/v1#name``.
        where: what an error message begins with.

    Raises:
        RLCircuitsError: this is no such address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not _has_host_and_port(found["url"]):
        shown = truncated_repr(_PASSWORD.sub("//…@", address))
        raise RLCircuitsError(
            f"{where} is {shown}; an address such as http://host:8000/v1 is wanted, with #name "
            "behind it if the server has several models (no user or password: a key goes into OPENAI_API_KEY)"
        )
    return found["url"].rstrip("/"), found["model"]


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.port != 0 and bool(parts.hostname) and url.isprintable()
    except ValueError:  # a port that is no number or too large, or half an IPv6 address
        return False
