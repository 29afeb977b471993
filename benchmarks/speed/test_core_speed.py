"""The core against its floor: the plain forward and activation-only backward of the same batches, in the same run.

On a CPU one small model; on CUDA random weights in the shapes of models that teams train, and the contraction's
kernel by itself. Every ratio is stored, also those without a bound.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from contraction_inputs import Inputs
from measure import (
    compare,
    compare_memory,
    copy_bandwidth,
    device_name,
    equal_sequences,
    floor,
    matmul_peak,
    timed,
)
from shapes import DEEP, LARGE, LARGER, SMALL, Shape

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.contraction.backends import BACKENDS

pytestmark = pytest.mark.usefixtures("all_cores")

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# Time over the floor's.
MOST_TIME = {("cpu", "sublayer"): 1.10, ("cpu", "head"): 1.6, ("cuda", "sublayer"): 1.06, ("cuda", "head"): 2.0}
# Time and peak memory of the deep model on the CPU.
MOST_TIME_DEEP = {"sublayer": 1.15, "head": 1.75}
MOST_MEMORY_DEEP = 1.25
# Peak memory, weights included, over the floor's.
MOST_MEMORY = {("cpu", "sublayer"): 1.30, ("cuda", "sublayer"): 1.25}
# One sequence at a time over all together.
LEAST_GAIN = {"cpu": 1, "cuda": 6}
LEAST_UTILISATION = 0.50  # useful FLOPs over a measured bfloat16 matrix product's
LEAST_BANDWIDTH = 0.75  # the contraction's over a measured copy's
MOST_BYTES = 80e9  # what the largest model may take


@dataclass(frozen=True)
class Setting:
    """A model and what it scores: ``count`` sequences of ``prompt`` and ``answer`` tokens."""

    shape: Shape
    device: str
    dtype: torch.dtype
    count: int
    prompt: int
    answer: int

    def sequences(self, count: int | None = None) -> list[AnswerSequence]:
        """The first ``count`` sequences, by default all."""
        return equal_sequences(count or self.count, self.prompt, self.answer, self.shape.vocabulary)

    @property
    def length(self) -> int:
        """Tokens the model reads of a sequence."""
        return self.prompt + self.answer - 1


def _on_cuda(shape: Shape) -> Any:
    return pytest.param(Setting(shape, "cuda", torch.bfloat16, 64, 160, 12), id=f"cuda-{shape.name}", marks=needs_cuda)


ON_CPU = pytest.param(Setting(SMALL, "cpu", torch.float32, 8, 112, 16), id="cpu-small")
ALL = [ON_CPU, *map(_on_cuda, LARGE)]


@pytest.fixture(scope="module")
def setting(request: Any) -> Setting:
    """What is measured, by the test's parameter."""
    found: Setting = request.param
    return found


@pytest.fixture(scope="module")
def checkpoint(setting: Setting) -> Iterator[Checkpoint]:
    """The setting's model, with random weights."""
    gc.collect()  # the model before it
    if setting.device == "cuda":
        torch.cuda.empty_cache()
    with torch.random.fork_rng(devices=[]):
        yield Checkpoint(setting.shape.build(setting.device, setting.dtype))


@pytest.fixture(scope="module")
def matmul_flops() -> float:
    """FLOP/s of a bfloat16 matrix product on this GPU."""
    return matmul_peak(torch.device("cuda"))


