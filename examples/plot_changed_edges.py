"""Plot the edges whose score changed most between two checkpoints.

    python examples/plot_changed_edges.py [FIGURE.png]

Both models are scored on the same text, the right answers of the first. So a change of a score is a change of the
model and not of the text. Needs matplotlib: pip install '.[plots]'.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

import rlcircuits

FAMILY = Path(__file__).resolve().parent.parent / "fixtures" / "llama-sums" / "seed-7"
N_QUESTIONS = 64
N_EDGES = 15


def changes_by_edge(before: rlcircuits.EdgeScores, after: rlcircuits.EdgeScores) -> list[tuple[str, float]]:
    """Return each edge's name and the change of its mean score in nats, the largest change first."""
    change: Tensor = after.values.mean(dim=0) - before.values.mean(dim=0)
    edges = before.graph.mask.nonzero().tolist()
    named = [(f"{before.graph.writers[w]} → {before.graph.readers[r]}", float(change[w, r])) for w, r in edges]
    return sorted(named, key=lambda item: -abs(item[1]))


def main() -> None:
    """Answer, score both checkpoints on the same answers, and plot the `N_EDGES` largest changes."""
    figure_path = Path(sys.argv[1] if len(sys.argv) > 1 else "changed-edges.png")
    before = rlcircuits.Checkpoint.load(FAMILY / "sft")
    after = rlcircuits.Checkpoint.load(FAMILY / "grpo")

    questions = rlcircuits.load_questions("arithmetic", count=N_QUESTIONS)
    answers = rlcircuits.answer_questions(before, questions, rlcircuits.Sampling(seed=42))
    sequences = [rlcircuits.AnswerSequence(item.prompt_ids, item.answer_ids) for item in answers.items if item.correct]
    print(f"{len(sequences)} of {len(answers)} answers are right, and scored")

    largest = changes_by_edge(rlcircuits.attribute(before, sequences), rlcircuits.attribute(after, sequences))[:N_EDGES]
    for name, change in largest:
        print(f"{name:22} {change:+.4f}")

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in largest], [change for _, change in largest])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="Edges that GRPO changed most", xlabel="change of the mean score, nats")
    figure.savefig(figure_path, dpi=150)
    print(f"figure: {figure_path}")


if __name__ == "__main__":
    main()
