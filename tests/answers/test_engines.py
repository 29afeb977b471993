"""Test the contract of every engine, and the errors for an engine that is not available."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.completions_server import CompletionsServer
from helpers.folder_engine import FolderEngine
from helpers.quantised_folders import write_llama
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import VOCABULARY

from rlcircuits.answers.engines.engine import Engine, end_token_ids
from rlcircuits.answers.engines.registry import ENGINES, open_engine
from rlcircuits.answers.engines.served import Served
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.logs import log_stage
from rlcircuits.questions import load_questions

PROMPTS = [(1, 5), (1, 9, 8, 7, 11, 30), (1, 40, 41), (1, 5, 5, 5, 5, 5, 5, 5, 5)]
GREEDY = Sampling(temperature=0.0, max_new_tokens=12)
SAMPLED = Sampling(temperature=1.3, top_p=0.95, max_new_tokens=12)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("model"))), dtype="float32")


@contextmanager
def opened(name: str, model: Source) -> Iterator[Engine]:
    """Open an engine by name: one of the package's, or ``folder``, which stands for vLLM where that cannot run."""
    if name == "vllm" and not (importlib.util.find_spec("vllm") and torch.cuda.is_available()):
        pytest.skip("vLLM needs a CUDA device and is not a dependency")
    if name == "folder":
        yield FolderEngine(model, log_stage)
    elif name != "openai":
        yield open_engine(name, model)
    else:
        with CompletionsServer(model.load().model.cpu()).running() as server:
            yield open_engine("openai", Served(model, server.address))


@pytest.fixture(scope="module", params=[*sorted(ENGINES), "folder"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(name: str, source: CheckpointSource) -> Iterator[Engine]:
    with opened(name, source) as found:
        yield found


def test_contract_limits_are_the_models(engine: Engine) -> None:
    assert (engine.context, engine.vocabulary) == (96, VOCABULARY)


def test_contract_greedy_is_the_argmax_of_a_plain_forward(engine: Engine, source: CheckpointSource) -> None:
    model = source.load().model
    for prompt, completion in zip(PROMPTS, engine.complete(PROMPTS, GREEDY, seed=1), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion.ids], device=model.device)).logits[0]
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == list(completion.ids)


def test_contract_neighbours_and_padding_leave_no_trace(engine: Engine) -> None:
    together = engine.complete(PROMPTS, GREEDY, seed=1)
    assert together == [engine.complete([prompt], GREEDY, seed=2)[0] for prompt in PROMPTS]
    assert together[::-1] == engine.complete(PROMPTS[::-1], GREEDY, seed=3)


def test_contract_the_seed_fixes_a_calls_draws(engine: Engine) -> None:
    first = engine.complete(PROMPTS, SAMPLED, seed=1)
    engine.complete(PROMPTS[:2], SAMPLED, seed=9)
    assert engine.complete(PROMPTS, replace(SAMPLED, seed=7), seed=1) == first
    assert engine.complete(PROMPTS, SAMPLED, seed=2) != first
    assert len(set(engine.complete([PROMPTS[0]] * 4, SAMPLED, seed=1))) > 1


def test_contract_greedy_draws_nothing(engine: Engine) -> None:
    assert engine.complete(PROMPTS, GREEDY, seed=1) == engine.complete(PROMPTS, GREEDY, seed=2)


def test_contract_first_tokens_are_drawn_from_the_models_distribution(engine: Engine, source: CheckpointSource) -> None:
    model = source.load().model.cpu()
    draws, prompt = 512, PROMPTS[1]
    completions = engine.complete([prompt] * draws, Sampling(temperature=1.0, max_new_tokens=1), seed=4)
    with torch.no_grad():
        probabilities = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1).numpy()
    # Eight classes of tokens of about the same mass, so that each has many draws.
    order = np.argsort(-probabilities)
    classes = np.empty(len(order), int)
    classes[order] = np.minimum((8 * (probabilities[order].cumsum() - probabilities[order] / 2)).astype(int), 7)
    expected = draws * np.bincount(classes, probabilities, minlength=8)
    found = np.bincount([classes[completion.ids[0]] for completion in completions], minlength=8)
    kept = expected > 0
    assert ((found - expected)[kept] ** 2 / expected[kept]).sum() < 30, "chi-squared of 7 degrees, p below 0.0001"


def test_contract_an_answer_ends_at_its_end_token_or_its_length(engine: Engine) -> None:
    hot = Sampling(temperature=50.0, max_new_tokens=40)  # any token is as good as another, the end token (2) too
    completions = engine.complete(PROMPTS * 8, hot, seed=1)
    for completion in completions:
        assert completion.finished == (completion.ids[-1] == 2)
        assert 2 not in completion.ids[:-1]
        assert len(completion.ids) == 40 or completion.finished
    assert {completion.finished for completion in completions} == {True, False}


