"""The noise control: its match with the update, what it depends on, and that a base with noise is a source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlcircuits.checkpoints import noise
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.matched_noise import RowUpdates, add_matched_noise, measure_updates
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.readout import graft_readout, readout_of, untie
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.choices import DamageKind
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.tensor_groups import GROUPS, Group, group_of

seeds = st.integers(0, 2**31)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().double() for name, parameter in model.named_parameters()}


def rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


@pytest.mark.parametrize("name", ["llama", "llama-gqa", "gpt2", "mixtral"])  # gqa and gpt2 have tied weights
@given(draw=st.integers(0, 1000), size=st.floats(1e-2, 10.0))
@settings(max_examples=5)
def test_every_row_moves_as_far_and_as_much_along_itself_as_its_update(name: str, draw: int, size: float) -> None:
    before, after, model = build(name, seed=0), build(name, seed=0), build(name, seed=0)
    changed = [parameter for place, parameter in enumerate(after.parameters()) if place % 3]
    with torch.no_grad():
        for parameter in changed:
            parameter += size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(draw))
            rows(parameter)[0] *= 1.5  # a row that is scaled too, or for a vector all of it
    updates = measure_updates(before, after)
    add_matched_noise(model, updates, draw)
    origin, moved, wanted = tensors(before), tensors(model), tensors(after)
    assert len(updates) == len(changed)
    for key in origin:
        own, theirs = rows(moved[key] - origin[key]), rows(wanted[key] - origin[key])
        scale = theirs.norm(dim=-1).clamp_min(1e-30)
        assert float(((own.norm(dim=-1) - theirs.norm(dim=-1)) / scale).abs().max()) < 2e-3
        along = [
            (side * rows(origin[key])).sum(-1) / rows(origin[key]).norm(dim=-1).clamp_min(1e-30)
            for side in (own, theirs)
        ]
        assert float(((along[0] - along[1]) / scale).abs().max()) < 2e-3


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.25])
def test_a_rescaling_is_reproduced(factor: float) -> None:
    before, after, model = build("llama", seed=0), build("llama", seed=0), build("llama", seed=0)
    with torch.no_grad():
        after.model.layers[1].mlp.down_proj.weight *= factor
        after.model.norm.weight *= factor
    add_matched_noise(model, measure_updates(before, after), draw=5)
    for found, wanted in zip(model.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
@given(power=st.floats(0.7, 1.8), factor=st.floats(0.5, 1.5), draw=st.integers(0, 1000))
@settings(max_examples=3)
def test_sharpening_is_reproduced_whatever_its_power(name: str, power: float, factor: float, draw: int) -> None:
    before, after, model = build(name, seed=0), build(name, seed=0), build(name, seed=0)
    with torch.no_grad():
        for parameter in after.parameters():
            if parameter.dim() > 1:
                left, values, right = torch.linalg.svd(parameter.double(), full_matrices=False)
                parameter.copy_(factor * (left * values.pow(power).unsqueeze(-2)) @ right)
            else:
                parameter.mul_(factor)
    add_matched_noise(model, measure_updates(before, after), draw)
    for found, wanted, origin in zip(model.parameters(), after.parameters(), before.parameters(), strict=True):
        assert float((found - wanted).detach().norm()) <= 2e-3 * float((wanted - origin).detach().norm()) + 1e-6


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.3])
def test_a_rescaled_head_is_reproduced(factor: float) -> None:
    before, after, model = build("llama", seed=0), build("llama", seed=0), build("llama", seed=0)
    with torch.no_grad():
        after.model.layers[1].self_attn.o_proj.weight[:, 8:16] *= factor
    add_matched_noise(model, measure_updates(before, after), draw=5)
    for found, wanted in zip(model.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@given(seeds)
@settings(max_examples=5)
def test_rounding_does_not_swallow_the_noise(seed: int) -> None:
    # Far below bfloat16's resolution of most weights: most of it is rounded away, unless it is drawn larger.
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(400, 50, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(50, 400, generator=generator))
    model.bfloat16()
    origin = model.weight.detach().float()
    across = torch.full((50,), 0.02)
    noise = torch.randn(50, 400, generator=generator)
    swallowed = (origin + noise / noise.norm(dim=-1, keepdim=True) * 0.02).bfloat16().float() - origin
    assert float(swallowed.norm(dim=-1).mean()) < 0.9 * 0.02
    add_matched_noise(model, {"weight": RowUpdates(torch.zeros(50), across)}, seed)
    assert model.weight.dtype == torch.bfloat16
    # A row this small moves in steps.
    assert float((model.weight.detach().float() - origin).norm(dim=-1).mean()) == pytest.approx(0.02, rel=0.15)


def test_a_large_tensor_is_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = build("llama", seed=0), build("llama", seed=1)
    wanted = measure_updates(before, after)
    monkeypatch.setattr("rlcircuits.checkpoints.matched_noise._LARGEST", 1)
    found = measure_updates(before, after)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name].across, wanted[name].across) for name in wanted)


def test_the_noise_has_no_direction_but_along_the_row() -> None:
    model, after = nn.Linear(400, 400, bias=False), nn.Linear(400, 400, bias=False)
    origin = model.weight.detach().clone()
    with torch.no_grad():
        after.weight.copy_(origin + 0.1 * torch.randn(400, 400, generator=torch.Generator().manual_seed(1)))
    add_matched_noise(model, measure_updates(model, after), draw=0)
    update, noise = (after.weight - origin).flatten().detach(), (model.weight - origin).flatten().detach()
    assert abs(float(torch.nn.functional.cosine_similarity(noise, update, dim=0))) < 0.02


def test_a_draw_depends_on_its_number_and_the_tensors_name_only() -> None:
    class Net(nn.Module):
        def __init__(self, names: str) -> None:
            super().__init__()
            for name in names:
                setattr(self, name, nn.Parameter(torch.zeros(5, 4)))

    one, other, another = Net("ab"), Net("bca"), Net("ab")
    for model, draw in ((one, 1), (other, 1), (another, 2)):
        add_matched_noise(model, dict.fromkeys("abc", RowUpdates(torch.zeros(5), torch.ones(5))), draw)
    for name in "ab":
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert not torch.equal(getattr(one, name), getattr(another, name))
    assert not torch.equal(one.a, one.b)


@pytest.mark.parametrize("group", GROUPS[:-1])
def test_noise_on_one_group_leaves_the_others(group: str) -> None:
    before, after, model = build("llama", seed=0), build("llama", seed=1), build("llama", seed=0)
    add_matched_noise(model, measure_updates(before, after), 0, {group})  # type: ignore[arg-type]
    origin, moved, wanted = tensors(before), tensors(model), tensors(after)
    for name in origin:
        changed = not torch.equal(origin[name], moved[name])
        assert changed == (group_of(name) == group and not torch.equal(origin[name], wanted[name])), name


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
    add_matched_noise(base, measure_updates(base, tuned), draw=3)
    found, wanted, trained = (dict(model.named_parameters()) for model in (checkpoint.model, base, tuned))
    # The readout is after's. The embedding was the unembedding, gets noise as an embedding, and is so no more.
    readout = {"model.norm.weight": "model.norm.weight", "lm_head.weight": "model.embed_tokens.weight"}
    assert found.keys() - wanted.keys() == {"lm_head.weight"}
    for name, parameter in found.items():
        assert torch.equal(parameter, trained[readout[name]] if name in readout else wanted[name]), name
    # Loaded again it is the same, and its base is as it was.
    again = noised.load().model.get_input_embeddings().weight
    assert torch.equal(again, checkpoint.model.get_input_embeddings().weight)


@pytest.mark.parametrize("group", GROUPS[:-1])
@pytest.mark.parametrize("name", ["llama", "llama-gqa"])
def test_on_one_group_only_its_part_of_the_readout_is_taken_over(name: str, group: Group, tmp_path: Path) -> None:
    before, after = sources(tmp_path, name)
    found, origin, trained = (
        dict(source.load().model.named_parameters())
        for source in (NoisedSource(before, after, 0, group), before, after)
    )
    tied = name == "llama-gqa"  # the unembedding is in the embedding's group then
    readout = {"norms": {"model.norm.weight"}, "embeddings" if tied else "unembedding": {"lm_head.weight"}}
    for key, parameter in found.items():
        source = "model.embed_tokens.weight" if tied and key == "lm_head.weight" else key
        if key in readout.get(group, ()):
            assert torch.equal(parameter, trained[source]), key
        elif group_of(key) == group:
            assert not torch.equal(parameter, origin[source]), key
        else:
            assert torch.equal(parameter, origin[source]), key


@pytest.mark.parametrize("tied_before", [True, False])
def test_an_unembedding_that_only_one_of_the_two_ties_is_taken_over(tied_before: bool, tmp_path: Path) -> None:
    tied, untied = sources(tmp_path, "llama-gqa")
    model = untied.load()
    untie(model)
    model.model.save_pretrained(tmp_path / "untied")
    untied = CheckpointSource(str(tmp_path / "untied"), device="cpu")
    before, after = (tied, untied) if tied_before else (untied, tied)
    found = NoisedSource(before, after, 0).load().model
    wanted = after.load().model.get_output_embeddings().weight
    assert torch.equal(found.get_output_embeddings().weight, wanted)
    assert not torch.equal(found.get_input_embeddings().weight, wanted)


@pytest.mark.parametrize("name", ["llama", "llama-gqa"])
@pytest.mark.parametrize(
    "steps",
    [
        [("sharpen", 1.6, "unembedding"), ("scale", 1.35, "unembedding")],
        [("sharpen", 1.5, "unembedding"), ("scale", 1.2, "final-norm"), ("scale", 0.9, "mlp.1")],
        [("sharpen", 1.3, "embeddings"), ("scale", 1.3, "unembedding"), ("zero", None, "attn.0.h1")],
        [("sharpen", 1.3, "mlp"), ("scale", 1.3, "final-norm"), ("scale", 0.8, "attn.1")],
    ],
    ids=str,
)
def test_sharpening_and_scaling_together_are_reproduced(
    name: str, steps: list[tuple[DamageKind, float | None, str]], tmp_path: Path
) -> None:
    before, _ = sources(tmp_path, name)
    after: Source = before
    for step in steps:
        after = DamagedSource(after, *step)
    ids = torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(0))
    models = [each.load().model for each in (before, after, NoisedSource(before, after, 0))]
    with torch.no_grad():
        origin, wanted, found = (model(input_ids=ids, use_cache=False).logits for model in models)
    assert float((found - wanted).norm()) < 1e-3 * float((wanted - origin).norm())


def sources(folder: Path, name: str) -> tuple[CheckpointSource, CheckpointSource]:
    for seed in (0, 1):
        build(name, seed=seed).save_pretrained(folder / str(seed))
    one, other = (CheckpointSource(str(folder / str(seed)), device="cpu") for seed in (0, 1))
    return one, other


def test_each_pair_has_the_noise_of_its_own_update(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = CheckpointSource.load

    def counted(source: CheckpointSource) -> Checkpoint:
        loaded.append(source.path)
        return load(source)

    monkeypatch.setattr("rlcircuits.checkpoints.noise._known_updates", {})
    monkeypatch.setattr(CheckpointSource, "load", counted)
    one, other = (CheckpointSource(str(folder), device="cpu") for folder in folders)
    forth, back = ([NoisedSource(*pair, draw) for draw in (0, 1)] for pair in ((one, other), (other, one)))
    for noised in (*forth, *back, forth[0]):
        checkpoint = noised.load()
        base, tuned = load(noised.before), load(noised.after)  # type: ignore[arg-type]
        add_matched_noise(base.model, measure_updates(base.model, tuned.model), noised.draw)
        graft_readout(base, readout_of(tuned))
        pairs = zip(checkpoint.model.parameters(), base.model.parameters(), strict=True)
        assert all(torch.equal(*both) for both in pairs)
        # Updates take as much memory as a model: those of one pair are kept.
        assert len(noise._known_updates) == 1
    # after's weights are read once for the draws of a pair that follow one another.
    first, second = map(str, folders)
    assert loaded == [first, second, first, second, first, second, first, second]


def test_an_adapter_as_after_moves_what_it_was_trained_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    before = CheckpointSource(str(folders[0]), device="cpu")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(before.load().model, config).save_pretrained(tmp_path)
    model = NoisedSource(before, CheckpointSource(str(tmp_path), device="cpu"), 0).load().model
    moved = set(measure_updates(before.load().model, model))
    assert moved == {name for name, _ in model.named_parameters() if "q_proj.weight" in name}
    assert moved


def test_the_fingerprint_is_of_both_checkpoints_and_the_draw(folders: tuple[Path, Path]) -> None:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in folders)
    sources = [
        NoisedSource(before, after, 0),
        NoisedSource(before, after, 1),
        NoisedSource(after, before, 0),
        NoisedSource(before, before, 0),
        NoisedSource(before, after, 0, "norms"),
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
        measure_updates(build("llama"), build("llama", **other), "A", "B")
