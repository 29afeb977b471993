"""Interrupt a run at one of its progress messages, or as a kill would: anywhere within its file of answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.tiny_checkpoints import Unloadable
from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.source import CheckpointSource


class CutOffError(Exception):
    """The run is interrupted here."""


def cut_off(where: str) -> Callable[[str], None]:
    """Return a `notify` function that raises CutOffError at the first line that contains `where`."""

    def stop(line: str) -> None:
        if where in line:
            raise CutOffError

    return stop


def answers_after_cut(
    ask: Callable[[Any, Path], Answers], source: CheckpointSource, whole: Path, store: Path, share: float
) -> Answers:
    """Resume a run whose file ends after a share of its bytes, and check that it ends in the same file.

    Args:
        ask: answers the questions with a source and a store.
        source: the checkpoint; the second call must not load it.
        whole: the file of a run that was not interrupted.
        store: an empty store.
        share: from 0 to 1.
    """
    content = whole.read_bytes()
    (store / whole.name).write_bytes(content[: round(share * len(content))])
    found = ask(source, store)
    assert found == ask(Unloadable(source), store)
    assert (store / whole.name).read_bytes() == content
    return found
