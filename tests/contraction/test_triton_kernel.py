"""The Triton kernels against float64 definitions: on the GPU where there is one, else under Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers.contraction_cases import Case, cases, error, make_case
from helpers.core_inputs import fixed_sequences, relative_error, tiny
from helpers.run_in_subprocess import check_tests_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import attribute
from rlcircuits.capture import reader_heads
from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.common import triton_options
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction.backends import choose_backend
from rlcircuits.models import norms
from rlcircuits.models.norms import Norm

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton and the kernel are imported
triton = pytest.importorskip("triton", reason="triton is not installed")

from triton import language as tl  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction  # noqa: E402

from rlcircuits.capture import triton_heads  # noqa: E402
from rlcircuits.contraction import triton_kernel  # noqa: E402
from rlcircuits.contraction.triton_kernel import Tiles, contract_triton  # noqa: E402
from rlcircuits.models import triton_norm  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
RUNS = CUDA or (triton_options.INTERPRETED and isinstance(tl.cdiv, InterpretedFunction))
needs_kernel = pytest.mark.skipif(
    not RUNS, reason="triton was imported before this file; it runs in a process of its own"
)

# Against the definition in float64. Half-precision readers are rounded once more where a direction is taken off them.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
SMALL = Tiles(writers=16, readers=16, width=16, steps=4, warps=4, stages=2)
tilings = st.builds(
    Tiles,
    writers=st.sampled_from([16, 32]),
    readers=st.sampled_from([16, 32]),
    width=st.sampled_from([16, 32]),
    steps=st.integers(2, 5),
    warps=st.just(4),
    stages=st.just(2),
)


@pytest.mark.slow
@pytest.mark.skipif(RUNS, reason="the tests below run in this process")
def test_the_kernel_in_a_process_of_its_own() -> None:
    check_tests_of(__file__, TRITON_INTERPRET="1")


def tolerance(case: Case) -> float:
    """The dtype's, or float32's where nothing but sums rounds."""
    dtype = case.readers[0].grads.dtype
    return TOLERANCE[dtype if any(f.direction is not None for f in case.readers) else torch.float32]


def contract(case: Case, tiles: Tiles | None) -> torch.Tensor:
    moved = case.to(DEVICE) if CUDA else case
    return contract_triton(moved.writers, moved.readers, moved.edges, tiles).cpu()


@needs_kernel
@settings(max_examples=20)
@given(case=cases(list(TOLERANCE)), tiles=tilings)
def test_the_kernel_is_the_definition(case: Case, tiles: Tiles) -> None:
    found = contract(case, tiles)
    assert found.dtype == torch.float32
    assert (found[:, ~case.edges] == 0).all()
    assert error(found, case) <= tolerance(case)


@needs_kernel
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("direction", [0, 1])
def test_tiles_that_fit_by_themselves(dtype: torch.dtype, direction: int) -> None:
    case = make_case(
        writers=[(1, "contiguous"), (32, "contiguous"), (1, "contiguous")],
        readers=[(1, "contiguous", 0), (18, "contiguous", direction)],
        shape=(2, 3, 144),
        dtype=dtype,
    )
    assert error(contract(case, None), case) <= tolerance(case)


@needs_kernel
def test_what_no_writer_reaches_is_not_read() -> None:
    case = make_case(
        writers=[(40, "contiguous")], readers=[(40, "contiguous", 0)], shape=(1, 2, 16), dtype=torch.float32
    )
    edges = torch.ones(40, 40).triu(1).bool()
    case.readers[0].grads[0] = torch.nan  # before every writer
    case.writers[0][-1] = torch.nan  # after every reader
    found = contract(Case(case.writers, case.readers, edges), SMALL)
    assert (found[:, ~edges] == 0).all()
    assert found.isfinite().all()


@given(seed=st.integers(0, 99), size=st.tuples(st.integers(1, 50), st.integers(1, 50)), density=st.floats(0.001, 1))
def test_tiles_without_an_edge_are_left_out(seed: int, size: tuple[int, int], density: float) -> None:
    edges = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < density
    live = triton_kernel._live_tiles(edges, SMALL).tolist()
    wanted = {(w // 16, r // 16) for w, r in edges.nonzero().tolist()}
    assert sorted(map(tuple, live)) == sorted(wanted)


@needs_kernel
@settings(max_examples=5)
@given(case=cases([torch.float32, torch.bfloat16]))
def test_a_sequences_scores_are_the_same_bits_again_and_in_any_batch(case: Case) -> None:
    found = contract(case, SMALL)
    assert torch.equal(contract(case, SMALL), found)
    assert torch.equal(contract(case.of_sequence(-1 % found.shape[0]), SMALL), found[-1:])


@needs_kernel
@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
@pytest.mark.parametrize("name", ["qwen2", "gpt2", "gemma2"])
def test_attribution_through_the_kernels(name: str, granularity: str, monkeypatch: Any) -> None:
    if CUDA:
        pytest.skip("tests/attribution/test_cuda.py runs whole models")
    batch = fixed_sequences(2)
    wanted = attribute(tiny(name), batch, granularity, backend="reference").values
    vjps = mock.Mock(side_effect=triton_norm.norm_vjp)
    monkeypatch.setattr(triton_norm, "norm_vjp", vjps)
    heads = mock.Mock(side_effect=triton_heads.reader_grads_by_head)
    monkeypatch.setattr(triton_heads, "reader_grads_by_head", heads)
    for module in (norms, reader_heads):
        monkeypatch.setattr(module, "can_use_triton", lambda tensor: True)  # as on CUDA
    found = attribute(tiny(name), batch, granularity, backend="triton")
    assert found.backend == "triton"
    assert vjps.call_count > 0
    assert (heads.call_count > 0) == (granularity != "sublayer")
    assert relative_error(found.values, wanted) < 1e-5


def test_what_the_kernel_cannot_multiply_is_an_error(monkeypatch: Any) -> None:
    case = make_case(writers=[(1, "contiguous")], readers=[(1, "contiguous", 0)], shape=(1, 1, 16), dtype=torch.float64)
    with pytest.raises(RLCircuitsError, match=r"backend triton was given torch\.float64"):
        contract(case, None)
    with pytest.raises(RLCircuitsError, match=r"backend is 'triton', which does not support torch\.float64"):
        choose_backend("triton", torch.zeros(1, dtype=torch.float64))
    monkeypatch.setattr(triton_options, "INTERPRETED", False)
    with pytest.raises(RLCircuitsError, match="the model is on cpu; it needs a CUDA device"):
        choose_backend("triton", torch.zeros(1))


@needs_kernel
@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(2, 70)),
    dtype=st.sampled_from(list(TOLERANCE)),
    kind=st.sampled_from(["rms", "layer"]),
    weighted=st.booleans(),
    strided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_norms_kernel_is_its_jacobian(
    shape: Any, dtype: torch.dtype, kind: Any, weighted: bool, strided: bool, seed: int
) -> None:
    assert norm_error(triton_norm.norm_vjp, shape, dtype, kind, weighted, strided, seed) <= TOLERANCE[dtype]


def norm_error(
    vjp: Any,
    shape: Any,
    dtype: torch.dtype = torch.float32,
    kind: Any = "layer",
    weighted: bool = True,
    strided: bool = False,
    seed: int = 0,
) -> float:
    """‖found − Jacobian's‖ over the norm of what the removed directions are taken off, which may leave little."""
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    if strided:
        x, grad = x.transpose(0, 1), grad.transpose(0, 1)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.randn(shape[-1], generator=generator).to(dtype)) if weighted else None
    weight = None if module.weight is None else module.weight.detach()
    exact = Norm(module.double(), kind, eps=1e-3).vjp_at(x.double())
    moved = [None if t is None else t.to(DEVICE) for t in (x, grad, weight)]
    found = vjp(moved[0], moved[1], moved[2], 1e-3, centred=kind == "layer").cpu()
    assert (found.shape, found.dtype) == (x.shape, dtype)
    before = grad.double() * exact.factors.scale * (1 if weight is None else weight.double())
    if not found.isfinite().all():
        return float("inf")
    return float((found.double() - exact.vjp(grad.double())).norm() / before.norm())


