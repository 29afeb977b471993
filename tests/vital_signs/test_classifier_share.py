"""The unembedding's share of the update: its definition, and what must not change it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.core_inputs import NAMES
from helpers.paths import SEED_7
from helpers.tiny_models import build, stored_weights
from helpers.weight_folders import moved, random_weights, saved, source, written
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.vital_signs.classifier_share import classifier_share

HEAD, UP = "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
SHAPES = {HEAD: (11, 4), UP: (6, 4), "model.norm.weight": (4,), "model.embed_tokens.weight": (11, 4)}
seeds = st.integers(0, 2**31)


def definition(update: dict[str, Tensor], head: str) -> float:
    """‖PΔW_head‖² / (‖PΔW_head‖² + Σ_rest ‖ΔW‖²) by the matrix P itself."""
    rows = len(update[head])
    projection = torch.eye(rows, dtype=torch.float64) - torch.ones(rows, rows, dtype=torch.float64) / rows
    share = float((projection @ update[head]).square().sum())
    return share / (share + sum(float(each.square().sum()) for name, each in update.items() if name != head))


@given(seed=seeds, size=st.sampled_from([1e-4, 1.0, 1e3]), common=st.sampled_from([0.0, 1.0, 100.0]))
def test_the_definition_and_the_gauge(
    seed: int, size: float, common: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One vector added to every row of the head changes no probability, and not the share."""
    folder = tmp_path_factory.mktemp("gauge")
    before = random_weights(SHAPES, seed, torch.float64)
    update = random_weights(SHAPES, seed + 1, torch.float64)
    update[HEAD] *= size
    wanted = definition(update, HEAD)
    update[HEAD] = update[HEAD] + common * random_weights({"v": (4,)}, seed + 2, torch.float64)["v"]
    after = {name: before[name] + update[name] for name in before}
    sign = classifier_share(written(folder / "a", before), written(folder / "b", after))
    assert sign.outcome == "reported"
    assert sign.change == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_head_only_training_has_all_of_it(dtype: torch.dtype, tmp_path: Path) -> None:
    before = random_weights(SHAPES, 0, dtype)
    after = {**before, HEAD: random_weights(SHAPES, 1, dtype)[HEAD]}
    assert classifier_share(written(tmp_path / "a", before), written(tmp_path / "b", after)).change == 1
    without = {**random_weights(SHAPES, 1, dtype), HEAD: before[HEAD]}
    assert classifier_share(written(tmp_path / "a", before), written(tmp_path / "c", without)).change == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_family(name: str, tmp_path: Path) -> None:
    models = [build(name, seed=3), moved(name, 1, every=1)]
    sign = classifier_share(*(saved(tmp_path / str(place), model) for place, model in enumerate(models)))
    if models[0].config.tie_word_embeddings:
        assert (sign.outcome, sign.change) == ("not measurable", None)
        assert "tied" in sign.note
        return
    before, after = ({key: each.detach().double() for key, each in stored_weights(model).items()} for model in models)
    head = next(key for key in before if before[key] is not None and key.startswith(("lm_head", "embed_out")))
    # A bias of the head is one more column of it, whose mean changes no probability either.
    bias = head.removesuffix("weight") + "bias"
    of_head = [key for key in (head, bias) if key in before]
    update = {key: after[key] - before[key] for key in before if key not in of_head}
    update[head] = torch.cat([(after[key] - before[key]).reshape(len(before[head]), -1) for key in of_head], 1)
    assert sign.change == pytest.approx(definition(update, head))
    size = sum(before[key].numel() for key in of_head) / sum(each.numel() for each in before.values())
    assert sign.details["share_of_parameters"] == pytest.approx(size)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    before = random_weights(SHAPES, 0, torch.float32)
    base = written(tmp_path / "a", before)
    common = written(tmp_path / "b", {**before, HEAD: before[HEAD].clone()})
    assert "no weight changed" in classifier_share(base, common).note
    resized = written(tmp_path / "c", {**before, HEAD: torch.ones(12, 4)})
    assert "lm_head.weight is missing in one checkpoint, or has another shape" in classifier_share(base, resized).note
    headless = written(tmp_path / "d", {UP: before[UP]})
    assert "unembedding" in classifier_share(headless, headless).note
    assert {classifier_share(base, other).outcome for other in (common, resized)} == {"not measurable"}


@pytest.mark.parametrize(
    ("after", "share"), [("grpo", (0.02, 0.05)), ("sft-more", (0.36, 0.65)), ("dpo", (0.015, 0.027))]
)
def test_shipped_pairs(after: str, share: tuple[float, float]) -> None:
    """The ranges were measured by another program, without the projection, which lowers them."""
    sign = classifier_share(source(SEED_7 / "sft"), source(SEED_7 / after))
    whole = sign.details["share_with_common_row"]
    assert isinstance(whole, float)
    assert share[0] <= whole <= share[1]
    assert sign.change is not None
    assert 0.8 * whole < sign.change <= whole
