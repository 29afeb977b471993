"""A damaged checkpoint as a source and as a folder: fingerprints, what it needs, and that it loads again as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.full_disk import largest_file
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rlcircuits.checkpoints.damage.folder import DAMAGE_FILE, save_damaged
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.choices import DAMAGE_KINDS
from rlcircuits.common.errors import RLCircuitsError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("llama-gqa", "gpt2", "qwen3-moe"):
        for seed, side in enumerate(("base", "tuned")):
            save_checkpoint(root / name / side, name, seed=seed)
    return root


def source(root: Path, side: str = "base", name: str = "llama-gqa") -> CheckpointSource:
    return CheckpointSource(str(root / name / side), device="cpu")


def weights(source: Source) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in source.load().model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def every_kind(base: Source, reference: Source) -> dict[str, DamagedSource]:
    made = {
        "scale": DamagedSource(base, "scale", 0.5, "mlp.1"),
        "zero": DamagedSource(base, "zero", target="attn.0.h1"),
        "noise": DamagedSource(base, "noise", 4.0, reference=reference),
        "quantise": DamagedSource(base, "quantise", 4),
        "sharpen": DamagedSource(base, "sharpen", 1.3, "unembedding"),
        "swap": DamagedSource(base, "swap", target="0,1"),
        "permute": DamagedSource(base, "permute", reference=reference),
        "redirect": DamagedSource(base, "redirect", reference=reference),
        "delta": DamagedSource(base, "delta", 2.0, reference=reference),
    }
    assert tuple(made) == DAMAGE_KINDS
    return made


def test_each_kind_is_a_source_of_its_own_weights(root: Path) -> None:
    base, tuned = source(root), source(root, "tuned")
    kinds = every_kind(base, tuned)
    loaded = {"": weights(base), "tuned": weights(tuned), **{kind: weights(each) for kind, each in kinds.items()}}
    fingerprints = {"": base.fingerprint(), "tuned": tuned.fingerprint()}
    fingerprints |= {kind: each.fingerprint() for kind, each in kinds.items()}
    assert len(set(fingerprints.values())) == len(fingerprints)
    names = list(loaded)
    for place, name in enumerate(names):
        assert not any(same(loaded[name], loaded[other]) for other in names[:place]), name
    for kind, each in every_kind(base, tuned).items():
        assert isinstance(each, Source)
        checkpoint = each.load()
        assert same(dict(checkpoint.model.named_parameters()), loaded[kind])
        assert each.fingerprint() == fingerprints[kind]
        assert each.name == checkpoint.name == f"{base.name} + {each.description}"
        assert each.context_length == base.context_length
        assert each.tokenizer().get_vocab() == base.tokenizer().get_vocab()


@pytest.mark.parametrize(
    ("kind", "strength", "target"),
    [
        ("scale", 1, "mlp"),
        ("noise", 0, None),
        ("delta", 0, None),
        ("permute", 0, None),
        ("redirect", 0, "attn"),
        ("sharpen", 1, "mlp"),
    ],
)
def test_the_strength_that_changes_nothing_keeps_weights_and_fingerprint(
    root: Path, kind: Any, strength: int, target: str | None
) -> None:
    base = source(root)
    reference = None if kind in ("scale", "sharpen") else source(root, "tuned")
    damaged = DamagedSource(base, kind, strength, target, reference)
    assert same(weights(damaged), weights(base))
    assert damaged.fingerprint() == base.fingerprint()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_whole_update_leads_to_the_reference(root: Path, dtype: str) -> None:
    base, tuned = (CheckpointSource(str(root / "gpt2" / side), dtype=dtype, device="cpu") for side in ("base", "tuned"))
    assert same(weights(DamagedSource(base, "delta", reference=tuned)), weights(tuned))


@given(st.floats(-3, 3))
@settings(max_examples=2, deadline=None)
def test_a_delta_is_a_line_through_both_checkpoints(root: Path, strength: float) -> None:
    base, tuned = source(root), source(root, "tuned")
    found = weights(DamagedSource(base, "delta", strength, reference=tuned))
    after = weights(tuned)
    for name, before in weights(base).items():
        torch.testing.assert_close(found[name], before + strength * (after[name] - before), rtol=1e-4, atol=1e-5)


def test_an_update_of_other_checkpoints_is_added(root: Path) -> None:
    base, tuned = source(root), source(root, "tuned")
    there_and_back = DamagedSource(tuned, "delta", reference=base, origin=tuned)
    assert same(weights(there_and_back), weights(base))
    assert there_and_back.fingerprint() == DamagedSource(tuned, "delta", reference=base).fingerprint()
    twice = DamagedSource(tuned, "delta", reference=tuned, origin=base)
    assert same(weights(twice), weights(DamagedSource(base, "delta", 2.0, reference=tuned)))
    assert twice.description.startswith("1 × the update to ")


def test_damage_adds_up(root: Path) -> None:
    base, tuned = source(root), source(root, "tuned")
    coarse = DamagedSource(tuned, "quantise", 4)
    both = DamagedSource(coarse, "noise", 2.0, reference=base, origin=tuned)
    assert both.name == f"{tuned.name} + int4 + {both.description}"
    before, origin, rounded = weights(base), weights(tuned), weights(coarse)
    for name, found in weights(both).items():
        norm = 2 * float((origin[name] - before[name]).norm())
        assert float((found - rounded[name]).norm()) == pytest.approx(norm, rel=1e-3), name
    other_order = DamagedSource(DamagedSource(tuned, "noise", 2.0, reference=base), "quantise", 4)
    assert both.fingerprint() != other_order.fingerprint()


def test_the_fingerprint_holds_all_that_decides_the_weights(root: Path) -> None:
    base, tuned = source(root), source(root, "tuned")
    variants = [
        DamagedSource(base, "scale", 0.9, "mlp.1"),
        DamagedSource(base, "scale", 0.8, "mlp.1"),
        DamagedSource(base, "scale", 0.9, "mlp.0"),
        DamagedSource(tuned, "scale", 0.9, "mlp.1"),
        DamagedSource(base, "noise", 1, reference=tuned),
        DamagedSource(base, "noise", 1, reference=tuned, seed=1),
        DamagedSource(base, "noise", 1, "attn", tuned),
        DamagedSource(base, "noise", 1, reference=DamagedSource(tuned, "quantise", 8)),
        DamagedSource(base, "noise", 1, reference=tuned, origin=DamagedSource(base, "quantise", 8)),
    ]
    assert len({each.fingerprint() for each in variants}) == len(variants)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("zero", "1.2", "attn.1.h2"),
        ("zero", "mlp.1, attn.0", "attn.0,mlp.1"),
        ("zero", "mlp.1,mlp.1", "mlp.1"),
        ("swap", "1,0", "0,1"),
    ],
)
def test_equal_targets_are_one_target(root: Path, kind: Any, one: str, other: str) -> None:
    first, second = (DamagedSource(source(root), kind, target=target) for target in (one, other))
    assert first == second
    assert first.fingerprint() == second.fingerprint()


def test_a_seed_that_decides_nothing_is_not_in_the_fingerprint(root: Path) -> None:
    first, second = (DamagedSource(source(root), "quantise", 4, target, seed=n) for n, target in enumerate((None, "*")))
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sclae", {}, "kind is 'sclae'; one of scale, zero"),
        ("scale", {"target": "mlp"}, r"scale needs a strength \(factor\)"),
        ("scale", {"strength": 0.5}, "scale needs a target, such as mlp.2"),
        ("scale", {"strength": float("nan"), "target": "mlp"}, "strength is nan; a finite number"),
        ("zero", {"strength": 0.5, "target": "mlp"}, "zero takes no strength, but 0.5 was given"),
        ("quantise", {"strength": 4.5}, "strength is 4.5; a whole number of bits from 2 to 8"),
        ("quantise", {"strength": 16}, "strength is 16; a whole number"),
        ("noise", {"strength": 1}, "noise needs a reference"),
        ("swap", {"target": "0"}, "target is '0'; two different layers"),
        ("swap", {"target": "1,1"}, "two different layers are wanted"),
        ("scale", {"strength": 2, "target": "mlp.0,,"}, "a name is empty"),
    ],
)
def test_what_fits_no_kind_is_refused(root: Path, kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        DamagedSource(source(root), kind, **options)


def test_a_reference_that_does_not_fit_is_refused(root: Path) -> None:
    base = source(root)
    with pytest.raises(RLCircuitsError, match="swap uses no update; leave out the reference"):
        DamagedSource(base, "swap", target="0,1", reference=base)
    with pytest.raises(RLCircuitsError, match="noise: strength is -1; a number of at least 0"):
        DamagedSource(base, "noise", -1, reference=base)
    for other in ({"reference": source(root, name="gpt2")}, {"reference": base, "origin": source(root, name="gpt2")}):
        with pytest.raises(RLCircuitsError, match=r"one architecture: .* is \[61, 32\] in .* and missing in"):
            DamagedSource(base, "delta", **other).load()


def test_damage_without_end_is_refused(root: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"mlp × 1e\+60 leaves NaN or Inf in .*down_proj"):
        DamagedSource(source(root), "scale", 1e60, "mlp").load()


def test_an_untied_reference_of_a_tied_base_is_refused(root: Path, tmp_path: Path) -> None:
    untied = DamagedSource(source(root), "scale", 2.0, "unembedding")
    save_damaged(untied, tmp_path / "untied")
    reference = CheckpointSource(str(tmp_path / "untied"), device="cpu")
    with pytest.raises(RLCircuitsError, match=r"lm_head.weight and model.embed_tokens.weight are one tensor"):
        DamagedSource(source(root), "delta", 2.0, reference=reference).load()
    # The other way about there is one update for each of them.
    back = weights(DamagedSource(reference, "delta", reference=source(root)))
    assert torch.equal(back["lm_head.weight"], weights(source(root))["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    "name", ["llama-gqa", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "qwen3-moe"))]
)
def test_a_written_checkpoint_loads_as_the_source_does(root: Path, tmp_path: Path, name: str) -> None:
    base, tuned = source(root, name=name), source(root, "tuned", name)
    (root / name / "base" / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    damaged = [
        DamagedSource(DamagedSource(base, "quantise", 4), "noise", 2.0, "attn", reference=tuned),
        DamagedSource(base, "scale", 0.5, "unembedding"),
    ]
    for place, each in enumerate(damaged):
        saved = save_damaged(each, tmp_path / str(place))
        loaded = CheckpointSource(str(saved.folder), device="cpu")
        assert same(weights(loaded), weights(each))
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
            assert (saved.folder / file).read_bytes() == (root / name / "base" / file).read_bytes()
        record = json.loads((saved.folder / DAMAGE_FILE).read_text(encoding="utf-8"))
        before, after = weights(base), weights(each)
        changed = [key for key in after if key not in before or not torch.equal(before[key], after[key])]
        if place == 1 and "lm_head.weight" in after and "lm_head.weight" not in before:
            assert changed == ["lm_head.weight"]
        assert record["changed"] == list(saved.changed) == changed
        assert record["parameters"] == saved.parameters == len(after)
        assert record["base"] == {"name": base.name, "fingerprint": base.fingerprint(), "damage": None}
        assert record["fingerprint"] == each.fingerprint()
        assert record["files"].keys() >= {"config.json", "model.safetensors", "tokenizer.json"}
    steps = json.loads((tmp_path / "0" / DAMAGE_FILE).read_text(encoding="utf-8"))["steps"]
    assert [(step["kind"], step["strength"], step["target"]) for step in steps] == [
        ("quantise", 4.0, None),
        ("noise", 2.0, "attn"),
    ]
    assert steps[1]["reference"] == {"name": tuned.name, "fingerprint": tuned.fingerprint()}


def test_only_a_new_or_empty_folder_is_written(root: Path, tmp_path: Path) -> None:
    damaged = DamagedSource(source(root), "zero", target="mlp.0")
    (tmp_path / "empty").mkdir()
    assert save_damaged(damaged, tmp_path / "empty").changed
    for place, message in (("empty", r"is not empty, it holds \w+"), ("empty/config.json", "is a file")):
        with pytest.raises(RLCircuitsError, match=message):
            save_damaged(damaged, tmp_path / place)
    with pytest.raises(RLCircuitsError, match="layer 9"):
        save_damaged(DamagedSource(source(root), "zero", target="mlp.9"), tmp_path / "never")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_damage_that_turns_out_to_change_nothing_is_refused(root: Path, tmp_path: Path) -> None:
    silent = save_damaged(DamagedSource(source(root), "zero", target="mlp.0"), tmp_path / "silent").folder
    again = DamagedSource(CheckpointSource(str(silent), device="cpu"), "zero", target="mlp.0")
    with pytest.raises(RLCircuitsError, match=r"mlp.0 zeroed changes nothing: all 34 tensors stay as they are"):
        save_damaged(again, tmp_path / "again")
    there_and_back = DamagedSource(DamagedSource(source(root), "swap", target="0,1"), "swap", target="0,1")
    with pytest.raises(RLCircuitsError, match="layers 0 and 1 swapped changes nothing"):
        save_damaged(there_and_back, tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["silent"]


@pytest.mark.parametrize("size", [10, 2_000])
def test_a_full_disk_is_one_error_and_leaves_nothing(root: Path, tmp_path: Path, size: int) -> None:
    """At 10 bytes the config does not fit, at 2,000 the weights do not."""
    damaged = DamagedSource(source(root), "zero", target="mlp.0")
    with largest_file(size), pytest.raises(RLCircuitsError, match=r"out cannot be written: .*File too large"):
        save_damaged(damaged, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def stored(folder: Path) -> dict[str, str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("loaded", ["float32", "bfloat16"])
@pytest.mark.parametrize("wide", ["norm", "embed_tokens"])
def test_each_tensor_keeps_the_dtype_that_it_is_stored_in(root: Path, tmp_path: Path, loaded: str, wide: str) -> None:
    folder = save_checkpoint(tmp_path / "mixed")
    tensors = load_file(folder / "model.safetensors")
    mixed = {name: tensor if wide in name else tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"dtype": loaded}), encoding="utf-8")
    base = CheckpointSource(str(folder), device="cpu")
    damaged = DamagedSource(base, "noise", 2.0, reference=source(root))
    saved = save_damaged(damaged, tmp_path / "out")
    assert stored(saved.folder) == stored(folder)
    assert set(stored(folder).values()) == {"F32", "BF16"}
    found, wanted = weights(CheckpointSource(str(saved.folder), device="cpu")), weights(damaged)
    assert {str(tensor.dtype) for tensor in found.values()} == {f"torch.{loaded}"}
    assert same(found, wanted)


def test_a_dtype_that_was_asked_for_is_written(root: Path, tmp_path: Path) -> None:
    base = CheckpointSource(str(root / "llama-gqa" / "base"), dtype="bfloat16", device="cpu")
    saved = save_damaged(DamagedSource(base, "swap", target="0,1"), tmp_path / "out")
    assert set(stored(saved.folder).values()) == {"BF16"}


def test_other_users_may_read_what_they_may_read_of_any_new_file(root: Path, tmp_path: Path) -> None:
    saved = save_damaged(DamagedSource(source(root), "swap", target="0,1"), tmp_path / "out")
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.name: path.stat().st_mode for path in saved.folder.iterdir()} == {
        path.name: usual for path in saved.folder.iterdir()
    }


def test_an_adapter_is_damaged_and_written_merged(root: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(build("llama-gqa", seed=0), config)
    adapted.peft_config["default"].base_model_name_or_path = str(root / "llama-gqa" / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    damaged = DamagedSource(CheckpointSource(str(tmp_path / "adapter"), device="cpu"), "quantise", 4)
    saved = save_damaged(damaged, tmp_path / "out")
    loaded = CheckpointSource(str(saved.folder), device="cpu")
    assert same(weights(loaded), weights(damaged))
    assert loaded.tokenizer().get_vocab() == source(root).tokenizer().get_vocab()
