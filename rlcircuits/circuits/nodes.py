"""Nodes of a graph: which readers belong to which writer, and which edges lead anywhere."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import torch
from torch import Tensor

from rlcircuits.graph.edge_graph import EdgeGraph


@lru_cache(maxsize=8)
def readers_of_writers(graph: EdgeGraph) -> Tensor:
    """Return bool [writers, readers], true where the reader is an input of the writer's own node.

    A node is a sublayer or a head: ``attn.0.h3`` writes what ``attn.0.h3.q``, ``.k`` and ``.v`` read. A key/value
    head's readers are inputs of every query head that shares it, and an MLP's reader is one of each of its experts. The
    embedding has no reader, and ``logits`` no writer.
    """
    belongs = torch.zeros_like(graph.mask)
    heads = sum(name.startswith("attn.0.h") for name in graph.writers)
    kv_heads = Counter(name.split(".kv")[0] for name in graph.readers if ".kv" in name and name.endswith(".k"))
    writers: dict[str, list[int]] = {}
    for index, name in enumerate(graph.writers):
        writers.setdefault(name, []).append(index)
        if name.startswith("mlp.") and name.count(".") == 2:  # an expert writes what its MLP reads
            writers.setdefault(name.rsplit(".", 1)[0], []).append(index)
        if ".h" in name and kv_heads:
            block, head = name.rsplit(".h", 1)
            writers.setdefault(f"{block}.kv{int(head) * kv_heads[block] // heads}", []).append(index)
    for index, name in enumerate(graph.readers):
        node = name.rsplit(".", 1)[0] if name[-2:] in (".q", ".k", ".v") else name
        belongs[writers.get(node, []), index] = True
    return belongs


def prune(graph: EdgeGraph, mask: Tensor) -> Tensor:
    """Return the edges that lie on a path from the embedding to the logits, bool [writers, readers].

    Removing one edge may leave another without a path, so nodes and edges are removed until neither changes.
    """
    belongs, embedding, logits = readers_of_writers(graph), graph.writers.index("embed"), graph.readers.index("logits")
    kept = mask.clone()
    while True:
        is_fed = (belongs & kept.any(0)).any(1)  # writers whose node reads something
        is_fed[embedding] = True
        leads_on = (belongs & kept.any(1)[:, None]).any(0)  # readers whose node writes something that is read
        leads_on[logits] = True
        pruned = kept & is_fed[:, None] & leads_on
        if torch.equal(pruned, kept):
            return kept
        kept = pruned
