"""Print how fast this CPU multiplies attribution's float32 matrices, by torch's default and by oneDNN.

    OMP_NUM_THREADS=1 python benchmarks/speed/product_rates.py

The shapes are those of SmolLM2-135M (``shapes.DEEP``) with 64 and 512 tokens, and of a contraction of its head graph.
"""

from __future__ import annotations

import torch
from measure import timed
from tabulate import tabulate

from rlcircuits.common.linear_product import can_use_onednn, linear_product

SHAPES = {
    "MLP, 512 tokens": (512, 1536, 576),
    "a head's gradient, 64 tokens": (64, 576, 64),
    "a head's gradient, 512 tokens": (512, 576, 64),
    "contraction, 64 positions": (280, 114, 64 * 576),
}
"""Rows, columns and what is summed over, of each product."""

ROUNDS, PRODUCTS = 9, 20


def rates(rows: int, columns: int, inner: int) -> tuple[float, float]:
    """GFLOP/s of a product by ``@`` and by oneDNN: the fastest of rounds that alternate."""
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    assert can_use_onednn(left, rows, columns, inner), "torch has no oneDNN here, or the product is too small for it"
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for place, multiply in enumerate((lambda: left @ right.T, lambda: linear_product(left, right))):
            seconds = timed(lambda multiply=multiply: [multiply() for _ in range(PRODUCTS)], torch.device("cpu"))
            best[place] = min(best[place], seconds / PRODUCTS)
    default, onednn = (2 * rows * columns * inner / each / 1e9 for each in best)
    return default, onednn


def main() -> None:
    """Print the table."""
    found = {name: rates(*shape) for name, shape in SHAPES.items()}
    rows = [[name, *map(round, both), f"{both[1] / both[0]:.1f}"] for name, both in found.items()]
    headers = [f"product, {torch.get_num_threads()} threads", "`@`, GFLOP/s", "oneDNN, GFLOP/s", "ratio"]
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main()
