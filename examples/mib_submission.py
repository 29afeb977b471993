"""Make a submission folder for the circuit track of MIB from edge scores.

    python examples/mib_submission.py FOLDER ioi_gpt2=SCORES.safetensors ioi_qwen2.5=SCORES.safetensors …

Each ``TASK_MODEL`` is a column of MIB's table, and its file what ``EdgeScores.save`` or ``rlcircuits attribute --out``
wrote: the scores of that model on that task's training examples, on the head graph. The folder gets one
``TASK_MODEL/importances.json`` for each. MIB wants at least two models and two tasks, ranks edges by the signed score
(CPR) and by its size (CMD), and takes a folder on the Hugging Face hub; https://github.com/hannamw/MIB-circuit-track
says how to submit it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import rlcircuits

SHAPES = {"gpt2": (12, 12, 768), "qwen2.5": (24, 14, 896), "gemma2": (26, 8, 2304), "llama3": (32, 32, 4096)}
"""Layers, heads and width of each of MIB's models: GPT-2 small, Qwen2.5-0.5B, Gemma-2-2B, Llama-3.1-8B."""

COLUMNS = (
    *(f"ioi_{model}" for model in SHAPES),
    *(f"mcqa_{model}" for model in ("qwen2.5", "gemma2", "llama3")),
    *(f"arithmetic-{operation}_llama3" for operation in ("addition", "subtraction")),
    *(f"arc-{level}_{model}" for level, models in (("easy", ("gemma2", "llama3")), ("challenge", ("llama3",)))
      for model in models),
)  # fmt: skip
"""The tasks and models of MIB's table."""


def write_submission(folder: Path, files: dict[str, Path]) -> None:
    """Write ``importances.json`` for each column.

    Raises:
        RLCircuitsError: a column that MIB does not have, or scores that do not fit its model.
    """
    loaded = {column: rlcircuits.EdgeScores.load(path) for column, path in files.items()}
    for column, scores in loaded.items():
        if column not in COLUMNS:
            raise rlcircuits.RLCircuitsError(f"{column} is no column of MIB's table; it has {', '.join(COLUMNS)}")
        layers, heads, _ = SHAPES[column.partition("_")[2]]
        graph = scores.graph
        found = (
            sum(name.startswith("mlp.") for name in graph.writers),
            sum(name.startswith("attn.0.h") for name in graph.writers),
        )
        if graph.granularity != "head" or found != (layers, heads):
            raise rlcircuits.RLCircuitsError(
                f"{files[column]}: has a {graph.granularity} graph of {found[0]} layers and {found[1]} heads; {column} "
                f"needs the head graph of {layers} layers and {heads} heads"
            )
    for column, scores in loaded.items():
        target = folder / column / "importances.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        scores.to_eap_ig(target, d_model=SHAPES[column.partition("_")[2]][2])
        print(f"{target}: {scores.graph.n_edges:,} edges, mean of {len(scores)} examples")


def main(arguments: Sequence[str]) -> str | None:
    """Write the folder; return what went wrong, if anything."""
    folder, *named = arguments or [""]
    files = {column: Path(path) for column, _, path in (each.partition("=") for each in named)}
    if not folder or not files or not all(each.partition("=")[2] for each in named):
        return __doc__
    try:
        write_submission(Path(folder), files)
    except rlcircuits.RLCircuitsError as error:
        return f"error: {error}"
    tasks, models = (sorted({column.split("_")[part] for column in files}) for part in (0, 1))
    if len(tasks) < 2 or len(models) < 2:
        print(f"MIB takes at least two tasks and two models; this is {', '.join(tasks)} of {', '.join(models)}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
