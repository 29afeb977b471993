"""The noise control: its size, what it depends on, and that a base with noise is a source like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlcircuits.checkpoints.noise import NoisedSource, add_noise, update_norms
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.errors import RLCircuitsError

seeds = st.integers(0, 2**31)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["llama", "llama-gqa", "gpt2"])  # the last two have tied weights
@given(draw=st.integers(0, 1000), size=st.floats(1e-3, 10.0))
@settings(max_examples=5)
def test_every_tensor_moves_by_the_norm_of_its_update(name: str, draw: int, size: float) -> None:
    before, after, model = build(name, seed=0), build(name, seed=0), build(name, seed=0)
    changed = [parameter for place, parameter in enumerate(after.parameters()) if place % 3]
    with torch.no_grad():
        for parameter in changed:
            parameter += size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(draw))
    norms = update_norms(before, after)
    add_noise(model, norms, draw)
    origin, moved, wanted = tensors(before), tensors(model), tensors(after)
    assert list(norms) == list(origin)
    for key in origin:
        update = (wanted[key] - origin[key]).double().norm()
        assert norms[key] == pytest.approx(float(update), rel=1e-6)
        assert float((moved[key] - origin[key]).double().norm()) == pytest.approx(norms[key], rel=1e-4)
    assert sum(norm == 0 for norm in norms.values()) == len(norms) - len(changed) > 0


@given(seeds)
@settings(max_examples=5)
def test_rounding_does_not_swallow_the_noise(seed: int) -> None:
    # Far below bfloat16's resolution of most weights: most of it is rounded away, unless it is drawn larger.
    norm, generator = 0.02, torch.Generator().manual_seed(seed)
    model = nn.Linear(60, 50, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(50, 60, generator=generator))
    model.bfloat16()
    origin = model.weight.detach().float()
    noise = torch.randn(50, 60, generator=generator)
    swallowed = (origin + noise * norm / noise.norm()).bfloat16().float() - origin
    assert float(swallowed.norm()) < 0.8 * norm
    add_noise(model, {"weight": norm}, seed)
    assert model.weight.dtype == torch.bfloat16
    # A tensor this small moves in steps.
    assert float((model.weight.detach().float() - origin).norm()) == pytest.approx(norm, rel=0.05)


def test_the_noise_is_gaussian_and_has_no_direction() -> None:
    model, after = nn.Linear(400, 400, bias=False), nn.Linear(400, 400, bias=False)
    origin = model.weight.detach().clone()
    norms = update_norms(model, after)
    add_noise(model, norms, draw=0)
    noise = ((model.weight - origin) / norms["weight"] * 400).flatten().detach()
    assert abs(float(noise.mean())) < 5 / 400
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.1)
    update = (after.weight.detach() - origin).flatten()
    assert abs(float(torch.nn.functional.cosine_similarity(noise, update, dim=0))) < 5 / 400


def test_a_draw_depends_on_its_number_and_the_tensors_name_only() -> None:
    class Net(nn.Module):
        def __init__(self, names: str) -> None:
            super().__init__()
            for name in names:
                setattr(self, name, nn.Parameter(torch.zeros(5, 4)))

    one, other, another = Net("ab"), Net("bca"), Net("ab")
    for model, draw in ((one, 1), (other, 1), (another, 2)):
        add_noise(model, dict.fromkeys("abc", 2.0), draw)
    for name in "ab":
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert not torch.equal(getattr(one, name), getattr(another, name))
    assert not torch.equal(one.a, one.b)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "tuned")):
        build("llama-gqa", seed=seed).save_pretrained(root / name)
    return root / "base", root / "tuned"


def test_a_noised_source_is_the_base_with_noise(folders: tuple[Path, Path]) -> None:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in folders)
    noised = NoisedSource(before, after, draw=3)
    assert isinstance(noised, Source)
    checkpoint = noised.load()
    assert noised.name == checkpoint.name == f"{before.path} + noise 3 of {folders[1].parent.name}-tuned"
    base, tuned = before.load().model, after.load().model
    norms = update_norms(base, tuned)
    add_noise(base, norms, draw=3)
    for (name, found), wanted in zip(checkpoint.model.named_parameters(), base.parameters(), strict=True):
        assert torch.equal(found, wanted), name
    # The embedding is the unembedding, and stays it.
    assert checkpoint.model.get_output_embeddings().weight is checkpoint.model.get_input_embeddings().weight
    # Loaded again it is the same, and its base is as it was.
    again = noised.load().model.get_input_embeddings().weight
    assert torch.equal(again, checkpoint.model.get_input_embeddings().weight)
    assert update_norms(before.load().model, tuned) == norms


def test_an_adapter_as_after_moves_what_it_was_trained_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    before = CheckpointSource(str(folders[0]), device="cpu")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(before.load().model, config).save_pretrained(tmp_path)
    model = NoisedSource(before, CheckpointSource(str(tmp_path), device="cpu"), 0).load().model
    moved = [norm > 0 for norm in update_norms(before.load().model, model).values()]
    assert moved == ["q_proj.weight" in name for name, _ in model.named_parameters()]
    assert any(moved)


def test_the_fingerprint_is_of_both_checkpoints_and_the_draw(folders: tuple[Path, Path]) -> None:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in folders)
    sources = [
        NoisedSource(before, after, 0),
        NoisedSource(before, after, 1),
        NoisedSource(after, before, 0),
        NoisedSource(before, before, 0),
    ]
    fingerprints = [source.fingerprint() for source in (*sources, before, after)]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints)
    assert NoisedSource(CheckpointSource(str(folders[0])), after, 0).fingerprint() == fingerprints[0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"vocab_size": 62}, r"model.embed_tokens.weight is \[61, 32\] in A and \[62, 32\] in B"),
        ({"num_hidden_layers": 2}, r"model.layers.2.*.weight is \[.*\] in A and missing in B"),
        ({"num_hidden_layers": 4}, r"model.layers.3.*.weight is missing in A and \[.*\] in B"),
    ],
)
def test_other_parameters_are_refused(other: dict[str, int], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        update_norms(build("llama"), build("llama", **other), "A", "B")
