"""Sources of checkpoints, which have a name and a fingerprint before they are loaded.

The fingerprint is part of the cache key of answers and scores, so that a cached result is used for exactly the weights
that it was made with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.reused import load_or_copy
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_changed_fields, short_repr
from rlcircuits.models.adapters import Base, find_base
from rlcircuits.models.config_layers import of_layer
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.folder import contents, has_tokenizer, is_adapter, load_config, load_tokenizer, local_folder
from rlcircuits.models.images import ImageProcessor, check_reads_images

__all__ = [
    "CheckpointSource",
    "Source",
    "SourceWithoutWeights",
    "check_same_architecture",
    "check_same_vocabulary",
    "on_cpu",
    "processor_of",
]

_ARCHITECTURE = ("model_type", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size")
"""The fields of the config that must be equal for two checkpoints to have the same graph and width."""


@runtime_checkable
class Source(Protocol):
    """Anything that loads a Checkpoint and has a fingerprint without loading it."""

    @property
    def name(self) -> str:
        """The name in results and messages: a folder or hub id, and what was changed."""

    def fingerprint(self) -> str:
        """Return a hex sha256 that changes whenever the weights, the config or the tokenizer change."""

    def tokenizer(self) -> Any:
        """Return the tokenizer without loading the weights. Raises RLCircuitsError if there is none."""

    def load(self) -> Checkpoint:
        """Load the checkpoint; each call returns a new one."""


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint in a folder or on the Hugging Face hub, or a LoRA adapter, which is merged into its base model."""

    path: str
    """A folder or a hub id. The ``adapter_config.json`` of an adapter names its base model."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: str | None = None
    """The dtype to load the weights in; None for the dtype that they are stored in."""
    device: str | None = None
    """The device; None for ``cuda`` if there is one, else ``cpu``."""
    device_map: str | None = None
    """How to split the model over devices, instead of ``device`` (``auto``, ``balanced``, …; needs accelerate)."""
    trust_remote_code: bool = False
    """Run Python code from the repository."""

    reads_weights = True
    """Whether the weights' files may be downloaded and read."""

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):
            object.__setattr__(self, "path", os.fspath(self.path))
        validate_fields(self)

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    @property
    def name(self) -> str:
        """The path, followed by the revision if one is set."""
        return self.path if self.revision is None else f"{self.path}@{self.revision}"

    @cached_property
    def folder(self) -> Path:
        """The folder of the files. A hub id's snapshot is looked up once, so that a branch cannot move meanwhile."""
        return local_folder(self.path, self.revision, code=self.trust_remote_code, weights=self.reads_weights)

    def fingerprint(self) -> str:
        """Return the hex sha256 of the dtype and of all files that are loaded, with those of an adapter's base model.

        The device and device map do not matter. Each file is read once per process unless it changes.

        Raises:
            RLCircuitsError: the checkpoint is not found, or it is ambiguous which files have its weights.
        """
        code = self.trust_remote_code
        parts: dict[str, Any] = {"dtype": str(torch_dtype(self.dtype)), "files": contents(self.folder, code=code)}
        if is_adapter(self.folder):
            parts["base"] = contents(self._base().folder, code=code)
        if code:
            parts["trust_remote_code"] = True
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """Return the tokenizer; for an adapter its own, or else its base model's."""
        folder = self.folder
        if is_adapter(folder) and not has_tokenizer(folder):
            folder = self._base().folder
        return load_tokenizer(folder, self.name, trust_remote_code=self.trust_remote_code)

    def processor(self) -> ImageProcessor:
        """Return the processor of images without loading the weights; for an adapter its base model's.

        Raises:
            RLCircuitsError: the model does not read images, or has no processor that loads.
        """
        folder = self.model_folder
        config = load_config(folder, trust_remote_code=self.trust_remote_code)
        check_reads_images(config, self.name)
        return ImageProcessor(folder, self.tokenizer(), config, self.name)

    @property
    def context_length(self) -> int | None:
        """The most tokens that the model can read, by the (base) model's config; None if it has no limit."""
        return getattr(self.text_config(), "max_position_embeddings", None)

    def architecture(self) -> dict[str, Any]:
        """Return the architecture by the config, or by that of an adapter's base model, without loading the weights.

        Returns:
            Model type, layers, heads, key/value heads and width, by their names in the config; transformers maps the
            names of families that call them otherwise.

        Raises:
            RLCircuitsError: the config is missing or cannot be read.
        """
        config = of_layer(self.text_config(), 0)
        found = {name: getattr(config, name, None) for name in _ARCHITECTURE}
        if found["num_key_value_heads"] is None:
            found["num_key_value_heads"] = found["num_attention_heads"]
        return found

    @property
    def model_folder(self) -> Path:
        """The folder of the model's config: an adapter's base model's, any other checkpoint's own."""
        return self._base().folder if is_adapter(self.folder) else self.folder

    def _base(self) -> Base:
        return find_base(self.folder, weights=self.reads_weights)

    def text_config(self) -> Any:
        """Return the text model's config; an adapter's base's. Raises RLCircuitsError if it cannot be read."""
        return load_config(self.model_folder, trust_remote_code=self.trust_remote_code).get_text_config()

    def load(self) -> Checkpoint:
        """Load the checkpoint. Raises RLCircuitsError as :meth:`~rlcircuits.Checkpoint.load` does."""
        return load_or_copy(self, self._load, name=self.name, device=self.device, split=self.device_map is not None)

    def _load(self) -> Checkpoint:
        return Checkpoint.load(
            self.folder,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
            name=self.name,
        )


