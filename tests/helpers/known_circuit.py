"""A model whose weights are set by formula, so that its circuit is known.

It says which token a prompt holds most often. The stream has four parts: what the token is, how often each token
occurred, the answer, and a constant, which keeps the norm's scale from saying anything.

    embed → attn.0.v    attention is uniform (no q, no k) and averages the tokens into the counts
    attn.0 → mlp.1      the MLP copies the counts into the answer; its gate reads the constant
    mlp.1 → logits      the unembedding reads the answer

All other weights are zero.
"""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlcircuits import AnswerSequence

TOKENS = 8
_COUNTS, _ANSWER, _CONSTANT, _WIDTH = TOKENS, 2 * TOKENS, 3 * TOKENS, 4 * TOKENS
EDGES = (("embed", "attn.0.v"), ("attn.0", "mlp.1"), ("mlp.1", "logits"))


@torch.no_grad()
def known_circuit_model(dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """Return the model, in eval mode."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=TOKENS,
        hidden_size=_WIDTH,
        intermediate_size=TOKENS,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "norm" in name else 0.0)
    one = torch.eye(TOKENS, dtype=dtype)
    body = model.model
    body.embed_tokens.weight[:, :TOKENS] = one
    body.embed_tokens.weight[:, _CONSTANT] = 20.0
    first, last = body.layers[0].self_attn, body.layers[1].mlp
    first.v_proj.weight[:TOKENS, :TOKENS] = one
    first.o_proj.weight[_COUNTS:_ANSWER, :TOKENS] = one
    last.gate_proj.weight[:, _CONSTANT] = 10.0
    last.up_proj.weight[:, _COUNTS:_ANSWER] = one
    last.down_proj.weight[_ANSWER:_CONSTANT] = one
    model.lm_head.weight[:, _ANSWER:_CONSTANT] = 4 * one
    return model.eval()


def majority_questions(count: int, seed: int = 0, length: int = 9) -> list[AnswerSequence]:
    """Return prompts of one length in which one token is the most frequent, with that token as the answer."""
    generator = torch.Generator().manual_seed(seed)
    made: list[AnswerSequence] = []
    while len(made) < count:
        answer = int(torch.randint(TOKENS, (), generator=generator))
        ids = torch.randint(TOKENS, (length,), generator=generator)
        ids[torch.randperm(length, generator=generator)[: length // 2]] = answer
        counts = ids.bincount(minlength=TOKENS)
        if int((counts == counts.max()).sum()) == 1 and int(counts.argmax()) == answer:
            made.append(AnswerSequence(tuple(ids.tolist()), (answer,)))
    return made
