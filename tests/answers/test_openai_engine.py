"""Test the engine that asks a server, with a server that runs a tiny model: what it believes, retries and refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.completions_server import CompletionsServer, Flavour
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits.answers.engines.engine import Completion
from rlcircuits.answers.engines.openai import CHECKED_ANSWERS, OpenAIEngine
from rlcircuits.answers.engines.openai_server import KEY_VARIABLE, Patience
from rlcircuits.answers.engines.registry import open_engine
from rlcircuits.answers.engines.served import Served
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import load_questions

PROMPTS = [(1, 5), (1, 9, 8, 7, 11, 30), (1, 40, 41)]
GREEDY = Sampling(temperature=0.0, max_new_tokens=6)
HOT = Sampling(temperature=50.0, max_new_tokens=40)
QUICK = Patience(connect=2.0, answer=5.0, tries=3, pause=0.01)

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("model"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def checkpoint(source: CheckpointSource) -> Checkpoint:
    return source.load()


@pytest.fixture
def server(checkpoint: Checkpoint) -> Iterator[CompletionsServer]:
    with CompletionsServer(checkpoint.model).running() as running:
        yield running


def ask(checkpoint: Checkpoint, server: CompletionsServer, sampling: Sampling = GREEDY) -> list[Completion]:
    return OpenAIEngine(Served(checkpoint, server.address), QUICK).complete(PROMPTS, sampling, seed=1)


@pytest.mark.parametrize("flavour", ["vllm", "old vllm", "llama.cpp"])
def test_token_ids_wherever_a_server_puts_them(
    checkpoint: Checkpoint, server: CompletionsServer, flavour: Flavour
) -> None:
    server.flavour = flavour
    assert ask(checkpoint, server) == open_engine("transformers", checkpoint).complete(PROMPTS, GREEDY, seed=1)
    hot = ask(checkpoint, server, HOT)
    assert any(completion.finished for completion in hot), "no answer has an end token, so none is tested"
    for completion in hot:
        assert completion.finished == (completion.ids[-1] == 2)


def test_a_request_leaves_nothing_to_the_servers_own_settings(
    checkpoint: Checkpoint, server: CompletionsServer
) -> None:
    ask(checkpoint, server, replace(HOT, max_new_tokens=2))
    request = next(each for each in server.requests if each["temperature"] != 1.0)
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (50.0, 1.0, 2)
    assert (request["top_k"], request["min_p"], request["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert request["stop_token_ids"] == [2]
    assert len({tuple(each["prompt"]) for each in server.requests}) == len(PROMPTS)


def test_requests_are_sent_side_by_side(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    OpenAIEngine(Served(checkpoint, server.address), QUICK).complete(PROMPTS * 30, GREEDY, seed=1)
    assert 1 < server.at_once <= 64


def other_weights(source: CheckpointSource, size: float = 0.02) -> Any:
    """Return the source's model with noise of a size relative to each of its parameters."""
    model = source.load().model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * weight.norm() * torch.randn(weight.shape, generator=generator) / weight.numel() ** 0.5
    return model


@pytest.mark.parametrize(
    ("noise", "dtype"), [(0.02, torch.float32), (0.0, torch.bfloat16)], ids=["other weights", "bfloat16"]
)
def test_another_model_is_refused_before_an_answer_is_kept(
    checkpoint: Checkpoint, source: CheckpointSource, server: CompletionsServer, noise: float, dtype: torch.dtype
) -> None:
    server.model = other_weights(source, noise).to(dtype)
    message = (
        r"does not have .*: over \d+ tokens their mean log-probability is -\d\.\d{4} by the server and -\d\.\d{4} by "
        r"the checkpoint in float32, and a token's differs by 0\.\d{4} on average, where 0\.001 is allowed"
    )
    with pytest.raises(RLCircuitsError, match=message):
        ask(checkpoint, server)


