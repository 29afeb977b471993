"""The rank-1 checkpoint, and its share of the gain."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.core_inputs import NAMES
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build
from helpers.weight_folders import FilesOnly, moved, random_weights, saved, source
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import short_name
from rlcircuits.models.weight_matrices import matrix_places
from rlcircuits.vital_signs.rank_one_source import RankOneSource, with_rank_one


def weights(checkpoint: Source) -> dict[str, torch.Tensor]:
    return {name: each.detach().double() for name, each in checkpoint.load().model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_family(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    models = [build(name, seed=3).to(dtype), moved(name, 1, every=1).to(dtype)]
    sources = [saved(tmp_path / str(place), model) for place, model in enumerate(models)]
    before, after = (weights(each) for each in sources)
    found = weights(RankOneSource(*sources))
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
    assert found.keys() == before.keys()
    for key, weight in before.items():
        places = matrix_places(key, tuple(weight.shape), models[0].config)
        if not places:
            assert torch.equal(found[key], weight), key
        for place in places:
            update, move = place.take(after[key] - weight), place.take(found[key] - weight)
            u, s, vt = torch.linalg.svd(update)
            wanted = update.norm() / s[0] * s[0] * torch.outer(u[:, 0], vt[0])
            assert float((move - wanted).norm() / wanted.norm()) < tolerance
            assert float(move.norm()) == pytest.approx(float(update.norm()), rel=tolerance)


def test_a_lora_of_rank_one_is_recovered(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = source(save_checkpoint(tmp_path / "base"))
    torch.manual_seed(0)
    config = peft.LoraConfig(r=1, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(base.load().model, config).save_pretrained(tmp_path / "adapter")
    after = source(tmp_path / "adapter")
    found, wanted = weights(RankOneSource(base, after)), weights(after)
    assert not torch.equal(
        wanted["model.layers.0.mlp.down_proj.weight"], weights(base)["model.layers.0.mlp.down_proj.weight"]
    )
    for key, weight in wanted.items():
        torch.testing.assert_close(found[key], weight, rtol=1e-5, atol=1e-6)


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
def test_an_outer_product_is_added_whole(rows: int, columns: int, seed: int, dtype: torch.dtype) -> None:
    shapes = {"w": (rows, columns), "a": (rows, 1), "b": (1, columns)}
    drawn = random_weights(shapes, seed, torch.float64)
    matrix, update = drawn["w"].to(dtype), drawn["a"] @ drawn["b"]
    found = with_rank_one(matrix, update)
    assert found.dtype == dtype
    torch.testing.assert_close(found, (matrix.double() + update).to(dtype))
    assert torch.equal(with_rank_one(matrix, torch.zeros_like(update)), matrix)


def test_it_is_a_source(tmp_path: Path) -> None:
    folders = [save_checkpoint(tmp_path / str(seed), seed=seed) for seed in (1, 2, 3)]
    one, two, three = map(source, folders)
    found = RankOneSource(one, two)
    assert isinstance(found, Source)
    assert len({each.fingerprint() for each in (one, found, RankOneSource(two, one), RankOneSource(one, three))}) == 4
    assert found.name == f"{one.name} + rank 1 of {short_name(two.name)}"
    assert found.load().name == found.name
    assert found.context_length == one.context_length
    assert found.tokenizer().get_vocab() == one.tokenizer().get_vocab()
    assert repr(found).startswith("RankOneSource(")
    ids = torch.tensor([[1, 5, 7]])
    assert torch.isfinite(found.load().model(ids).logits).all()
    with pytest.raises(RLCircuitsError, match="RankOneSource: before"):
        RankOneSource("folder", two)


def test_after_is_read_from_its_files(tmp_path: Path) -> None:
    before, after = (saved(tmp_path / str(seed), build("qwen2", seed=seed)) for seed in (1, 2))
    found = RankOneSource(before, FilesOnly(str(after.folder)))
    assert set(weights(found)) == set(weights(before))


def test_checkpoints_of_two_sizes(tmp_path: Path) -> None:
    before, after = (saved(tmp_path / str(size), build("llama", seed=3, intermediate_size=size)) for size in (48, 40))
    with pytest.raises(RLCircuitsError, match=r"mlp\.gate_proj\.weight is \[48, 32\] in .*48 and \[40, 32\] in .*40"):
        RankOneSource(before, after).load()
    shorter = saved(tmp_path / "short", build("llama", seed=3, num_hidden_layers=2))
    with pytest.raises(RLCircuitsError, match=r"layers\.2\.self_attn\.q_proj\.weight is .* and missing in .*short"):
        RankOneSource(before, shorter).load()


def test_a_damaged_after(tmp_path: Path) -> None:
    before, after = (saved(tmp_path / str(seed), build("qwen2", seed=seed)) for seed in (1, 2))
    model = build("qwen2", seed=2)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(after.folder)
    with pytest.raises(RLCircuitsError, match=r"mlp\.up_proj\.weight holds NaN or Inf"):
        RankOneSource(before, CheckpointSource(str(after.folder), device="cpu")).load()
