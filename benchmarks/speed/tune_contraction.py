"""Time the contraction's kernel with other tiles: python benchmarks/speed/tune_contraction.py, on a CUDA device.

Prints for each, best first, the bytes it must read over a copy's and the operations it must do over a matrix product's:
of the sublayer graph, which is bound by the first, and of the head graph, which is bound by the second. What is best
belongs into ``Tiles.fitting``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product

import torch
from contraction_inputs import Inputs
from measure import copy_bandwidth, matmul_peak, timed
from shapes import LARGE
from tabulate import tabulate
from triton.runtime.errors import OutOfResources

from rlcircuits.contraction.triton_kernel import Tiles, contract_triton, shared_memory

REPEATS = 5


def main() -> None:
    """Time every choice on the first large model's writers and readers, in bfloat16."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    device = torch.device("cuda")
    peaks = copy_bandwidth(device), matmul_peak(device)
    for granularity, sequences in (("sublayer", 64), ("head", 2)):
        inputs = Inputs.draw(LARGE[0], device, torch.bfloat16, sequences, length=171, granularity=granularity)
        print(f"{granularity}: {inputs.edges.shape[0]} writers, {inputs.edges.shape[1]} readers")
        print(_table(inputs, *peaks, device), flush=True)
        del inputs


def _table(inputs: Inputs, copy: float, matmul: float, device: torch.device) -> str:
    usual = Tiles.fitting(*inputs.edges.shape, inputs.writers[0].dtype, shared_memory(device))
    choices = {usual}
    for stages, warps in product((2, 3, 4), (4, 8)):
        choices.add(replace(usual, stages=stages, warps=warps))
    choices |= {replace(usual, width=width) for width in (32, 128)}
    choices |= {replace(usual, steps=usual.steps * times // 4) for times in (1, 2, 8, 16)}
    choices |= {replace(usual, writers=64), replace(usual, readers=32), replace(usual, readers=64)}
    rows = []
    for tiles in choices:
        try:
            seconds = _seconds(inputs, tiles, device)
        except OutOfResources as error:  # more shared memory or registers than the device has
            print(f"{tiles}: {error}")
            continue
        shares = inputs.nbytes / seconds / copy, inputs.flops / seconds / matmul
        rows.append((seconds, [*(f"{share:.1%}" for share in shares), *vars(tiles).values(), tiles == usual]))
    best_first = [row for _, row in sorted(rows, key=lambda one: one[0])]
    return tabulate(best_first, headers=["of copy", "of matmul", *vars(usual), "usual"])


def _seconds(inputs: Inputs, tiles: Tiles, device: torch.device) -> float:
    def several() -> None:
        for _ in range(REPEATS):
            contract_triton(inputs.writers, inputs.readers, inputs.edges, tiles)

    several()
    return min(timed(several, device) for _ in range(3)) / REPEATS


if __name__ == "__main__":
    main()
