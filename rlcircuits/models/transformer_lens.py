"""The Hugging Face model inside a TransformerLens TransformerBridge.

A bridge takes a model's modules apart and puts components with hook points in their places.
Attribution runs the model's own forward, so the original modules are put together again here, in a
second tree of modules that shares the bridge's parameters: nothing is copied, and the bridge stays
as it is. transformer_lens itself is never imported: who has a bridge has it loaded.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.frozen import frozen

_TOLERANCE = 1e-3
_unbridged: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()


def is_bridge(model: Any) -> bool:
    """Whether ``model`` is a TransformerBridge."""
    return any(c.__name__ == "TransformerBridge" for c in type(model).__mro__)


def unbridge(bridge: Any) -> nn.Module:
    """The causal LM inside a TransformerBridge, sharing its parameters.

    Raises RLCircuitsError if it does not compute the bridge's logits (a bridge whose weights were
    processed, as in compatibility mode, is another function of them).
    """
    if bridge not in _unbridged:
        _unbridged[bridge] = _unwrap(bridge.original_model, {})
    # Each time: a bridge's weights may have been processed since.
    with frozen(bridge):
        _check_same_logits(bridge, _unbridged[bridge])
    return _unbridged[bridge]


def _unwrap(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    while isinstance(inner := getattr(module, "original_component", None), nn.Module):
        module = inner
    if module not in done:
        done[module] = twin = copy.copy(module)
        twin.__dict__["_modules"] = {}
        for when in ("_forward", "_forward_pre"):
            for kind in ("_hooks", "_hooks_with_kwargs"):
                twin.__dict__[when + kind] = OrderedDict()
        for name, child in module._modules.items():
            twin._modules[name] = None if child is None else _unwrap(child, done)
    return done[module]


def _check_same_logits(bridge: Any, model: nn.Module) -> None:
    tokens = torch.arange(1, 6, device=next(model.parameters()).device)[None]
    with torch.no_grad():
        wanted = bridge(tokens).float()
        found = model(tokens).logits.float()
    error = float((found - wanted).norm() / wanted.norm())
    if not error <= _TOLERANCE:
        raise RLCircuitsError(
            f"the Hugging Face model inside this TransformerBridge computes other logits than the bridge "
            f"(relative difference {error:.2g}); pass the Hugging Face model, or a bridge without processed weights"
        )
