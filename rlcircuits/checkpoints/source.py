"""What can become a checkpoint, and be known again without loading it.

Answers and scores are kept on disk under a source's fingerprint, so that work done is found again and work
done for other weights never is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_changed_fields, short_repr
from rlcircuits.models.adapters import find_base
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.folder import contents, has_tokenizer, is_adapter, load_config, load_tokenizer, local_folder

__all__ = ["CheckpointSource", "Source", "check_same_architecture", "check_same_vocabulary"]

_ARCHITECTURE = ("model_type", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size")
"""What of the config two checkpoints must share to have one graph and one width."""


@runtime_checkable
class Source(Protocol):
    """Anything that can become a Checkpoint, and be known again without loading it."""

    @property
    def name(self) -> str:
        """What to call it: a folder or hub id, and what was done to it."""

    def fingerprint(self) -> str:
        """Hex sha256 that changes whenever the weights, the config or the tokenizer change."""

    def tokenizer(self) -> Any:
        """The tokenizer, without loading the weights. Raises RLCircuitsError if there is none."""

    def load(self) -> Checkpoint:
        """The checkpoint, loaded anew each time."""


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint in a folder or on the hub, or a LoRA adapter, which is merged into its base in memory."""

    path: str
    """A folder, or a hub id. An adapter's folder (with ``adapter_config.json``) names its base."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: str | None = None
    """What to load the weights as; None for the dtype they are stored in."""
    device: str | None = None
    """None for ``cuda`` where there is one, else ``cpu``."""
    device_map: str | None = None
    """Instead of a device: how to split the model over devices (``auto``, ``balanced``, …; needs accelerate)."""
    trust_remote_code: bool = False
    """Run the Python code that the repository brings along."""

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):
            object.__setattr__(self, "path", os.fspath(self.path))
        validate_fields(self)

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    @property
    def name(self) -> str:
        """The path, with the revision where one was asked for."""
        return self.path if self.revision is None else f"{self.path}@{self.revision}"

    @cached_property
    def folder(self) -> Path:
        """Where the files are: a hub id's snapshot is looked up once, so that a moving branch stays put."""
        return local_folder(self.path, self.revision, code=self.trust_remote_code)

    def fingerprint(self) -> str:
        """Hex sha256 of the contents of the files that are loaded (an adapter's base's too), and of the dtype.

        The place (device, device map) does not count. Files are read whole, once a process while unchanged.
        Raises RLCircuitsError if the checkpoint is not found, or which files are its weights cannot be told.
        """
        code = self.trust_remote_code
        parts: dict[str, Any] = {"dtype": str(torch_dtype(self.dtype)), "files": contents(self.folder, code=code)}
        if is_adapter(self.folder):
            parts["base"] = contents(find_base(self.folder).folder, code=code)
        if code:
            parts["trust_remote_code"] = True
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """The tokenizer; an adapter's own where it has one, else its base's."""
        folder = self.folder
        if is_adapter(folder) and not has_tokenizer(folder):
            folder = find_base(folder).folder
        return load_tokenizer(folder, self.name, trust_remote_code=self.trust_remote_code)

    @property
    def context_length(self) -> int | None:
        """Most tokens the model can read, by its config (an adapter's base's); None if that names no limit."""
        return getattr(self._config(), "max_position_embeddings", None)

    def architecture(self) -> dict[str, Any]:
        """What the config (an adapter's base's) says of the architecture, without loading the weights.

        Model type, layers, heads, key/value heads and width, by their names in the config, which count for the models
        that call them otherwise too. Raises RLCircuitsError for a config that is missing or cannot be read.
        """
        config = self._config()
        found = {name: getattr(config, name, None) for name in _ARCHITECTURE}
        if found["num_key_value_heads"] is None:
            found["num_key_value_heads"] = found["num_attention_heads"]
        return found

    def _config(self) -> Any:
        folder = find_base(self.folder).folder if is_adapter(self.folder) else self.folder
        return load_config(folder, trust_remote_code=self.trust_remote_code).get_text_config()

    def load(self) -> Checkpoint:
        """Load it. Raises RLCircuitsError for what :meth:`~rlcircuits.Checkpoint.load` refuses."""
        return Checkpoint.load(
            self.folder,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
            name=self.name,
        )


def check_same_architecture(before: CheckpointSource, after: CheckpointSource) -> None:
    """Check by their configs that both of a pair have one architecture and size, and so one graph.

    Raises RLCircuitsError naming the first field that differs, or for a config that cannot be read.
    """
    theirs = after.architecture()
    for name, value in before.architecture().items():
        if value != theirs[name]:
            raise RLCircuitsError(
                f"{before.name} and {after.name} have different architectures: {name} is {value!r} in the first and "
                f"{theirs[name]!r} in the second; a pair needs two checkpoints of one architecture and size"
            )


def check_same_vocabulary(before: Source, after: Source, ids: Iterable[int] | None = None) -> None:
    """Check that a token id means the same to both of a pair.

    ids: the token ids in use; each must be the same token in both. By default all ids that both have, apart
    from added tokens (a chat template's marks, padding), which post-training may change. Prompts may differ
    all the same; the pairing compares their lengths.

    Raises RLCircuitsError naming the first id that means two things.
    """
    left, right = before.tokenizer(), after.tokenizer()
    ours, theirs = _tokens(left), _tokens(right)
    if ids is None:
        wanted = (ours.keys() & theirs.keys()) - left.added_tokens_decoder.keys() - right.added_tokens_decoder.keys()
        if not wanted:
            raise RLCircuitsError(f"{before.name} and {after.name} have no token id in common; they cannot be compared")
    else:
        wanted = set(ids)
    for token in sorted(wanted):
        if ours.get(token) != theirs.get(token):
            raise RLCircuitsError(
                f"{before.name} and {after.name} have different tokenizers: id {token} is {ours.get(token)!r} in "
                f"the first and {theirs.get(token)!r} in the second; a pair needs one vocabulary"
            )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}
