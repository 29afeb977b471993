"""Pack what the page's script draws: JSON, compressed, in base64.

Base64 has no character that HTML or a script reads, so no question, answer or name in it can break out of its element.
The script writes texts with ``textContent`` only.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping

from rlcircuits.common.json_files import without_nan

__all__ = ["pack", "unpack"]


def pack(content: Mapping[str, object]) -> str:
    """Return the content as base64 of gzipped JSON, NaN as null; the same content gives the same text."""
    text = json.dumps(without_nan(content), allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def unpack(text: str) -> dict[str, object]:
    """Return what :func:`pack` packed."""
    content: dict[str, object] = json.loads(gzip.decompress(base64.b64decode(text)))
    return content
