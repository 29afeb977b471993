"""Talk to an OpenAI-compatible server: which model it has, and one completion of a prompt of token ids.

Three servers are known, and all are sent the same fields; each ignores those of the others:

========= ======================================= ==========================================================
server    how it is asked for token ids           where they are in a choice
========= ======================================= ==========================================================
vLLM      ``return_token_ids``; earlier versions  ``token_ids``; earlier, ``logprobs.tokens`` as ``token_id:7``
          ``return_tokens_as_token_ids``
SGLang    ``return_token_ids``                    ``token_ids``
llama.cpp ``logprobs``                            ``logprobs.content``, the field ``id`` of each
========= ======================================= ==========================================================

Servers take what a request leaves open from the checkpoint's generation settings or their own, so every setting that
changes the distribution is sent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from rlcircuits.answers.engines.served_address import split_address
from rlcircuits.common.errors import RLCircuitsError, truncated_repr

if TYPE_CHECKING:
    import httpx

    from rlcircuits.answers.types import Sampling

__all__ = ["OpenAIServer", "Patience", "ServerAnswer"]

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the key that the server asks for, if it asks for one."""

_SEEDS = 2**31
"""Seeds are below it: llama.cpp takes 32 bits, of which the largest number means a random seed."""

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that is loading, full or restarting."""

_NO_LOG_PROB = 1e9
"""A size in nats that no log-probability has, nor a server's stand-in for minus infinity (-9999 in vLLM)."""

