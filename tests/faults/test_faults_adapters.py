"""LoRA adapters: values of every type in every field of the config, damaged weights, and missing bases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_check import Fault, run
from mutations import JSON_ODDITIES, JSON_VALUES, damaged, dotted, fields, is_json, replaced, values, without
from safetensors.torch import save
from valid_inputs import BEFORE, answers

KIND = "adapter"
FOLDER, CONFIG, WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
RANK, WIDTH, LAYERS, VOCABULARY = 2, 48, 4, 17

VALID: dict[str, Any] = {
    "alpha_pattern": {}, "base_model_name_or_path": BEFORE, "bias": "none", "fan_in_fan_out": False,
    "inference_mode": True, "init_lora_weights": True, "layers_to_transform": None, "lora_alpha": 4,
    "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "r": RANK, "rank_pattern": {}, "revision": None,
    "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
}  # fmt: skip

ANYTHING = {*JSON_VALUES, *JSON_ODDITIES} - {"5,000 digits", "100,000 deep"}
NOTHING = {"null", "zero", "empty text", "list", "object", "minus zero"}

ALLOWED: Mapping[str, set[str]] = {
    **dict.fromkeys(("bias", "inference_mode", "init_lora_weights", "lora_dropout", "task_type"), ANYTHING),
    **{key: {"null", "object"} for key in ("alpha_pattern", "rank_pattern")},
    "layers_to_transform": {"null", "list"},
    "lora_alpha": {"zero", "minus zero", "minus one", "whole", "fraction", "31 digits", "true"},
    "modules_to_save": {"null", "list", "list of text"},
    "revision": {"null"},
    **dict.fromkeys(("fan_in_fan_out", "use_dora", "use_rslora"), NOTHING),
}
"""The values, by name and field, with which merging the adapter may work: they mean the same as before or only change
its scale, or the field matters only for training."""

NEEDED = {"base_model_name_or_path", "peft_type"}
"""Fields without a default. The defaults of the other fields fit other weights."""
WITH_DEFAULTS = {"r", "lora_alpha", "target_modules"}


@cache
def weights() -> dict[str, torch.Tensor]:
    """Return the weights of a small update of every q projection."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"lora_A": (RANK, WIDTH), "lora_B": (WIDTH, RANK)}
    return {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight": 0.01
        * torch.randn(shape, generator=generator)
        for layer in range(LAYERS)
        for part, shape in shapes.items()
    }


def make(config: str | bytes = json.dumps(VALID), data: bytes | None = None) -> list[str]:
    """Write an adapter, and return the command that scores it."""
    folder = Path(FOLDER)
    folder.mkdir()
    (folder / CONFIG).write_bytes(config.encode() if isinstance(config, str) else config)
    (folder / WEIGHTS).write_bytes(save(weights()) if data is None else data)
    Path("answers.jsonl").write_bytes(answers())
    return ["attribute", FOLDER, "--answers", "answers.jsonl", "--out", "out.safetensors"]


def faults() -> Iterator[Fault]:
    for path in fields(VALID):
        where = dotted(path)
        harmless = where not in NEEDED
        yield Fault(KIND, f"{where} missing", partial(make, without(VALID, path)), (where,), harmless)
    unread = [path for path in fields(VALID) if ALLOWED.get(dotted(path)) is ANYTHING]
    read = [path for path in fields(VALID) if path not in unread]
    few = {kind: JSON_VALUES[kind] for kind in ("null", "text")}
    for path, kind, value in (
        *list(values(read, JSON_VALUES, JSON_ODDITIES, 2))[::2],
        *values(unread, few, JSON_ODDITIES, 1),
    ):
        where = dotted(path)
        harmless = kind in ALLOWED.get(where, ())
        yield Fault(
            KIND, f"{where} is {kind}", partial(make, replaced(VALID, path, value)), (f"{where}|{FOLDER}",), harmless
        )
    for kind, more in CONFIGS.items():
        yield Fault(KIND, kind, partial(make, json.dumps(VALID | more)), (FOLDER,))
    for kind, data in damaged(json.dumps(VALID).encode(), cuts=5, flips=8):
        harmless = is_json(data) and isinstance(json.loads(data), dict)
        yield Fault(KIND, f"{CONFIG}: {kind}", partial(make, data), (FOLDER,), harmless)
    data = save(weights())
    for end in (0, 7, 9, len(data) // 2, len(data) - 1):
        yield Fault(KIND, f"{WEIGHTS} cut at byte {end}", partial(make, data=data[:end]), (WEIGHTS,))
    for kind, changed in changed_weights().items():
        yield Fault(KIND, kind, partial(make, data=save(changed)), (FOLDER,))


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "a broken pattern": {"target_modules": "(q_proj"},
    "a pattern that takes for ever": {"target_modules": "(.+)+(.+)+(.+)+(.+)+!"},
    "a pattern that meets nothing": {"target_modules": "nonesuch"},
    "a module that is not there": {"target_modules": ["nonesuch"]},
    "another module": {"target_modules": ["k_proj"]},
    "all modules": {"target_modules": "all-linear"},
    "a rank of another": {"r": 8},
    "a rank pattern of another": {"rank_pattern": {"q_proj": 8}},
    "a base that is missing": {"base_model_name_or_path": "./nowhere"},
    "a base that is a file": {"base_model_name_or_path": f"{BEFORE}/config.json"},
    "a base that is itself": {"base_model_name_or_path": FOLDER},
    "a base on no hub": {"base_model_name_or_path": "no/such-model"},
    "a base of too long a name": {"base_model_name_or_path": "x" * 5_000},
    "a base with a NUL": {"base_model_name_or_path": "a\0b"},
    "another method": {"peft_type": "IA3"},
    "a method that nobody knows": {"peft_type": "X"},
    "layers twice": {"layer_replication": [[0, 2], [1, 3]]},
    "layers of none": {"layers_to_transform": [99]},
}


def changed_weights() -> dict[str, dict[str, torch.Tensor]]:
    first, second, *_ = weights()
    embedding = torch.zeros(VOCABULARY + 3, WIDTH)
    return {
        "no weights": {},
        "a weight missing": {name: each for name, each in weights().items() if name != first},
        "a weight too many": weights()
        | {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": weights()[first].clone()},
        "a layer too many": weights() | {first.replace("layers.0", "layers.9"): weights()[first].clone()},
        "a weight of another rank": weights() | {first: torch.zeros(RANK + 1, WIDTH)},
        "a weight of another width": weights() | {first: torch.zeros(RANK, WIDTH + 1)},
        "a weight of NaN": weights() | {second: weights()[second] * float("nan")},
        "whole numbers": {name: each.to(torch.int64) for name, each in weights().items()},
        "a resized embedding": weights() | {"base_model.model.model.embed_tokens.weight": embedding},
        "other names": {f"x.{name}": each for name, each in weights().items()},
    }


def test_the_valid_adapter_runs() -> None:
    assert run(make()).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_adapter(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