def _against_floor(
    benchmark: Any,
    checkpoint: Checkpoint,
    setting: Setting,
    granularity: str,
    rounds: int,
    memory: bool = True,
    timed: int | None = None,
    bound: float | None = None,
) -> float:
    """Time, memory and useful FLOPs of attribution, into the benchmark's ``extra_info``; the ratio of times.

    timed: how many of the sequences are timed, by default all. The memory is always that of all. bound: what the
    median must not exceed, by default that of the device and graph.
    """
    every, together = setting.sequences(), setting.shape.together[granularity]

    def run(sequences: list[AnswerSequence]) -> Any:
        return attribute(checkpoint, sequences, granularity, batch_tokens=together * setting.length)

    def plain(sequences: list[AnswerSequence]) -> None:
        floor(checkpoint.model, sequences, together)

    scores = attribute(checkpoint, every[:1], granularity)
    some = every[:timed]
    over_floor = compare(
        benchmark,
        partial(run, some),
        partial(plain, some),
        device=checkpoint.device,
        tokens=len(some) * setting.length,
        rounds=rounds,
        bound=MOST_TIME[setting.device, granularity] if bound is None else bound,
    )
    if memory:
        compare_memory(benchmark, checkpoint.model, partial(run, every), partial(plain, every))
    useful = setting.shape.useful_flops(len(some), setting.length, setting.answer, scores.graph.n_edges)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info.update(
        together=together, backend=scores.backend, edges=scores.graph.n_edges, tflops=round(useful / seconds / 1e12, 3)
    )
    return over_floor


@pytest.mark.benchmark(group="attribution over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("setting", ALL, indirect=True)
def test_attribution(
    benchmark: Any, checkpoint: Checkpoint, setting: Setting, granularity: str, thorough: bool, request: Any
) -> None:
    on_cpu = setting.device == "cpu"
    rounds = (15 if thorough else 3) if on_cpu else 3 if granularity == "head" else 5
    # Both times grow with the tokens: half of them give the same ratio, and the default gate must be short.
    timed = setting.count // 2 if on_cpu and not thorough else None
    bounded = (setting.device, granularity) in MOST_MEMORY
    over_floor = _against_floor(
        benchmark, checkpoint, setting, granularity, rounds, memory=thorough or bounded, timed=timed
    )
    info = benchmark.extra_info
    if setting.device == "cuda":
        peak = request.getfixturevalue("matmul_flops")
        info.update(matmul_tflops=round(peak / 1e12, 1), flop_utilisation=round(info["tflops"] * 1e12 / peak, 3))
    which = setting.device, granularity
    assert over_floor <= MOST_TIME[which], f"{over_floor:.2f} × the floor's time"
    if bounded:
        memory = info["peak_memory_ratio"]
        assert memory <= MOST_MEMORY[which], f"{memory:.2f} × the floor's peak memory"
    if which == ("cuda", "sublayer"):
        used = info["flop_utilisation"]
        assert used >= LEAST_UTILISATION, f"{used:.0%} of the matrix product's FLOP/s"


@pytest.mark.thorough
@pytest.mark.benchmark(group="attribution over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(Setting(DEEP, "cpu", torch.float32, 8, 49, 16), id="cpu-smollm2-135m-8x64"),
        pytest.param(Setting(DEEP, "cpu", torch.float32, 2, 369, 16), id="cpu-smollm2-135m-2x384"),
    ],
    indirect=True,
)
def test_a_deep_model(benchmark: Any, checkpoint: Checkpoint, setting: Setting, granularity: str) -> None:
    bound = MOST_TIME_DEEP[granularity]
    over_floor = _against_floor(benchmark, checkpoint, setting, granularity, rounds=7, bound=bound)
    assert over_floor <= bound, f"{over_floor:.2f} × the floor's time"
    memory = benchmark.extra_info["peak_memory_ratio"]
    assert memory <= MOST_MEMORY_DEEP, f"{memory:.2f} × the floor's peak memory"