_NO_TRUNCATION: Mapping[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Settings at which tokens are drawn from the model's own distribution, by the names of all three servers."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    connect: float = 10.0
    """Seconds until a connection must be made."""
    answer: float = 900.0
    """Seconds until one whole answer must be there; a full server keeps requests waiting."""
    tries: int = 6
    """Times that a request is sent before its failure counts."""
    pause: float = 1.0
    """Seconds before the second try; each further pause is twice as long."""


@dataclass(frozen=True)
class ServerAnswer:
    """One completion as the server gave it."""

    ids: tuple[int, ...]
    """Token ids, with the end token if it was generated."""
    log_probs: tuple[float, ...] | None
    """Log-probability of each id, in nats; None if the server gave none, or one for too few tokens."""


class OpenAIServer:
    """A server's ``/completions``, for one of its models.

    Args:
        address: see :func:`~rlcircuits.answers.engines.served_address.split_address`.
        ends: ids of the end tokens.
        vocabulary: number of token ids that the model knows.
        patience: how long to wait.

    Raises:
        RLCircuitsError: the server cannot be reached, or does not say which model it has.
    """

    def __init__(self, address: str, ends: tuple[int, ...], vocabulary: int, patience: Patience | None = None) -> None:
        import httpx

        self.patience = patience or Patience()
        self._url, wanted = split_address(address)
        self._ends, self._vocabulary = ends, vocabulary
        key = _key()
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(self.patience.answer, connect=self.patience.connect),
            limits=httpx.Limits(max_connections=None),
        )
        weakref.finalize(self, self._client.close)
        self.model, self.context = self._choose_model(wanted)

    @property
    def name(self) -> str:
        """The address and the model, for messages."""
        return f"{self._url} (model {self.model!r})"

    def complete(
        self, prompt: Sequence[int], sampling: Sampling, seed: int, given_up: Event | None = None
    ) -> ServerAnswer:
        """Return one completion of a prompt.

        Args:
            prompt: its token ids.
            sampling: how tokens are drawn.
            seed: the request's seed, of which the last 31 bits count.
            given_up: set once nobody wants the answer any more; a request that fails is then not sent again.

        Raises:
            RLCircuitsError: the server fails or refuses, it read another prompt, or its answer has no token ids or
                broke off.
        """
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % _SEEDS,
            "stop_token_ids": list(self._ends),
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": False,
            **_NO_TRUNCATION,
        }
        reply = self._send("POST", "/completions", body, given_up)
        choices = reply.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise self._wrong(f"one choice was asked for, and 'choices' is {truncated_repr(choices)}")
        choice = choices[0]
        self._check_prompt(prompt, reply, choice)
        ids = self._with_end(self._ids(choice), choice)
        if len(ids) > (sampling.max_new_tokens or len(ids)):
            raise self._wrong(f"it gave {len(ids)} tokens, and {sampling.max_new_tokens} is the most that was allowed")
        if len(ids) < (sampling.max_new_tokens or 0) and not any(token in self._ends for token in ids):
            reason = truncated_repr(choice.get("finish_reason"))
            raise self._wrong(
                f"an answer broke off after {len(ids)} of {sampling.max_new_tokens} tokens, without one of the "
                f"checkpoint's end tokens {list(self._ends)} (finish_reason {reason}); allow it the context of prompt "
                "and answer, and run the command again"
            )
        again = _ids_of_log_probs(choice.get("logprobs")) or []  # may end before the end token
        if tuple(again[: len(ids)]) != ids[: len(again)]:
            raise self._wrong(
                f"it names an answer's tokens twice, as {truncated_repr(list(ids))} and with its log-probabilities as "
                f"{truncated_repr(again)}; it has a fault, and its answers cannot be used"
            )
        return ServerAnswer(ids, _log_probs(choice, len(ids)))

    def _choose_model(self, wanted: str | None) -> tuple[str, int | None]:
        listed = self._send("GET", "/models").get("data")
        models = {
            each["id"]: each
            for each in (listed if isinstance(listed, list) else [])
            if isinstance(each, dict) and isinstance(each.get("id"), str)
        }
        known = ", ".join(sorted(models)) or "none"
        if wanted is None and len(models) != 1:
            raise self._wrong(
                f"it has {len(models)} models ({known}); write the one that is meant behind the address: #name"
            )
        name = next(iter(models)) if wanted is None else wanted
        if name not in models:
            raise self._wrong(f"it has no model {name!r}; it has {known}")
        longest = models[name].get("max_model_len")
        return name, longest if isinstance(longest, int) and longest > 0 else None

    def _check_prompt(self, prompt: Sequence[int], reply: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        """Raise RLCircuitsError if the server says that it read another prompt: some add a token, or cut long ones."""
        read = choice.get("prompt_token_ids", reply.get("prompt_token_ids"))
        if isinstance(read, list) and read != list(prompt):
            raise self._wrong(f"it read the prompt {truncated_repr(read)}, and {truncated_repr(list(prompt))} was sent")
        usage = reply.get("usage")
        count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if isinstance(count, int) and count != len(prompt):
            raise self._wrong(f"it read a prompt of {count} tokens, and one of {len(prompt)} was sent")

    def _ids(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the token ids of a choice, wherever the server puts them."""
        found = choice.get("token_ids")
        if found is None:
            found = _ids_of_log_probs(choice.get("logprobs"))
        if found is None:
            raise self._wrong(
                "its answer has no token ids, which text cannot replace; serve the checkpoint with a version of vLLM "
                "or SGLang that has 'return_token_ids', or with llama.cpp"
            )
        for token in found if isinstance(found, list) else [found]:
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < self._vocabulary:
                raise self._wrong(
                    f"it gave token id {truncated_repr(token)}, outside the checkpoint's vocabulary of "
                    f"{self._vocabulary} ids; it has another model"
                )
        return list(found)

    def _with_end(self, ids: list[int], choice: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the ids with the end token, which some servers leave out and only say that it was there."""
        if choice.get("finish_reason") != "stop" or any(token in self._ends for token in ids):
            return tuple(ids)
        named = choice.get("stop_reason", choice.get("matched_stop"))
        if named in self._ends:
            return (*ids, int(named))
        if named is None and len(self._ends) == 1:
            return (*ids, self._ends[0])
        raise self._wrong(
            f"an answer stopped (stop_reason {truncated_repr(named)}) without one of the checkpoint's end tokens "
            f"{list(self._ends)}; start it without stop words of its own"
        )

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, given_up: Event | None = None
    ) -> dict[str, Any]:
        """Send a request, again if it fails for a reason that passes. Return the reply's JSON object."""
        import httpx

        failure, pause, given_up = "", self.patience.pause, given_up or Event()
        for attempt in range(self.patience.tries):
            if attempt:
                if given_up.wait(pause):
                    break
                pause *= 2
            try:
                response = self._client.request(method, self._url + path, json=body)
            except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: no name of a host
                raise self._wrong(f"is no address: {error}; correct it") from None
            except httpx.ConnectTimeout:
                failure = f"no connection within {self.patience.connect:g} s"
                continue
            except httpx.TimeoutException:
                failure = f"no reply within {self.patience.answer:g} s"
                continue
            except httpx.TransportError as error:
                failure = f"cannot be reached ({type(error).__name__}: {error})"
                continue
            except httpx.HTTPError as error:
                raise self._wrong(f"the request failed: {error}") from None
            if response.status_code not in _TRANSIENT:
                return self._read(response, path)
            failure = f"HTTP {response.status_code}: {_reason(response)}"
            pause = max(pause, _retry_after(response))
        raise self._wrong(f"{failure}, in {self.patience.tries} tries; start the server or correct its address")

    def _read(self, response: httpx.Response, path: str) -> dict[str, Any]:
        status = response.status_code
        if status in (401, 403):
            raise self._wrong(f"HTTP {status}: it wants a key; set {KEY_VARIABLE}")
        if status == 404:
            raise self._wrong(f"HTTP 404: it has no {path}; the address ends in /v1, as in http://host:8000/v1")
        if response.has_redirect_location:
            raise self._wrong(f"HTTP {status}: it redirects to {response.headers['Location']}; state that address")
        if status != 200:
            raise self._wrong(f"HTTP {status}: {_reason(response)}")
        try:
            reply = response.json()
        except (ValueError, RecursionError):  # RecursionError: lists in lists, thousands deep
            reply = None
        if not isinstance(reply, dict):
            raise self._wrong(f"{path} gave no JSON object but {truncated_repr(response.text[:200])}")
        if "error" in reply and "choices" not in reply and "data" not in reply:
            raise self._wrong(_reason(response))
        return reply

    def _wrong(self, what: str) -> RLCircuitsError:
        return RLCircuitsError(f"server {self._url}: {what}")


def _key() -> str | None:
    """Return the key from the environment, without blanks around it, as of a file's last line; None if there is none.

    Raises:
        RLCircuitsError: it cannot be sent. The message does not show it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise RLCircuitsError(
            f"environment variable {KEY_VARIABLE} has characters that no key has; letters, digits and signs of ASCII "
            "are allowed, on one line"
        )
    return key or None


def _ids_of_log_probs(found: object) -> list[int] | None:
    """Return the token ids within a choice's log-probabilities; None if they are not there."""
    if not isinstance(found, dict):
        return None
    content, tokens = found.get("content"), found.get("tokens")
    if isinstance(content, list) and all(isinstance(each, dict) and "id" in each for each in content):
        return [each["id"] for each in content]
    if isinstance(tokens, list) and all(isinstance(each, str) and each.startswith("token_id:") for each in tokens):
        numbers = [each.removeprefix("token_id:") for each in tokens]
        return [int(each) if each.isdecimal() else -1 for each in numbers]
    return None


def _log_probs(choice: Mapping[str, Any], count: int) -> tuple[float, ...] | None:
    """Return the log-probability of each of the first tokens, up to `count`; None if one is missing."""
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return None
    content = found.get("content")
    values = found.get("token_logprobs")
    if isinstance(content, list):
        values = [each.get("logprob") if isinstance(each, dict) else None for each in content]
    if not isinstance(values, list) or not 0 <= count - len(values) <= 1:  # the end token may have none
        return None
    if not all(isinstance(value, int | float) and abs(value) < _NO_LOG_PROB for value in values):
        return None
    return tuple(float(value) for value in values)


def _reason(response: httpx.Response) -> str:
    """Return what a server says of an error: its message, or the beginning of its text."""
    get: Callable[[object, str], object] = lambda table, key: table.get(key) if isinstance(table, dict) else None  # noqa: E731
    try:
        reply = response.json()
    except (ValueError, RecursionError):
        reply = None
    error = get(reply, "error")
    message = get(error, "message") or get(reply, "message") or get(reply, "detail") or error or response.text
    return truncated_repr(str(message)[:300]) if str(message).strip() else "no reason given"


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that the server asks to wait, at most a minute; 0 if it does not say."""
    asked = response.headers.get("Retry-After", "")
    return min(60.0, float(asked)) if asked.isdecimal() else 0.0
