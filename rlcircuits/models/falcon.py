"""Falcon's generations, which are one ``model_type``: their fields say which norms and which order of q, k and v.

                norms                     q, k and v in the fused projection     keys and values
Falcon-7B       one, shared               all q, then one k and one v            one head
Falcon-40B      two, of one stream        group by group: its q, its k, its v    one head a group
Falcon-11B      one, shared               as Falcon-40B
sequential      two, one after another    as one of the first two                one head, or as many as q
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rlcircuits.models.families import ModuleNames

__all__ = ["falcon_kv_heads", "falcon_names"]


def falcon_names(names: ModuleNames, config: Any) -> ModuleNames:
    """Return the names of a Falcon's modules.

    Args:
        names: The names of Falcon-7B's.
        config: The Hugging Face config.
    """
    if config.new_decoder_architecture:
        names = replace(names, fused="grouped")
        if config.num_ln_in_parallel_attn in (None, 2):
            names = replace(
                names, attention_norm="ln_attn", mlp_norm="ln_mlp", parallel_field="new_decoder_architecture"
            )
        return names
    if not config.multi_query:
        names = replace(names, fused="interleaved")
    return names if config.parallel_attn else replace(names, mlp_norm="post_attention_layernorm")


def falcon_kv_heads(config: Any) -> int:
    """Return the number of key and value heads, by a Falcon's config."""
    if config.new_decoder_architecture:
        return int(config.num_kv_heads)
    return 1 if config.multi_query else int(config.num_attention_heads)
