"""LoRA adapters: the model that is measured is the trained one, base and update together."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error
from helpers.tiny_checkpoints import TOKENS, save_checkpoint, tiny_tokenizer
from helpers.tiny_models import VOCABULARY, build
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlcircuits import Checkpoint, attribute
from rlcircuits.checkpoints.source import CheckpointSource, check_same_architecture
from rlcircuits.common.errors import RLCircuitsError

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` and ``adapter``, for each test to copy."""
    folder = tmp_path_factory.mktemp("saved")
    save_adapter(folder / "adapter", save_checkpoint(folder / "model"))
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved / "model", tmp_path / "model"))


def source(folder: Path) -> CheckpointSource:
    return CheckpointSource(str(folder), device="cpu")


def touch_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


LORA = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}


def save_adapter(folder: Path, base: Path, seed: int = 0) -> Path:
    """Save an adapter whose two factors are random."""
    torch.manual_seed(seed)
    model = Checkpoint.load(base, device="cpu").model
    peft.get_peft_model(model, peft.LoraConfig(**LORA)).save_pretrained(folder)
    (folder / "README.md").unlink()
    return folder


@pytest.fixture
def adapter(saved: Path, folder: Path, tmp_path: Path) -> Path:
    copied = Path(shutil.copytree(saved / "adapter", tmp_path / "adapter"))
    change_config(copied, base_model_name_or_path=str(folder))
    return copied


def change_config(adapter: Path, **fields: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_an_adapter_is_its_base_with_the_update_added(folder: Path, adapter: Path) -> None:
    merged = dict(source(adapter).load().model.named_parameters())
    factors = load_file(adapter / "adapter_model.safetensors")
    changed = 0
    for name, weight in source(folder).load().model.named_parameters():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" in factors:
            update = factors[f"{prefix}.lora_B.weight"] @ factors[f"{prefix}.lora_A.weight"]
            weight = weight + LORA["lora_alpha"] / LORA["r"] * update  # type: ignore[operator]
            changed += 1
        torch.testing.assert_close(merged[name], weight)
    assert changed == 4  # two projections in each of two blocks
    assert torch.equal(dict(Checkpoint.load(adapter, device="cpu").model.named_parameters())[name], merged[name])


def test_an_adapter_is_known_by_itself_and_its_base(folder: Path, adapter: Path, tmp_path: Path) -> None:
    first = source(adapter).fingerprint()
    assert first != source(save_adapter(tmp_path / "other", folder, seed=1)).fingerprint()
    touch_weight(folder)
    assert source(adapter).fingerprint() != first


def test_an_adapters_tokenizer_is_its_own_or_its_bases(folder: Path, adapter: Path) -> None:
    assert source(adapter).tokenizer().get_vocab() == source(folder).tokenizer().get_vocab()
    tiny_tokenizer((*TOKENS[:-1], "<mine>")).save_pretrained(adapter)
    assert "<mine>" in source(adapter).tokenizer().get_vocab()
    assert "<mine>" in source(adapter).load().tokenizer.get_vocab()


def test_an_adapter_has_its_bases_architecture(folder: Path, adapter: Path, tmp_path: Path) -> None:
    assert source(adapter).architecture() == source(folder).architecture()
    check_same_architecture(source(folder), source(adapter))
    message = "model_type is 'llama' in the first and 'gpt2' in the second; a pair needs"
    with pytest.raises(RLCircuitsError, match=message):
        check_same_architecture(source(adapter), source(save_checkpoint(tmp_path / "other", "gpt2")))


def test_a_base_beside_its_adapter(folder: Path, adapter: Path) -> None:
    change_config(adapter, base_model_name_or_path=f"../{folder.name}")
    assert torch.isfinite(attribute(source(adapter).load(), fixed_sequences()).values).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"base_model_name_or_path": "nobody/nothing"},
            "the adapter's base was not found: nobody/nothing is no folder",
        ),
        ({"base_model_name_or_path": None}, "key 'base_model_name_or_path': must be a string, not None"),
        ({"peft_type": "IA3"}, "field 'peft_type' is 'IA3'; only LORA adapters can be merged"),
        ({"target_modules": ["no_such_proj"]}, "does not fit its base: "),
        (
            {"target_modules": ["q_proj", "down_proj", "up_proj"]},
            r"does not fit its base: it lacks weights, the first is base_model\.\S+up_proj",
        ),
        ({"r": 2}, "does not fit its base: "),
    ],
)
def test_an_adapter_that_cannot_be_merged(adapter: Path, fields: dict[str, object], message: str) -> None:
    change_config(adapter, **fields)
    with pytest.raises(RLCircuitsError, match=message):
        source(adapter).load()


