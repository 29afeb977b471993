"""Fill in a template of a whole page: with the style, the scripts that it needs, and the hash that lets them run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlcircuits.common.files import write_text_atomically
from rlcircuits.report.page.provenance import written_by
from rlcircuits.report.page.terms import TERMS

__all__ = ["fill_page", "save_page"]

_PACKAGE = "rlcircuits.report.page"


def fill_page(template: str, scripts: Sequence[str], **values: object) -> str:
    """Return a page as HTML, which fetches nothing.

    Args:
        template: name of the template.
        scripts: names of the scripts in ``static/``, in their order.
        values: what the template shows. All of it is escaped.
    """
    script = "\n".join(map(_static, scripts))
    return (
        _environment()
        .get_template(template)
        .render(
            terms=TERMS,
            style=_static("page.css"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
            written_by=written_by(),
            written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            **values,
        )
    )


def save_page(html: str, path: str | Path) -> Path:
    """Write a page, and replace an older file atomically; its folder is created if it does not exist."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, html)
    return path


@cache
def _environment() -> Environment:
    """Return the templates' environment, which escapes every value that is not marked as safe."""
    loader = PackageLoader(_PACKAGE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _static(name: str) -> str:
    return (files(_PACKAGE) / "static" / name).read_text(encoding="utf-8")
