"""The names that other libraries have for the nodes of our graph: EAP-IG's, and TransformerLens' nodes and hooks.

    ours            EAP-IG       TransformerLens: hook, and the head in it
    embed           input        hook_embed
    attn.3          –            blocks.3.hook_attn_out
    attn.3.h5       a3.h5        blocks.3.attn.hook_result, head 5
    mlp.3           m3           blocks.3.hook_mlp_out             as a writer
    attn.3.q        –            blocks.3.hook_attn_in
    attn.3.h5.q     a3.h5<q>     blocks.3.hook_q_input, head 5     (k and v the same way)
    mlp.3           m3           blocks.3.hook_mlp_in              as a reader
    logits          logits       blocks.L.hook_resid_post, of the last block
    mlp.3.e7        –            –

EAP-IG's graph has heads only, each with its own k and v (its code "ungroups" grouped queries), and an attention and an
MLP in every layer. A graph that differs has no names there. Experts have names in neither library. ``hook_embed`` is
the token embedding alone, where ours has learned positions too; the two differ by nothing once a corrupted run is
subtracted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["HookPoint", "eap_ig_name", "from_transformer_lens_node", "reader_hook", "writer_hook"]

_NODE = re.compile(r"(?P<kind>attn|mlp|mixer)\.(?P<layer>\d+)(\.(?P<head>h|kv)(?P<number>\d+))?(\.(?P<input>[qkv]))?")
_EXPERT = re.compile(r"mlp\.\d+\.(e\d+|shared)")


@dataclass(frozen=True)
class HookPoint:
    """Where TransformerLens has a node's output or input."""

    name: str
    """The hook's name."""
    head: int | None = None
    """The index on the hook's axis of heads; None where there is no such axis."""


@validate_arguments
def eap_ig_name(node: str) -> str:
    """Return EAP-IG's name of a writer or a reader.

    Raises:
        RLCircuitsError: EAP-IG has no such node.
    """
    if node in ("embed", "logits"):
        return {"embed": "input"}.get(node, node)
    parts = _parts(node)
    layer, head, number = parts["layer"], parts["head"], parts["number"]
    if parts["kind"] == "mlp":
        return f"m{layer}"
    if parts["kind"] != "attn" or head != "h":
        raise RLCircuitsError(
            f"{node} has no name in EAP-IG, whose nodes are attention heads with a k and a v of their own and MLPs; "
            "score with granularity 'head'"
        )
    return f"a{layer}.h{number}" + (f"<{parts['input']}>" if parts["input"] else "")


@validate_arguments
def writer_hook(writer: str) -> HookPoint:
    """Return where TransformerLens has what a writer adds to the stream.

    Raises:
        RLCircuitsError: no writer's name, or a mixer or an expert, which has no hook.
    """
    if writer == "embed":
        return HookPoint("hook_embed")
    parts = _parts(writer)
    if parts["kind"] == "mixer" or parts["head"] == "kv" or parts["input"]:
        raise RLCircuitsError(f"{writer} has no hook of a writer in TransformerLens")
    block = f"blocks.{parts['layer']}"
    if parts["kind"] == "mlp":
        return HookPoint(f"{block}.hook_mlp_out")
    return HookPoint(f"{block}.attn.hook_result", int(parts["number"])) if parts["head"] else HookPoint(
        f"{block}.hook_attn_out"
    )  # fmt: skip


@validate_arguments
def reader_hook(reader: str, n_layers: int) -> HookPoint:
    """Return where TransformerLens has what a reader reads.

    The readers q, k and v of a whole attention share ``hook_attn_in``, since TransformerLens parts them by head only.
    Its heads' inputs exist with ``use_split_qkv_input``, and those of an MLP with ``use_hook_mlp_in``.

    Raises:
        RLCircuitsError: no reader's name, or a mixer, which has no hook.
    """
    if reader == "logits":
        return HookPoint(f"blocks.{n_layers - 1}.hook_resid_post")
    parts = _parts(reader)
    block = f"blocks.{parts['layer']}"
    if parts["kind"] == "mlp":
        return HookPoint(f"{block}.hook_mlp_in")
    if parts["kind"] == "mixer" or not parts["input"]:
        raise RLCircuitsError(f"{reader} has no hook of a reader in TransformerLens")
    if parts["number"] is None:
        return HookPoint(f"{block}.hook_attn_in")
    return HookPoint(f"{block}.hook_{parts['input']}_input", int(parts["number"]))


def from_transformer_lens_node(node: Any) -> str:
    """Return our name of a ``Node`` of TransformerLens' edge attribution, without its position.

    Args:
        node: anything with its ``kind``, ``layer`` and ``head``
            (``transformer_lens.tools.analysis.attribution_patching``).
    """
    if node.kind in ("embed", "logits"):
        return str(node.kind)
    if node.kind in ("mlp_out", "mlp_in"):
        return f"mlp.{node.layer}"
    head = f"attn.{node.layer}.h{node.head}"
    return head if node.kind == "attn_head_out" else f"{head}.{node.kind[0]}"


def _parts(node: str) -> re.Match[str]:
    if _EXPERT.fullmatch(node):
        raise RLCircuitsError(
            f"{node} is a part of a mixture of experts, which has no name in EAP-IG and TransformerLens; score with "
            "granularity 'head' or 'sublayer'"
        )
    found = _NODE.fullmatch(node)
    if found is None:
        raise RLCircuitsError(f"{truncated_repr(node)} is no node of a graph; names are such as attn.0.h3.q or mlp.2")
    return found
