"""Generate answers with an OpenAI-compatible server that a team already runs for a checkpoint.

A server says what it is called, not what it is. So it is checked: it gives a few answers more, the checkpoint, loaded
here, says how probable each of their tokens is, and the server's own log-probabilities must agree. A server with other
weights, another adapter or coarser arithmetic is refused before one of its answers is kept.

The check is made before the first batch of answers, and again after each batch, before that batch is kept. So every
batch that is kept lies between two checks that the server passed: one that was restarted with other weights meanwhile
is refused, and the batches before stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, replace
from itertools import cycle, islice
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlcircuits.answers.engines.engine import Completion, cut_after_end, end_token_ids
from rlcircuits.answers.engines.openai_server import OpenAIServer, Patience, ServerAnswer
from rlcircuits.answers.engines.served import Served
from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.image_inputs import ImageInputs

if TYPE_CHECKING:
    from rlcircuits.checkpoints.checkpoint import Checkpoint
    from rlcircuits.checkpoints.source import Source

__all__ = ["LARGEST_DIFFERENCE", "OpenAIEngine"]

CHECKED_ANSWERS = 8
"""Answers of each check that are compared with the checkpoint's own log-probabilities: to as many prompts of the batch,
or several to each if it has fewer."""

CHECKED_TOKENS = 64
"""Longest answer that is compared, in tokens."""

AT_ONCE = 64
"""Most requests that a server has at once. It batches them itself."""

LARGEST_DIFFERENCE = {torch.float32: 0.001, torch.float16: 0.005, torch.bfloat16: 0.03}
"""Largest mean |difference| of a token's log-probability, in nats, between the server and the checkpoint, by the
checkpoint's dtype: above what rounding gives, and below what another adapter gives.

