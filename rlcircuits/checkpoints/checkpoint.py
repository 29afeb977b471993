"""Load a causal language model, locate its parts, and verify that its residual stream is their sum."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlcircuits.capture.expert_check import verify_experts
from rlcircuits.capture.nonfinite import first_bad_weight
from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.devices import usable_device
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.models.dtypes import DTYPES, torch_dtype
from rlcircuits.models.folder import check_folder, has_tokenizer, is_adapter, load_tokenizer, local_folder
from rlcircuits.models.frozen import differentiable
from rlcircuits.models.images import ImageProcessor
from rlcircuits.models.loading import load_model
from rlcircuits.models.parts import ModelParts, locate_parts
from rlcircuits.models.transformer_lens import is_bridge, unbridge

# The modules and hooks of each verified model, so that a model is verified again only after one has changed.
_verified: weakref.WeakKeyDictionary[nn.Module, tuple[object, ...]] = weakref.WeakKeyDictionary()
# The same of each model whose experts are verified.
_verified_experts: weakref.WeakKeyDictionary[nn.Module, tuple[object, ...]] = weakref.WeakKeyDictionary()


class Checkpoint:
    """A causal LM whose parts are located and whose residual stream is verified.

    Attributes:
        model: the Hugging Face model, unchanged.
        parts: the modules that write to the residual stream and read from it.
        name: the name in results and messages.
    """

    @validate_arguments
    def __init__(self, model: nn.Module, tokenizer: Any = None, name: str | None = None) -> None:
        """Locate the parts of ``model`` and verify its residual stream.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer, which attribution does not need.
            name: the name in results and messages, by default the model's ``name_or_path``.

        Raises:
            RLCircuitsError: an architecture that is not supported, a residual stream that is not exactly the sum of
                the components that were found, or weights that are offloaded or quantised.
        """
        self.name = name or getattr(model, "name_or_path", "") or type(model).__name__
        _check_resident(model, self.name)
        _check_whole(model, self.name)
        self.model: Any = model
        self.parts: ModelParts = locate_parts(model)
        self._tokenizer = tokenizer
        self._no_tokenizer = f"{self.name} has no tokenizer: none was given with the model"
        self._folder: Path | None = None
        function = self._function()
        if _verified.get(model) != function:
            with differentiable():
                verify_stream(model, self.parts)
            _verified[model] = function

    def __repr__(self) -> str:
        layers = format_count(len(self.parts.blocks), "layer")
        dtype = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        return short_repr(self, elided_repr(self.name), type(self.model).__name__, layers, dtype, str(self.device))

    def _function(self) -> tuple[object, ...]:
        """Return what changes when the model computes something else, or its parts are found by other names."""
        return self.parts.names, *map(_function_of, self.model.modules())

    def verify_experts(self) -> None:
        """Verify that each mixture writes the sum of its experts, unless that was done and nothing has changed.

        Raises:
            RLCircuitsError: a mixture writes something that is neither an expert's nor shared.
        """
        function = self._function()
        if _verified_experts.get(self.model) != function:
            with differentiable():
                verify_experts(self.model, self.parts)
            _verified_experts[self.model] = function

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer. Raises RLCircuitsError if it has none."""
        if self._tokenizer is None:
            raise RLCircuitsError(self._no_tokenizer)
        return self._tokenizer

    def processor(self) -> ImageProcessor:
        """Return the processor of images. Raises RLCircuitsError for a model without images or processor."""
        if self._folder is None:
            raise RLCircuitsError(
                f"{self.name} has no processor of images: it was not loaded from a folder; use Checkpoint.load"
            )
        return ImageProcessor(self._folder, self.tokenizer, self.model.config, self.name)

    @property
    def device(self) -> torch.device:
        """The device of the embedding, to which token ids must be moved."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The model's weights and buffers, tied ones once."""
        return [*self.model.parameters(), *self.model.buffers()]

    @property
    def nbytes(self) -> int:
        """The size of the model's weights and buffers in bytes, tied ones once."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def context_length(self) -> int | None:
        """The most tokens that the model can read, or None if its config has no limit."""
        return self.parts.context

    @classmethod
    def of(cls, model: Any) -> Checkpoint:
        """Return ``model`` if it is a Checkpoint, else a Checkpoint of a Hugging Face model or TransformerBridge.

        Raises:
            RLCircuitsError: anything else, or what the constructor rejects.
        """
        if isinstance(model, Checkpoint):
            return model
        if is_bridge(model):
            model = unbridge(model)
        if not isinstance(model, nn.Module):
            raise RLCircuitsError(
                f"model is a {type(model).__name__}; a Hugging Face causal LM or a Checkpoint is needed"
            )
        return cls(model)

    @classmethod
    @validate_arguments
    def load(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        device_map: str | None = None,
        trust_remote_code: bool = False,
        name: str | None = None,
    ) -> Checkpoint:
        """Load a checkpoint from a folder or the Hugging Face hub; a LoRA adapter is merged into its base model.

        Only safetensors files are read. Quantised weights are dequantised in memory.

        Args:
            source: a folder or a hub id.
            device: by default ``cuda`` where there is one, else ``cpu``.
            dtype: by default the one that the weights are stored in.
            revision: branch, tag or commit of a hub id.
            device_map: how to split the model over several devices, instead of ``device`` (needs accelerate).
            trust_remote_code: run Python code from the repository. By default none is run, and no question is asked.
            name: the name in results and messages, by default the source.

        Raises:
            RLCircuitsError: a missing or damaged file; an invalid value in the config; weights that are missing, or
                that the architecture does not use; weights that are offloaded, or quantised in a way that is not read;
                NaN or Inf in a weight; a repository that needs its own code; a model that the constructor rejects.
        """
        if device is not None and device_map is not None:
            raise RLCircuitsError(f"device {str(device)!r} and device_map {device_map!r} were both asked for")
        folder = local_folder(str(source), revision, code=trust_remote_code)
        adapter = folder if is_adapter(folder) else None
        if adapter:
            # Here, since it needs pydantic, without which the core runs.
            from rlcircuits.models.adapters import find_base, merge
        whole = find_base(folder).folder if adapter else folder
        check_folder(whole)
        place = None if device_map else usable_device(device)
        model = load_model(whole, torch_dtype(dtype), device_map, trust_remote_code=trust_remote_code)
        if adapter:
            model = merge(model, adapter)
        _check_resident(model, str(source))
        bad = first_bad_weight(model)
        if bad is not None:
            raise RLCircuitsError(f"{source}: weight {bad} holds NaN or Inf; the checkpoint is damaged")
        model = (model if place is None else model.to(place)).eval()
        _check_runs(model, str(source))
        checkpoint = cls(model, name=name or str(source))
        checkpoint._folder = whole
        try:
            own = adapter if adapter and has_tokenizer(adapter) else whole
            checkpoint._tokenizer = load_tokenizer(own, checkpoint.name, trust_remote_code=trust_remote_code)
        except RLCircuitsError as error:
            # Attribution needs no tokenizer, so the error is raised only when the tokenizer is asked for.
            checkpoint._no_tokenizer = str(error)
        return checkpoint


def _function_of(module: nn.Module) -> tuple[object, ...]:
    """Return what changes when a module computes something else: its identity, hooks and own forward."""
    return id(module), *module._forward_pre_hooks, *module._forward_hooks, id(vars(module).get("forward"))


def _check_resident(model: nn.Module, name: str) -> None:
    """Raise RLCircuitsError for a model with offloaded weights, which accelerate loads only for the forward."""
    for weight, parameter in model.named_parameters():
        if parameter.is_meta:
            raise RLCircuitsError(
                f"{name}: weight {weight} is on no device (offloaded to memory or disk by its device_map), but the "
                "backward needs every weight in its place; devices with more memory in all are needed"
            )


def _check_whole(model: nn.Module, name: str) -> None:
    """Raise RLCircuitsError for a model with quantised weights, whose codes are not the weights' values."""
    for weight, parameter in model.named_parameters():
        if parameter.dtype not in DTYPES.values():
            raise RLCircuitsError(
                f"{name}: weight {weight} is quantised ({parameter.dtype}); load the checkpoint with Checkpoint.load, "
                f"which dequantises it, or call the model's dequantize()"
            )


@torch.no_grad()
def _check_runs(model: Any, name: str) -> None:
    """Raise RLCircuitsError if the model's own forward fails, for example because of a wrong value in its config."""
    try:
        _ = model(input_ids=model.get_input_embeddings().weight.new_zeros(1, 1, dtype=torch.int64)).logits
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise RLCircuitsError(f"{name}: the model loads and does not run: {one_line(error)}") from error
