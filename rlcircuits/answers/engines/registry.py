"""Open engines by name. To add an engine, add a line to `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlcircuits.answers.engines.engine import Engine
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage

__all__ = ["ENGINES", "check_engine", "open_engine"]


def _open_transformers(model: Source | Checkpoint, notify: Notify) -> Engine:
    from rlcircuits.answers.engines.huggingface import HuggingFaceEngine

    return HuggingFaceEngine(model if isinstance(model, Checkpoint) else model.load())


def _open_vllm(model: Source | Checkpoint, notify: Notify) -> Engine:
    from rlcircuits.answers.engines.vllm import VLLMEngine

    return VLLMEngine(model, notify)


def _open_openai(model: Source | Checkpoint, notify: Notify) -> Engine:
    from rlcircuits.answers.engines.openai import OpenAIEngine

    return OpenAIEngine(model)


# Each function imports its engine's library only when called: the library may be large, or not installed.
ENGINES: dict[str, Callable[[Any, Notify], Engine]] = {
    "transformers": _open_transformers,
    "vllm": _open_vllm,
    "openai": _open_openai,
}
"""The function that opens each engine, by the engine's name.

It takes the model, and a function for a line of text about what takes long. The model may be made in memory;
``model_folder.py`` is for engines that load a folder by themselves."""


def check_engine(name: str) -> None:
    """Raise RLCircuitsError if no engine has this name."""
    if name not in ENGINES:
        raise RLCircuitsError(f"engine is {name!r}; it must be one of {', '.join(ENGINES)}")


def open_engine(name: str, model: Source | Checkpoint, notify: Notify = log_stage) -> Engine:
    """Load a model into an engine.

    Args:
        name: a key of :data:`ENGINES`.
        model: a checkpoint, or a source of one.
        notify: called with one line of text if the model must be saved first.

    Raises:
        RLCircuitsError: the engine is unknown or not installed, or the model cannot be loaded.
    """
    check_engine(name)
    return ENGINES[name](model, notify)
