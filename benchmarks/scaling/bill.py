"""Print what a release of large models would cost on GPUs: the table of docs/costs.md. A model, no measurement.

    python benchmarks/scaling/bill.py
    python benchmarks/scaling/bill.py --utilisation 0.5 --memory 141 --bandwidth 4.8   # an H200

The release has pairs that share no checkpoint, each asked every question set, with the defaults of `Settings`. A stage
(answers, scores, a noise draw, noise on one group) takes as long as its arithmetic or its reading of memory:

- **answers**: each step of decoding reads the weights and the cache once for a batch, or multiplies the weights with
  the batch, whichever takes longer; prompts are read at the rate of matrix products.
  Those of noise draws may take longer by a factor: where servers answer, ``transformers`` generates them.
- **scores**: `Shape.useful_flops`: a forward and a backward to activations over each prompt and the scored share of its
  answer, and the contraction.
- **loading**: the weights once a stage; twice for noise, which is made of two checkpoints. A noise draw that answers is
  made, saved for the engine, loaded by it, and made once more to be scored: six times.

Stages are put on as many workers as the GPUs hold models, as `rlcircuits plan --workers` does.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from shapes import LARGE, Shape

from rlcircuits.common import defaults
from rlcircuits.common.sublayers import layer_reads
from rlcircuits.graph.graph_sizes import graph_sizes
from rlcircuits.release.schedule import Task, wall_seconds

SHAPES = {
    "7B": next(shape for shape in LARGE if shape.name == "qwen2.5-7b"),
    "32B": Shape("qwen2.5-32b", "qwen2", layers=64, width=5120, inner=27648, heads=40, kv_heads=8, vocabulary=152064),
    "70B": Shape("llama-3-70b", "llama", layers=80, width=8192, inner=28672, heads=64, kv_heads=8, vocabulary=128256),
}
GPUS = (1, 8, 64)
CHANGED_GROUPS = ("embeddings", "norms", "attention", "MLP", "unembedding")
"""Groups of tensors that training changed: all that such a model has."""
BYTES = 2
"""Of a weight and of a number in the cache, in bfloat16."""


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of the GPUs, the questions and the answers."""

    peak: float
    """Of a GPU in bfloat16, in 10¹² operations a second."""
    utilisation: float
    """Share of the peak that attribution and the reading of prompts reach."""
    bandwidth: float
    """Of a GPU's memory, in 10¹² bytes a second."""
    reading: float
    """Share of the bandwidth that decoding reaches."""
    memory: float
    """Of a GPU, in 10⁹ bytes."""
    loading: float
    """Rate at which weights are loaded, in 10⁹ bytes a second."""
    prompt: int
    """Tokens of a prompt."""
    answer: int
    """Tokens of an answer, on average."""
    batch: int
    """Answers generated at once."""
    slowdown: float
    """How many times longer the answers of a noise draw take."""
    pairs: int
    sets: int


