"""The words for what differs between two checkpoints' weights."""

from __future__ import annotations

import pytest
from helpers.paths import SEED_7
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.checkpoints.weight_change_lines import change_count_line, evidence_lines, weight_change_lines
from rlcircuits.checkpoints.weight_changes import TensorChange, UnmatchedTensor, WeightChanges

LAYERS = [f"model.layers.{layer}.{part}.weight" for layer in range(4) for part in ("self_attn.q_proj", "mlp.down_proj")]
NAMES = ["model.embed_tokens.weight", *LAYERS, "model.norm.weight", "lm_head.weight"]


def changes(moved: dict[str, float], row: float = 0.1, **fields: object) -> WeightChanges:
    """Return changes of a model in which each weight has the norm 10, and `moved` gives the updates' norms."""
    tensors = [
        TensorChange(name, 6, 10.0, moved.get(name, 0.0), *((0.5, row) if name in moved else (None, None)))
        for name in NAMES
    ]
    return WeightChanges(tuple(tensors), **{"unmatched": (), "tied": False, **fields})  # type: ignore[arg-type]


def test_nothing_changed_is_one_line() -> None:
    assert weight_change_lines(changes({})) == ["0 of 11 tensors changed: before and after have the same weights"]


def test_one_tensor_changed() -> None:
    assert weight_change_lines(changes({"model.layers.3.mlp.down_proj.weight": 1.0}, row=0.75)) == [
        "1 of 11 tensors changed: model.layers.3.mlp.down_proj.weight",
        "layer 3, MLP: 1 of 4 tensors changed, update 5 % of the norm before, 1 of the squared update",
        "unchanged: embeddings, norms, attention, unembedding",
        "one row of model.layers.3.mlp.down_proj.weight has 0.75 of the squared update",
        "cosine of the update with the weights before 0.15",
    ]


def test_groups_and_layers() -> None:
    moved = dict.fromkeys((name for name in LAYERS if "attn" in name and ".2." not in name), 1.0)
    lines = weight_change_lines(changes({**moved, "lm_head.weight": 1.0}))
    assert lines == [
        "4 of 11 tensors changed",
        "layers 0-1, 3, attention: 3 of 4 tensors changed, update 8.7 % of the norm before, 0.75 of the squared update",
        "unembedding: 1 of 1 tensor changed, update 10 % of the norm before, 0.25 of the squared update",
        "unchanged: embeddings, norms, MLP",
        "cosine of the update with the weights before 0.30",
    ]


SAID = "from the weights alone (reported, no proof): "


def test_the_weights_own_evidence_is_in_one_line() -> None:
    moved = dict.fromkeys((LAYERS[0], LAYERS[2], LAYERS[4], "lm_head.weight"), 1.0)
    share = "unembedding's share of the squared update 0.25"
    assert evidence_lines(changes(moved)) == [f"{SAID}{share}"]
    found = evidence_lines(changes(moved, reference="sft", reference_cosine=-0.013))
    assert found == [f"{SAID}{share}; cosine of the update with that of sft -0.013"]
    assert evidence_lines(changes({}, reference="sft")) == []


def test_tied_embeddings_say_so() -> None:
    lines = evidence_lines(changes({"model.embed_tokens.weight": 1.0, "model.norm.weight": 2.0}, tied=True))
    assert lines == [f"{SAID}tied embeddings: the weight that embeds and unembeds has 0.20 of the squared update"]


def test_weights_that_cannot_be_compared() -> None:
    unmatched = tuple(UnmatchedTensor(f"model.layers.{i}.mlp.up_proj.bias", None, (3,)) for i in range(5))
    lines = weight_change_lines(changes({}, unmatched=unmatched))
    assert lines[0] == "5 of 16 tensors changed"
    assert lines[1] == "layers 0-4, MLP: 5 of 9 tensors changed"
    assert lines[3].startswith(
        "5 tensors cannot be compared: model.layers.0.mlp.up_proj.bias is missing before and [3]"
    )
    assert lines[3].endswith("; and 2 more")


def test_a_reference_that_changed_nothing() -> None:
    (line,) = evidence_lines(changes({"lm_head.weight": 1.0}, reference="sft"))
    assert line.split("; ")[-1] == "cosine of the update with that of sft: none, since one of them changed nothing"


@given(st.sets(st.sampled_from(NAMES)))
def test_the_count_is_that_of_the_moved_and_few_are_named(moved: set[str]) -> None:
    line = change_count_line(changes(dict.fromkeys(moved, 1.0)))
    assert line.startswith(f"{len(moved)} of 11 tensors changed")
    assert all((name in line) == (len(moved) <= 3) for name in moved)
    assert not any(name in line for name in set(NAMES) - moved)


@pytest.mark.parametrize(("after", "share"), [("grpo", "0.038"), ("sft-more", "0.57")])
def test_a_shipped_pair(after: str, share: str) -> None:
    sources = [CheckpointSource(str(SEED_7 / name), device="cpu") for name in ("sft", after, "sft-clean")]
    compared = compare_weights(*sources)
    lines, (evidence,) = weight_change_lines(compared), evidence_lines(compared)
    assert lines[0] == "39 of 39 tensors changed"
    assert lines[3].startswith("layers 0-3, attention: 16 of 16 tensors changed, update ")
    assert f"unembedding's share of the squared update {share}; " in evidence
    assert f"; cosine of the update with that of {SEED_7 / 'sft-clean'} 0." in evidence
