"""Layers that mix tokens without attention: their graph, what it refuses, padding, and models loaded from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error, tiny
from helpers.oracle import edge_names, edge_scores
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import HYBRIDS, build

from rlcircuits import AnswerSequence, Checkpoint, RLCircuitsError, attribute
from rlcircuits.answers.engines.huggingface import HuggingFaceEngine
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.circuits import Circuit, ablated, find_circuit
from rlcircuits.graph.metrics import activation_intensity, intensity_by_layer_band, intensity_by_reader_kind

HYBRID_NAMES = sorted(HYBRIDS)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("falcon-h1", {"mamba_rms_norm": False}),  # the gate without a norm
    ("granite-hybrid", {"num_local_experts": 0, "position_embedding_type": None, "mamba_proj_bias": True}),
    ("nemotron-h", {"moe_latent_size": None, "use_bias": False}),
    ("qwen3-5", {"layer_types": ["linear_attention"] * 3}),  # no attention at all
    ("qwen3-next", {"linear_num_value_heads": 2}),  # as many heads of values as of keys
]


def long_sequences() -> list[AnswerSequence]:
    """Return sequences of very different lengths, so that much of a batch is padding."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(3, 60, (80,), generator=generator).tolist()
    return [
        AnswerSequence(ids[:30], ids[30:70]),
        AnswerSequence(ids[:2], ids[2:5]),
        AnswerSequence(ids[5:9], ids[9:31]),
    ]


@pytest.mark.parametrize("name", HYBRID_NAMES)
def test_the_graph_is_the_definitions(name: str) -> None:
    graph, (writers, readers, mask) = graph_of(Checkpoint(tiny(name)), "sublayer"), edge_names(tiny(name))
    assert (graph.writers, graph.readers) == (writers, readers)
    assert torch.equal(graph.mask, mask)


@pytest.mark.parametrize(("name", "change"), VARIANTS)
def test_variants_of_the_layers_are_scored_as_defined(name: str, change: dict[str, Any]) -> None:
    model = build(name, seed=3, **change)
    wanted, _ = edge_scores(model, fixed_sequences())
    for side in ("right", "left"):
        assert relative_error(attribute(model, fixed_sequences(), padding_side=side).values, wanted) < 1e-4


@pytest.mark.parametrize("name", HYBRID_NAMES)
@pytest.mark.parametrize("granularity", ["head", "kv-head"])
def test_heads_are_refused_with_the_reason(name: str, granularity: str) -> None:
    with pytest.raises(RLCircuitsError, match=r"mixer\.0 is a layer that mixes tokens without attention.*'sublayer'"):
        attribute(tiny(name), fixed_sequences(), granularity)


@pytest.mark.parametrize("name", HYBRID_NAMES)
def test_long_sequences_amid_much_padding_are_scored_as_defined(name: str) -> None:
    """Rounding grows along a recurrence, so that the yardstick is the definition and not another float32 run."""
    model, sequences = tiny(name), long_sequences()
    wanted, _ = edge_scores(model, sequences)
    for side in ("right", "left"):
        for recompute in (False, True):
            found = attribute(model, sequences, padding_side=side, recompute=recompute).values
            assert relative_error(found, wanted) < 1e-4


@pytest.mark.parametrize("name", HYBRID_NAMES)
def test_answers_do_not_depend_on_their_neighbours(name: str, tmp_path: Path) -> None:
    """Prompts of a batch are padded on the left, and a mixer would carry padding into the prompt."""
    engine = HuggingFaceEngine(Checkpoint.load(save_checkpoint(tmp_path, name), device="cpu"))
    prompts = [(1, 5), (1, 9, 8, 7, 11, 30, 4, 4, 9), (1, 40, 41)]
    greedy = Sampling(temperature=0.0, max_new_tokens=6)
    together = engine.complete(prompts, greedy, seed=1)
    assert together == [engine.complete([prompt], greedy, seed=1)[0] for prompt in prompts]


@pytest.mark.parametrize("name", HYBRID_NAMES)
def test_a_checkpoint_in_files_has_the_same_scores(name: str, tmp_path: Path) -> None:
    loaded = Checkpoint.load(save_checkpoint(tmp_path, name), device="cpu")
    found, wanted = attribute(loaded, fixed_sequences()), attribute(tiny(name), fixed_sequences())
    assert relative_error(found.values, wanted.values) < 1e-6


@pytest.mark.parametrize("name", HYBRID_NAMES)
def test_tables_metrics_and_circuits_know_the_nodes(name: str, tmp_path: Path) -> None:
    scores = attribute(tiny(name), fixed_sequences())
    kinds, bands = intensity_by_reader_kind(scores), intensity_by_layer_band(scores)
    assert set(kinds) == {"q", "k", "v", "mixer", "mlp", "logits"}
    into_mixers = [i for i, reader in enumerate(scores.graph.readers) if reader.startswith("mixer.")]
    edges = scores.values[:, :, into_mixers][:, scores.graph.mask[:, into_mixers]]
    np.testing.assert_allclose(kinds["mixer"], edges.double().abs().mean(1).numpy())
    assert all(np.isfinite(band).all() for band in bands.values())
    table = scores.to_pandas()
    assert len(table) == scores.graph.n_edges
    assert {name for name in table.writer if name.startswith("mixer")} <= set(scores.graph.writers)
    circuit = find_circuit(scores, 12)
    circuit.save(tmp_path / "circuit.json")
    again = Circuit.load(tmp_path / "circuit.json")
    assert again.graph.same_as(circuit.graph)
    assert torch.equal(again.mask, circuit.mask)
    assert torch.isfinite(ablated(tiny(name), fixed_sequences(), again).loss).all()
    assert (activation_intensity(scores) > 0).all()


def test_a_kind_of_layer_that_is_not_mapped_is_refused() -> None:
    model: Any = build("nemotron-h")
    model.config.layers_block_type[1] = "convolution"
    with pytest.raises(RLCircuitsError, match=r"layers\.1 is a layer of the kind 'convolution', which is not mapped"):
        Checkpoint(model)


def test_a_layer_that_the_config_calls_by_another_kind_is_noticed() -> None:
    model: Any = build("qwen3-5")
    model.config.layer_types[0] = "full_attention"
    with pytest.raises(RLCircuitsError, match=r"should have a module model\.layers\.0\.self_attn"):
        Checkpoint(model)


def test_the_norm_of_what_a_delta_net_reads_is_what_makes_rounding_larger() -> None:
    """With an epsilon that keeps small reads small, float16 errs as in models without such a norm."""
    errors = []
    for epsilon in (1e-3, 0.1):
        model: Any = build("qwen3-5", seed=3, dtype=torch.float16)
        for layer in model.model.layers:
            if hasattr(layer, "linear_attn"):
                layer.linear_attn.norm.variance_epsilon = epsilon
        wanted, _ = edge_scores(model, fixed_sequences())
        errors.append(relative_error(attribute(model, fixed_sequences()).values, wanted))
    assert errors[1] < 0.01
    assert errors[0] > 3 * errors[1]
