"""An engine that loads a folder by itself, as vLLM does, and runs where vLLM does not: transformers from the folder."""

from __future__ import annotations

from typing import Any

import pytest

from rlcircuits.answers.engines.huggingface import HuggingFaceEngine
from rlcircuits.answers.engines.model_folder import model_folder
from rlcircuits.answers.engines.registry import ENGINES
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.files import Notify

NAME = "folder"


class FolderEngine(HuggingFaceEngine):
    """It knows of a model what its folder has, and nothing else."""

    def __init__(self, model: Any, notify: Notify) -> None:
        with model_folder(model, notify) as found:
            loaded = Checkpoint.load(
                found.path, dtype=found.dtype, device="cpu", trust_remote_code=found.trust_remote_code
            )
        super().__init__(loaded)
        assert (self._ends, self.vocabulary, self.context) == (found.ends, found.vocabulary, found.context)


def add_folder_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let settings and calls name the engine ``folder``."""
    monkeypatch.setitem(ENGINES, NAME, FolderEngine)
