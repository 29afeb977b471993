"""Other libraries' edge attribution beside ours: the same weights, tokens and edges, in the same run.

Each peer scores the head graph by patching from each prompt to a corrupted one, with the cross-entropy of one
answer token as the loss, and averages over the prompts. First its scores are compared with ours, so that both do
the same work; then its time. A peer that is not installed is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from measure import compare, compare_memory
from shapes import SMALL
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rlcircuits import AnswerSequence, Checkpoint, EdgeScores, attribute
from rlcircuits.graph.node_names import from_transformer_lens_node

CIRCUITKIT = find_spec("circuitkit") is not None
if CIRCUITKIT:
    os.environ.setdefault("TQDM_DISABLE", "1")
    import circuitkit  # noqa: F401 (before transformer_lens, which it patches)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Other code multiplies in another order; scores of random weights partly cancel.
TRANSFORMER_LENS_TOLERANCE = 1e-4
CIRCUITKIT_TOLERANCE = 1e-3

Peer = Callable[[], Any]  # one run over all prompts; its result is given to the peer's ``matrix``


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The CPU benchmark's model. It has no grouped queries, which not every peer can score."""
    return Checkpoint(SMALL.build(DEVICE, torch.float32))


def prompts(count: int, length: int) -> tuple[list[AnswerSequence], list[AnswerSequence]]:
    """Random prompts with one answer token, and the same prompts with every third token another."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, SMALL.vocabulary - 1, (count, length + 1), generator=generator)
    others = ids.clone()
    others[:, 1:-1:3] = (others[:, 1:-1:3] + 7) % (SMALL.vocabulary - 1)
    clean, corrupted = ([AnswerSequence(row[:-1], row[-1:]) for row in rows.tolist()] for rows in (ids, others))
    return clean, corrupted


def measure(
    benchmark: Any,
    checkpoint: Checkpoint,
    clean: list[AnswerSequence],
    corrupted: list[AnswerSequence],
    peer: Peer,
    matrix: Callable[[Any, EdgeScores], Tensor],
    rounds: int,
    tolerance: float,
    thorough: bool,
) -> None:
    """Check that the peer's scores are ours, then compare times, and if ``thorough`` memory, which has no bound.

    matrix: from the peer's result to scores [W, R] in the order of our graph, averaged over the prompts.
    tolerance: how far, in relative norm, the two may be apart.
    """

    def ours() -> EdgeScores:
        return attribute(checkpoint, clean, "head", corrupted=corrupted)

    scores = ours()
    wanted = scores.values.mean(0)
    found = matrix(peer(), scores)
    assert (found - wanted).norm() < tolerance * wanted.norm(), "the peer's scores are not ours"
    tokens = sum(len(s.prompt_ids) for s in clean)
    compare(benchmark, ours, peer, device=checkpoint.device, tokens=tokens, rounds=rounds if thorough else 1)
    if thorough:
        compare_memory(benchmark, checkpoint.model, ours, peer)
    benchmark.extra_info.update(sequences=len(clean), tokens_each=len(clean[0].prompt_ids))


def save_with_words(checkpoint: Checkpoint, folder: Path) -> Any:
    """Save the model with a tokenizer that reads a token from each number; returns the tokenizer as loaded."""
    checkpoint.model.config.architectures = ["LlamaForCausalLM"]
    checkpoint.model.save_pretrained(folder)
    words = {str(i): i for i in range(SMALL.vocabulary - 1)} | {"<end>": SMALL.vocabulary - 1}
    inner = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    inner.pre_tokenizer = WhitespaceSplit()
    special = dict.fromkeys(("eos_token", "bos_token", "pad_token"), "<end>")
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.mark.benchmark(group="head patching, ours over transformer_lens")
def test_transformer_lens(benchmark: Any, checkpoint: Checkpoint, tmp_path: Path, thorough: bool) -> None:
    """TransformerLens takes the gradient on its corrupt run, so its corrupt is our clean, and scores every position."""
    patching = pytest.importorskip(
        "transformer_lens.tools.analysis.attribution_patching", reason="transformer_lens ≥ 4.3 is not installed"
    )
    from transformer_lens.model_bridge import TransformerBridge

    save_with_words(checkpoint, tmp_path)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), device=DEVICE).eval()
    clean, corrupted = prompts(count=1, length=16)
    tokens, others = (torch.tensor([s.prompt_ids for s in side], device=DEVICE) for side in (clean, corrupted))
    answer = clean[0].answer_ids[0]
    config = patching.EdgeAttributionConfig(granularity="edge")

    def loss(logits: Tensor) -> Tensor:
        return -logits[0, -1].log_softmax(-1)[answer]

    def peer() -> Any:
        return patching.attribution_patch(bridge, others, tokens, loss, config)

    def matrix(result: Any, scores: EdgeScores) -> Tensor:
        rows, columns = (
            {name: i for i, name in enumerate(names)} for names in (scores.graph.writers, scores.graph.readers)
        )
        found = torch.zeros(scores.graph.mask.shape)
        for (writer, reader), score in result.edge_scores.items():
            found[rows[from_transformer_lens_node(writer)], columns[from_transformer_lens_node(reader)]] += score
        return found

    measure(benchmark, checkpoint, clean, corrupted, peer, matrix, 3, TRANSFORMER_LENS_TOLERANCE, thorough)


@pytest.mark.skipif(not CIRCUITKIT, reason="circuitkit is not installed")
@pytest.mark.benchmark(group="head patching, ours over circuitkit")
@pytest.mark.parametrize(("count", "length"), [(1, 16), (8, 128)])
def test_circuitkit(
    benchmark: Any, checkpoint: Checkpoint, tmp_path: Path, count: int, length: int, thorough: bool
) -> None:
    """CircuitKit's EAP, on a HookedTransformer with the same weights; its nodes are in the order of ours."""
    from circuitkit.backends.eap.attribute import attribute as their_attribute
    from circuitkit.backends.eap.graph import Graph

    model = hooked(checkpoint, save_with_words(checkpoint, tmp_path))
    clean, corrupted = prompts(count, length)
    words = [[" ".join(map(str, s.prompt_ids)) for s in side] for side in (clean, corrupted)]
    answers = torch.tensor([s.answer_ids[0] for s in clean], device=DEVICE)

    class Batches(list[Any]):
        templated = True  # no begin token before each prompt

    def loss(logits: Tensor, *_: Any) -> Tensor:
        return -logits[:, -1].log_softmax(-1).gather(1, answers[:, None]).sum()

    def peer() -> Tensor:
        graph = Graph.from_model(model)
        their_attribute(model, graph, Batches([(*words, answers)]), loss, "EAP", quiet=True)
        scores: Tensor = graph.scores
        return scores

    def matrix(result: Tensor, scores: EdgeScores) -> Tensor:
        return torch.where(scores.graph.mask, result.cpu(), 0)

    rounds = 3 if count == 1 else 1
    measure(benchmark, checkpoint, clean, corrupted, peer, matrix, rounds, CIRCUITKIT_TOLERANCE, thorough)


def hooked(checkpoint: Checkpoint, tokenizer: Any) -> Any:
    """A HookedTransformer with the weights of the Llama ``checkpoint``, set up as CircuitKit asks for."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

    config = HookedTransformerConfig(
        n_layers=SMALL.layers,
        d_model=SMALL.width,
        d_head=SMALL.width // SMALL.heads,
        n_heads=SMALL.heads,
        d_mlp=SMALL.inner,
        n_ctx=256,
        d_vocab=SMALL.vocabulary,
        act_fn="silu",
        normalization_type="RMS",
        eps=checkpoint.model.config.rms_norm_eps,
        final_rms=True,
        gated_mlp=True,
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=SMALL.width // SMALL.heads,
        original_architecture="LlamaForCausalLM",
        device=DEVICE,
        use_attn_result=True,
        use_split_qkv_input=True,
        use_hook_mlp_in=True,
    )
    model = HookedTransformer(config, tokenizer=tokenizer)
    model.load_state_dict(convert_llama_weights(checkpoint.model, config), strict=False)
    return model.eval()
