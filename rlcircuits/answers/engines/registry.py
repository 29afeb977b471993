"""The engines by name, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlcircuits.answers.engines.engine import Engine
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["ENGINES", "check_engine", "open_engine"]


def _open_transformers(model: Source | Checkpoint) -> Engine:
    from rlcircuits.answers.engines.huggingface import HuggingFaceEngine

    return HuggingFaceEngine(model if isinstance(model, Checkpoint) else model.load())


def _open_vllm(model: Source | Checkpoint) -> Engine:
    from rlcircuits.answers.engines.vllm import VLLMEngine

    return VLLMEngine(model)


# An engine's library is imported when an engine is opened: it may be large, or not installed.
ENGINES: dict[str, Callable[[Any], Engine]] = {"transformers": _open_transformers, "vllm": _open_vllm}
"""How to open each engine, by name."""


def check_engine(name: str) -> None:
    """Raise RLCircuitsError for a name that is not in ENGINES."""
    if name not in ENGINES:
        raise RLCircuitsError(f"engine is {name!r}; it must be one of {', '.join(ENGINES)}")


def open_engine(name: str, model: Source | Checkpoint) -> Engine:
    """Load `model` into an engine. Raises RLCircuitsError where the engine or the model cannot be had."""
    check_engine(name)
    return ENGINES[name](model)
