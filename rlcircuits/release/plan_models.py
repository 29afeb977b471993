"""Find out a checkpoint's size for a plan, from its folder, the hub's cache or the hub, without reading weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub
from transformers import AutoConfig, AutoTokenizer

from rlcircuits.answers.max_new_tokens import ContextRoom
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.question_prompts import prompt_questions
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource, without_weights
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.models.adapters import check_adapter_weights, find_base
from rlcircuits.models.config_layers import check_nodes, head_counts
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.find_family import module_names, ties_embeddings
from rlcircuits.models.folder import check_folder, is_adapter, load_config, local_folder
from rlcircuits.models.images import ImageProcessor
from rlcircuits.models.parameter_count import count_parameters
from rlcircuits.models.quantised import loaded_dtype, quantisation_of
from rlcircuits.models.tensor_groups import GROUPS, Group, group_of
from rlcircuits.models.weight_files import stored_tensors
from rlcircuits.questions.question_set import QuestionSet

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_BITS_OF_OTHERS = 8
_GROUPS = tuple(group for group in GROUPS if group != "other")


@dataclass(frozen=True)
class ModelPlan:
    """How much memory a checkpoint needs. Sizes that could not be found out are None, and `problem` says why."""

    name: str
    parameters: int | None = None
    weight_bytes: int | None = None
    """Size of the weights in the dtype that they are loaded as."""
    cache_bytes: int | None = None
    """Size of the key-value cache for a batch of the longest answers."""
    problem: str | None = None
    available: bool = True
    """Whether a run would find the checkpoint, in a folder, in the hub's cache or on the hub."""


