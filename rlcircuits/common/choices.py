"""The names that an option with a fixed choice takes.

This module imports nothing heavy, so that the pytest plugin and ``rlcircuits --help`` can list the choices without
importing numpy or torch.
"""

from __future__ import annotations

from typing import Literal, get_args

Granularity = Literal["sublayer", "head", "kv-head", "expert"]

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
"""Granularities of the edge graph: one node per sublayer, one per attention head, one per head with the key and value
readers shared as grouped-query attention shares them, or one writer per expert of a mixture."""

ScoreOn = Literal["own", "before", "after", "gold"]

SCORE_ON: tuple[ScoreOn, ...] = get_args(ScoreOn)
"""Whose answers are scored: each model's ``own`` (the paper), or by both models those of ``before``, those of
``after``, or the ``gold`` answers."""

NoiseAnswers = Literal["own", "before"]

NOISE_ANSWERS: tuple[NoiseAnswers, ...] = get_args(NoiseAnswers)
"""Whose answers a noise control is scored on: its ``own``, or those of ``before``, which needs no generation."""

OnInconclusive = Literal["fail", "warn", "pass"]

ON_INCONCLUSIVE: tuple[OnInconclusive, ...] = get_args(OnInconclusive)
"""What an inconclusive outcome does to the exit code: ``fail`` gives it one of its own; ``warn`` and ``pass`` give that
of success, with or without a warning."""

Metric = Literal["cross_entropy", "logprob", "logit_diff", "kl"]

METRICS: tuple[Metric, ...] = get_args(Metric)
"""What attribution can differentiate by name: the cross-entropy of the answer, its log-probability, the margin of its
tokens' logits, or the divergence from another model (:mod:`rlcircuits.attribution.attributed_metrics`)."""

LOGPROB: Metric = "logprob"
"""The metric of :data:`METRICS` that is the negative of the default."""

KL: Metric = "kl"
"""The metric of :data:`METRICS` that takes another model."""

LOGIT_DIFF: Metric = "logit_diff"
"""The metric of :data:`METRICS` that may compare each answer with a foil."""

CROSS_ENTROPY: Metric = "cross_entropy"
"""The metric of :data:`METRICS` that is differentiated by default."""

Method = Literal["eap", "eap-ig", "clean-corrupted"]

METHODS: tuple[Method, ...] = get_args(Method)
"""How gradients are taken: at the clean run (edge attribution patching), averaged over a path of inputs from the
corrupted run to the clean one (integrated gradients), or averaged over both runs."""

EAP: Method = "eap"
"""The method of :data:`METHODS` that is used by default."""

EAP_IG: Method = "eap-ig"
"""The method of :data:`METHODS` that takes steps on a path."""

Points = Literal["midpoint", "left", "right"]

POINTS: tuple[Points, ...] = get_args(Points)
"""Where on each step of a path from the corrupted to the clean run a gradient is taken: in its middle, at its start, or
at its end."""

Positions = Literal["whole", "span"]

POSITIONS: tuple[Positions, ...] = get_args(Positions)
"""Whether a pair's scores are kept for whole answers only, or for the prompt and each step of the answer too."""

RELP = ("norm_scale", "activation", "gate_half", "attention")
"""The rules of RelP (arXiv 2508.21258)."""

GIM = ("norm_scale", "gate_half", "softmax_temperature", "qkv_shares")
"""The rules of GIM (arXiv 2505.17630)."""

RULES = (*RELP, "softmax_temperature", "qkv_shares")
"""Rules that replace parts of the backward pass (:mod:`rlcircuits.models.backward_rules`)."""

RULE_SETS = {"relp": RELP, "gim": GIM}
"""Names that stand for several rules."""

Ablation = Literal["zero", "mean", "mean-positional", "resample"]

ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
"""What replaces what a removed edge carries: nothing, its writer's mean output, that at each position, or its output on
another sequence of the same lengths."""

OPENAI = "openai"
"""Name of the engine that asks servers."""

ENGINE_NAMES = ("transformers", "vllm", OPENAI)
"""What can generate answers: two libraries, and a server with OpenAI's interface;
:data:`rlcircuits.answers.engines.registry.ENGINES` says how each is opened."""

DamageKind = Literal["scale", "zero", "noise", "quantise", "sharpen", "swap", "permute", "redirect", "delta"]

DAMAGE_KINDS: tuple[DamageKind, ...] = get_args(DamageKind)
"""Kinds of damage that can be done to a checkpoint; :mod:`rlcircuits.checkpoints.damage.kinds` says what each does."""

ANSWERED_ANEW = ("hints", "flatness", "rank-1")
"""Signs for which a pair's models answer anew; :mod:`rlcircuits.release.answered_signs` says what each costs."""
