"""The stream of ΔW against float64 differences of the loaded models."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from helpers.core_inputs import NAMES
from helpers.tiny_models import build
from helpers.weight_folders import (
    FilesOnly,
    forty_layers,
    memory_at_reads,
    moved,
    random_weights,
    saved,
    written,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.weight_matrices import matrix_places
from rlcircuits.vital_signs import weight_updates as module
from rlcircuits.vital_signs.weight_updates import open_updates, squared_norm, subtract

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_family_from_its_files(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    models = [build(name, seed=3).to(dtype), moved(name, 1).to(dtype)]
    folders = [saved(tmp_path / str(place), model).folder for place, model in enumerate(models)]
    weights = [{key: weight.detach().double() for key, weight in model.named_parameters()} for model in models]
    config = models[0].config
    wanted: list[Tensor] = []
    for key, before in weights[0].items():
        update = weights[1][key] - before
        wanted += [place.take(update) for place in matrix_places(key, tuple(update.shape), config)]
    with open_updates(*(FilesOnly(str(folder)) for folder in folders)) as updates:
        assert updates.tied == bool(config.tie_word_embeddings)
        assert not updates.unmatched
        read = list(updates)
    found = [matrix for weight in read for matrix in weight.matrices()]
    total = sum(float((weights[1][key] - before).square().sum()) for key, before in weights[0].items())
    assert sum(weight.squared_norm for weight in read) == pytest.approx(total)
    assert len({matrix.name for matrix in found}) == len(found) == len(wanted)
    assert {matrix.update.dtype for matrix in found} == {torch.float64}
    # Files of a mixture have the experts in another order than the model.
    ours, theirs = (sorted(map(summary, each)) for each in ([matrix.update for matrix in found], wanted))
    assert ours == theirs


def summary(matrix: Tensor) -> tuple[object, ...]:
    return (*matrix.shape, float(matrix.abs().max()), float(matrix[0, 0]), float(matrix[-1, -1]), float(matrix[0, -1]))


@given(
    shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    seed=st.integers(0, 2**31),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    chunk=st.sampled_from([1, 7, 1 << 20]),
)
def test_squares_are_summed_in_float64(
    shape: tuple[int, ...], seed: int, dtypes: tuple[torch.dtype, ...], chunk: int
) -> None:
    before, after = (
        random_weights({"w": shape}, seed + place, dtype)["w"] for place, dtype in enumerate(dtypes)
    )  # fmt: skip
    difference = after.double() - before.double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert squared_norm(before, after) == pytest.approx(float(difference.square().sum()))
        if shape:
            common = torch.ones(shape[1:], dtype=torch.float64)
            assert squared_norm(before, after, common) == pytest.approx(float((difference - common).square().sum()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_matrices_are_in_float64_and_large_ones_are_not(dtype: torch.dtype) -> None:
    small, large = torch.ones(9, module.EXACT_UP_TO, dtype=dtype), torch.ones(257, 257, dtype=dtype)
    assert subtract(small, small).dtype == torch.float64
    assert subtract(large, large).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@given(seed=st.integers(0, 2**31))
def test_bfloat16_is_subtracted_exactly_in_float32(seed: int) -> None:
    before = random_weights({"w": (257, 260)}, seed, torch.bfloat16)["w"]
    after = (before.double() * 1.01 + 1e-3).to(torch.bfloat16)
    assert torch.equal(subtract(before, after).double(), after.double() - before.double())


def test_a_loaded_source_gives_what_its_files_give(tmp_path: Path) -> None:
    before, after = (saved(tmp_path / str(seed), moved("mixtral", seed)) for seed in (1, 2))
    with open_updates(before, NoisedSource(before, after, 0)) as updates:
        names = [matrix.name for weight in updates for matrix in weight.matrices()]
    assert "model.layers.0.mlp.experts.gate_up_proj [expert 3 up]" in names
    with open_updates(before, after) as updates:
        assert len(names) == sum(len(list(weight.matrices())) for weight in updates)


def test_unmatched_weights_have_no_update(tmp_path: Path) -> None:
    names = ("lm_head.weight", "model.layers.0.mlp.up_proj.weight")
    before = written(tmp_path / "a", random_weights(dict.fromkeys(names, (4, 3)), 0, torch.float32))
    after = written(tmp_path / "b", random_weights({names[0]: (5, 3), names[1]: (4, 3)}, 1, torch.float32))
    with open_updates(before, after) as updates:
        assert updates.unmatched == ("lm_head.weight",)
        assert [weight.name for weight in updates] == [names[1]]


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_weight_that_is_not_finite(damaged: int, tmp_path: Path) -> None:
    tensors = [torch.ones(4, 3) for _ in range(2)]
    tensors[damaged][2, 1] = math.nan if damaged else math.inf
    sources = [written(tmp_path / str(i), {"model.norm.weight": tensor}) for i, tensor in enumerate(tensors)]
    message = rf"{sources[damaged].name}: weight model\.norm\.weight holds NaN or Inf"
    with open_updates(*sources) as updates, pytest.raises(RLCircuitsError, match=message):
        list(updates)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_one_weight_of_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = memory_at_reads(monkeypatch)
    with open_updates(*(forty_layers(tmp_path / name) for name in "ab")) as updates:
        for weight in updates:
            assert weight.squared_norm == 0
            assert not any(matrix.update.any() for matrix in weight.matrices())
    assert len(used) == 80
    # Both checkpoints are 160 MiB.
    assert max(used) - used[0] < 20