@dataclass(frozen=True)
class PlannedModel:
    """A checkpoint whose size a plan needs: a :class:`Source` whose tokenizer downloads no weights."""

    source: CheckpointSource
    beside: Path
    """The folder that a relative path starts from."""

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.source.name

    def fingerprint(self) -> str:
        """Return the source's fingerprint, which reads its weights."""
        return self.source.fingerprint()

    def load(self) -> Checkpoint:
        """Return the source's checkpoint."""
        return self.source.load()

    @cached_property
    def local(self) -> CheckpointSource | None:
        """Return the source as a local folder, which for a hub id is in the hub's cache; None if there is none.

        Nothing that it is asked downloads weights, those of an adapter's base neither.
        """
        if Path(self.source.path).is_dir():
            return without_weights(self.source)
        try:
            folder = huggingface_hub.snapshot_download(
                self.source.path, revision=self.source.revision, local_files_only=True
            )
            cached = without_weights(replace(self.source, path=folder, revision=None))
            if is_adapter(cached.folder):
                check_adapter_weights(cached.folder)
            else:
                _parameters(cached.folder)
        except Exception:  # the hub's client raises errors of many types, and a file may be missing from its cache
            return None
        return cached

    @cached_property
    def whole(self) -> PlannedModel:
        """The checkpoint whose config and weights count: the base of a LoRA adapter, any other checkpoint itself.

        Raises RLCircuitsError for an adapter whose base is not found.
        """
        if self.local is None or not is_adapter(self.local.folder):
            return self
        base = find_base(self.local.folder, weights=False)
        return replace(self, source=replace(self.source, path=base.path, revision=base.revision))

    def prompts(self, prompting: Prompting, questions: QuestionSet) -> list[tuple[int, ...]]:
        """Return the questions' prompt token ids; an empty list if the tokenizer cannot be loaded."""
        try:
            self.tokenizer()
        except RLCircuitsError:
            return []
        return prompt_questions(self, prompting, questions).ids

    def room(self, prompts: list[tuple[int, ...]]) -> ContextRoom | None:
        """Return the context's room for answers to these prompts; None if it cannot be found out."""
        try:
            context = getattr(self._config(), "max_position_embeddings", None)
        except RLCircuitsError:
            return None
        return ContextRoom(self.source.name, context, max(map(len, prompts))) if prompts else None

    def plan(self, cache_tokens: int) -> ModelPlan:
        """Return the checkpoint's sizes, with a key-value cache for this number of tokens."""
        try:
            parameters, config = self._sizes()
        except RLCircuitsError as error:
            return ModelPlan(self.source.name, problem=str(error), available=self._is_on_hub())
        wanted = torch_dtype(self.source.dtype)
        bits = None if isinstance(wanted, str) else wanted.itemsize * 8
        weight_bytes = sum(
            count * (bits or _BITS.get(dtype, _BITS_OF_OTHERS)) // 8 for dtype, count in parameters.items()
        )
        count = sum(parameters.values())
        per_number = weight_bytes / count if count else 0
        cache_bytes = int(_cache_numbers(config) * cache_tokens * per_number)
        return ModelPlan(self.source.name, count, weight_bytes, cache_bytes)

    def tokenizer(self) -> Any:
        """Return the tokenizer. Raises RLCircuitsError if there is none that loads."""
        if self.local is not None:
            return self.local.tokenizer()
        try:
            # Not by the source, which would download the weights too.
            return AutoTokenizer.from_pretrained(
                self.source.path, revision=self.source.revision, trust_remote_code=self.source.trust_remote_code
            )
        except Exception as error:  # the hub's client raises errors of many types, and a damaged file may raise any
            raise RLCircuitsError(f"{self.source.name} has no tokenizer that loads: {one_line(error)}") from error

    def processor(self) -> ImageProcessor:
        """Return the processor of images. Raises RLCircuitsError if the model reads none, or none loads."""
        if self.local is not None:
            return self.local.processor()
        folder = local_folder(self.source.path, self.source.revision, weights=False)
        return replace(self.source, path=str(folder), revision=None).processor()

    def check_nodes(self, granularity: str) -> None:
        """Raise RLCircuitsError if the graph of a checkpoint that is here cannot have nodes of this granularity."""
        try:
            config = None if self.local is None else self._whole_config()
        except RLCircuitsError:  # the plan tells it of the checkpoint
            return
        if config is not None and module_names(config) is not None:
            check_nodes(self.name, config, granularity)

    def groups(self) -> tuple[Group, ...]:
        """Return the groups of tensors that the model has, by the names in its files; all if these are not here."""
        try:
            whole = self.whole.local
            if whole is None:
                return _GROUPS
            names = stored_tensors(whole.folder, packed=True)
            tied = ties_embeddings(self._whole_config())
        except RLCircuitsError:
            return _GROUPS
        found = {group_of(name) for name in names} - ({"unembedding"} if tied else set())
        return tuple(group for group in GROUPS if group in found)

    def _config(self) -> Any:
        return self._whole_config().get_text_config()

    def _whole_config(self) -> Any:
        if self.local is not None:
            return load_config(self.local.model_folder, trust_remote_code=self.source.trust_remote_code)
        try:
            return AutoConfig.from_pretrained(
                self.source.path, revision=self.source.revision, trust_remote_code=self.source.trust_remote_code
            )
        except Exception as error:  # the hub's client lets errors of its HTTP library through
            raise self._unavailable(error) from error

    def _sizes(self) -> tuple[Mapping[str, int], Any]:
        """Return the number of parameters by dtype, and the config. Raises RLCircuitsError if one is not available."""
        if self.local is not None and is_adapter(self.local.folder):
            check_adapter_weights(self.local.folder)
        whole = self.whole
        if whole.local is not None:
            check_folder(whole.local.folder)
        config = self._config()
        return whole._parameters_by_dtype(config), config

    def _parameters_by_dtype(self, config: Any) -> Mapping[str, int]:
        if self.local is not None:
            folder = self.local.folder
            return _parameters(folder) if quantisation_of(folder) is None else _dequantised(config)
        try:
            found = huggingface_hub.get_safetensors_metadata(self.source.path, revision=self.source.revision)
        except Exception as error:
            raise self._unavailable(error) from error
        if getattr(config, "quantization_config", None) is not None:
            return _dequantised(config)
        return {str(dtype): count for dtype, count in found.parameter_count.items()}

    def _unavailable(self, error: Exception) -> RLCircuitsError:
        return RLCircuitsError(
            f"is no folder here, and the hub does not say what it holds: {one_line(error)}; if a folder is meant, "
            f"there is none at {self.beside / self.source.path}"
        )

    def _is_on_hub(self) -> bool:
        if self.local is not None:
            return False  # it is a folder, whose problem the plan reports
        try:
            huggingface_hub.model_info(self.source.path, revision=self.source.revision)
        except Exception:  # the hub's client raises errors of many types
            return False
        return True


def _dequantised(config: Any) -> dict[str, int]:
    """Return the number of parameters of a quantised checkpoint by the dtype that they are dequantised to."""
    count = count_parameters(config)
    if count is None:
        raise RLCircuitsError("no model can be built from its config, which would tell its size")
    dtype = loaded_dtype(config, "auto")
    return {{8: "F64", 4: "F32"}.get(dtype.itemsize, "BF16"): count}


def _parameters(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in stored_tensors(folder, packed=True).values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return counts


def _cache_numbers(config: Any) -> int:
    """Return how many numbers the key-value cache holds for one token."""
    layers = (head_counts(config, layer) for layer in range(int(config.num_hidden_layers)))
    return sum(2 * int(heads.kv) * int(heads.size) for heads in layers)