@needs_kernel
@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 3), st.integers(1, 70)),
    width=st.integers(1, 140),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 99),
)
def test_the_heads_kernel_is_its_definition(shape: Any, width: int, dtype: torch.dtype, seed: int) -> None:
    assert heads_error(triton_heads.reader_grads_by_head, shape, width, dtype, seed) <= TOLERANCE[dtype]


@needs_kernel
@pytest.mark.parametrize("size", [96, 128, 256])
def test_heads_of_the_usual_sizes(size: int) -> None:
    assert (
        heads_error(triton_heads.reader_grads_by_head, (1, 130, 2, size), 192, torch.bfloat16)
        <= TOLERANCE[torch.bfloat16]
    )


@needs_kernel
@pytest.mark.parametrize("shared", [False, True])
def test_a_latents_features_are_not_held_at_once(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_heads, "_lengths", None)  # it would need more memory than a GPU has
    found = heads_error(triton_heads.reader_grads_by_head, (2, 70, 2, 300), 192, torch.bfloat16, shared=shared)
    assert found <= TOLERANCE[torch.bfloat16]


def heads_error(
    make: Any, shape: Any, width: int, dtype: torch.dtype = torch.float32, seed: int = 0, *, shared: bool = False
) -> float:
    """‖found − definition‖ over the norm of what the direction is taken off, which may leave little."""
    generator = torch.Generator().manual_seed(seed)
    # A slice of a batch: neither features nor direction need be contiguous.
    batch, pos, heads, size = shape
    features = torch.randn(batch, pos + 2, heads, size, generator=generator).to(dtype)[:, 1:-1]
    weight = torch.randn(1 if shared else heads, size, width, generator=generator).to(dtype).expand(heads, -1, -1)
    direction = torch.randn(batch, pos + 2, width, generator=generator)
    direction = (direction / direction.square().mean(-1, keepdim=True).sqrt()).to(dtype)[:, 1:-1]
    found = make(*(t.to(DEVICE) for t in (features, weight, direction))).cpu()
    assert (found.shape, found.dtype) == ((heads, batch, pos, width), dtype)
    grads = torch.einsum("bthd,hdm->hbtm", features.double(), weight.double())
    if not found.isfinite().all():
        return float("inf")
    wanted = ReaderGrads(range(heads), grads, direction.double()).whole()
    return float((found.double() - wanted).norm() / grads.norm())


