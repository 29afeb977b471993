"""Folders of results that commands are given as a URL: a folder of this machine mirrors each while the command runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rlcircuits.cli.streams import log
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.urls import check_no_url, is_url

if TYPE_CHECKING:
    from rlcircuits.common.mirror import Mirror

__all__ = ["check_urls", "mirrored_output", "mirrored_results"]

_FOLDERS = {
    "output": "--output",
    "store": "--store",
    "folder": "DIR",
    "other": "DIR2",
    "save_circuits": "--save-circuits",
}
"""How each option or argument is shown that names a folder of results."""

_FILES = {"html": "--html", "plot": "--plot", "summary": "--summary"}
"""How each option is shown that names a file to write, which would become a folder named ``s3:``."""


def check_urls(options: argparse.Namespace, taken: Iterable[str]) -> None:
    """Raise RLCircuitsError for a URL where the command wants a folder or file of this machine.

    Args:
        options: the options of a command.
        taken: those that may be a URL.
    """
    for name, shown in _FOLDERS.items():
        if name not in taken:
            check_no_url(getattr(options, name, None), shown)
    for name, shown in _FILES.items():
        check_no_url(getattr(options, name, None), shown, "file")


@contextmanager
def mirrored_output(options: argparse.Namespace) -> Iterator[None]:
    """Let ``options.output`` be a folder of this machine within the context, if it is a URL, which gets the results.

    The mirror is ``options.mirror``, None for a folder.

    Raises:
        RLCircuitsError: the URL is not reached, or not all results could be uploaded.
    """
    if not is_url(given := options.output):
        yield
        return
    mirror = options.mirror = _mirror(given)
    mirror.check_writable()
    options.output = str(mirror.folder)
    log(f"results go to {mirror.url}, by way of {mirror.folder}")
    try:
        with mirror:
            yield
    finally:
        options.output = given  # which the message of an interruption names


@contextmanager
def mirrored_results(options: argparse.Namespace, *names: str, whole: bool = False) -> Iterator[None]:
    """Let options that are URLs of finished runs be folders of this machine, with what is at the URL.

    Args:
        options: the options of a command.
        names: those that may be a URL.
        whole: whether the store is needed too.

    Raises:
        RLCircuitsError: a URL is not reached, or nothing is there.
    """
    for name in names:
        if not is_url(given := getattr(options, name)):
            continue
        mirror = _mirror(given, create=False)
        mirror.fetch_results()
        if whole:
            mirror.fetch_key("")
        if not any(mirror.folder.iterdir()):
            mirror.forget()
            raise RLCircuitsError(f"{mirror.url}: there are no results; give the URL that compare --output had")
        for pair in mirror.removed_pairs():
            log(
                f"{mirror.url}/{pair}".rstrip("/")
                + ": no longer there; shown as it was when it was last fetched or uploaded"
            )
        setattr(options, name, str(mirror.folder))
    yield


def _mirror(url: str, *, create: bool = True) -> Mirror:
    from rlcircuits.common.mirror import Mirror

    return Mirror(url, notify=log, create=create)