def test_contract_the_global_random_state_is_left_alone(engine: Engine) -> None:
    state = torch.get_rng_state()
    engine.complete(PROMPTS, SAMPLED, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module", params=["noise", "adapter", "quantised", "bfloat16"])
def in_memory(
    request: pytest.FixtureRequest, source: CheckpointSource, tmp_path_factory: pytest.TempPathFactory
) -> Source:
    """A model that is in no folder as it is scored."""
    folder = tmp_path_factory.mktemp("in-memory")
    if request.param == "noise":
        after = CheckpointSource(str(save_checkpoint(folder, seed=4)), dtype="float32")
        return NoisedSource(source, after, draw=1)
    if request.param == "adapter":
        pytest.importorskip("peft")
        save_random_adapter(folder, source)
    elif request.param == "quantised":
        write_llama(folder, "fp8")
    else:
        save_checkpoint(folder)
        return CheckpointSource(str(folder), dtype="bfloat16")
    return CheckpointSource(str(folder), dtype="float32")


def save_random_adapter(folder: Path, base: CheckpointSource) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = LoraConfig(r=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base.load().model, lora).save_pretrained(folder)


def test_contract_a_model_made_in_memory_answers_as_it_is_scored(
    name: str, in_memory: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = in_memory.load().model
    with opened(name, in_memory) as engine:
        assert list(tmp_path.iterdir()) == [], "what was saved to be loaded is still there"
        assert engine.vocabulary == model.get_input_embeddings().weight.shape[0]
        completions = engine.complete(PROMPTS, GREEDY, seed=1)
        sampled = engine.complete(PROMPTS, SAMPLED, seed=1)
    if name == "folder":  # the same library with the same weights
        assert completions == open_engine("transformers", in_memory).complete(PROMPTS, GREEDY, seed=1)
        assert sampled == open_engine("transformers", in_memory).complete(PROMPTS, SAMPLED, seed=1)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion.ids], device=model.device)).logits[0]
        given = logits[len(prompt) - 1 : -1].float()
        behind = given.amax(-1) - given.gather(-1, torch.tensor(completion.ids, device=given.device)[:, None])[:, 0]
        # In half precision two tokens may be equally likely, and a cache rounds otherwise than a whole forward.
        assert float(behind.max()) <= (0.1 if model.dtype == torch.bfloat16 else 0.0)


def test_every_end_token_counts(source: CheckpointSource, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": list(range(30))}))
    for completion in open_engine("transformers", CheckpointSource(str(folder))).complete(PROMPTS, SAMPLED, seed=1):
        assert all(token >= 30 for token in completion.ids[:-1])
    assert end_token_ids(None, source.tokenizer()) == (2,)


def test_no_memory_for_a_batch(source: CheckpointSource, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = source.load()

    def generate(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(checkpoint.model, "generate", generate)
    with pytest.raises(RLCircuitsError, match="out of memory answering 4 prompts of up to 9 tokens at once; a smaller"):
        open_engine("transformers", checkpoint).complete(PROMPTS, GREEDY, seed=1)


def test_probabilities_that_are_not_finite(source: CheckpointSource) -> None:
    checkpoint = source.load()
    with torch.no_grad():
        next(checkpoint.model.parameters()).fill_(float("nan"))
    with pytest.raises(RLCircuitsError, match="no token can be drawn: the model's probabilities are not finite"):
        open_engine("transformers", checkpoint).complete(PROMPTS, SAMPLED, seed=1)


def test_an_unknown_engine(source: CheckpointSource) -> None:
    message = "engine is 'steam'; it must be one of transformers, vllm, openai"
    with pytest.raises(RLCircuitsError, match=message):
        open_engine("steam", source)
    with pytest.raises(RLCircuitsError, match=message):
        answer_questions(source, load_questions("arithmetic", count=1), engine="steam")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_there(source: CheckpointSource) -> None:
    with pytest.raises(RLCircuitsError, match="needs vllm, which is not installed: pip install vllm"):
        open_engine("vllm", source)


def test_a_tokenizer_of_another_model(source: CheckpointSource) -> None:
    checkpoint = source.load()
    small = Checkpoint(checkpoint.model, tokenizer=checkpoint.tokenizer, name="small")
    small.model.resize_token_embeddings(9)
    with pytest.raises(RLCircuitsError, match=r"its prompt has token id \d+, outside the model's vocabulary of 9 ids"):
        answer_questions(small, load_questions("arithmetic", count=3), GREEDY)