@needs_kernel
def test_what_is_along_the_direction_goes_though_one_feature_dominates_it() -> None:
    """As where one feature of the stream is far larger than the others: writers are as large along it."""
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.randn(1, 40, 2, 16, generator=generator), torch.randn(2, 16, 64, generator=generator)
    weight[..., 0] *= 5
    direction = torch.cat([torch.tensor([7.7654]), torch.full((63,), 0.2417)]).expand(1, 40, 64)
    share = (direction.square().mean(-1) / direction.bfloat16().float().square().mean(-1)).to(DEVICE)
    given = [tensor.bfloat16().to(DEVICE) for tensor in (features, weight, direction)]
    found = triton_heads.reader_grads_by_head(given[0], given[1], given[2], share).cpu().double()
    grads = torch.einsum("bthd,hdm->hbtm", given[0].cpu().double(), given[1].cpu().double())
    wanted = ReaderGrads(range(2), grads, direction.double()).whole()
    left = torch.linalg.vecdot(found - wanted, direction.double())
    assert float(left.norm() / (8 * grads.norm())) < 5e-4


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.integers(64 * 1024, 2**20),
)
def test_tiles_fit_the_shared_memory(writers: int, readers: int, dtype: torch.dtype, shared: int) -> None:
    tiles = Tiles.fitting(writers, readers, dtype, shared)
    assert tiles.stages * (tiles.writers + tiles.readers) * tiles.width * dtype.itemsize <= shared
    assert min(tiles.writers, tiles.readers, tiles.width) >= 16


