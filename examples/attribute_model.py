"""Score every edge of one model, and print the edges that matter most to its answers.

    python examples/attribute_model.py [CHECKPOINT]

The checkpoint is one of the shipped ones, unless you give another: a folder, a hub id, or a LoRA adapter. Change
`PROMPT` and `ANSWER` with it: the model's own answers are the ones to score.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rlcircuits

SHIPPED = Path(__file__).resolve().parent.parent / "fixtures" / "llama-sums" / "seed-7" / "grpo"
PROMPT = "41+30+12?"
ANSWER = "41+30=71;71+12=83>83"


def main() -> None:
    """Load a checkpoint, score one answer, print its metrics and strongest edges."""
    checkpoint = rlcircuits.Checkpoint.load(sys.argv[1] if len(sys.argv) > 1 else SHIPPED)
    prompt_ids = checkpoint.tokenizer(PROMPT)["input_ids"]
    answer_ids = checkpoint.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]

    # One forward and one backward pass. A list of many sequences is split into batches that fit the memory.
    scores = rlcircuits.attribute(checkpoint, [rlcircuits.AnswerSequence(prompt_ids, answer_ids)])

    print(f"{scores.graph.n_edges} edges; loss {scores.loss[0]:.4f} nats per token")
    print(f"activation intensity    {rlcircuits.activation_intensity(scores)[0]:.4g}")
    print(f"information complexity  {rlcircuits.information_complexity(scores)[0]:.4g}")
    print(f"distribution kurtosis   {rlcircuits.distribution_kurtosis(scores)[0]:.4g}")

    # values[sequence, writer, reader] estimates how much the loss rises if the reader no longer reads the writer.
    values = scores.values[0]
    n_readers = len(scores.graph.readers)
    print("\nstrongest edges")
    for place in values.abs().flatten().topk(10).indices.tolist():
        writer, reader = divmod(place, n_readers)
        name = f"{scores.graph.writers[writer]} → {scores.graph.readers[reader]}"
        print(f"{name:22} {values[writer, reader]:+.4f}")


if __name__ == "__main__":
    main()
