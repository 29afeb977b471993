"""Print how attribution's time and memory grow with depth, width, heads and length.

    python benchmarks/speed/growth.py

Every row is a Llama with random weights that differs from the first row in one size, and the sequences of one batch.
Time and peak memory are ratios to the floor of the same batch (``measure.floor``), which alternates with it. *FLOP
bound* is what the time would be if all operations ran at the floor's rate (``Shape.flop_bound``).
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from measure import equal_sequences, floor, peak_bytes, timed
from shapes import DEEP, Shape
from tabulate import tabulate

from rlcircuits import Checkpoint, attribute

CPU = torch.device("cpu")
SCORED = 16
MIDDLE = replace(DEEP, layers=12)
HEADERS = [
    "varied",
    "layers",
    "width",
    "heads",
    "batch",
    "graph",
    "edges",
    "time",
    "FLOP bound",
    "time / bound",
    "memory",
]


@dataclass(frozen=True)
class Row:
    """One model and one batch: ``count`` sequences, each of ``length`` tokens that the model reads."""

    varied: str
    shape: Shape
    count: int = 8
    length: int = 64


def rows() -> Iterator[Row]:
    """The first row, then those that differ in depth, width, heads and length, and the shape of SmolLM2-135M."""
    yield Row("–", MIDDLE)
    for layers in (6, 24):
        yield Row("depth", replace(MIDDLE, layers=layers))
    for width in (288, 1152):  # with the same heads, so that head_dim varies
        yield Row("width", replace(MIDDLE, width=width, inner=width * 8 // 3))
    for heads in (3, 18):
        yield Row("heads", replace(MIDDLE, heads=heads, kv_heads=heads // 3))
    for count, length in ((32, 16), (2, 256), (1, 512)):
        yield Row("length", MIDDLE, count, length)
    yield Row("SmolLM2-135M", DEEP)
    yield Row("SmolLM2-135M", DEEP, 2, 384)


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median is shown (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: all cores)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = []
    for row in rows():
        lines += _measure(row, options.rounds)
        print(tabulate(lines[-2:], tablefmt="plain", disable_numparse=True), flush=True)
    print()
    print(tabulate(lines, headers=HEADERS, tablefmt="github", disable_numparse=True))


def _measure(row: Row, rounds: int) -> list[list[str]]:
    """Two lines of the table, one a granularity."""
    gc.collect()  # the model before it
    shape = row.shape
    checkpoint = Checkpoint(shape.build("cpu", torch.float32))
    sequences = equal_sequences(row.count, row.length - SCORED + 1, SCORED, shape.vocabulary)

    def plain() -> None:
        floor(checkpoint.model, sequences, row.count)

    lines = []
    for granularity in ("sublayer", "head"):

        def run(granularity: str = granularity) -> int:
            scores = attribute(checkpoint, sequences, granularity, batch_tokens=row.count * row.length)
            return scores.graph.n_edges

        edges = run()
        plain()
        time = statistics.median(_ratio(run, plain) for _ in range(rounds))
        memory = peak_bytes(checkpoint.model, run, CPU) / peak_bytes(checkpoint.model, plain, CPU)
        bound = shape.flop_bound(row.count, row.length, SCORED, edges, granularity)
        sizes = [row.varied, shape.layers, shape.width, f"{shape.heads} / {shape.kv_heads}"]
        ratios = [f"{ratio:.2f}" for ratio in (time, bound, time / bound, memory)]
        lines.append([*map(str, sizes), f"{row.count} × {row.length}", granularity, f"{edges:,}", *ratios])
    return lines


def _ratio(run: Callable[[], object], plain: Callable[[], object]) -> float:
    floor_seconds = timed(plain, CPU)
    return timed(run, CPU) / floor_seconds


if __name__ == "__main__":
    main()
