"""Read a checkpoint's weights one at a time: from its files where that is possible, else from the loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import safetensors
import torch
from torch import Tensor

from rlcircuits.checkpoints.source import CheckpointSource, Source, on_cpu
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.input_files import check_readable
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.families import FAMILIES
from rlcircuits.models.find_family import ties_embeddings
from rlcircuits.models.folder import CONFIG, check_folder, is_adapter, load_config
from rlcircuits.models.quantised import quantisation_of
from rlcircuits.models.tensor_groups import group_of, is_token_embedding
from rlcircuits.models.weight_files import is_recomputed, stored_tensors

__all__ = ["LoadedTensors", "StoredTensors", "TensorReader", "can_stream", "find_key", "loaded_names"]


class TensorReader(Protocol):
    """The weights of one checkpoint, each under a key that is the weight's name in a loaded model where possible."""

    shapes: Mapping[str, tuple[int, ...]]
    """Key → shape. The weight of tied embeddings is there once, as the embedding."""
    tied: bool
    """Whether one weight embeds and unembeds."""
    config: Any
    """The Hugging Face config of the (text) model."""

    def read(self, key: str) -> Tensor:
        """Return a weight on the CPU, in the dtype that the model has when it runs."""


class StoredTensors:
    """A :class:`TensorReader` of a checkpoint's safetensors files, which holds no weight in memory.

    Raises:
        RLCircuitsError: a file is missing or damaged, or its weights are quantised.
    """

    def __init__(self, source: CheckpointSource, opened: ExitStack) -> None:
        """Read the headers of the files.

        Args:
            source: a checkpoint for which :func:`can_stream` is true.
            opened: closes the files.
        """
        check_folder(source.folder)
        config = load_config(source.folder, trust_remote_code=source.trust_remote_code)
        self.config: Any = config.get_text_config()
        self.tied = ties_embeddings(config)
        self._dtype = _loaded_dtype(source, config)
        self._opened = opened
        self._files: dict[Path, Any] = {}
        stored = stored_tensors(source.folder)
        keys = {key: name for name, key in loaded_names(list(stored), config.model_type).items()}
        self._stored = {
            key: (name, stored[name].file)
            for key, name in keys.items()
            # Files may hold the weight of tied embeddings a second time.
            if not is_recomputed(name) and not (self.tied and group_of(key) == "unembedding")
        }
        self.shapes: Mapping[str, tuple[int, ...]] = {
            key: stored[name].shape for key, (name, _) in self._stored.items()
        }

    def read(self, key: str) -> Tensor:
        """Return a weight from its file."""
        name, file = self._stored[key]
        try:
            if file not in self._files:
                check_readable(file)
                self._files[file] = self._opened.enter_context(safetensors.safe_open(str(file), framework="pt"))
            tensor: Tensor = self._files[file].get_tensor(name)
        except (OSError, safetensors.SafetensorError) as error:
            raise RLCircuitsError(f"{file} is damaged or cut short: {one_line(error)}") from error
        return tensor if self._dtype is None else tensor.to(self._dtype)


class LoadedTensors:
    """A :class:`TensorReader` of a model that is loaded: an adapter merged into its base, or any other source."""

    def __init__(self, source: Source) -> None:
        """Load the model, on the CPU if the source can.

        Args:
            source: what to load. Raises RLCircuitsError as its ``load`` does.
        """
        model = on_cpu(source).load().model
        self.config: Any = model.config.get_text_config()
        # Files hold some numbers that are no parameters: what a router adds to the scores of its experts.
        kept = model.state_dict().keys()
        buffers = {name: buffer for name, buffer in model.named_buffers() if name in kept and not is_recomputed(name)}
        self._parameters: dict[str, Tensor] = {**dict(model.named_parameters()), **buffers}
        self.tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(parameter.shape) for name, parameter in self._parameters.items()
        }

    def read(self, key: str) -> Tensor:
        """Return a weight of the model."""
        parameter: Tensor = self._parameters[key]
        return parameter.detach().cpu()


def can_stream(source: Source) -> TypeGuard[CheckpointSource]:
    """Return whether a source's weights are those in its files: it is a checkpoint, no adapter, and not quantised."""
    if not isinstance(source, CheckpointSource) or is_adapter(source.folder):
        return False
    # Without a config there is nothing to read, of which the reader tells.
    return not (source.folder / CONFIG).is_file() or quantisation_of(source.folder) is None


def find_key(tensors: TensorReader, key: str) -> str | None:
    """Return the key under which a reader has a weight, or None if it lacks it.

    Where the reader's embeddings are tied, and those of the checkpoint that the key is from are not, the unembedding's
    weight is the embedding's.
    """
    if key in tensors.shapes:
        return key
    if tensors.tied and group_of(key) == "unembedding":
        return next(filter(is_token_embedding, tensors.shapes), None)
    return None


def loaded_names(names: list[str], family: str) -> dict[str, str]:
    """Return the key of each stored name: the name in the loaded model, as far as prefix and head tell it."""
    known = FAMILIES.get(family)
    prefix = "" if known is None else known.layers.partition(".")[0] + "."
    stored = prefix if known is None or known.stored_prefix is None else known.stored_prefix + "."
    # A file may hold the model without its head, whose names then lack the head model's prefix (GPT-2 on the hub).
    bare = not any(name.startswith((prefix, stored)) for name in names)

    def key(name: str) -> str:
        if group_of(name) == "unembedding":
            return name.replace("embed_out.", "lm_head.")
        return prefix + (name if bare else name.removeprefix(stored if name.startswith(stored) else prefix))

    return {name: key(name) for name in names}


def _loaded_dtype(source: CheckpointSource, config: Any) -> torch.dtype | None:
    """Return the dtype that the weights are loaded in, or None for the one that each is stored in."""
    dtype = torch_dtype(source.dtype)
    found = getattr(config, "dtype", None) if isinstance(dtype, str) else dtype
    return found if isinstance(found, torch.dtype) else None
