"""TransformerLens: its edge attribution agrees with ours, and its bridge is accepted as a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.core_inputs import tiny
from helpers.tiny_models import VOCABULARY, build
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from rlcircuits import AnswerSequence, attribute
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.node_names import from_transformer_lens_node, reader_hook, writer_hook

transformer_lens = pytest.importorskip("transformer_lens", reason="transformer_lens is not installed")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: Any) -> Any:
    """Return a TransformerBridge around the tiny GPT-2, booted from a folder as a user would."""
    from transformer_lens.model_bridge import TransformerBridge

    folder = str(tmp_path_factory.mktemp("gpt2"))
    model = build("gpt2", seed=3)
    model.config.architectures = ["GPT2LMHeadModel"]
    model.save_pretrained(folder)
    words = {f"t{i}": i for i in range(VOCABULARY - 1)} | {"<end>": VOCABULARY - 1}
    special = dict.fromkeys(("eos_token", "bos_token", "pad_token"), "<end>")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return TransformerBridge.boot_transformers(folder, device="cpu")


CLEAN = AnswerSequence((7, 12, 33, 5, 40, 21), (18,))
CORRUPTED = AnswerSequence((7, 12, 50, 5, 41, 21), (18,))


def test_a_bridge_gives_the_models_scores(bridge: Any) -> None:
    for granularity in ("sublayer", "head"):
        ours = attribute(tiny("gpt2"), [CLEAN, CORRUPTED], granularity)
        torch.testing.assert_close(attribute(bridge, [CLEAN, CORRUPTED], granularity).values, ours.values)


def test_a_bridge_keeps_working_and_keeps_its_hooks(bridge: Any) -> None:
    tokens = torch.tensor([CLEAN.prompt_ids])
    logits, cache = bridge.run_with_cache(tokens)
    attribute(bridge, [CLEAN])
    again, cache_again = bridge.run_with_cache(tokens)
    torch.testing.assert_close(again, logits)
    assert set(cache_again) == set(cache)


def test_a_bridge_with_processed_weights_is_refused(bridge: Any, tmp_path: Any) -> None:
    from rlcircuits.models.transformer_lens import unbridge

    class Bridge(torch.nn.Module):  # a bridge whose own forward is another function of the weights
        original_model = bridge.original_model

        def forward(self, tokens: Any) -> Any:
            return 2 * bridge(tokens)

    refused = Bridge()
    for _ in range(2):
        with pytest.raises(RLCircuitsError, match="computes other logits"):
            unbridge(refused)


def test_agrees_with_transformer_lens_edge_attribution(bridge: Any) -> None:
    """TransformerLens takes the gradient on the corrupt run and scores corrupt → clean, so its corrupt is our clean."""
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

    answer = CLEAN.answer_ids[0]

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return -logits[0, -1].log_softmax(-1)[answer]

    theirs = attribution_patch(
        bridge,
        torch.tensor([CORRUPTED.prompt_ids]),
        torch.tensor([CLEAN.prompt_ids]),
        loss,
        EdgeAttributionConfig(granularity="edge"),
    )
    scores = attribute(tiny("gpt2"), [CLEAN], "head", corrupted=[CORRUPTED])
    found = torch.zeros_like(scores.values[0])
    for (writer, reader), score in theirs.edge_scores.items():  # theirs is per position; ours sums over positions
        found[
            scores.graph.writers.index(from_transformer_lens_node(writer)),
            scores.graph.readers.index(from_transformer_lens_node(reader)),
        ] += score
    assert (found != 0).sum() > 0.5 * scores.graph.n_edges
    assert (found - scores.values[0]).norm() < 1e-4 * scores.values[0].norm()


def test_hooks_hold_what_nodes_write_and_read(bridge: Any) -> None:
    """The hooks that a name stands for exist, and hold the outputs that our capture keeps."""
    scores = attribute(tiny("gpt2"), [CLEAN], "head")
    _, cache = bridge.run_with_cache(torch.tensor([CLEAN.prompt_ids]))
    n_layers = tiny("gpt2").config.num_hidden_layers
    sublayer = attribute(tiny("gpt2"), [CLEAN]).graph
    for writer in sublayer.writers:
        assert cache[writer_hook(writer).name].shape[-1] == tiny("gpt2").config.hidden_size
    stream = cache[reader_hook("logits", n_layers).name]
    written = sum(cache[writer_hook(name).name] for name in sublayer.writers) + cache["hook_pos_embed"]
    torch.testing.assert_close(written, stream)
    assert {writer_hook(name).head for name in scores.graph.writers if ".h" in name} == {0, 1, 2, 3}