def test_damaged_adapters(adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(RLCircuitsError, match=r"adapter_model\.safetensors is damaged or cut short"):
        source(adapter).load()
    weights.unlink()
    with pytest.raises(RLCircuitsError, match=r"has no adapter_model\.safetensors"):
        source(adapter).load()
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(RLCircuitsError, match=r"adapter_config\.json holds no JSON object"):
        source(adapter).load()


def test_an_adapter_without_peft(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RLCircuitsError, match="merging it needs peft, which is not installed: pip install peft"):
        source(adapter).load()
    assert source(adapter).fingerprint()


# For every kind of change: the merged model has the logits of the trained one


IDS = torch.arange(3, 35)[None]
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def tuned(tmp_path: Path, model: dict[str, Any], **lora: Any) -> tuple[Path, Tensor]:
    """Save an adapter with every weight changed from its start, and return the logits of its model."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    build("llama-gqa", seed=3, **model).save_pretrained(base)
    lora = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"]} | lora
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = peft.get_peft_model(Checkpoint.load(base, device="cpu").model, peft.LoraConfig(**lora)).eval()
        generator = torch.Generator().manual_seed(0)
        for weight in trained.parameters():
            if weight.requires_grad:
                weight.data.add_(torch.randn(weight.shape, generator=generator) * 0.05)
        with torch.no_grad():
            logits = trained(IDS).logits
        trained.save_pretrained(adapter)
    return adapter, logits


@pytest.mark.parametrize(
    "ties", [pytest.param(TIED, id="tied"), pytest.param(UNTIED, id="untied", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(up|down)_proj"},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": {"embed_tokens": [5, 6]}},
        {"use_dora": True, "use_rslora": True},
        {"bias": "all"},
        {"layers_to_transform": [1]},
        {"rank_pattern": {"q_proj": 7}, "alpha_pattern": {"q_proj": 3}, "target_modules": ["q_proj", "k_proj"]},
    ],
    ids=str,
)
def test_the_merged_model_has_the_logits_of_the_trained_one(
    tmp_path: Path, ties: dict[str, Any], lora: dict[str, Any]
) -> None:
    adapter, wanted = tuned(tmp_path, ties, **lora)
    with torch.no_grad():
        assert relative_error(Checkpoint.load(adapter, device="cpu").model(IDS).logits, wanted) < 1e-5


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_tying_that_the_adapter_keeps_up_is_kept(tmp_path: Path, target: str) -> None:
    adapter, wanted = tuned(tmp_path, TIED, target_modules=["q_proj", target], ensure_weight_tying=True)
    loaded = Checkpoint.load(adapter, device="cpu")
    with torch.no_grad():
        assert relative_error(loaded.model(IDS).logits, wanted) < 1e-5
    assert torch.isfinite(attribute(loaded, fixed_sequences()).values).all()


def test_layers_that_are_repeated_are_refused(tmp_path: Path) -> None:
    adapter, _ = tuned(tmp_path, UNTIED, layer_replication=[[0, 2], [0, 2]])
    with pytest.raises(RLCircuitsError, match=r"adapter_config\.json: field 'layer_replication' repeats layers"):
        source(adapter).load()


def test_what_merging_changes_is_refused(tmp_path: Path) -> None:
    """An update that applies only after certain tokens cannot be merged into weights."""
    adapter, _ = tuned(tmp_path, UNTIED, alora_invocation_tokens=[5, 6])
    with pytest.raises(RLCircuitsError, match="cannot be merged into its base: "):
        source(adapter).load()


def test_a_resized_vocabulary_names_weight_and_sizes(tmp_path: Path) -> None:
    adapter, _ = tuned(tmp_path, UNTIED, modules_to_save=["embed_tokens", "lm_head"])
    build("llama-gqa", seed=3, vocab_size=VOCABULARY - 3, **UNTIED).save_pretrained(tmp_path / "base")
    message = r"weight lm_head\.weight has the shape \[61, 32\], in the base it has \[58, 32\]"
    with pytest.raises(RLCircuitsError, match=message):
        source(adapter).load()


def test_a_base_that_is_an_adapter_itself_is_refused(folder: Path, adapter: Path, tmp_path: Path) -> None:
    second = save_adapter(tmp_path / "second", folder)
    change_config(second, base_model_name_or_path=str(adapter))
    with pytest.raises(RLCircuitsError, match="is an adapter itself; merge that one and save it as a checkpoint first"):
        source(second).load()


def test_an_adapter_beside_whole_weights_is_refused(folder: Path, adapter: Path) -> None:
    save_checkpoint(adapter)
    with pytest.raises(RLCircuitsError, match="holds an adapter and a whole checkpoint"):
        source(adapter).load()


def rewrite(adapter: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "stray"])
def test_weights_of_an_adapter_that_go_nowhere_are_refused(adapter: Path, name: str) -> None:
    rewrite(adapter, lambda weights: weights.update({name: torch.ones(3, 32)}))
    with pytest.raises(RLCircuitsError, match=f"it has weights that the base has no place for, the first is {name}"):
        source(adapter).load()


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_weights_of_an_adapter_that_are_no_floats_are_refused(adapter: Path, dtype: torch.dtype) -> None:
    rewrite(adapter, lambda weights: weights.update({name: weight.to(dtype) for name, weight in weights.items()}))
    with pytest.raises(RLCircuitsError, match="only weights in one of F64, F32, F16, BF16 are loaded"):
        source(adapter).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": "4"}, "key 'r': must be a whole number, not '4'"),
        ({"r": 0}, "key 'r': "),
        ({"lora_alpha": None}, "key 'lora_alpha': must be a number, not None"),
        ({"target_modules": "("}, "key 'target_modules': '\\(' is no regular expression"),
        ({"target_modules": 3}, "key 'target_modules"),
        ({"rank_pattern": 3}, "key 'rank_pattern'"),
        ({"rank_pattern": {"(": 3}}, r"key 'rank_pattern\.\(': '\(' is no regular expression"),
        ({"lora_dropout": "x"}, "does not fit its base: "),
        ({"task_type": "no-such"}, "does not fit its base: Invalid task type"),
        ({"base_model_name_or_path": "\0"}, r"the adapter's base was not found: \\x00"),
        ({"base_model_name_or_path": "a" * 5000}, "the adapter's base was not found: "),
    ],
)
def test_fields_of_the_wrong_kind_are_one_error(adapter: Path, fields: dict[str, Any], message: str) -> None:
    change_config(adapter, **fields)
    with pytest.raises(RLCircuitsError, match=message):
        source(adapter).load()
