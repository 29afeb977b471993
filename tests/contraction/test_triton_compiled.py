"""The Triton kernels compiled for a GPU that need not be here: what must be in their code for them to be fast."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow

pytest.importorskip("triton", reason="triton is not installed")

COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def show(kernel, pointers, constants, others, aligned, **options):
    names = kernel.arg_names
    known = pointers | others | dict.fromkeys(constants, "constexpr")
    types = {name: known.get(name, "i32") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in (*pointers, *aligned)}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=types, constexprs=places, attrs=aligned)
    print(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
"""
COMPILE_CONTRACTION = """
from rlcircuits.contraction.triton_kernel import Tiles, _partial_scores

tiles = Tiles.fitting(65, 16, torch.bfloat16, shared_memory=227 * 1024)
constants = dict(
    LEFT_UNIT=8, RIGHT_UNIT=8, LEFT_FLAT=True, RIGHT_FLAT=True, PRECISION="ieee", WIDEN=False,
    WRITERS=tiles.writers, READERS=tiles.readers, WIDTH=tiles.width, STEPS=tiles.steps,
)
pointers = dict(writes="*bf16", grads="*bf16", write_addresses="*i64", grad_addresses="*i64", edges="*u8", live="*i32")
pointers["partial"] = "*fp32"
show(_partial_scores, pointers, constants, {}, ["width"], num_warps=tiles.warps, num_stages=tiles.stages)
"""
COMPILE_HEADS = """
from rlcircuits.capture.triton_heads import _reader_grads_by_head

pointers = dict(features="*bf16", weight="*bf16", direction="*bf16", lengths="*fp32", result="*bf16")
constants = dict(SIZE=128, PRECISION="ieee", WIDEN=False, TOKENS=128, FEATURES=128, STEP=64)
show(_reader_grads_by_head, pointers, constants, {}, ["width"], num_warps=8)
"""
COMPILE_LENGTHS = """
from rlcircuits.capture.triton_heads import _lengths

pointers = dict(features="*bf16", weight="*bf16", direction="*bf16", lengths="*fp32")
constants = dict(SIZE=128, PADDED=128, PRECISION="ieee", WIDEN=False, TOKENS=128, STEP=64)
show(_lengths, pointers, constants, {}, ["width"], num_warps=8)
"""
COMPILE_NORM = """
from rlcircuits.models.triton_norm import _norm_vjp

pointers = dict(x="*bf16", grad="*bf16", weight="*fp32", result="*bf16")
constants = dict(CENTRED=True, WEIGHTED=True, BLOCK=4096)
show(_norm_vjp, pointers, constants, {"eps": "fp32"}, ["width"], num_warps=8)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="other tests compile them for the GPU that is here")
@pytest.mark.parametrize(
    ("kernel", "instructions"),
    [
        # What it lives on: loads of 16 bytes a thread that do not wait, and products on the tensor cores.
        pytest.param(COMPILE_CONTRACTION, ["cp.async.cg", "wgmma"], id="contraction"),
        pytest.param(COMPILE_HEADS, ["cp.async.cg", "wgmma", "st.global.v4"], id="heads"),
        pytest.param(COMPILE_LENGTHS, ["cp.async.cg", "wgmma"], id="lengths"),
        # Loads and stores of 16 bytes a thread.
        pytest.param(COMPILE_NORM, ["ld.global.v4", "st.global.v4"], id="norm"),
    ],
)
def test_the_kernels_compile_for_a_gpu_that_is_not_here(kernel: str, instructions: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", COMPILE + kernel], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for instruction in instructions:
        assert instruction in ran.stdout
