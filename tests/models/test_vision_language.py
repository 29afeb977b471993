"""Vision-language models on text: the scores, the answers and the files of the text model that they have in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import oracle
from helpers.core_inputs import fixed_sequences, relative_error
from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_vision import VISION_MODELS, qwen3_vl_moe, vision_and_text
from transformers import AutoConfig, PreTrainedModel

from rlcircuits import Checkpoint, RLCircuitsError, attribute
from rlcircuits.answers.engines.huggingface import HuggingFaceEngine
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.damage.targets import output_pieces, tensor_names
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.circuits import ablated
from rlcircuits.models import families
from rlcircuits.models.families import FAMILIES, ModuleNames
from rlcircuits.models.find_family import module_names, why_not_mapped
from rlcircuits.models.layer_kinds import layers_by_config
from rlcircuits.models.shrunk import tiny_model
from rlcircuits.models.tensor_groups import group_of, layer_of
from rlcircuits.vital_signs import token_log_probs
from rlcircuits.vital_signs.token_log_probs import answer_log_probs


def saved(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", VISION_MODELS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_on_text_are_those_of_the_text_model(family: str, side: Any) -> None:
    whole, text = vision_and_text(family)
    for granularity in ("sublayer",) if family == "qwen3_5" else ("sublayer", "head", "kv-head"):
        found, wanted = (attribute(model, fixed_sequences(), granularity, padding_side=side) for model in (whole, text))
        assert found.graph.same_as(wanted.graph)
        assert relative_error(found.values, wanted.values) < 1e-6


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_of_a_mixture_are_those_of_the_definition(side: Any) -> None:
    whole, language_model = qwen3_vl_moe()
    for granularity in ("sublayer", "head"):
        wanted, _ = oracle.edge_scores(language_model, fixed_sequences(), granularity)  # type: ignore[arg-type]
        found = attribute(whole, fixed_sequences(), granularity, padding_side=side)
        assert relative_error(found.values, wanted) < 1e-4
        sequence, shape = fixed_sequences()[0], found.graph.mask.shape
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.8
        loss = oracle.loss_only(language_model, sequence, mask, granularity)  # type: ignore[arg-type]
        assert ablated(whole, [sequence], mask).loss.item() == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("family", VISION_MODELS)
def test_a_checkpoint_in_files_answers_and_is_scored_as_the_text_model(family: str, tmp_path: Path) -> None:
    whole, text = vision_and_text(family)
    loaded = Checkpoint.load(saved(tmp_path, whole), device="cpu")
    assert type(loaded.model) is type(whole)
    assert loaded.context_length == 96
    text_checkpoint = Checkpoint(text, tiny_tokenizer())
    prompts = [(1, 5), (1, 9, 8, 7, 11, 30, 4), (1, 40, 41)]
    greedy = Sampling(temperature=0.0, max_new_tokens=5)
    answers = [HuggingFaceEngine(each).complete(prompts, greedy, seed=1) for each in (loaded, text_checkpoint)]
    assert answers[0] == answers[1]
    # After answers, since some models keep positions of the last call.
    found, wanted = (attribute(each, fixed_sequences()).values for each in (loaded, text_checkpoint))
    assert relative_error(found, wanted) < 1e-6


@pytest.mark.parametrize("family", VISION_MODELS)
def test_edges_are_removed_as_in_the_text_model(family: str) -> None:
    whole, text = (Checkpoint(model) for model in vision_and_text(family))
    graph = graph_of(whole, "sublayer")
    mask = torch.rand(graph.mask.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    found, wanted = (ablated(each, fixed_sequences(), mask).loss for each in (whole, text))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", VISION_MODELS)
def test_log_probabilities_are_those_of_the_text_model(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_log_probs, "LOGIT_BYTES", 4 * 61 * 2)  # the head runs apart from the body
    found, wanted = (answer_log_probs(model, fixed_sequences()) for model in vision_and_text(family))
    torch.testing.assert_close(torch.from_numpy(found.log_probs), torch.from_numpy(wanted.log_probs))


@pytest.mark.parametrize("family", VISION_MODELS)
def test_weights_of_the_vision_tower_belong_to_no_layer(family: str, tmp_path: Path) -> None:
    whole, text = vision_and_text(family)
    names = dict(whole.named_parameters())
    language = {name for name in names if group_of(name) != "other"}
    assert sum(names[name].numel() for name in language) == sum(each.numel() for each in text.parameters())
    layers = {layer_of(name) for name in names} - {None}
    assert layers == set(range(len(Checkpoint(whole).parts.blocks)))
    checkpoint = Checkpoint(whole)
    embeddings = {piece.parameter for piece in output_pieces(checkpoint, "embeddings")}
    assert embeddings == tensor_names(checkpoint, "embeddings")
    assert len(embeddings) == 1
    assert all(group_of(name) == "embeddings" for name in embeddings)
    sources = []
    for place in range(2):
        with torch.no_grad():
            whole.get_output_embeddings().weight.add_(0.1 * place)
        sources.append(CheckpointSource(str(saved(tmp_path / str(place), whole)), device="cpu"))
    changes = compare_weights(*sources)
    assert changes.changed == 1
    assert changes.tied == bool(whole.config.tie_word_embeddings)


def test_tied_embeddings_that_only_the_whole_config_ties(tmp_path: Path) -> None:
    """Qwen's files say it of the whole model, and the language model's config has the default."""
    whole, _ = vision_and_text("gemma3")
    whole.config.text_config.tie_word_embeddings = False
    loaded = Checkpoint.load(saved(tmp_path, whole), device="cpu")
    assert loaded.parts.unembedding.weight is loaded.model.get_input_embeddings().weight
    source = CheckpointSource(str(tmp_path), device="cpu")
    assert compare_weights(source, source).tied


def test_a_language_model_in_a_whole_that_is_not_mapped_is_refused() -> None:
    whole, _ = vision_and_text("mistral3")
    whole.config.model_type = "somethingvl"
    with pytest.raises(RLCircuitsError, match=r"'somethingvl' \(with a language model of the model_type 'mistral'\)"):
        Checkpoint(whole)


def test_a_refused_language_model_is_refused_within_a_whole_too() -> None:
    config = AutoConfig.for_model("gemma4")
    assert module_names(config) is None
    why = why_not_mapped(config)
    assert re.search(r"model_type 'gemma4' \(.*'gemma4_text'\) is not supported: .*per-layer embeddings", why)


def test_a_registered_family_is_found_alone_and_within_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, text = vision_and_text("mistral3")
    monkeypatch.setitem(FAMILIES, "mistral", ModuleNames(mlp_outputs=("down_proj",)))
    assert module_names(text.config).layers == "model.layers"  # type: ignore[union-attr]
    assert module_names(whole.config).layers == "model.language_model.layers"  # type: ignore[union-attr]
    assert families.is_added(text.config)
    assert families.is_added(whole.config)
    found, wanted = (attribute(model, fixed_sequences()).values for model in (whole, text))
    assert relative_error(found, wanted) < 1e-6


def test_a_registered_whole_is_found_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, text = vision_and_text("mistral3")
    whole.config.model_type = "somethingvl"
    monkeypatch.setitem(
        FAMILIES,
        "somethingvl",
        ModuleNames(layers="model.language_model.layers", final_norm="model.language_model.norm"),
    )
    found, wanted = (attribute(model, fixed_sequences()).values for model in (whole, text))
    assert relative_error(found, wanted) < 1e-6


@pytest.mark.parametrize("family", VISION_MODELS)
def test_a_tiny_model_of_the_config_alone_is_mapped(family: str) -> None:
    whole, _ = vision_and_text(family)
    tiny = Checkpoint(tiny_model(whole.config))
    assert type(tiny.model) is type(whole)
    assert set(tiny.parts.layers) == set(layers_by_config(whole.config))
    assert verify_stream(tiny.model, tiny.parts)
