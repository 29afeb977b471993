"""A small HTTP server with OpenAI's /v1/completions that answers with a model, as vLLM, SGLang or llama.cpp would."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import torch

Flavour = Literal["vllm", "old vllm", "llama.cpp", "text"]


@dataclass
class CompletionsServer:
    """What is served, and what goes wrong."""

    model: Any
    end: int = 2
    flavour: Flavour = "vllm"
    names: tuple[str, ...] = ("tiny",)
    longest: int | None = None
    """The server's own limit of prompt and answer together."""
    failures: list[tuple[int, object]] = field(default_factory=list)
    """Statuses and bodies of the next replies to completions, before the model answers."""
    change: Callable[[dict[str, Any]], object] = lambda reply: reply
    """Applied to every reply to a completion."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    """Most requests that were there at one time."""
    key: str | None = None
    location: str | None = None
    """Where requests for the models are redirected to."""
    address: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _here: int = 0

    @contextmanager
    def running(self) -> Iterator[CompletionsServer]:
        """Serve on a free port of this machine."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, body: object) -> None:
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if outer.location is not None:
                    self.send_header("Location", outer.location)
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                if outer.location is not None:
                    return self.reply(307, "")
                if self.path != "/v1/models":
                    return self.reply(404, {"error": {"message": "not found"}})
                models = [{"id": name, "object": "model", "max_model_len": outer.longest} for name in outer.names]
                return self.reply(200, {"object": "list", "data": models})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.key is not None and self.headers.get("Authorization") != f"Bearer {outer.key}":
                    return self.reply(401, {"error": {"message": "invalid key"}})
                return self.reply(*outer.answer(body))

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, body: dict[str, Any]) -> tuple[int, object]:
        """Return status and body of the reply to a completion."""
        with self._lock:
            self.requests.append(body)
            self._here += 1
            self.at_once = max(self.at_once, self._here)
            failure = self.failures.pop(0) if self.failures else None
        try:
            if failure is not None:
                return failure
            with self._lock:
                ids, log_probs = self._generate(body)
            return 200, self.change(self._reply(body, ids, log_probs))
        finally:
            with self._lock:
                self._here -= 1

    def _generate(self, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        generator = torch.Generator().manual_seed(body["seed"])
        ids, log_probs = list(body["prompt"]), []
        for _ in range(body["max_tokens"]):
            with torch.no_grad():
                logits = self.model(torch.tensor([ids])).logits[0, -1].double()
            if body["temperature"] == 0:
                token = int(logits.argmax())
            else:
                probs, order = (logits / body["temperature"]).softmax(-1).sort(descending=True)
                probs[probs.cumsum(0) - probs >= body["top_p"]] = 0
                token = int(order[torch.multinomial(probs, 1, generator=generator)])
            ids.append(token)
            log_probs.append(float(logits.log_softmax(-1)[token]))
            if token in body["stop_token_ids"] or token == self.end:
                break
        return ids[len(body["prompt"]) :], log_probs

    def _reply(self, body: dict[str, Any], ids: list[int], log_probs: list[float]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "text": "…", "finish_reason": "stop" if ids[-1] == self.end else "length"}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}
        words = [f"token_id:{token}" for token in ids]
        if self.flavour == "vllm":
            choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"], "stop_reason": None}
        if self.flavour in ("vllm", "old vllm"):
            choice["logprobs"] = {"tokens": words, "token_logprobs": log_probs}
        if self.flavour == "llama.cpp":  # which leaves the end token out
            given = [
                {"id": token, "logprob": value}
                for token, value in zip(ids, log_probs, strict=True)
                if token != self.end
            ]
            choice["logprobs"] = {"content": given}
        if self.flavour == "text":
            choice["logprobs"] = {"tokens": ["a"] * len(ids), "token_logprobs": log_probs}
        return {"object": "text_completion", "model": body["model"], "choices": [choice], "usage": usage}
