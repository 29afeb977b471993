"""TransformerLens' names for the nodes of its graph, in ours."""

from __future__ import annotations

from typing import Any


def our_name(node: Any) -> str:
    """A node in our names, without its position. Its embedding leaves out positions, which cancel between the runs."""
    if node.kind in ("embed", "logits"):
        return str(node.kind)
    if node.kind in ("mlp_out", "mlp_in"):
        return f"mlp.{node.layer}"
    head = f"attn.{node.layer}.h{node.head}"
    return head if node.kind == "attn_head_out" else f"{head}.{node.kind[0]}"
