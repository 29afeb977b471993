"""What a plan says of a checkpoint: found out from its folder, the hub's cache or the hub, without reading weights."""

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
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.models.adapters import find_base
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.folder import check_folder, is_adapter, load_config
from rlcircuits.models.weight_files import stored_tensors
from rlcircuits.questions.question_set import QuestionSet

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_BITS_OF_OTHERS = 8


@dataclass(frozen=True)
class ModelPlan:
    """What a checkpoint needs. None where it could not be found out; `problem` then says why."""

    name: str
    parameters: int | None = None
    weight_bytes: int | None = None
    """In the dtype it is loaded as."""
    cache_bytes: int | None = None
    """Keys and values of a batch of the longest answers."""
    problem: str | None = None
    can_be_had: bool = True
    """Whether a run finds it, in a folder, in the hub's cache or on the hub."""


@dataclass(frozen=True)
class PlannedModel:
    """A checkpoint that a plan asks about."""

    source: CheckpointSource
    beside: Path
    """Where a relative path was looked for."""

    @cached_property
    def at_hand(self) -> CheckpointSource | None:
        """The source as a folder of this machine, which for a hub id is in the hub's cache; None for neither."""
        if Path(self.source.path).is_dir():
            return self.source
        try:
            folder = huggingface_hub.snapshot_download(
                self.source.path, revision=self.source.revision, local_files_only=True
            )
            cached = replace(self.source, path=folder, revision=None)
            _parameters(cached)
        except Exception:  # of the hub's client, or for lack of a file that was not downloaded
            return None
        return cached

    def prompts(self, prompting: Prompting, questions: QuestionSet) -> list[tuple[int, ...]]:
        """The questions' prompts; none where the tokenizer cannot be had."""
        try:
            tokenizer = self._tokenizer()
        except RLCircuitsError:
            return []
        return prompting.prompts(tokenizer, [question.text for question in questions.questions])

    def room(self, prompts: list[tuple[int, ...]]) -> ContextRoom | None:
        """The room for answers to these prompts; None where that cannot be found out."""
        try:
            context = getattr(self._config(), "max_position_embeddings", None)
        except RLCircuitsError:
            return None
        return ContextRoom(self.source.name, context, max(map(len, prompts))) if prompts else None

    def plan(self, cache_tokens: int) -> ModelPlan:
        """What the checkpoint needs, with a cache of so many tokens."""
        try:
            parameters, config = self._sizes()
        except RLCircuitsError as error:
            return ModelPlan(self.source.name, problem=str(error), can_be_had=self._is_on_hub())
        wanted = torch_dtype(self.source.dtype)
        bits = None if isinstance(wanted, str) else wanted.itemsize * 8
        weight_bytes = sum(
            count * (bits or _BITS.get(dtype, _BITS_OF_OTHERS)) // 8 for dtype, count in parameters.items()
        )
        count = sum(parameters.values())
        per_number = weight_bytes / count if count else 0
        cache_bytes = int(_cache_numbers(config) * cache_tokens * per_number)
        return ModelPlan(self.source.name, count, weight_bytes, cache_bytes)

    def _tokenizer(self) -> Any:
        if self.at_hand is not None:
            return self.at_hand.tokenizer()
        try:
            # By itself: the source would fetch the weights along with it.
            return AutoTokenizer.from_pretrained(
                self.source.path, revision=self.source.revision, trust_remote_code=self.source.trust_remote_code
            )
        except Exception as error:  # of the hub's client, or whatever a damaged file makes the library raise
            raise RLCircuitsError(f"{self.source.name} has no tokenizer that loads: {one_line(error)}") from error

    def _config(self) -> Any:
        if self.at_hand is not None:
            folder = _whole(self.at_hand.folder)
            return load_config(folder, trust_remote_code=self.source.trust_remote_code).get_text_config()
        try:
            return AutoConfig.from_pretrained(
                self.source.path, revision=self.source.revision, trust_remote_code=self.source.trust_remote_code
            ).get_text_config()
        except Exception as error:  # of the hub's client, which lets those of its HTTP library through
            raise self._not_to_be_had(error) from error

    def _sizes(self) -> tuple[Mapping[str, int], Any]:
        """Number of parameters by dtype, and the config. Raises RLCircuitsError where they cannot be had."""
        if self.at_hand is not None:
            check_folder(_whole(self.at_hand.folder))
            return _parameters(self.at_hand), self._config()
        config = self._config()
        try:
            found = huggingface_hub.get_safetensors_metadata(self.source.path, revision=self.source.revision)
        except Exception as error:
            raise self._not_to_be_had(error) from error
        return {str(dtype): count for dtype, count in found.parameter_count.items()}, config

    def _not_to_be_had(self, error: Exception) -> RLCircuitsError:
        return RLCircuitsError(
            f"is no folder here, and the hub does not say what it holds: {one_line(error)}; if a folder is meant, "
            f"there is none at {self.beside / self.source.path}"
        )

    def _is_on_hub(self) -> bool:
        if self.at_hand is not None:
            return False  # but in a folder, where something is wrong with it
        try:
            huggingface_hub.model_info(self.source.path, revision=self.source.revision)
        except Exception:  # of the hub's client, whatever it says
            return False
        return True


def _whole(folder: Path) -> Path:
    return find_base(folder).folder if is_adapter(folder) else folder


def _parameters(source: CheckpointSource) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in stored_tensors(_whole(source.folder)).values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return counts


def _cache_numbers(config: Any) -> int:
    """Numbers that the cache of keys and values holds for a token."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 2 * int(config.num_hidden_layers) * int(getattr(config, "num_key_value_heads", None) or heads) * int(width)
