"""The default of every option, each in this one place.

`Settings`, `Sampling`, `Prompting`, `QuestionSource`, the functions of the Python interface and the option table
(:mod:`rlcircuits.release.options`) all read these constants. This module imports nothing, so that the pytest plugin and
``rlcircuits --help`` know the defaults without importing torch or pydantic.
"""

from __future__ import annotations

from typing import Final

NOISE_GROUPS: Final = True
"""Whether noise on one group of tensors at a time is measured too."""

NOISE_IF_NEEDED: Final = False
"""Whether noise is measured only where it can change the verdict."""

ALPHA: Final = 0.3
"""Share of the reference answer length that is scored."""

BALANCE: Final = 0.5
"""Largest difference between the two answer lengths of a question, as a share of their mean."""

SEED: Final = 42
"""Seed for sampling K questions."""

MIN_QUESTIONS: Final = 20
"""Fewest questions that may be left to compare: a paired test over fewer has next to no power."""

SCORE_ON: Final = "own"
"""Each model is scored on its own answers, as in arXiv 2509.21044."""

NOISE_ANSWERS: Final = "own"
"""Whose answers a noise control is scored on."""

MEASURE_UNCHANGED: Final = False
"""Whether a pair of which no weight differs is measured."""

NOISE_DRAWS: Final = 3
"""Draws of the noise control."""

QUESTION_COUNT: Final = 400
"""Questions asked."""

SPLIT: Final = "test"
"""Split of a question set."""

QUESTIONS: Final = "arithmetic"
"""Name of the question set."""

STOP_EARLY: Final = True
"""Stop a pair after its first answers if it cannot pass."""

MAX_UNFINISHED: Final = 0.5
"""Largest share of first answers without an end token."""

TEMPERATURE: Final = 1.0
"""Sampling temperature."""

GREEDY: Final = False
"""Whether accuracy at temperature 0 is measured beside that of the sampled answers."""

TOP_P: Final = 1.0
"""Nucleus sampling threshold; 1 samples from the whole distribution."""

SAMPLING_SEED: Final = 42
"""Seed for sampling answers."""

ANSWERS_PER_QUESTION: Final = 1
"""Answers to every question where answers are made for their own sake."""

COMPARED_ANSWERS: Final = 8
"""Answers to every question where two checkpoints are compared, the option `n`; 1 at temperature 0."""

TEMPLATE: Final = "{question}"
"""Text around a question."""

CHAT: Final = True
"""Use the tokenizer's chat template."""

ENGINE: Final = "transformers"
"""Library that generates answers."""

BATCH_SIZE: Final = 64
"""Answers generated at once."""

METRIC: Final = "cross_entropy"
"""What attribution differentiates."""

METHOD: Final = "eap"
"""Where attribution takes gradients."""

FOIL_FIELD: Final = "foil"
"""Field of a JSON line that holds the foil, in a file that is read for these."""
COUNTERFACTUAL_FIELD: Final = "counterfactual"
"""Field of a JSON line that holds the counterfactual question, in a file that is read for these."""

STEPS: Final = 5
"""Steps of integrated gradients."""

POINTS: Final = "midpoint"
"""Where on each step of integrated gradients the gradient is taken."""

GRANULARITY: Final = "sublayer"
"""Granularity of the edge graph."""

POSITIONS: Final = "whole"
"""Scores are kept for whole answers."""

RECOMPUTE: Final = False
"""Recompute blocks in the backward pass."""

TRUST_REMOTE_CODE: Final = False
"""Run Python code from a checkpoint's repository."""

QUESTION_FIELD: Final = "question"
"""Field of a JSON line that holds the question."""

ANSWER_FIELD: Final = "answer"
"""Field of a JSON line that holds the reference answer."""

GOLD_FORM: Final = "plain"
"""Form of the reference answer in its field."""

GRADER: Final = "math"
"""Grader of a question set."""

ON_INCONCLUSIVE: Final = "fail"
"""An inconclusive outcome has an exit code of its own, which is not that of success."""

CIRCUIT_SIZE: Final = 0.5
"""Share of all edges in the circuits that a gate asserts something of."""

CIRCUIT_ABLATION: Final = "mean"
"""What replaces the other edges there."""
