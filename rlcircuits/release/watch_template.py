"""Read a template of pairs: a pairs file whose pairs have no ``after``, which is then each new checkpoint of a folder.

A key ``after`` is refused, so that neither file is mistaken for the other: an ordinary pairs file needs the key, and
its ``after`` would be passed over here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import LONGEST_NAME, content_hash, safe_file_name
from rlcircuits.questions.source import plain_name
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import PairsFile, make_pairs_file, parse_tables

__all__ = ["OF_ONE_AFTER", "Template", "checkpoint_label", "load_template"]

OF_ONE_AFTER = {
    "after": "each new checkpoint of the folder is after; take the line away, or measure this one checkpoint with "
    "rlcircuits compare --pairs",
    "revision_after": "it is of a hub id, and after is a folder here; take the line away",
    "recorded_after": "it holds the answers of one checkpoint, and each new one answers anew; take the line away",
    "server_after": "a server has one checkpoint loaded, and there is a new one each time; take the line away",
    "pool": "checkpoints of one training are not independent, so that pooling them is no further evidence; take the "
    "line away",
}
"""Keys that a pair of a template does not have, each with why, and what to do."""

_LONGEST_LABEL = LONGEST_NAME // 2
"""Most bytes of a checkpoint's label; as many are left for the pair's own name."""


@dataclass(frozen=True)
class Template:
    """Pairs that wait for their ``after``."""

    file: PairsFile
    """The pairs, whose ``after`` stands for the checkpoint to come, and their settings."""

    @property
    def named(self) -> tuple[str, ...]:
        """Return the checkpoints that the template itself names, which are not judged."""
        of_each = ((pair.before, pair.reference, pair.control) for pair in self.file.pairs)
        return tuple(dict.fromkeys(one for found in of_each for one in found if one is not None))

    def for_checkpoint(self, label: str, folder: Path) -> PairsFile:
        """Return the pairs of one checkpoint, each named by the checkpoint's label and the template's own name.

        Args:
            label: what :func:`checkpoint_label` returns for the checkpoint.
            folder: the checkpoint.
        """
        pairs = (
            pair.model_copy(update={"name": f"{label}-{pair.name}", "after": str(folder.resolve())})
            for pair in self.file.pairs
        )
        return replace(self.file, pairs=tuple(pairs))


def load_template(path: str | Path) -> Template:
    """Read a pairs file whose pairs have no ``after``.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.release.pairs_file.load_pairs_file`; or a pair has a key that belongs to
            one ``after``, answers come from a server, or names of pairs could be confused.
    """
    path = Path(path)
    tables = parse_tables(path)
    for place, table in enumerate(tables.pairs, start=1):
        for key, why in OF_ONE_AFTER.items():
            if key in table:
                raise RLCircuitsError(f"{path}: pair {place}, key {key!r}: {why}")
    file = make_pairs_file(replace(tables, pairs=[_with_stand_in(table) for table in tables.pairs]), path)
    _check_names(file.pairs, path)
    if file.make_settings().engine == OPENAI:
        raise RLCircuitsError(
            f"{path}: [settings], key 'engine' is {OPENAI!r}, and no server has the new checkpoints; use "
            "'transformers' or 'vllm'"
        )
    return Template(file)


def checkpoint_label(name: str) -> str:
    """Return a checkpoint's name in results: its folder's, or a valid one that no other folder's name gives."""
    try:
        if len(plain_name(name, "a folder").encode()) <= _LONGEST_LABEL:
            return name
    except ValueError:
        pass
    digits = content_hash(name)[:8]
    words = safe_file_name("checkpoint", name).encode()[: _LONGEST_LABEL - len(digits) - 1].decode(errors="ignore")
    return f"{words}-{digits}"


def _with_stand_in(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pair's table with its ``before`` as ``after`` too, so that all else is read and checked."""
    return {**table, "after": table["before"]} if "before" in table else dict(table)


def _check_names(pairs: Sequence[Pair], path: Path) -> None:
    """Raise RLCircuitsError if two checkpoints could give one name of a pair, or a name would be too long."""
    names = [pair.name for pair in pairs]
    for name in names:
        if len(name.encode()) >= _LONGEST_LABEL:
            raise RLCircuitsError(
                f"{path}: pair {name!r} has a name of {len(name.encode())} bytes, and the checkpoint's comes before; "
                f"use at most {_LONGEST_LABEL - 1}"
            )
        if shorter := next((other for other in names if name.endswith(f"-{other}")), None):
            raise RLCircuitsError(
                f"{path}: the name of pair {name!r} ends in that of {shorter!r}, and the checkpoint's comes before "
                "both, so that two checkpoints could give one name; rename one of the two"
            )
