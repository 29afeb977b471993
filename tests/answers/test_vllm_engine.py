"""What vLLM is given: a folder that is there while it loads, the dtype that is scored, and settings of no one else.

vLLM itself runs on GPUs alone. A module with the three names that the engine uses stands for it, and answers with
transformers from the folder and the dtype that it was given.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.quantised_folders import write_llama
from helpers.tiny_checkpoints import save_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from rlcircuits.answers.engines.model_folder import model_folder
from rlcircuits.answers.engines.registry import open_engine
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.logs import log_stage

PROMPTS = [(1, 5), (1, 9, 8, 7, 11, 30), (1, 40, 41)]
GREEDY = Sampling(temperature=0.0, max_new_tokens=12)


@dataclass
class SamplingParams:
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop_token_ids: list[int]
    detokenize: bool


class LLM:
    """It has no default for what the engine must not leave open."""

    def __init__(self, model: str, *, dtype: str, generation_config: str, trust_remote_code: bool) -> None:
        assert generation_config == "vllm"
        assert not trust_remote_code
        self.folder, self.dtype = Path(model), dtype
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))

    def generate(self, asked: list[dict[str, Any]], params: list[SamplingParams], use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        outputs = []
        for each, how in zip(asked, params, strict=True):
            assert (how.temperature, how.detokenize) == (0.0, False)
            ids = torch.tensor([each["prompt_token_ids"]])
            settings = GenerationConfig(
                max_new_tokens=how.max_tokens, eos_token_id=how.stop_token_ids, pad_token_id=0, do_sample=False
            )
            found = self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=found[0, ids.shape[1] :].tolist())]))
        return outputs


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module = ModuleType("vllm")
    vars(module).update(LLM=LLM, SamplingParams=SamplingParams)
    monkeypatch.setitem(sys.modules, "vllm", module)
    room = tmp_path / "temporary"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    return room


def models(folder: Path) -> dict[str, tuple[Source, bool]]:
    """Return sources, and whether each is saved."""
    before, after = (str(save_checkpoint(folder / str(seed), seed=seed)) for seed in (3, 4))
    plain, rounded, tuned = (
        CheckpointSource(path, dtype=dtype, device="cpu")
        for path, dtype in ((before, None), (before, "bfloat16"), (after, None))
    )
    write_llama(folder / "quantised", "fp8")
    quantised = CheckpointSource(str(folder / "quantised"), device="cpu")
    return {
        "folder": (plain, False),
        "rounded": (rounded, False),
        "noise": (NoisedSource(plain, tuned, 1), True),
        "quantised": (quantised, True),
    }


@pytest.mark.parametrize("name", ["folder", "rounded", "noise", "quantised"])
def test_vllm_loads_what_is_scored(name: str, tmp_path: Path, stand_in: Path) -> None:
    source, is_saved = models(tmp_path)[name]
    lines: list[str] = []
    engine: Any = open_engine("vllm", source, lines.append)
    scored = source.load()
    assert engine._llm.dtype == str(scored.model.dtype).removeprefix("torch.")
    assert (engine._llm.folder.parent == stand_in) == is_saved == bool(lines)
    assert list(stand_in.iterdir()) == []
    by_name = dict(engine._llm.model.named_parameters())
    for key, weight in scored.model.named_parameters():
        assert torch.equal(weight, by_name[key]), key
    wanted = open_engine("transformers", scored, log_stage)
    # One prompt at a time, as the stand-in: padding rounds otherwise in half precision.
    assert engine.complete(PROMPTS, GREEDY, seed=1) == [wanted.complete([each], GREEDY, seed=1)[0] for each in PROMPTS]
    assert (engine.context, engine.vocabulary) == (wanted.context, wanted.vocabulary)


def test_a_loaded_model_is_saved_too(tmp_path: Path, stand_in: Path) -> None:
    loaded = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu").load()
    engine = open_engine("vllm", loaded)
    assert list(stand_in.iterdir()) == []
    wanted = open_engine("transformers", loaded)
    assert engine.complete(PROMPTS, GREEDY, seed=1) == wanted.complete(PROMPTS, GREEDY, seed=1)


def test_a_mask_that_is_stored_beside_the_weights_gives_no_dtype(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "gpt2")
    config, weights = folder / "config.json", folder / "model.safetensors"
    config.write_text(
        json.dumps({key: value for key, value in json.loads(config.read_text()).items() if key != "dtype"})
    )
    mask = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    save_file({**load_file(weights), "transformer.h.0.attn.bias": mask}, weights, metadata={"format": "pt"})
    source = CheckpointSource(str(folder), device="cpu")
    with model_folder(source) as found:
        assert found.dtype == source.load().model.dtype == torch.float32
