"""Ask which step of an answer the edges serve that training strengthened.

    python examples/changed_steps.py [BEFORE AFTER]

The shipped models add three numbers in two steps and repeat the sum: ``18+30=48;48+10=58>58``. The edges that GRPO
strengthened most are chosen on half of the questions, and measured by step on the others, on the same answers in both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rlcircuits

FAMILY = Path(__file__).resolve().parent.parent / "fixtures" / "llama-sums" / "seed-7"
N_QUESTIONS = 300
STEP_END = "[;>]"  # for answers in lines: r"\n"


def main() -> None:
    """Answer, score by step, and print what changed."""
    folders = sys.argv[1:3] if len(sys.argv) > 2 else [FAMILY / "sft", FAMILY / "grpo"]
    before, after = (rlcircuits.Checkpoint.load(folder) for folder in folders)
    questions = rlcircuits.load_questions("arithmetic", count=N_QUESTIONS)
    answers = rlcircuits.answer_questions(after, questions, rlcircuits.Sampling(temperature=0))
    sequences = [rlcircuits.AnswerSequence(item.prompt_ids, item.answer_ids) for item in answers.items if item.correct]
    spans = rlcircuits.answer_spans(sequences, after.tokenizer, STEP_END)
    half = len(sequences) // 2

    # out=FILE.safetensors would keep the scores in a file: a matrix for each step of each answer may be much.
    chosen_on, measured_on = (
        [rlcircuits.attribute_spans(model, sequences[part], spans[part]) for model in (before, after)]
        for part in (slice(half), slice(half, None))
    )
    edges = rlcircuits.strengthened_edges(*chosen_on, top=10)
    graph = chosen_on[0].graph
    named = [f"{graph.writers[u]} → {graph.readers[v]}" for u, v in edges.nonzero().tolist()]
    print(f"strengthened most, on {half} answers: {', '.join(named)}\n")
    print(f"these edges, on {len(sequences) - half} other answers\n{rlcircuits.span_changes(*measured_on, edges)}\n")
    print(f"all {graph.n_edges} edges\n{rlcircuits.span_changes(*measured_on)}")


if __name__ == "__main__":
    main()
