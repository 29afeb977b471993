"""The Hugging Face model inside a TransformerLens TransformerBridge.

A bridge replaces a model's modules by components with hook points, each of which holds the original module.
Attribution runs the model's own forward, so the original modules are reassembled here in a second module tree. It
shares the bridge's parameters, and the bridge is not changed. transformer_lens is never imported: an object that is a
bridge shows that it is loaded.
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
    """Return whether ``model`` is a TransformerBridge."""
    return any(c.__name__ == "TransformerBridge" for c in type(model).__mro__)


def unbridge(bridge: Any) -> nn.Module:
    """Return the causal LM inside a TransformerBridge, which shares the bridge's parameters.

    Raises:
        RLCircuitsError: if the model does not compute the bridge's logits. That is so for a bridge whose weights were
            processed, as in compatibility mode.
    """
    if bridge not in _unbridged:
        _unbridged[bridge] = _unwrap(bridge.original_model, {})
    # At every call, since the bridge's weights may have been processed since the last one.
    with frozen(bridge):
        _check_same_logits(bridge, _unbridged[bridge])
    return _unbridged[bridge]


def _unwrap(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a copy of the module tree without bridge components and hooks. ``done``: module → its copy."""
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
