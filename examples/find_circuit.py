"""Find the circuit of a shipped pair, remove all other edges, and compare it with the base's circuit.

    python examples/find_circuit.py [CIRCUIT.json]

The circuits are found on half of the questions and judged on the others. What a removed edge carries is replaced by
what it carries on another question of the same length.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rlcircuits
from rlcircuits import circuits

FAMILY = Path(__file__).resolve().parent.parent / "fixtures" / "llama-sums" / "seed-7"
N_QUESTIONS = 300
SIZE = 0.4  # of the edges
GRANULARITY = "head"

Sequences = list[rlcircuits.AnswerSequence]


def right_answers(model: rlcircuits.Checkpoint) -> Sequences:
    """Return the model's right greedy answers, those of the most common length, which can replace one another."""
    questions = rlcircuits.load_questions("arithmetic", count=N_QUESTIONS)
    answers = rlcircuits.answer_questions(model, questions, rlcircuits.Sampling(temperature=0))
    sequences = [rlcircuits.AnswerSequence(item.prompt_ids, item.answer_ids) for item in answers.items if item.correct]
    lengths = [(len(s.prompt_ids), len(s.answer_ids)) for s in sequences]
    most_common = max(set(lengths), key=lengths.count)
    return [s for s, length in zip(sequences, lengths, strict=True) if length == most_common]


def main() -> None:
    """Find, save, ablate, score and compare."""
    before = rlcircuits.Checkpoint.load(FAMILY / "sft")
    after = rlcircuits.Checkpoint.load(FAMILY / "grpo")
    sequences = right_answers(after)
    half = len(sequences) // 2
    found_on, judged_on = sequences[:half], sequences[half:]
    print(
        f"{len(sequences)} right answers of one length: {half} to find circuits on, {len(judged_on)} to judge them on"
    )

    # Found: score every edge on one half. Both models are scored on the same answers.
    others = circuits.other_sequences(found_on)
    scores = {
        name: rlcircuits.attribute(model, found_on, GRANULARITY, corrupted=others)
        for name, model in (("before", before), ("after", after))
    }
    circuit = circuits.find_circuit(scores["after"], SIZE)
    print(f"after's circuit: {circuit.n_edges} of {circuit.graph.n_edges} edges")
    if len(sys.argv) > 1:
        circuit.save(sys.argv[1])
        print(f"circuit: {sys.argv[1]}")

    # Ablated: run the model with the circuit's edges only, and with all edges but these.
    how = {"ablation": "resample", "corrupted": circuits.other_sequences(judged_on)}
    graph = circuit.graph.mask
    masks = {"all edges": graph, "the circuit": circuit.mask, "the rest": graph & ~circuit.mask}
    for name, mask in masks.items():
        run = circuits.ablated(after, judged_on, mask, **how)
        print(f"loss with {name:12} {float(run.loss.mean()):.3f}")

    # Scored: the faithfulness curve, and what random circuits have.
    curve = circuits.faithfulness(after, judged_on, scores["after"], **how)
    random = circuits.random_circuits(after, judged_on, circuit.graph, draws=10, **how)
    print(f"CMD {curve.cmd:.3f}, random circuits {random.cmd[0]:.3f} [{random.cmd[1]:.3f}, {random.cmd[2]:.3f}]")

    # Compared: with the base's circuit, and whether the base's circuit carries the trained model's answers.
    sizes = (0.1, 0.2, SIZE, 1.0)
    comparison = circuits.compare_circuits(scores["before"], scores["after"], sizes=sizes)
    cross = circuits.cross_faithfulness(after, judged_on, scores["after"], scores["before"], sizes=sizes, **how)
    print("\nsize  overlap  by chance  f_after(C_after)  f_after(C_before)")
    rows = zip(comparison.overlaps, cross.own.faithfulness, cross.other.faithfulness, strict=True)
    for overlap, own, other in rows:
        print(f"{overlap.size:<5g} {overlap.jaccard:7.2f}  {overlap.expected:9.2f}  {own:16.2f}  {other:17.2f}")
    print("\nedges that changed most")
    for edge in comparison.edges[:5]:
        print(f"{f'{edge.writer} → {edge.reader}':24} {edge.before:+.4f} → {edge.after:+.4f}  q = {edge.q:.1g}")


if __name__ == "__main__":
    main()
