"""Reprs: one short line that says what a person wants to know."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.paths import SEED_7
from helpers.synthetic_comparisons import answers_of, made_up_comparison, noise, random_scores
from hypothesis import given
from hypothesis import strategies as st

import rlcircuits
from rlcircuits.common.reprs import LONGEST, elided_repr
from rlcircuits.comparison.pairing import pair
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.verification import Check, Verification

FIXTURE = str(SEED_7 / "sft")
PARTS = ("pairing", "accuracy", "metrics", "noise control", "verdict", "scores", "checkpoints", "grades", "texts")
LONG = "/a/very/long/path" * 40 + "/checkpoint-700"
SCORES = random_scores(300, seed=0)
ANSWERS = answers_of([True] * 300, lengths=500, model=LONG)
PAIRING = pair(ANSWERS, ANSWERS, k=200)
COMPARISON = made_up_comparison("release", questions=200)
PAIR = rlcircuits.Pair(name="release", before=LONG, after=LONG, algorithm="grpo", questions="gsm8k")
SOURCE = rlcircuits.CheckpointSource(LONG, dtype="bfloat16")


def shown(value: Any) -> dict[str, Any]:
    return {
        "Answer": ANSWERS.items[0], "AnswerSequence": rlcircuits.AnswerSequence(range(9000), range(9000)),
        "Answers": ANSWERS, "Checkpoint": value, "CheckpointSource": SOURCE, "Comparison": COMPARISON,
        "ModuleNames": rlcircuits.ModuleNames(layers="model.layers" * 99), "LatentNames": rlcircuits.LatentNames(),
        "HowScored": rlcircuits.HowScored("logit_diff", corrupted=True), "EdgeGraph": SCORES.graph,
        "EdgeScores": SCORES, "Effect": COMPARISON.effects["intensity"],
        "Finding": judge(COMPARISON).accuracy, "NoisedSource": rlcircuits.NoisedSource(SOURCE, SOURCE, 0),
        "Pair": PAIR, "AskedQuestions": PAIR.questions, "Pairing": PAIRING,
        "Prompting": rlcircuits.Prompting(system=LONG, few_shot=LONG * 9),
        "Question": rlcircuits.Question("q", LONG, LONG),
        "QuestionSource": rlcircuits.QuestionSource(name="ours", file=Path(LONG)),
        "QuestionSet": rlcircuits.load_questions("arithmetic", count=400),
        "Sampling": rlcircuits.Sampling(),
        "Settings": rlcircuits.Settings(device="cpu", prompting=rlcircuits.Prompting(system=LONG)),
        "Verdict": judge(COMPARISON), "PairsFile": PairsFile((PAIR,) * 40, path=Path(LONG)),
        "ControlDraw": COMPARISON.controls[0], "Profile": judge(COMPARISON).profile,
        "Control": noise(PAIRING, ANSWERS, ANSWERS, SCORES), "AccuracyEffect": COMPARISON.accuracy,
        "Verification": Verification(
            LONG, Path(LONG), tuple(Check(part, "differs", LONG) for part in PARTS), (LONG,), (LONG,), "holds", (),
        ),
        **circuits(value),
    }  # fmt: skip


@cache
def circuits(checkpoint: rlcircuits.Checkpoint) -> dict[str, Any]:
    """What is said of circuits, of a few short sequences."""
    sequences = [rlcircuits.AnswerSequence([3, 4, 5, n], [6, 7]) for n in range(2, 6)]
    scores = rlcircuits.attribute(checkpoint, sequences)
    circuit = rlcircuits.find_circuit(scores, 0.5)
    cross = rlcircuits.cross_faithfulness(checkpoint, sequences, scores, scores, sizes=(0.5, 1.0))
    spans = rlcircuits.answer_spans(sequences, checkpoint.tokenizer)
    by_span = rlcircuits.attribute_spans(checkpoint, sequences, spans)
    return {
        "AnswerSpans": rlcircuits.AnswerSpans(9000, (1,) * 9000),
        "SpanScores": by_span,
        "SpanChanges": rlcircuits.span_changes(by_span, by_span),
        "Circuit": circuit,
        "Ablated": rlcircuits.ablated(checkpoint, sequences, circuit),
        "CircuitComparison": rlcircuits.compare_circuits(scores, scores, resamples=5),
        "CrossFaithfulness": cross,
        "Faithfulness": cross.own,
        "ExactEffects": rlcircuits.exact_effects(checkpoint, sequences, [("embed", "logits")]),
    }


@pytest.fixture(scope="module")
def checkpoint() -> rlcircuits.Checkpoint:
    return rlcircuits.Checkpoint.load(FIXTURE, name="sft")


def test_a_repr_is_one_short_line(checkpoint: rlcircuits.Checkpoint) -> None:
    for name, value in shown(checkpoint).items():
        text = repr(value)
        assert text.startswith(f"{name}("), text
        assert text.endswith(")"), text
        assert "\n" not in text
        assert len(text) <= LONGEST, (len(text), text)


def test_every_public_class_is_among_them(checkpoint: rlcircuits.Checkpoint) -> None:
    classes = {name for name in rlcircuits.__all__ if isinstance(getattr(rlcircuits, name), type)}
    assert classes - {"RLCircuitsError"} <= shown(checkpoint).keys()


def test_a_repr_shows_what_identifies_an_object(checkpoint: rlcircuits.Checkpoint) -> None:
    assert repr(checkpoint) == "Checkpoint('sft', LlamaForCausalLM, 4 layers, float32, cpu)"
    loss = float(SCORES.loss.mean())
    assert repr(SCORES) == (
        f"EdgeScores(300 sequences, sublayer graph of 23 edges, mean loss {loss:.3g}, backend made up)"
    )
    assert repr(SCORES.graph) == "EdgeGraph(sublayer, 5 writers, 9 readers, 23 edges)"
    assert repr(judge(COMPARISON)) == "Verdict(holds, profile online-rl)"
    fallen = replace(COMPARISON, profile="online-rl", effects=made_up_comparison(rise=False).effects)
    assert repr(judge(fallen)) == "Verdict(does not hold: intensity, complexity, kurtosis, profile online-rl)"
    changes = [f"{COMPARISON.effects[metric].change:+.1%}" for metric in ("intensity", "complexity", "kurtosis")]
    assert repr(COMPARISON) == (
        "Comparison('release', grpo, arithmetic, K = 200, accuracy 0.667 → 1.000, "
        f"intensity {changes[0]}, complexity {changes[1]}, kurtosis {changes[2]})"
    )
    assert repr(rlcircuits.Settings(k=50)) == "Settings(k=50)"
    assert repr(rlcircuits.AnswerSequence([1, 2], np.array([3]))) == (
        "AnswerSequence(prompt_ids=(1, 2), answer_ids=(3,))"
    )
    pair = rlcircuits.Pair(name="a", before="sft", after="rl", algorithm="grpo")
    assert repr(pair) == "Pair(name='a', before='sft', after='rl', algorithm='grpo')"
    assert "before='/a/very/long/path/a/ve…ong/path/checkpoint-700'" in repr(PAIR)
    assert repr(answers_of([True, False], model="base")) == (
        "Answers('base', arithmetic (test), 2 answers, accuracy 0.500)"
    )


@given(st.text() | st.lists(st.integers()))
def test_an_elided_repr_is_short_and_keeps_both_ends(value: Any) -> None:
    text = elided_repr(value)
    assert len(text) <= 48
    assert text[:20] == repr(value)[:20]
    assert text[-20:] == repr(value)[-20:]
