"""Time and memory as ratios within one run: what is measured alternates with what it is measured against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import binom
from torch.profiler import ProfilerActivity, profile

from rlcircuits import AnswerSequence
from rlcircuits.models.frozen import frozen

_LEAST_ADDED = 10
"""Rounds that are added at least where a median misses its bound."""


def floor(model: Any, sequences: list[AnswerSequence], together: int) -> None:
    """The yardstick: the plain forward and activation-only backward of sequences of one shape.

    Same loss, logits on the scored positions only, weights frozen, nothing captured. together: sequences a batch.
    """
    for first in range(0, len(sequences), together):
        _floor(model, sequences[first : first + together])


def _floor(model: Any, sequences: list[AnswerSequence]) -> None:
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


def compare(
    benchmark: Any,
    run: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    device: torch.device,
    tokens: int,
    rounds: int = 7,
    peer_share: float = 1,
    bound: float = float("inf"),
) -> float:
    """Time ``run`` with pytest-benchmark and ``peer`` before each of its rounds; what a bound is held against.

    That is the median of run / peer by round: a machine that is slow for a while is so for both of a round. The
    ratio of the two fastest rounds goes into the benchmark's ``extra_info`` beside it, with tokens/s and the device:
    on the CPU the floor runs slower once the allocator's heap is used, which flatters the median, but
    the two fastest may lie on either side of such a change. tokens: what one run reads. peer_share: how much of that
    the peer does; its time is scaled up to the whole. bound: what the median must not exceed. Where it does, twice as
    many rounds are added, and at least ten, since few rounds scatter, and what is returned is the lower end of the
    one-sided 95 % interval of the median of all: a bound is missed where the rounds show it, not where they cannot
    tell. Both run once first, untimed: allocators, thread pools and kernels are then warm. A single round is for a
    ratio without a bound, and has no such start.
    """
    seconds: list[float] = []

    def run_peer() -> None:
        seconds.append(timed(peer, device) / peer_share)

    if rounds > 1:
        run()
        run_peer()
        seconds.clear()
    benchmark.pedantic(lambda: timed(run, device), setup=run_peer, rounds=rounds, iterations=1)
    stats = benchmark.stats.stats
    ratio = min(stats.data) / min(seconds)
    ratios = [own / other for own, other in zip(stats.data, seconds, strict=True)]
    if statistics.median(ratios) > bound:
        for _ in range(max(2 * rounds, _LEAST_ADDED)):
            run_peer()
            ratios.append(timed(run, device) / seconds[-1])
    rounds_ratio = statistics.median(ratios)
    # The sign test's interval: the median lies below the k-th smallest ratio with a probability of 5 % at most.
    surely = (
        rounds_ratio if rounds_ratio <= bound else sorted(ratios)[max(int(binom.ppf(0.05, len(ratios), 0.5)) - 1, 0)]
    )
    benchmark.extra_info.update(
        ratio=round(ratio, 3),
        median_ratio=round(rounds_ratio, 3),
        peer_seconds=round(min(seconds), 4),
        tokens_per_second=round(tokens / min(stats.data)),
        device=device_name(device),
        threads=torch.get_num_threads(),
        rounds=len(ratios),
    )
    return surely


def compare_memory(benchmark: Any, model: Any, run: Callable[[], Any], peer: Callable[[], Any]) -> float:
    """The peak memory of ``run`` over the peer's; puts it and the bytes into the benchmark's ``extra_info``."""
    device = model.get_input_embeddings().weight.device
    peak, other = (peak_bytes(model, what, device) for what in (run, peer))
    benchmark.extra_info.update(peak_memory_bytes=peak, peak_memory_ratio=round(peak / other, 3))
    return peak / other


def peak_bytes(model: Any, run: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that the model's weights and the tensors made by ``run`` take at one time."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return weights + torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    assert recorded.profiler is not None
    # Every allocation (positive) and release (negative), in the order they happened.
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return weights + most


def matmul_peak(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """FLOP/s of a large bfloat16 matrix product on random data, the best of three rounds."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / _best(lambda: left @ right, device, repeats)


def copy_bandwidth(device: torch.device, size: int = 2**30, repeats: int = 20) -> float:
    """Bytes/s of a device-to-device copy, read and written bytes counted, the best of three rounds."""
    source = torch.randint(0, 256, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device, repeats)


def _best(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of one run among ``repeats`` that are queued together."""

    def several() -> None:
        for _ in range(repeats):
            run()

    several()
    return min(timed(several, device) for _ in range(3)) / repeats


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds until ``run`` and what it queued on the device are done."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def device_name(device: torch.device) -> str:
    """The device's name, as ratios are compared by it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def equal_sequences(count: int, prompt: int, answer: int, vocabulary: int) -> list[AnswerSequence]:
    """``count`` random sequences of one shape."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (count, prompt + answer), generator=generator)
    return [AnswerSequence(tuple(row[:prompt]), tuple(row[prompt:])) for row in ids.tolist()]
