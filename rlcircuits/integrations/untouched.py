"""Look at a model in the middle of its training, and leave no trace: the next step is as if nobody had looked."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from rlcircuits.models.frozen import frozen

__all__ = ["random_state_kept", "untouched"]


@contextmanager
def untouched(model: Any) -> Iterator[Any]:
    """Yield the model as it is measured: in eval mode, without mixed precision, with LoRA adapters merged.

    Leaving the context restores each module's mode, each parameter's ``requires_grad``, the forward that mixed
    precision has wrapped, and all random states. A model with adapters is copied, since merging them in place and
    taking them out again would round the weights.

    Args:
        model: a Hugging Face causal LM, a peft model around one, or one that ``torch.compile`` returned.
    """
    model = getattr(model, "_orig_mod", model)
    with ExitStack() as stack:
        stack.enter_context(random_state_kept())
        stack.enter_context(frozen(model))
        stack.enter_context(_own_forward(model))
        yield _merged(model) if hasattr(model, "merge_and_unload") else model


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch, on the CPU and on every CUDA device, on leaving."""
    ours, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Take accelerate's autocast off the model's forward for a while: weights are measured in their own dtype."""
    wrapped = vars(model).get("forward")
    if wrapped is None or "_original_forward" not in vars(model):
        yield
        return
    model.forward = model._original_forward
    try:
        yield
    finally:
        model.forward = wrapped


def _merged(model: Any) -> Any:
    return copy.deepcopy(model).merge_and_unload().eval()
