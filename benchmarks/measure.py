"""Time and memory as ratios within one run: what is measured alternates with what it is measured against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rlcircuits import AnswerSequence
from rlcircuits.capture import frozen

ROUNDS = 9


def floor(model: Any, sequences: list[AnswerSequence]) -> None:
    """The yardstick: the plain forward and activation-only backward of a batch of equal shapes.

    Same loss, logits on the scored positions only, weights frozen, nothing captured.
    """
    device = model.get_input_embeddings().weight.device
    tokens = torch.tensor([[*s.prompt_ids, *s.answer_ids] for s in sequences], device=device)
    scored = len(sequences[0].answer_ids)
    with frozen(model):
        embedded = model.get_input_embeddings()(tokens[:, :-1]).requires_grad_(True)
        logits = model(inputs_embeds=embedded, use_cache=False, logits_to_keep=scored).logits
        losses = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tokens[:, -scored:].flatten(), reduction="none"
        )
        torch.autograd.grad(losses.view(len(sequences), scored).mean(1).sum(), embedded)


@dataclass
class Alternating:
    """Runs ``peer`` before each timed round of a benchmark, so that both see the same machine."""

    peer: Callable[[], Any]
    device: torch.device
    seconds: list[float]

    def __call__(self) -> None:
        self.synchronise()
        start = time.perf_counter()
        self.peer()
        self.synchronise()
        self.seconds.append(time.perf_counter() - start)

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def ratio(benchmark: Any, run: Callable[[], Any], peer: Callable[[], Any], device: torch.device) -> float:
    """Time ``run`` with pytest-benchmark, ``peer`` before each of its rounds; the median of run / peer by round."""
    before = Alternating(peer, device, [])

    def timed() -> Any:
        result = run()
        before.synchronise()
        return result

    run()  # Both run once first: allocators, thread pools and kernels are then warm.
    before()
    before.seconds.clear()
    benchmark.pedantic(timed, setup=before, rounds=ROUNDS, iterations=1)
    by_round = [own / other for own, other in zip(benchmark.stats.stats.data, before.seconds, strict=True)]
    benchmark.extra_info["floor_seconds"] = statistics.median(before.seconds)
    return statistics.median(by_round)


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that tensors made by ``run`` took at one time, weights not counted."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    # Every allocation (positive) and release (negative), in the order they happened.
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def equal_sequences(count: int, prompt: int, answer: int, vocabulary: int) -> list[AnswerSequence]:
    """``count`` random sequences of one shape."""
    generator = torch.Generator().manual_seed(0)
    ids: Tensor = torch.randint(0, vocabulary, (count, prompt + answer), generator=generator)
    return [AnswerSequence(tuple(row[:prompt]), tuple(row[prompt:])) for row in ids.tolist()]