@dataclass(frozen=True, repr=False)
class SourceWithoutWeights(CheckpointSource):
    """A checkpoint of which only the configs and the tokenizer are downloaded and read, and an adapter's base's."""

    reads_weights = False

    def load(self) -> Checkpoint:
        """Raise RLCircuitsError: there are no weights to load."""
        raise RLCircuitsError(f"{self.name}: only its configs are read, so that it cannot be loaded")


def without_weights(source: CheckpointSource) -> CheckpointSource:
    """Return a source of which only configs and the tokenizer are downloaded and read, an adapter's base's too."""
    return SourceWithoutWeights(**{each.name: getattr(source, each.name) for each in fields(source)})


def processor_of(model: Source | Checkpoint) -> ImageProcessor:
    """Return what makes prompts with images into a model's inputs.

    Raises:
        RLCircuitsError: the model does not read images, has no processor that loads, or is a source without one.
    """
    found = getattr(model, "processor", None)
    if found is None:
        raise RLCircuitsError(
            f"{model.name} is a source without a processor of images, and cannot be asked questions with images"
        )
    processor: ImageProcessor = found()
    return processor


def on_cpu(source: Source) -> Source:
    """Return a source that loads the same checkpoint on the CPU; one that chooses its own device stays as it is."""
    if isinstance(source, CheckpointSource):
        return replace(source, path=str(source.folder), revision=None, device="cpu", device_map=None)
    return source


def check_same_architecture(before: CheckpointSource, after: CheckpointSource) -> None:
    """Check by their configs that two checkpoints have the same architecture and size, and so the same edge graph.

    Raises:
        RLCircuitsError: naming the first field that differs, or for a config that cannot be read.
    """
    theirs = after.architecture()
    for name, value in before.architecture().items():
        if value != theirs[name]:
            raise RLCircuitsError(
                f"{before.name} and {after.name} have different architectures: {name} is {value!r} in the first and "
                f"{theirs[name]!r} in the second; a pair needs two checkpoints of one architecture and size"
            )


def check_same_vocabulary(before: Source, after: Source, ids: Iterable[int] | None = None) -> None:
    """Check that each token id is the same token in both checkpoints' vocabularies.

    Prompts may still differ; the pairing compares their lengths.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.
        ids: the token ids to check. By default all ids that both have, except added tokens (of a chat template, or for
            padding), which post-training may change.

    Raises:
        RLCircuitsError: naming the first id whose token differs.
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