@dataclass(frozen=True)
class Model:
    """One size of model under some assumptions. Times are in seconds on the GPUs that hold one model."""

    shape: Shape
    given: Assumptions

    @property
    def weights(self) -> float:
        """The number of weights."""
        return self.shape.block_weights + (1 if self.shape.tied else 2) * self.shape.vocabulary * self.shape.width

    @property
    def cache_bytes(self) -> float:
        """Of the keys and values of one answer with its prompt, when it is done."""
        head = self.shape.width // self.shape.heads
        return 2 * self.shape.layers * self.shape.kv_heads * head * BYTES * (self.given.prompt + self.given.answer)

    @property
    def gpus(self) -> int:
        """GPUs that hold the weights with a fifth beside them for activations, and the cache of a batch."""
        needed = 1.2 * BYTES * self.weights + self.given.batch * self.cache_bytes
        return int(2 ** math.ceil(math.log2(max(1.0, needed / (1e9 * self.given.memory)))))

    @property
    def loading(self) -> float:
        """The time to load the weights."""
        return BYTES * self.weights / (1e9 * self.given.loading)

    @property
    def answering(self) -> float:
        """The time in which one model gives its answers to one question set."""
        given, products = self.given, self.shape.block_weights + self.shape.vocabulary * self.shape.width
        rate = self.gpus * 1e12 * given.peak * given.utilisation
        answers = defaults.QUESTION_COUNT * defaults.COMPARED_ANSWERS
        read = BYTES * products + given.batch * self.cache_bytes / 2  # the cache grows, and is half full on average
        step = max(
            read / (self.gpus * 1e12 * given.bandwidth * given.reading),
            2 * given.batch * products / rate,
        )
        prompts = 2 * self.shape.block_weights * answers * given.prompt / rate
        return math.ceil(answers / given.batch) * given.answer * step + prompts

    @property
    def scoring(self) -> float:
        """The time in which one model is attributed on the answers to one question set, all of them compared."""
        given = self.given
        answers = defaults.QUESTION_COUNT * defaults.COMPARED_ANSWERS
        scored = max(math.floor(defaults.ALPHA * given.answer), 1)
        block = layer_reads(("attn", "mlp"), parallel=False)
        edges = graph_sizes([block] * self.shape.layers, self.shape.heads, granularities=["sublayer"])[0].edges
        flops = self.shape.useful_flops(answers, given.prompt + scored - 1, scored, edges)
        return flops / (self.gpus * 1e12 * given.peak * given.utilisation)

    def tasks(self) -> list[Task]:
        """The stages of the whole release."""
        tasks: list[Task] = []
        noise = 6 * self.loading + self.given.slowdown * self.answering + self.scoring
        for run in [(pair, asked) for pair in range(self.given.pairs) for asked in range(self.given.sets)]:
            answers = [Task((*run, "answers", of), self.loading + self.answering) for of in ("before", "after")]
            keys = tuple(task.key for task in answers)
            tasks += answers
            tasks += [Task((*run, "scores", of), self.loading + self.scoring, keys) for of in ("before", "after")]
            tasks += [Task((*run, "noise draw", draw), noise, keys) for draw in range(defaults.NOISE_DRAWS)]
            on_group = 2 * self.loading + self.scoring
            tasks += [Task((*run, "noise on", group), on_group, keys) for group in CHANGED_GROUPS]
        return tasks


NUMBERS: dict[str, tuple[float, str]] = {
    "peak": (989.0, "10¹² operations a second of a GPU in bfloat16, dense"),
    "utilisation": (0.4, "share of the peak that attribution and prompts reach"),
    "bandwidth": (3.35, "10¹² bytes a second of a GPU's memory"),
    "reading": (0.6, "share of the bandwidth that decoding reaches"),
    "memory": (80.0, "10⁹ bytes of a GPU's memory"),
    "loading": (2.0, "10⁹ bytes of weights loaded a second"),
    "prompt": (150, "tokens of a prompt"),
    "answer": (300, "tokens of an answer on average"),
    "batch": (256, "answers generated at once"),
    "slowdown": (1.0, "times longer that a noise draw's answers take; above 1 where servers answer, which have none"),
    "pairs": (4, "pairs of the release"),
    "sets": (3, "question sets that each pair is asked"),
}
"""What is assumed, with its default and what it is."""

HEADERS = (
    "model",
    "GPUs that hold it",
    "weights",
    "one model's answers to one set",
    "its scores",
    "GPU-hours",
    "of them noise",
    *(f"{count} GPU{'' if count == 1 else 's'}" for count in GPUS),
)


def rows(given: Assumptions, gpus: Sequence[int] = GPUS) -> list[list[str]]:
    """Return the table: a row for each size of model."""
    found = []
    for name, shape in SHAPES.items():
        model = Model(shape, given)
        tasks = model.tasks()
        hours = sum(task.seconds for task in tasks) / 3600
        walls = []
        for count in gpus:
            workers = count // model.gpus
            walls.append(f"{wall_seconds(tasks, workers) / 3600:,.1f} h" if workers else f"needs {model.gpus}")
        noise = sum(task.seconds for task in tasks if task.key[2] in ("noise draw", "noise on")) / 3600
        found.append(
            [
                f"{name} ({shape.name})",
                str(model.gpus),
                f"{1e-9 * BYTES * model.weights:,.0f} GB",
                f"{model.answering / 60:,.1f} min",
                f"{model.scoring / 60:,.1f} min",
                f"{hours * model.gpus:,.1f}",
                f"{100 * noise / hours:.0f} %",
                *walls,
            ]
        )
    return found


def assumed(**changes: float) -> Assumptions:
    """Return the default assumptions, some of them changed."""
    return Assumptions(**{name: value for name, (value, _) in NUMBERS.items()} | changes)  # type: ignore[arg-type]


def table(given: Assumptions) -> str:
    """Return the table in Markdown."""
    return tabulate(rows(given), HEADERS, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (value, text) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{text} (default: %(default)s)")
    given = Assumptions(**vars(parser.parse_args()))
    print(table(given))
    print("\nAssumed: " + ", ".join(f"{name} {getattr(given, name):g}" for name in NUMBERS))


if __name__ == "__main__":
    main()
