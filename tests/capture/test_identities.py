"""Identities that edge scores satisfy for every model. Hypothesis searches for a counterexample."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, WITH_HEADS, batches, fixed_sequences, relative_error, sequences, tiny, tokens
from helpers.rounding import differ_by_rounding
from helpers.slow_cases import slow_unless
from helpers.tiny_models import NO_PRE_NORM, build, granularities, padding_sides
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, attribute
from rlcircuits.capture.model_graph import model_graph
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.contraction.backends import BACKENDS
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.sequences import make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.parts import locate_parts

TOLERANCE = 1e-5
EPS_NAMES = {
    "gpt2": "layer_norm_epsilon",
    "gpt-neox": "layer_norm_eps",
    "gpt-neox-sequential": "layer_norm_eps",
    "nemotron-h": "layer_norm_epsilon",
    "gpt-j": "layer_norm_epsilon",
    **dict.fromkeys(("falcon", "falcon-40b", "falcon-11b", "falcon-sequential"), "layer_norm_epsilon"),
    **dict.fromkeys(("cohere", "cohere2", "phi"), "layer_norm_eps"),
}
# OLMo 2, OLMo 3 and EXAONE 4 have no pre-norms. Their q and k have a norm of their own, and v is followed by the norm
# after attention. But their MLP reads the stream without any norm, so that its scores need not sum to zero.
RAW_READERS = dict.fromkeys(NO_PRE_NORM, ("mlp.",))


def without_eps(name: str) -> Any:
    return build(name, seed=3, dtype=torch.float64, **{EPS_NAMES.get(name, "rms_norm_eps"): 1e-12})


@pytest.mark.parametrize("name", NAMES)
def test_1_the_scores_of_a_reader_behind_a_norm_sum_to_zero(name: str) -> None:
    scores = attribute(without_eps(name), fixed_sequences())
    for index, reader in enumerate(scores.graph.readers):
        into = scores.values[:, :, index].double()
        if reader.startswith(RAW_READERS.get(name, "none")):
            assert (into.sum(1).abs() > 1e-3 * into.abs().sum(1)).any()
            continue
        # Layer 0 is read by the embedding alone, so its whole score is zero: measure against all readers.
        assert (into.sum(1).abs() <= TOLERANCE * scores.values.abs().double().sum((1, 2))).all(), reader


@pytest.mark.parametrize("name", WITH_HEADS)
@settings(max_examples=3)
@given(batch=batches)
def test_2_heads_sum_to_the_sublayer(name: str, batch: list[AnswerSequence]) -> None:
    heads, whole = attribute(tiny(name), batch, "head"), attribute(tiny(name), batch)
    summed = torch.zeros_like(whole.values)
    place_writer = [whole.graph.writers.index(w.split(".h")[0]) for w in heads.graph.writers]
    place_reader = [
        whole.graph.readers.index(f"{r.split('.h')[0]}.{r[-1]}" if ".h" in r else r) for r in heads.graph.readers
    ]
    for row, writer in enumerate(place_writer):
        summed[:, writer].index_add_(1, torch.tensor(place_reader), heads.values[:, row])
    # An output bias is written by no head: those rows are compared where the family has none.
    rows = [i for i, w in enumerate(whole.graph.writers) if not (has_output_bias(name) and w.startswith("attn"))]
    assert relative_error(summed[:, rows], whole.values[:, rows]) < TOLERANCE


@pytest.mark.parametrize("name", WITH_HEADS)
@settings(max_examples=3)
@given(batch=batches)
def test_2_query_heads_sum_to_the_key_value_head_they_share(name: str, batch: list[AnswerSequence]) -> None:
    heads, shared = attribute(tiny(name), batch, "head"), attribute(tiny(name), batch, "kv-head")
    parts = locate_parts(tiny(name))
    assert shared.graph.writers == heads.graph.writers
    assert len(shared.graph.readers) == len(parts.blocks) * (parts.n_heads + 1) + 2 * sum(parts.kv_heads) + 1
    summed = torch.zeros_like(shared.values)
    for column, reader in enumerate(heads.graph.readers):
        if reader[-1] in "kv":
            sublayer, head, kind = re.fullmatch(r"(.*)\.h(\d+)\.(k|v)", reader).groups()
            group = parts.n_heads // parts.kv_heads[int(sublayer.split(".")[1])]
            reader = f"{sublayer}.kv{int(head) // group}.{kind}"
        summed[:, :, shared.graph.readers.index(reader)] += heads.values[:, :, column]
    assert relative_error(summed, shared.values) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "granularity"),
    slow_unless(
        lambda name, granularity: granularity == "sublayer",
        [(name, granularity) for name in NAMES for granularity in granularities(name)[:2]],
    ),
)
@settings(max_examples=3)
@given(data=st.data())
def test_3_scores_do_not_depend_on_the_batch(name: str, granularity: str, data: Any) -> None:
    batch = data.draw(st.lists(sequences(), min_size=2, max_size=4))
    order = data.draw(st.permutations(range(len(batch))))
    budget = data.draw(st.integers(1, 64))
    alone = torch.cat([attribute(tiny(name), [s], granularity).values for s in batch])
    for side in padding_sides(name):
        shuffled = [batch[i] for i in order]
        together = attribute(tiny(name), shuffled, granularity, batch_tokens=budget, padding_side=side)
        assert differ_by_rounding(together.values, alone[list(order)], name, shuffled, granularity)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
@settings(max_examples=5)
@given(sequence=sequences(), after=st.lists(tokens, min_size=1, max_size=4))
def test_4_tokens_after_the_scored_span_change_nothing(name: str, sequence: AnswerSequence, after: list[int]) -> None:
    longer = AnswerSequence(sequence.prompt_ids, sequence.answer_ids + tuple(after))
    cut = longer.truncated(len(sequence.answer_ids))
    assert cut == sequence
    # In a batch with the longer one, those tokens stand where the cut one has padding.
    both = attribute(tiny(name), [cut, longer], padding_side="right")
    assert relative_error(both.values[:1], attribute(tiny(name), [sequence]).values) < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gpt-neox"])
@settings(max_examples=5)
@given(batch=batches, factor=st.floats(-8, 8).filter(lambda c: abs(c) > 0.01))
def test_5_scaling_the_loss_scales_the_scores(name: str, batch: list[AnswerSequence], factor: float) -> None:
    model = tiny(name)
    parts = locate_parts(model)
    graph = model_graph(parts, "sublayer")
    rectangle = make_batch(batch, range(len(batch)))
    scaled = []
    for c in (1.0, factor):
        size = BatchShape(*rectangle.input_ids.shape, parts.width, itemsize=4)
        contraction = GroupedContraction(graph, BACKENDS["reference"](), size)
        with (
            frozen(model),
            recorded(model, parts, graph, rectangle, on_reader_grads=contraction.on_reader_grads) as recording,
        ):
            contraction.set_writers(recording.writers)
            torch.autograd.grad(c * sequence_losses(recording.logits, rectangle).sum(), recording.entry)
        scaled.append(contraction.finish())
    assert relative_error(scaled[1], factor * scaled[0]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_there_is_no_score_where_there_is_no_edge(name: str) -> None:
    scores = attribute(tiny(name), fixed_sequences())
    assert (scores.values[:, ~scores.graph.mask] == 0).all()
    assert (scores.values[:, scores.graph.mask] != 0).float().mean() > 0.9


def has_output_bias(name: str) -> bool:
    return locate_parts(tiny(name)).blocks[0].output.bias is not None
