"""Count the weights of a config's model, which is built without memory for them."""

from __future__ import annotations

from typing import Any

import torch

from rlcircuits.models.find_family import auto_class
from rlcircuits.models.quiet import quiet

__all__ = ["count_parameters"]


def count_parameters(config: Any, *, trust_remote_code: bool = False) -> int | None:
    """Return the number of weights of a config's causal LM; weights that modules share count once.

    Args:
        config: A transformers config.
        trust_remote_code: Whether the repository's Python code may be run.

    Returns:
        The number; None if no model can be built from the config.
    """
    try:
        with torch.device("meta"), quiet():
            model = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
    except Exception:  # transformers raises errors of many classes for a value that does not fit
        return None
    return sum(int(parameter.numel()) for parameter in model.parameters())