# What may go wrong in a kernel, as a change of its source that the checks above must not survive.
MUTANTS = {
    "sign": ("-total", "total"),
    "mask off by one row": ("edges + rows[:, None]", "edges + (rows[:, None] + 1)"),
    "mask off by one column": ("[None, :], mask=is_score, other=0)", "[None, :] + 1, mask=is_score, other=0)"),
    "mask left out": ("tl.where(is_edge, -total, 0.0)", "-total"),
    "tiles on the diagonal left out": ("any(1).nonzero()", "any(1).triu(1).nonzero()"),
    "last features left out": ("steps_per_position = tl.cdiv(width, WIDTH)", "steps_per_position = width // WIDTH"),
    "last split left out": ("(edge_tiles.n_live * splits, batch)", "(edge_tiles.n_live * (splits - 1), batch)"),
    "last step of a split left out": ("tl.minimum(first + STEPS,", "tl.minimum(first + STEPS - 1,"),
    "last row left out": ("rows < n_writers", "rows < n_writers - 1"),
    "features beyond the width": ("is_feature = features < width", "is_feature = features < width + 1"),
    "next position": ("position * write_step", "(position + 1) % n_positions * write_step"),
    "first sequence for all": ("sequence * tl.load(grad_addresses", "0 * tl.load(grad_addresses"),
    "stride forgotten": ("features[None, :] * grad_stride[:, None]", "features[None, :]"),
    "bfloat16 sums": ("return partial.sum(0)", "return partial.bfloat16().sum(0).float()"),
}  # fmt: skip
HEADS_MUTANTS = {
    "direction added": ("grad - length", "grad + length"),
    "direction left in": ("grad - length", "grad - 0 * length"),
    "length of another head": ("tl.load(lengths + rows * heads + head", "tl.load(lengths + rows * heads"),
    "length of a sum": ("projected * feature, 1) / width", "projected * feature, 1)"),
    "length of some features": ("range(0, width, STEP)", "range(0, width // STEP * STEP, STEP)"),
    "first head for all": ("head = tl.program_id(0) // tiles", "head = 0 * tl.program_id(0)"),
    "last step left out": ("range(0, SIZE, STEP)", "range(0, SIZE // STEP * STEP, STEP)"),
    "features of the next head": ("        is_inner = inner < SIZE", "        is_inner = inner < SIZE + 1"),
    "first token for all": (
        "        feature_at = (rows * heads + head)[:, None] * SIZE",
        "        feature_at = (0 * rows + head)[:, None] * SIZE",
    ),
}  # fmt: skip
NORM_MUTANTS = {
    "direction added": ("inner - direction * mean_dot", "inner + direction * mean_dot"),
    "mean left in": ("inner -= tl.sum(inner) / width", "inner -= 0 * tl.sum(inner) / width"),
    "stream not centred": ("direction - tl.sum(direction) / width", "direction - 0 * tl.sum(direction) / width"),
    "features beyond the width": ("tl.where(inside, direction", "tl.where(features < BLOCK, direction"),
    "epsilon left out": ("/ width + eps", "/ width + 0 * eps"),
    "weight left out": ("WEIGHTED=weight is not None", "WEIGHTED=False"),
    "scale left out": ("(inner - direction * mean_dot) * scale", "(inner - direction * mean_dot)"),
    "first position for all": ("tl.program_id(0).to(tl.int64) * width", "0 * tl.program_id(0).to(tl.int64) * width"),
}  # fmt: skip
CHECKED = [
    make_case(
        writers=[(3, "width strided"), (15, "contiguous")],
        readers=[(15, "contiguous", count), (4, "width strided", count)],
        shape=(2, 2, 35),
        dtype=torch.float32,
        edges="triangle",
    )
    for count in (2, 0)
]


@needs_kernel
def test_the_kernel_passes_the_check_that_its_mutants_fail() -> None:
    for case in CHECKED:
        assert error(contract(case, SMALL), case) <= TOLERANCE[torch.float32]


@needs_kernel
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_mutated_kernel_is_caught(mutant: str, tmp_path: Path, monkeypatch: Any) -> None:
    module = mutated(triton_kernel, *MUTANTS[mutant], tmp_path, monkeypatch)
    monkeypatch.setattr(sys.modules[__name__], "contract_triton", module.contract_triton)
    with unwritten_is_nan():
        assert not all(error(contract(case, SMALL), case) <= TOLERANCE[torch.float32] for case in CHECKED)


@needs_kernel
@pytest.mark.parametrize("mutant", sorted(HEADS_MUTANTS))
def test_a_mutated_heads_kernel_is_caught(mutant: str, tmp_path: Path, monkeypatch: Any) -> None:
    assert heads_error(triton_heads.reader_grads_by_head, (2, 3, 2, 35), 130) <= TOLERANCE[torch.float32]
    module = mutated(triton_heads, *HEADS_MUTANTS[mutant], tmp_path, monkeypatch)
    with unwritten_is_nan():
        assert not heads_error(module.reader_grads_by_head, (2, 3, 2, 35), 130) <= TOLERANCE[torch.float32]


@needs_kernel
@pytest.mark.parametrize("mutant", sorted(NORM_MUTANTS))
def test_a_mutated_norms_kernel_is_caught(mutant: str, tmp_path: Path, monkeypatch: Any) -> None:
    assert norm_error(triton_norm.norm_vjp, (2, 3, 35)) <= TOLERANCE[torch.float32]
    module = mutated(triton_norm, *NORM_MUTANTS[mutant], tmp_path, monkeypatch)
    with unwritten_is_nan():
        assert not norm_error(module.norm_vjp, (2, 3, 35)) <= TOLERANCE[torch.float32]


@contextmanager
def unwritten_is_nan() -> Iterator[None]:
    """Fill new memory with NaN. On a GPU it may hold what the right kernel has just written there."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def mutated(original: Any, old: str, new: str, folder: Path, monkeypatch: Any) -> Any:
    """The module with one piece of its source changed."""
    source = Path(original.__file__).read_text()
    assert source.count(old) == 1
    changed = folder / "changed.py"
    changed.write_text(source.replace(old, new))
    spec: Any = importlib.util.spec_from_file_location("changed", changed)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "changed", module)
    spec.loader.exec_module(module)
    return module
