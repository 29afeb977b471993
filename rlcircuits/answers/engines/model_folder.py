"""Give an engine that loads a folder by itself the folder of any model, with exactly the weights that are scored.

Most checkpoints are such a folder already. Saved into a temporary one are those that are made in memory: a source that
is no folder, such as before with noise, a LoRA adapter merged into its base, a quantised checkpoint dequantised, and a
model that the caller has loaded. So one engine answers with all models that are compared, and a difference between two
engines' arithmetic is never taken for an effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from rlcircuits.answers.engines.engine import end_token_ids
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.saved_folder import saved_folder
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.folder import GENERATION_CONFIG, check_folder, is_adapter, load_config
from rlcircuits.models.quantised import quantisation_of
from rlcircuits.models.weight_files import stored_tensors

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import Source

__all__ = ["ModelFolder", "model_folder"]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class ModelFolder:
    """A folder to load, and how it is loaded so that the model is the one that is scored."""

    path: Path
    dtype: torch.dtype
    """The dtype to load the weights in. Engines have defaults of their own, so it must be stated."""
    trust_remote_code: bool
    """Whether Python code in the folder may be run."""
    ends: tuple[int, ...]
    """Ids of the end tokens."""
    context: int | None
    """Most tokens of prompt and answer together; None if the config states no limit."""
    vocabulary: int
    """Number of token ids that the model knows."""


@contextmanager
def model_folder(model: Source | Checkpoint, notify: Notify = log_stage) -> Iterator[ModelFolder]:
    """Yield the folder of a model: its own, or a temporary one, which is deleted afterwards.

    Args:
        model: a checkpoint, or a source of one. A source that is loaded to be saved is freed again.
        notify: called with one line of text if the model is saved.

    Raises:
        RLCircuitsError: the checkpoint is not complete, or there is no room to save it.
    """
    tokenizer = model.tokenizer if isinstance(model, Checkpoint) else model.tokenizer()
    if isinstance(model, CheckpointSource) and _is_whole(model.folder):
        wanted = torch_dtype(model.dtype)
        yield _described(model.folder, tokenizer, wanted, model.trust_remote_code)
        return
    with saved_folder(model, notify) as folder:
        # The code of a model that was loaded has run already.
        yield _described(folder, tokenizer, "auto", any(folder.rglob("*.py")))


def _is_whole(folder: Path) -> bool:
    """Return whether a folder has the weights themselves, not an update to others, nor codes that stand for them."""
    if is_adapter(folder):
        return False
    check_folder(folder)
    return quantisation_of(folder) is None


def _described(folder: Path, tokenizer: Any, dtype: torch.dtype | str, trusted: bool) -> ModelFolder:
    config = load_config(folder, trust_remote_code=trusted)
    text = config.get_text_config()
    own = GenerationConfig.from_pretrained(str(folder)) if (folder / GENERATION_CONFIG).is_file() else None
    return ModelFolder(
        path=folder,
        dtype=dtype if isinstance(dtype, torch.dtype) else _stored_dtype(folder, config),
        trust_remote_code=trusted,
        ends=end_token_ids(own or text, tokenizer),
        context=getattr(text, "max_position_embeddings", None),
        vocabulary=int(text.vocab_size),
    )


def _stored_dtype(folder: Path, config: Any) -> torch.dtype:
    """Return the dtype of the config, or else of the first weight in floating point: the default of transformers."""
    for each in (config, config.get_text_config()):
        if isinstance(found := getattr(each, "dtype", None), torch.dtype):
            return found
    # Files of earlier versions hold a GPT-2's causal mask too, as bytes.
    return next(_DTYPES[each.dtype] for each in stored_tensors(folder).values() if each.dtype in _DTYPES)
