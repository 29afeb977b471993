"""What differs between two checkpoints' weights, against dense float64 arithmetic on the loaded models."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from helpers.core_inputs import NAMES
from helpers.paths import SEED_7
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build, stored_weights
from helpers.weight_folders import FilesOnly, forty_layers, memory_at_reads, moved, saved, source, written
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlcircuits.checkpoints import compare_weights as module
from rlcircuits.checkpoints.compare_weights import compare_weights, group_changed, groups_in_files
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.weight_changes import TensorChange, WeightChanges
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.tensor_groups import GROUPS, group_of, layer_of

MIXTURES = [
    "mixtral", "qwen3-moe", "glm4-moe", "olmoe", "granite-moe", "deepseek-v3", "deepseek-v3-whole-q", "qwen3-next",
    "qwen3-5-moe", "granite-hybrid", "nemotron-h", "cohere2-moe",
]  # fmt: skip
"""The families whose files hold experts apart that the model holds together."""


def cosine(a: Tensor, b: Tensor) -> float | None:
    norms = a.double().norm() * b.double().norm()
    return float((a.double().flatten() @ b.double().flatten()) / norms) if norms else None


def close(found: float | None, wanted: float | None) -> bool:
    return (
        found == wanted if found is None or wanted is None else math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    )


def check(found: TensorChange, before: Tensor, after: Tensor, reference: Tensor | None = None) -> None:
    """Assert that a change is what the definition says."""
    old, update = before.double(), after.double() - before.double()
    squares = update.square().reshape(-1, before.shape[-1] if before.ndim > 1 else 1).sum(1)
    assert found.size == before.numel()
    assert close(found.before_norm, float(old.norm()))
    assert close(found.update_norm, float(update.norm()))
    assert found.changed == bool((before != after).any())
    assert close(found.cosine, cosine(update, old))
    assert close(found.largest_row_share, float(squares.max() / squares.sum()) if squares.sum() else None)
    wanted = None if reference is None else cosine(update, reference.double() - old)
    assert close(found.reference_cosine, wanted)


def flat(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([weight.flatten() for weight in weights.values()])


@pytest.mark.parametrize("name", NAMES)
def test_the_files_tell_what_the_models_say(name: str, tmp_path: Path) -> None:
    models = [build(name, seed=3), moved(name, 1), moved(name, 2, every=3)]
    for place, model in enumerate(models):
        model.save_pretrained(tmp_path / str(place))
    changes = compare_weights(*(FilesOnly(str(tmp_path / str(place))) for place in range(3)))
    weights = [{key: weight.detach().double() for key, weight in stored_weights(model).items()} for model in models]
    before = weights[0]
    update, theirs = ({key: after[key] - before[key] for key in before} for after in weights[1:])
    assert close(changes.update_norm, float(flat(update).norm()))
    assert close(changes.cosine, cosine(flat(update), flat(before)))
    assert close(changes.reference_cosine, cosine(flat(update), flat(theirs)))
    assert not changes.unmatched
    for group, part in changes.by_group().items():
        norm = float(flat({key: weight for key, weight in update.items() if group_of(key) == group}).norm())
        assert close(part.update_norm, norm)
        assert close(part.squared_share, (norm / float(flat(update).norm())) ** 2)
    for layer, part in changes.by_layer().items():
        wanted = flat({key: weight for key, weight in before.items() if layer_of(key) == layer}).norm()
        assert close(part.before_norm, float(wanted))
    head = models[0].get_output_embeddings().weight
    assert changes.tied == (head is models[0].get_input_embeddings().weight)
    heads = [model.get_output_embeddings().parameters() for model in models[:2]]  # some have a bias
    moves = sum(float((b - a).detach().double().square().sum()) for a, b in zip(*heads, strict=True))
    assert close(changes.unembedding_share, moves / float(flat(update).square().sum()))
    if name not in MIXTURES:
        assert {change.name for change in changes.tensors} == before.keys()
        for change in changes.tensors:
            check(change, *(model[change.name] for model in weights))
        assert changes.changed == len(list(models[0].parameters())[::2])


shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)


@given(
    shape=shapes,
    seed=st.integers(0, 2**31),
    size=st.sampled_from([0.0, 1e-6, 1.0, 1e15]),
    sparse=st.booleans(),
    dtypes=st.tuples(*[st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])] * 3),
    chunk=st.sampled_from([1, 5, 1 << 17]),
)
@settings(max_examples=60, deadline=None)
def test_any_tensor_in_any_dtype(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    seed: int,
    size: float,
    sparse: bool,
    dtypes: tuple[torch.dtype, ...],
    chunk: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    folder = tmp_path_factory.mktemp("any")
    old = torch.randn(shape, generator=generator, dtype=torch.float64)
    tensors = [old]
    for _ in range(2):
        step = size * torch.randn(shape, generator=generator, dtype=torch.float64)
        tensors.append(old + step * (torch.rand(shape, generator=generator) < 0.3) if sparse else old + step)
    tensors = [tensor.clamp(-6e4, 6e4).to(dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    sources = [written(folder / str(i), {"model.norm.weight": tensor}) for i, tensor in enumerate(tensors)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        (found,) = compare_weights(*sources).tensors
    check(found, *tensors)


def test_a_copy_has_changed_nothing(tmp_path: Path) -> None:
    folders = [save_checkpoint(tmp_path / name) for name in "ab"]
    changes = compare_weights(*map(source, folders), reference=source(folders[0]))
    assert (changes.changed, changes.update_norm) == (0, 0)
    assert changes.count == len(list(build("llama-gqa").parameters()))
    assert changes.cosine is changes.unembedding_share is changes.reference_cosine is None


def test_scaling_is_radial_and_a_row_is_found(tmp_path: Path) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    row = weight.clone()
    row[2] += 1
    for after, radial, share in ((1.5 * weight, 1.0, None), (0.5 * weight, -1.0, None), (row, None, 1.0)):
        before, changed = (written(tmp_path / name, {"lm_head.weight": t}) for name, t in (("a", weight), ("b", after)))
        (found,) = compare_weights(before, changed).tensors
        assert radial is None or found.cosine == pytest.approx(radial)
        assert share is None or found.largest_row_share == pytest.approx(share)


def test_a_tied_weight_counts_once_even_if_the_file_has_it_twice(tmp_path: Path) -> None:
    weight = torch.ones(4, 3)
    norm = torch.ones(3)
    tensors = {"model.embed_tokens.weight": weight, "model.norm.weight": norm}
    before = written(tmp_path / "a", tensors, tie_word_embeddings=True)
    again = {key: 2 * tensor for key, tensor in tensors.items()}
    again["lm_head.weight"] = again["model.embed_tokens.weight"].clone()
    changes = compare_weights(before, written(tmp_path / "b", again, tie_word_embeddings=True))
    assert [change.name for change in changes.tensors] == [*tensors]
    assert changes.tied
    assert changes.unembedding_share == pytest.approx(12 / 15)


def test_embeddings_that_training_untied(tmp_path: Path) -> None:
    weight = torch.ones(4, 3)
    before = written(tmp_path / "a", {"model.embed_tokens.weight": weight}, tie_word_embeddings=True)
    untied = {"model.embed_tokens.weight": weight, "lm_head.weight": 3 * weight}
    for changes in (
        compare_weights(before, written(tmp_path / "b", untied)),
        compare_weights(written(tmp_path / "b", untied), before),
    ):
        assert {change.name: change.update_norm for change in changes.tensors} == {
            "model.embed_tokens.weight": 0,
            "lm_head.weight": pytest.approx(math.sqrt(48)),
        }
        assert not changes.tied
        assert changes.unembedding_share == 1


def test_shards_and_names_without_the_prefix(tmp_path: Path) -> None:
    """Files that hold GPT-2 without its head name its weights `h.0.…`."""
    before = saved(tmp_path / "before", build("gpt2", seed=3), max_shard_size="20KB")
    assert len(list(before.folder.glob("model-*.safetensors"))) > 1
    after = saved(tmp_path / "after", moved("gpt2", 1))
    wanted = compare_weights(before, after)
    tensors = load_file(after.folder / "model.safetensors")
    tensors = {key.removeprefix("transformer."): tensor for key, tensor in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)  # a buffer that earlier versions stored
    save_file(tensors, after.folder / "model.safetensors", metadata={"format": "pt"})
    assert compare_weights(*(FilesOnly(str(one.folder)) for one in (before, after))) == wanted


def test_an_adapter_and_noise_are_loaded(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = save_checkpoint(tmp_path / "base")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(source(base).load().model, config).save_pretrained(tmp_path / "adapter")
    changes = compare_weights(source(base), source(tmp_path / "adapter"))
    weights = [dict(source(tmp_path / name).load().model.named_parameters()) for name in ("base", "adapter")]
    norms = {name: float((weights[1][name] - weight).detach().double().norm()) for name, weight in weights[0].items()}
    assert {change.name: change.update_norm for change in changes.tensors} == pytest.approx(norms, rel=1e-5)
    assert {change.name.split(".")[-2] for change in changes.tensors if change.changed} == {"q_proj", "down_proj"}
    noised = compare_weights(source(base), NoisedSource(source(base), source(tmp_path / "adapter"), 0))
    assert {change.name: change.update_norm for change in noised.tensors} == pytest.approx(norms, rel=2e-3)


def test_files_that_name_weights_otherwise_than_the_loaded_model(tmp_path: Path) -> None:
    """Mixtral's files have each expert apart. Beside a loaded model, the files' model is loaded too."""
    before = saved(tmp_path / "before", build("mixtral", seed=3))
    after = saved(tmp_path / "after", moved("mixtral", 1))
    changes = compare_weights(before, NoisedSource(before, after, 0))
    assert [change.name for change in changes.tensors if "experts" in change.name] == [
        f"model.layers.{layer}.mlp.experts.{part}" for layer in (0, 1) for part in ("down_proj", "gate_up_proj")
    ]
    assert changes.update_norm == pytest.approx(compare_weights(before, after).update_norm, rel=1e-3)


def test_a_vocabulary_that_training_resized(tmp_path: Path) -> None:
    names = ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")
    before, after = (
        written(tmp_path / str(rows), {name: torch.ones(rows if "norm" not in name else 3, 3) for name in names})
        for rows in (4, 5)
    )
    changes = compare_weights(before, after)
    assert {(one.name, one.before, one.after) for one in changes.unmatched} == {
        (name, (4, 3), (5, 3)) for name in names[:2]
    }
    assert (changes.changed, changes.count) == (2, 3)
    assert changes.unembedding_share is None
    assert {group: (part.changed, part.count) for group, part in changes.by_group().items()} == {
        "embeddings": (1, 1), "norms": (0, 1), "unembedding": (1, 1),
    }  # fmt: skip


def test_weights_are_compared_as_they_are_loaded(tmp_path: Path) -> None:
    weight = torch.ones(4, 3)
    for name, tensor in (("a", weight), ("b", weight + 1e-4)):
        written(tmp_path / name, {"model.norm.weight": tensor})
    assert compare_weights(source(tmp_path / "a"), source(tmp_path / "b")).changed == 1
    rounded = [source(tmp_path / name, dtype="bfloat16") for name in "ab"]
    assert compare_weights(*rounded).changed == 0
    for name in "ab":
        written(tmp_path / name, load_file(tmp_path / name / "model.safetensors"), dtype="bfloat16")
    assert compare_weights(source(tmp_path / "a"), source(tmp_path / "b")).changed == 0


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_weight_that_is_not_finite(damaged: int, tmp_path: Path) -> None:
    tensors = [torch.ones(4, 3) for _ in range(3)]
    tensors[damaged][2, 1] = math.nan if damaged else math.inf
    sources = [written(tmp_path / str(i), {"lm_head.weight": tensor}) for i, tensor in enumerate(tensors)]
    with pytest.raises(RLCircuitsError, match=rf"{sources[damaged].name}: weight lm_head\.weight holds NaN or Inf"):
        compare_weights(*sources)


def test_a_reference_of_another_base(tmp_path: Path) -> None:
    sources = [written(tmp_path / str(rows), {"lm_head.weight": torch.ones(rows, 3)}) for rows in (4, 5)]
    with pytest.raises(RLCircuitsError, match=r".*5 is no other training of .*4: it has as \[5, 3\] weight lm_head"):
        compare_weights(sources[0], sources[0], reference=sources[1])


def test_a_damaged_file(tmp_path: Path) -> None:
    good = written(tmp_path / "a", {"lm_head.weight": torch.ones(4, 3)})
    bad = written(tmp_path / "b", {"lm_head.weight": torch.ones(4, 3)})
    file = tmp_path / "b" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RLCircuitsError, match=r"b/model\.safetensors is damaged or cut short"):
        compare_weights(good, bad)


def test_changes_are_stored_and_read_as_json(tmp_path: Path) -> None:
    before, after = (
        written(tmp_path / str(n), {"lm_head.weight": torch.ones(n, 3), "model.norm.weight": torch.full((3,), 0.1 * n)})
        for n in (4, 5)
    )
    changes = compare_weights(before, after)
    assert len(changes.tensors) == len(changes.unmatched) == 1
    adapter = TypeAdapter(WeightChanges)
    text = adapter.dump_json(changes)
    assert adapter.validate_json(text, strict=True) == changes
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        adapter.validate_json(text.replace(b'"update_norm":', b'"update_norm":-'), strict=True)


@pytest.mark.parametrize(
    ("after", "share"), [("grpo", (0.02, 0.05)), ("sft-more", (0.36, 0.65)), ("dpo", (0.015, 0.027))]
)
def test_the_unembeddings_share_of_shipped_pairs(after: str, share: tuple[float, float]) -> None:
    """The ranges were measured by another program."""
    changes = compare_weights(source(SEED_7 / "sft"), source(SEED_7 / after))
    assert (changes.changed, changes.count) == (39, 39)
    assert changes.unembedding_share is not None
    assert share[0] <= changes.unembedding_share <= share[1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_one_tensor_of_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = memory_at_reads(monkeypatch)
    compare_weights(*(forty_layers(tmp_path / name) for name in "ab"))
    assert len(used) == 80
    # Both checkpoints are 160 MiB.
    assert max(used) - used[0] < 20


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("name", ["llama-gqa", "gpt-neox", "mixtral"])
def test_whether_a_group_changed(name: str, every: int, tmp_path: Path) -> None:
    for place, model in enumerate([build(name, seed=3), moved(name, 1, every=every)]):
        model.save_pretrained(tmp_path / str(place))
    pair = source(tmp_path / "0"), source(tmp_path / "1")
    by_group = compare_weights(*pair).by_group()
    assert {group for group in GROUPS if group_changed(*pair, group)} == {
        group for group, summary in by_group.items() if summary.changed
    }
    assert groups_in_files(pair) == tuple(by_group)
    assert groups_in_files([FilesOnly(str(tmp_path / "0"))]) == tuple(by_group)
    assert groups_in_files([NoisedSource(*pair, 0)]) == GROUPS  # known only once it is loaded