The limits of half precision were set after one look at SmolLM2-135M, whose bfloat16 differs from float32 by less, and
whose adapters of SFT and GRPO differ by more."""


class OpenAIEngine:
    """The engine ``openai``, for a checkpoint whose server is known."""

    def __init__(self, model: Source | Checkpoint, patience: Patience | None = None) -> None:
        """Reach the server and load the checkpoint that it is compared with.

        Args:
            model: a :class:`~rlcircuits.answers.engines.served.Served` checkpoint.
            patience: how long the server is waited for.

        Raises:
            RLCircuitsError: no server is stated, it cannot be reached, or the checkpoint cannot be loaded.
        """
        if not isinstance(model, Served):
            raise RLCircuitsError(
                f"engine 'openai' needs to know which server has {model.name}: state server_before and server_after of "
                "the pair, or --server"
            )
        self._checkpoint = model.load()
        hf: Any = self._checkpoint.model
        self.vocabulary = int(hf.get_input_embeddings().weight.shape[0])
        self._ends = end_token_ids(hf.generation_config, self._checkpoint.tokenizer)
        self._server = OpenAIServer(model.server, self._ends, self.vocabulary, patience)
        own = getattr(hf.config.get_text_config(), "max_position_embeddings", None)
        contexts = [each for each in (own, self._server.context) if each is not None]
        self.context: int | None = min(contexts, default=None)
        self._checked = False

    def complete(
        self,
        prompts: Sequence[tuple[int, ...]],
        sampling: Sampling,
        seed: int,
        images: Sequence[ImageInputs | None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt; see :class:`~rlcircuits.answers.engines.engine.Engine`. Images are not passed on.

        Raises:
            RLCircuitsError: the server fails, or does not have the checkpoint, before these answers or after them.
        """
        assert images is None, "questions with images are refused before"
        compared = list(islice(cycle(dict.fromkeys(prompts)), CHECKED_ANSWERS))
        if not self._checked:
            self._check_server(compared, sampling, seed=0)
            self._checked = True
        answers = self._ask(prompts, sampling, seed)
        self._check_server(compared, sampling, seed + CHECKED_ANSWERS)
        return [cut_after_end(answer.ids, self._ends) for answer in answers]

    def _ask(self, prompts: Sequence[tuple[int, ...]], sampling: Sampling, seed: int) -> list[ServerAnswer]:
        """Return the answer to each prompt.

        After an error or Ctrl-C the other requests are not sent, and those on their way are not waited for: a server
        that hangs would hold the process for hours. So the threads are daemons, which a pool's are not.
        """
        answers: list[Future[ServerAnswer]] = [Future() for _ in prompts]
        left, given_up = deque(enumerate(prompts)), Event()

        def ask() -> None:
            while left:
                try:
                    place, prompt = left.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    answers[place].set_result(self._server.complete(prompt, sampling, seed + place, given_up))
                except BaseException as error:
                    answers[place].set_exception(error)

        for _ in range(min(AT_ONCE, len(prompts))):
            Thread(target=ask, daemon=True).start()
        try:
            for each in wait(answers, return_when=FIRST_EXCEPTION).done:
                each.result()  # raises the error, if this one has failed
            return [each.result() for each in answers]
        finally:
            left.clear()
            given_up.set()  # no request is sent again

    def _check_server(self, prompts: Sequence[tuple[int, ...]], sampling: Sampling, seed: int) -> None:
        """Raise RLCircuitsError unless the server's log-probabilities are those of the checkpoint.

        A long run has many checks, and rounding that is near the limit exceeds it in one of them by chance. So a server
        that has passed one is refused only if it fails twice in a row.
        """
        compared = self._compare(prompts, sampling, seed)
        if self._checked and compared.fails:
            compared = self._compare(prompts, sampling, seed + CHECKED_ANSWERS)
        if compared.fails:
            has_not = "no longer has" if self._checked else "does not have"
            then = "; its answers since the last check are not kept, those before stay" if self._checked else ""
            raise RLCircuitsError(
                f"server {self._server.name} {has_not} {self._checkpoint.name}: {compared}; another model, adapter or "
                f"dtype is served{then}"
            )

    def _compare(self, prompts: Sequence[tuple[int, ...]], sampling: Sampling, seed: int) -> _Compared:
        """Compare the server's log-probabilities of new answers with the checkpoint's.

        The answers are drawn at temperature 1: at lower temperatures tokens are certain, on which all models agree.
        """
        length = min(CHECKED_TOKENS, sampling.max_new_tokens or CHECKED_TOKENS)
        at_one = replace(sampling, temperature=1.0, top_p=1.0, n=1, max_new_tokens=length)
        theirs: list[float] = []
        ours: list[float] = []
        for prompt, answer in zip(prompts, self._ask(prompts, at_one, seed), strict=True):
            if answer.log_probs is None:
                raise RLCircuitsError(
                    f"server {self._server.name} gives no log-probabilities of its tokens, by which it could be told "
                    f"whether it has {self._checkpoint.name}; allow logprobs in its settings"
                )
            theirs += answer.log_probs
            ours += _log_probs_of(self._checkpoint.model, prompt, answer.ids[: len(answer.log_probs)])
        if not ours:
            raise RLCircuitsError(
                f"server {self._server.name} gave no tokens in {len(prompts)} answers, so that it cannot be "
                f"compared with {self._checkpoint.name}"
            )
        return _Compared(
            torch.tensor(theirs, dtype=torch.float64),
            torch.tensor(ours, dtype=torch.float64),
            self._checkpoint.model.dtype,
        )


@dataclass(frozen=True, eq=False)
class _Compared:
    """Log-probabilities of the same tokens, in nats."""

    theirs: Tensor
    """The server's, float64 [tokens]."""
    ours: Tensor
    """The checkpoint's, float64 [tokens]."""
    dtype: torch.dtype
    """The dtype that the checkpoint is loaded in."""

    @property
    def difference(self) -> float:
        """The mean |difference| of a token's."""
        return float((self.theirs - self.ours).abs().mean())

    @property
    def allowed(self) -> float:
        """The largest difference that is taken for rounding."""
        return LARGEST_DIFFERENCE.get(self.dtype, LARGEST_DIFFERENCE[torch.float32])

    @property
    def fails(self) -> bool:
        """Whether the server has another model; so too if a log-probability is not finite."""
        return not self.difference <= self.allowed

    def __str__(self) -> str:
        return (
            f"over {len(self.ours)} tokens their mean log-probability is {float(self.theirs.mean()):.4f} by the server "
            f"and {float(self.ours.mean()):.4f} by the checkpoint in {str(self.dtype).removeprefix('torch.')}, and a "
            f"token's differs by {self.difference:.4f} on average, where {self.allowed:g} is allowed"
        )


@torch.no_grad()
def _log_probs_of(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Return the model's log-probability of each answer token after a prompt, in nats."""
    training = model.training
    model.eval()
    try:
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    finally:
        model.train(training)
    rows = logits.double().log_softmax(-1)
    found: list[float] = rows.gather(-1, ids[0, len(prompt) :, None])[:, 0].tolist()
    return found