def changed(**fields: object) -> Callable[[dict[str, Any]], object]:
    """Return what sets fields of a reply's choice."""

    def change(reply: dict[str, Any]) -> object:
        reply["choices"][0] |= fields
        return reply

    return change


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda reply: {**reply, "choices": []}, "one choice was asked for, and 'choices' is"),
    (lambda reply: {**reply, "usage": {"prompt_tokens": 99}}, "it read a prompt of 99 tokens, and one of"),
    (lambda reply: [reply], "/completions gave no JSON object but"),
    (lambda reply: "<html>", "/completions gave no JSON object but '<html>'"),
    (lambda reply: {"error": {"message": "out of memory"}}, "'out of memory'"),
    (changed(prompt_token_ids=[1, 2, 3]), r"it read the prompt .*\[1, 2, 3\].*was sent"),
    (changed(token_ids=[5, 10**6]), "it gave token id 1000000, outside the checkpoint's vocabulary"),
    (changed(token_ids=["a"]), "it gave token id 'a', outside"),
    (changed(token_ids="a"), "it gave token id 'a', outside"),
    (changed(token_ids=[5] * 6), r"it names an answer's tokens twice, as \[5, 5, 5, 5, 5, 5\] and with .* as \["),
    (changed(token_ids=[5] * 100), "it gave 100 tokens, and 6 is the most that was allowed"),
    (changed(token_ids=[5], finish_reason="stop", stop_reason="\n\n"), "an answer stopped .* without one of"),
    (changed(token_ids=[5], finish_reason="abort"), r"broke off after 1 of 6 tokens, .*\(finish_reason 'abort'\)"),
    (changed(token_ids=[], finish_reason=None), "broke off after 0 of 6 tokens"),
    (changed(logprobs=None), "gives no log-probabilities of its tokens"),
    (changed(logprobs={"token_logprobs": [-1.0] * 50}), "gives no log-probabilities of its tokens"),
    (changed(logprobs={"token_logprobs": [10**400] * 6}), "gives no log-probabilities of its tokens"),
    (changed(logprobs={"content": [None] * 6}), "gives no log-probabilities of its tokens"),
    (lambda reply: '{"a":' * 100_000, r"/completions gave no JSON object but '\{"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_a_server_can_do_wrong(
    checkpoint: Checkpoint, server: CompletionsServer, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    server.change = change
    with pytest.raises(RLCircuitsError, match=message):
        ask(checkpoint, server)


def test_text_without_token_ids_is_no_answer(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    server.flavour = "text"
    with pytest.raises(RLCircuitsError, match="its answer has no token ids, which text cannot replace"):
        ask(checkpoint, server)


def test_a_failure_that_passes_is_tried_again(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    plain = ask(checkpoint, server)
    server.failures = [(503, {"error": {"message": "loading"}}), (429, "busy")]
    assert ask(checkpoint, server) == plain
    server.failures = [(503, {"error": {"message": "loading"}})] * 100
    with pytest.raises(
        RLCircuitsError, match="HTTP 503: 'loading', in 3 tries; start the server or correct its address"
    ):
        ask(checkpoint, server)


def test_one_prompt_gives_as_many_answers_to_compare(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    OpenAIEngine(Served(checkpoint, server.address), QUICK).complete(PROMPTS[:1], GREEDY, seed=1)
    compared = [request for request in server.requests if request["temperature"] == 1.0]
    assert len({request["seed"] for request in compared}) == len(compared) == 2 * CHECKED_ANSWERS, "before and after"


def test_a_failure_that_stays_is_not_tried_again(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    server.failures = [(400, {"error": {"message": "prompt is too long"}})] * 100
    with pytest.raises(RLCircuitsError, match="HTTP 400: 'prompt is too long'"):
        ask(checkpoint, server)
    assert len(server.requests) <= CHECKED_ANSWERS


def test_after_a_failure_that_stays_no_other_request_is_sent_again(
    checkpoint: Checkpoint, server: CompletionsServer
) -> None:
    engine = OpenAIEngine(Served(checkpoint, server.address), replace(QUICK, tries=2, pause=60.0))
    loading = (503, {"error": {"message": "loading"}})
    server.failures = [loading, (400, {"error": {"message": "prompt is too long"}}), *[loading] * 100]
    with pytest.raises(RLCircuitsError, match="HTTP 400: 'prompt is too long'"):
        engine.complete(PROMPTS, GREEDY, seed=1)
    assert len(server.requests) <= CHECKED_ANSWERS


def test_which_model_of_a_server(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    server.names = ("base", "grpo")
    with pytest.raises(RLCircuitsError, match=r"it has 2 models \(base, grpo\); write the one that is meant behind"):
        ask(checkpoint, server)
    OpenAIEngine(Served(checkpoint, f"{server.address}#grpo"), QUICK).complete(PROMPTS, GREEDY, seed=1)
    assert {request["model"] for request in server.requests} == {"grpo"}
    with pytest.raises(RLCircuitsError, match="it has no model 'ppo'; it has base, grpo"):
        OpenAIEngine(Served(checkpoint, f"{server.address}#ppo"), QUICK)


def test_the_servers_context_counts(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    server.longest = 50
    assert OpenAIEngine(Served(checkpoint, server.address), QUICK).context == 50


def test_no_server_there(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    with pytest.raises(RLCircuitsError, match=r"HTTP 404: it has no /models; the address ends in /v1"):
        OpenAIEngine(Served(checkpoint, server.address + "/v2"), QUICK)
    with pytest.raises(RLCircuitsError, match=r"http://127.0.0.1:9: cannot be reached .*, in 3 tries"):
        OpenAIEngine(Served(checkpoint, "http://127.0.0.1:9/"), QUICK)


def test_a_slow_server(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    engine = OpenAIEngine(Served(checkpoint, server.address), replace(QUICK, answer=0.05, tries=2))
    with server._lock, pytest.raises(RLCircuitsError, match=r"no reply within 0\.05 s, in 2 tries"):
        engine.complete(PROMPTS, GREEDY, seed=1)


def test_an_error_does_not_wait_for_a_server_that_hangs(
    checkpoint: Checkpoint, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenAIEngine(Served(checkpoint, server.address), replace(QUICK, answer=600.0))
    let_go = threading.Event()
    real_answer = server.answer

    def answer(body: dict[str, Any]) -> tuple[int, object]:
        if body["prompt"] == list(PROMPTS[0]):
            let_go.wait(60)
            return real_answer(body)
        return 400, {"error": {"message": "no"}}

    monkeypatch.setattr(server, "answer", answer)
    try:
        with pytest.raises(RLCircuitsError, match="HTTP 400: 'no'"):
            engine.complete(PROMPTS, GREEDY, seed=1)
        assert not let_go.is_set()
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.endswith("(ask)"))
    finally:
        let_go.set()


def test_a_machine_that_takes_no_connection(checkpoint: Checkpoint) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        with (
            socket.create_connection(deaf.getsockname()),  # takes the only place in the queue
            pytest.raises(RLCircuitsError, match=r"no connection within 0\.1 s, in 2 tries"),
        ):
            OpenAIEngine(Served(checkpoint, address), replace(QUICK, connect=0.1, tries=2))


def test_a_server_with_a_key(
    checkpoint: Checkpoint, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "open sesame"
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(RLCircuitsError, match="HTTP 401: it wants a key; set OPENAI_API_KEY"):
        ask(checkpoint, server)
    monkeypatch.setenv(KEY_VARIABLE, "open sesame\n")  # as of a file's line
    assert len(ask(checkpoint, server)) == len(PROMPTS)


@pytest.mark.parametrize("key", ["open\nsesame", "sésame", "open\x01"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    checkpoint: Checkpoint, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(RLCircuitsError, match="OPENAI_API_KEY has characters that no key has") as error:
        ask(checkpoint, server)
    assert key not in str(error.value)
    assert not server.requests


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8000/v1", "http://", "ftp://a/v1", "http://me:word@host/v1", ""),
        *("http://host:port/v1", "http://host:99999/v1", "http://[::1/v1", "http://:8000/v1", "http://host/\x01/v1"),
    ],
)
def test_what_is_no_address(checkpoint: Checkpoint, address: str) -> None:
    with pytest.raises(RLCircuitsError, match="an address such as http://host:8000/v1 is wanted"):
        Served(checkpoint, address)


def test_a_name_that_no_host_has(checkpoint: Checkpoint) -> None:
    for name in ("ü..x", "xn--"):
        with pytest.raises(RLCircuitsError, match=f"server http://{name}/v1: is no address: .*; correct it"):
            OpenAIEngine(Served(checkpoint, f"http://{name}/v1"), QUICK)


def test_a_server_that_redirects(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    server.location = "https://elsewhere/v1"
    with pytest.raises(RLCircuitsError, match="HTTP 307: it redirects to https://elsewhere/v1; state that address"):
        ask(checkpoint, server)


def test_a_checkpoint_without_a_server(source: CheckpointSource) -> None:
    with pytest.raises(RLCircuitsError, match=r"engine 'openai' needs to know which server has .*: state server_bef"):
        open_engine("openai", source)


def test_answers_resume_from_the_store_without_the_server(
    source: CheckpointSource, server: CompletionsServer, tmp_path: Path
) -> None:
    questions = load_questions("arithmetic", count=5)
    sampling = Sampling(max_new_tokens=4, n=2)
    how: dict[str, Any] = {"sampling": sampling, "batch_size": 4, "engine": "openai", "store": tmp_path}
    first = answer_questions(Served(source, server.address), questions, **how)
    asked = len(server.requests)
    assert answer_questions(Served(source, "http://127.0.0.1:9/v1"), questions, **how) == first
    assert len(server.requests) == asked


def test_rounding_near_the_limit_is_no_other_model(checkpoint: Checkpoint, server: CompletionsServer) -> None:
    """One check of many may exceed the limit by chance; only the next one tells."""
    engine = OpenAIEngine(Served(checkpoint, server.address), QUICK)
    wanted = engine.complete(PROMPTS, GREEDY, seed=1)
    asked = len(server.requests)

    def off(reply: dict[str, Any]) -> object:
        if len(PROMPTS) < len(server.requests) - asked <= len(PROMPTS) + CHECKED_ANSWERS:  # the check behind the batch
            found = reply["choices"][0]["logprobs"]
            found["token_logprobs"] = [each + 0.002 for each in found["token_logprobs"]]
        return reply

    server.change = off
    assert engine.complete(PROMPTS, GREEDY, seed=1) == wanted
    assert len(server.requests) - asked == len(PROMPTS) + 2 * CHECKED_ANSWERS


QUESTIONS = load_questions("arithmetic", count=10)
HOW: dict[str, Any] = {"sampling": Sampling(max_new_tokens=6), "batch_size": 4, "engine": "openai"}


@pytest.mark.parametrize("at", [CHECKED_ANSWERS + 1, CHECKED_ANSWERS + 4, 2 * CHECKED_ANSWERS + 4, 30])
def test_a_server_whose_weights_are_swapped_is_refused_and_no_answer_of_them_is_kept(
    at: int, checkpoint: Checkpoint, source: CheckpointSource, server: CompletionsServer, tmp_path: Path
) -> None:
    """The weights are swapped after `at` requests: in the first batch, after it, after its check, in a later one."""
    wanted = answer_questions(Served(source, server.address), QUESTIONS, store=tmp_path / "whole", **HOW)
    (whole,) = (tmp_path / "whole").glob("*.jsonl")
    server.requests.clear()
    swapped = other_weights(source)

    def swap(reply: dict[str, Any]) -> object:
        if len(server.requests) >= at:
            server.model = swapped
        return reply

    server.change = swap
    message = r"no longer has .*: over \d+ tokens .* is served; its answers since the last check are not kept, those"
    with pytest.raises(RLCircuitsError, match=message):
        answer_questions(Served(source, server.address), QUESTIONS, store=tmp_path / "swapped", **HOW)
    assert len(server.requests) >= at
    (kept,) = (tmp_path / "swapped").glob("*.jsonl")
    assert whole.read_bytes().startswith(kept.read_bytes()), "an answer of the other weights was kept"

    server.change = lambda reply: reply
    with pytest.raises(RLCircuitsError, match=r"does not have .* is served$"):
        answer_questions(Served(source, server.address), QUESTIONS, store=tmp_path / "swapped", **HOW)
    server.model = checkpoint.model
    assert answer_questions(Served(source, server.address), QUESTIONS, store=tmp_path / "swapped", **HOW) == wanted
    assert kept.read_bytes() == whole.read_bytes()
