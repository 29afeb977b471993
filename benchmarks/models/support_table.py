"""Measure every mapped model family against the float64 oracle of the tests, and write the table of docs/models.md.

    python benchmarks/models/support_table.py            # every family
    python benchmarks/models/support_table.py phi gpt-j  # only these tiny models; the other numbers stay

Each family is its tiny models of ``tests/helpers/tiny_models.py``, with random weights. A number is the largest
relative error over a family's models and three sequences, ‖W − W*‖ / ‖W*‖ of each, where W* is what the oracle says of
the same weights in float64; for the ablated forward that of the loss, over random masks. The numbers are kept in
``benchmarks/models/support.json``. It takes some minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from helpers import oracle  # noqa: E402
from helpers.core_inputs import fixed_sequences, relative_error  # noqa: E402
from helpers.tiny_models import MIXTURES, MODEL_TYPES, build, granularities, padding_sides  # noqa: E402
from tabulate import tabulate  # noqa: E402
from torch import Tensor  # noqa: E402

from rlcircuits import Checkpoint, attribute  # noqa: E402
from rlcircuits.circuits.ablated_forward import ablated  # noqa: E402
from rlcircuits.models.config_layers import NO_MIXTURE, kv_heads_by_config  # noqa: E402

NUMBERS = Path(__file__).with_name("support.json")
PAGE = ROOT / "docs" / "models.md"
FIRST, LAST = "<!-- support -->\n", "<!-- /support -->\n"
REFUSED, NOT_DEFINED, DENSE = "refused", "no oracle", "dense"
COLUMNS = (
    "sublayer", "head", "kv-head", "expert", "patching", "recompute", "left padding", "bfloat16", "float16", "ablated",
)  # fmt: skip
MASKS = 3

Cell = float | str


def measure(name: str) -> dict[str, Cell]:
    """Return the error of a tiny model in each column, or why it has none."""
    model, sequences, corrupted = build(name, seed=3), fixed_sequences(), fixed_sequences(seed=12)
    exact = oracle.float64_copy(model)
    wanted = {"sublayer": oracle.edge_scores(exact, sequences)[0]}
    heads = "head" in granularities(name)
    why = REFUSED if not heads else NOT_DEFINED
    if heads:
        try:
            wanted["head"] = oracle.edge_scores(exact, sequences, "head")[0]
        except NotImplementedError:  # grouped keys under one norm of all heads
            heads = False
    removable = tuple(wanted)  # edges of experts are not removed
    no_experts = DENSE if Checkpoint(model).parts.no_experts == NO_MIXTURE else REFUSED
    if name in MIXTURES:
        wanted["expert"] = oracle.edge_scores(exact, sequences, "expert")[0]

    def error(other: Any, granularity: str = "sublayer", scores: Tensor | None = None, **options: Any) -> float:
        scores = wanted[granularity] if scores is None else scores
        return relative_error(attribute(other, sequences, granularity, **options).values, scores)

    def rounded(dtype: torch.dtype) -> float:
        other = build(name, seed=3, dtype=dtype)
        return error(other, scores=oracle.edge_scores(other, sequences)[0])

    patched, _ = oracle.edge_scores(exact, sequences, corrupted=corrupted)
    return {
        "sublayer": error(model),
        "head": error(model, "head") if heads else why,
        "kv-head": _kv_head_error(model, sequences, wanted["head"]) if heads else why,
        "expert": error(model, "expert") if "expert" in wanted else no_experts,
        "patching": error(model, scores=patched, corrupted=corrupted),
        "recompute": max(error(model, each, recompute=True) for each in wanted),
        "left padding": (
            max(error(model, each, padding_side="left") for each in wanted)
            if "left" in padding_sides(name)
            else REFUSED
        ),
        "bfloat16": rounded(torch.bfloat16),
        "float16": rounded(torch.float16),
        "ablated": max(_ablated_error(name, each) for each in removable),
    }


def _kv_head_error(model: Any, sequences: list[Any], by_head: Tensor) -> float:
    """The error where each key/value head has one reader, whose score is the sum of its query heads' in the oracle."""
    found = attribute(model, sequences, "kv-head")
    heads, kv_heads = model.config.num_attention_heads, kv_heads_by_config(model.config)
    wanted = torch.zeros(found.values.shape, dtype=torch.float64)
    for column, reader in enumerate(oracle.edge_names(model, "head")[1]):
        sublayer, _, rest = reader.partition(".h")
        head, _, kind = rest.partition(".")
        place = reader
        if kind in ("k", "v"):
            place = f"{sublayer}.kv{int(head) * kv_heads[int(sublayer.split('.')[1])] // heads}.{kind}"
        wanted[:, :, found.graph.readers.index(place)] += by_head[:, :, column]
    return relative_error(found.values, wanted)


def _ablated_error(name: str, granularity: str) -> float:
    """The largest relative error of the loss with half of the edges removed: by zeros, or by another run's outputs.

    In float64: where nothing is left of what a reader reads, float32 leaves a residue, which the norm makes larger.
    """
    model = build(name, seed=3, dtype=torch.float64)
    sequence, other = fixed_sequences()[1], fixed_sequences(seed=12)[1]
    shape = oracle.edge_names(model, granularity)[2].shape
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for _ in range(MASKS):
        mask = torch.rand(shape, generator=generator) < 0.5
        for ablation, corrupted in (("zero", None), ("resample", other)):
            found = ablated(model, [sequence], mask, ablation, corrupted=[corrupted] if corrupted else None).loss
            wanted = oracle.loss_only(model, sequence, mask, granularity, corrupted, own_post_norm=True)
            worst = max(worst, abs(found.item() - wanted) / wanted)
    return worst


def table(numbers: dict[str, dict[str, dict[str, Cell]]]) -> str:
    """Return the table of the page: a row for each family, with the worst of its models in each column."""
    rows = [
        [f"`{family}`", *(_cell(models[name][column] for name in models) for column in COLUMNS)]
        for family, models in sorted(numbers.items())
    ]
    return tabulate(rows, headers=["`model_type`", *COLUMNS], tablefmt="github", disable_numparse=True)


def _cell(values: Iterable[Cell]) -> str:
    values = list(values)
    errors = [value for value in values if not isinstance(value, str)]
    if errors:
        return f"{max(errors):.0e}".replace("e-0", "e-")
    return REFUSED if REFUSED in values else str(values[0])


def write_page(text: str) -> None:
    """Put the table between its two lines of the page."""
    head, rest = PAGE.read_text(encoding="utf-8").split(FIRST)
    PAGE.write_text(f"{head}{FIRST}\n{text}\n\n{LAST}{rest.split(LAST)[1]}", encoding="utf-8")


def main(names: Iterable[str] = (), notify: Callable[[str], None] = print) -> None:
    """Measure some tiny models, or every one, and write the numbers and the table.

    Args:
        names: The tiny models; all if there are none.
        notify: Called with each name once it is measured.
    """
    names = list(names)
    known = json.loads(NUMBERS.read_text(encoding="utf-8")) if names else {}
    numbers: dict[str, dict[str, dict[str, Cell]]] = {family: {} for family in MODEL_TYPES.values()}
    for name, family in MODEL_TYPES.items():
        if names and name not in names:
            numbers[family][name] = known[family][name]
            continue
        numbers[family][name] = measure(name)
        notify(name)
    NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    write_page(table(numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
