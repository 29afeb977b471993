"""Time the contraction's kernel with other tiles: python benchmarks/tune_contraction.py, on a CUDA device.

Prints the share of a copy's bandwidth for each, best first. What is best belongs into ``Tiles.fitting``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product

import torch
from contraction_inputs import Inputs
from measure import copy_bandwidth, timed
from shapes import LARGE
from tabulate import tabulate
from triton.runtime.errors import OutOfResources

from rlcircuits.contraction.triton_kernel import Tiles, contract_triton

REPEATS = 5


def main() -> None:
    """Time every choice on the first large model's writers and readers, in bfloat16."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    device = torch.device("cuda")
    inputs = Inputs.draw(LARGE[0], device, torch.bfloat16, sequences=64, length=171)
    usual = Tiles.fitting(*inputs.edges.shape, torch.bfloat16)
    choices = {usual}
    for stages, warps in product((2, 3, 4), (4, 8)):
        choices.add(replace(usual, stages=stages, warps=warps))
    choices |= {replace(usual, width=width) for width in (32, 128)}
    choices |= {replace(usual, steps=steps) for steps in (32, 64, 256, 512)}
    choices |= {replace(usual, writers=64), replace(usual, readers=32)}
    copy = copy_bandwidth(device)
    rows = []
    for tiles in choices:
        try:
            share = inputs.nbytes / _seconds(inputs, tiles, device) / copy
        except OutOfResources as error:  # more shared memory or registers than the device has
            print(f"{tiles}: {error}")
            continue
        rows.append([f"{share:.1%}", *vars(tiles).values(), "usual" if tiles == usual else ""])
    rows.sort(key=lambda row: -float(row[0].rstrip("%")))
    print(tabulate(rows, headers=["of copy", *vars(usual), ""]))


def _seconds(inputs: Inputs, tiles: Tiles, device: torch.device) -> float:
    def several() -> None:
        for _ in range(REPEATS):
            contract_triton(inputs.writers, inputs.readers, inputs.edges, tiles)

    several()
    return min(timed(several, device) for _ in range(3)) / REPEATS


if __name__ == "__main__":
    main()