@pytest.mark.benchmark(group="batched over one at a time")
@pytest.mark.parametrize(
    "setting",
    [pytest.param(Setting(SMALL, "cpu", torch.float32, 32, 12, 4), id="cpu-small"), *map(_on_cuda, LARGE)],
    indirect=True,
)
def test_batching(benchmark: Any, checkpoint: Checkpoint, setting: Setting, thorough: bool) -> None:
    """All sequences in large batches, over a quarter of them one by one."""
    sequences, few = setting.sequences(), setting.sequences(setting.count // 4)
    tokens = setting.count * setting.length

    def batched() -> None:
        attribute(checkpoint, sequences, batch_tokens=setting.shape.together["sublayer"] * setting.length)

    def one_at_a_time() -> None:
        attribute(checkpoint, few, batch_tokens=1)

    # On the CPU the bound is far away: a ratio of 0.3 against 1.
    rounds = 2 if setting.device == "cpu" and not thorough else 3
    share = compare(
        benchmark, batched, one_at_a_time, device=checkpoint.device, tokens=tokens, rounds=rounds, peer_share=1 / 4
    )
    if thorough:
        compare_memory(benchmark, checkpoint.model, batched, one_at_a_time)
    assert share <= 1 / LEAST_GAIN[setting.device], f"batched takes {share:.2f} × one at a time"


@pytest.mark.benchmark(group="recomputed blocks over kept ones")
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(Setting(SMALL, "cpu", torch.float32, 2, 900, 16), id="cpu-small"),
        pytest.param(Setting(LARGE[0], "cuda", torch.bfloat16, 2, 3000, 16), id="cuda-llama-2-7b", marks=needs_cuda),
    ],
    indirect=True,
)
def test_recomputing_blocks(benchmark: Any, checkpoint: Checkpoint, setting: Setting, thorough: bool) -> None:
    """Score long sequences, whose activations take most of the memory. Only the memory has a bound."""
    # Memory is no timing. One of the sequences shows it too, and tracing each allocation takes long.
    brief = setting.device == "cpu" and not thorough
    sequences = setting.sequences(1 if brief else None)
    tokens = len(sequences) * setting.length

    def recomputed() -> None:
        attribute(checkpoint, sequences, batch_tokens=tokens, recompute=True)

    def kept() -> None:
        attribute(checkpoint, sequences, batch_tokens=tokens)

    if thorough:
        compare(benchmark, recomputed, kept, device=checkpoint.device, tokens=tokens)
        memory = compare_memory(benchmark, checkpoint.model, recomputed, kept)
    else:
        memory = benchmark.pedantic(compare_memory, (benchmark, checkpoint.model, recomputed, kept), rounds=1)
    assert memory < 1, f"{memory:.2f} × the peak memory"


@pytest.mark.benchmark(group="attribution over floor")
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("setting", [_on_cuda(LARGER)], indirect=True)
def test_a_larger_model_runs(benchmark: Any, checkpoint: Checkpoint, setting: Setting, granularity: str) -> None:
    _against_floor(benchmark, checkpoint, setting, granularity, rounds=2)
    taken = benchmark.extra_info["peak_memory_bytes"]
    assert taken <= MOST_BYTES, f"{taken / 1e9:.0f} GB"


@pytest.mark.benchmark(group="contraction over copy")
@pytest.mark.parametrize(
    "setting", [ON_CPU, pytest.param(_on_cuda(LARGE[0]).values[0], id="cuda-llama-2-7b", marks=needs_cuda)]
)
def test_contraction(benchmark: Any, setting: Setting) -> None:
    """The last group of readers with all writers: bytes read over the time, against a copy's bytes."""
    device = torch.device(setting.device)
    inputs = Inputs.draw(setting.shape, device, setting.dtype, setting.count, setting.length)
    contract = BACKENDS["triton" if setting.device == "cuda" else "matmul"]().contract
    repeats = 10  # queued together, so that the time to launch one is hidden as it is behind the backward

    def run() -> float:
        def several() -> None:
            for _ in range(repeats):
                contract(inputs.writers, inputs.readers, inputs.edges)

        return timed(several, device)

    run()
    benchmark.pedantic(run, rounds=5, iterations=1)
    bandwidth = inputs.nbytes * repeats / benchmark.stats.stats.median
    copy = copy_bandwidth(device, 2**30 if setting.device == "cuda" else 2**26)
    share = bandwidth / copy
    benchmark.extra_info.update(
        readers=inputs.edges.shape[1],
        bytes_per_second=round(bandwidth),
        copy_bytes_per_second=round(copy),
        bandwidth_share=round(share, 3),
        device=device_name(device),
        threads=torch.get_num_threads(),
    )
    if setting.device == "cuda":
        assert share >= LEAST_BANDWIDTH, f"{share:.0%} of a copy's bandwidth"
