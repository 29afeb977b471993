"""The state in which a model is measured: weights without gradients, eval mode, and autograd on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def differentiable() -> Iterator[None]:
    """Turn autograd on, even if the caller has turned it off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Turn gradients of all weights off, and eval mode on. Leaving the context restores every module and parameter."""
    gradients = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, required in gradients:
            parameter.requires_grad_(required)
        for module, training in modes:
            module.training = training
