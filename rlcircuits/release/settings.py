"""The settings of a run, made in Python, from options, or from a pairs file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rlcircuits.answers.engines.registry import check_engine
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.options import check_path
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.choices import (
    EAP_IG,
    METRICS,
    NOISE_ANSWERS,
    POSITIONS,
    Granularity,
    Method,
    Metric,
    NoiseAnswers,
    Points,
    Positions,
    ScoreOn,
)
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_changed_fields, short_repr
from rlcircuits.common.validation import describe_error
from rlcircuits.comparison import pairing
from rlcircuits.graph.answer_spans import step_pattern
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.models.backward_rules import VERSION as RULES_VERSION
from rlcircuits.models.backward_rules import BackwardRules
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.release.option import Section
from rlcircuits.release.options import known_keys


@dataclass(frozen=True)
class Settings:
    """How pairs are measured; the same for every pair of a run.

    The fields are the keys of ``[settings]`` in a pairs file, and most of them options of the command line and of
    pytest: :mod:`rlcircuits.release.options` is the table of them all.

    Raises:
        RLCircuitsError: a field has the wrong type, or a value that is not allowed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    k: int | None = None
    """Number of questions compared, sampled from those that pass the protocol; None for all of them."""
    alpha: float = defaults.ALPHA
    """Share of the reference answer length that is scored, above 0 and at most 1."""
    balance: float = defaults.BALANCE
    """Largest difference between a question's two answer lengths, as a share of their mean."""
    seed: int = defaults.SEED
    """Seed of the sample of K questions."""
    min_questions: int = defaults.MIN_QUESTIONS
    """Fewest questions to compare; with fewer left only accuracy is measured, and the pair is inconclusive at best."""
    score_on: ScoreOn = defaults.SCORE_ON
    """Whose answers are scored; see :data:`rlcircuits.common.choices.SCORE_ON`."""
    noise_draws: int = defaults.NOISE_DRAWS
    """Number of noise controls: before with after's readout and noise on all else. With 0 an effect is judged by its p
    and the profile's minimum alone."""
    question_count: int = defaults.QUESTION_COUNT
    """Number of questions asked, unless the question set has a count of its own."""
    split: str = defaults.SPLIT
    """Split of the question set, unless the set has one of its own."""
    noise_answers: NoiseAnswers = defaults.NOISE_ANSWERS
    """Whose answers a noise control is scored on; see :data:`rlcircuits.common.choices.NOISE_ANSWERS`."""
    noise_groups: bool = defaults.NOISE_GROUPS
    """Measure noise on one group of tensors at a time too, on before's answers."""
    noise_if_needed: bool = defaults.NOISE_IF_NEEDED
    """Measure noise only while it can still change the verdict; see :mod:`rlcircuits.comparison.noise_needed`."""
    measure_unchanged: bool = defaults.MEASURE_UNCHANGED
    """Measure a pair of which no weight differs all the same."""
    greedy: bool = defaults.GREEDY
    """Let both models answer once at temperature 0 too, and report that accuracy beside the sampled one."""
    sampling: Sampling = field(default_factory=lambda: Sampling(n=defaults.COMPARED_ANSWERS))
    """How answers are sampled, the same for both models."""
    stop_early: bool = defaults.STOP_EARLY
    """Stop a pair whose first answers cannot lead to a result; see :mod:`rlcircuits.release.early_stop`."""
    max_unfinished: float = defaults.MAX_UNFINISHED
    """Largest share of a model's first answers without an end token; above it the pair is stopped."""
    prompting: Prompting = field(default_factory=Prompting)
    """How a question becomes a prompt."""
    engine: str = defaults.ENGINE
    """What generates the answers; see :data:`rlcircuits.common.choices.ENGINE_NAMES`."""
    batch_size: int = defaults.BATCH_SIZE
    """Number of answers generated at once."""
    granularity: Granularity = defaults.GRANULARITY
    """Nodes of the graph; see :data:`rlcircuits.common.choices.GRANULARITIES`."""
    metric: Metric = defaults.METRIC
    """What is differentiated; ``kl`` is the divergence from the other model of the pair. See
    :data:`rlcircuits.common.choices.METRICS`."""
    method: Method = defaults.METHOD
    """Where gradients are taken; see :data:`rlcircuits.common.choices.METHODS`."""
    steps: int | None = None
    """Points of the path, with the method ``eap-ig`` alone; None for five."""
    points: Points | None = None
    """Where on each step of that path the gradient is taken; None for its middle. See
    :data:`rlcircuits.common.choices.POINTS`."""
    rules: str | None = None
    """Rules that replace parts of the backward: ``relp``, ``gim``, or names of :data:`rlcircuits.common.choices.RULES`,
    with commas between them; None for the plain gradient."""
    positions: Positions = defaults.POSITIONS
    """``span`` also keeps the scores of the prompt and of each step of the answer apart, in the folder of results; see
    :mod:`rlcircuits.release.span_results`."""
    step_end: str | None = None
    """What the text of a step's last token matches, with ``span`` alone; None for the end of a line."""
    device: str | None = None
    """Torch device; None for the best available."""
    dtype: str | None = None
    """Dtype of the weights, unless the pair has one of its own; None for the checkpoint's own."""
    trust_remote_code: bool = defaults.TRUST_REMOTE_CODE
    """Run Python code that comes with a checkpoint's repository. Without it no such code runs, and no question asks."""
    batch_tokens: int | None = None
    """Token budget of an attribution batch; None for what the available memory allows."""
    recompute: bool = defaults.RECOMPUTE
    """Recompute blocks in the backward pass: the same scores, less memory for long sequences."""

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    @property
    def loading(self) -> tuple[str | None, str | None, bool]:
        """Return how checkpoints are loaded: the device, the dtype, and whether their own code may run."""
        return self.device, self.dtype, self.trust_remote_code

    def key_table(self) -> dict[str, Any]:
        """Return every setting by name, as hashes of what depends on the settings take them.

        How edges are estimated is left out where it is the default, so that earlier results are found.
        """
        table = {**asdict(self), "prompting": self.prompting.model_dump(), "sampling": self.sampling.table()}
        if self.metric == defaults.METRIC:
            del table["metric"]
        if self.method == defaults.METHOD:
            del table["method"]
        for name in ("steps", "points", "rules"):
            del table[name]
        if self.positions == defaults.POSITIONS:
            del table["positions"], table["step_end"]
        if not self.noise_if_needed:
            del table["noise_if_needed"]
        if self.method == EAP_IG:
            table["steps"] = self.steps or defaults.STEPS
            if self.points not in (None, defaults.POINTS):
                table["points"] = self.points
        if names := BackwardRules.named(self.rules or ()).names:
            table |= {"rules": list(names), "rules_version": RULES_VERSION}
        return table

    def __post_init__(self) -> None:
        validate_fields(self)
        check_granularity(self.granularity)
        check_engine(self.engine)
        pairing.check_options(self.alpha, self.k, self.balance, self.min_questions, self.score_on)
        torch_dtype(self.dtype)
        _check_device(self.device)
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                check_number(setting.name, value)
        check_path(self.method, self.steps, self.points)
        BackwardRules.named(() if self.rules is None else self.rules)
        check_step_end(self.positions, self.step_end)
        choices = {"noise_answers": NOISE_ANSWERS, "metric": METRICS, "positions": POSITIONS}
        for name, allowed in choices.items():
            if (found := getattr(self, name)) not in allowed:
                raise RLCircuitsError(f"{name} is {found!r}; it must be one of {', '.join(allowed)}")
        if not self.split.strip():
            raise RLCircuitsError("split is empty; the name of one of the question set's splits is wanted")


_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def make_settings(table: Mapping[str, Any], where: str = "the settings") -> Settings:
    """Return the settings that a table such as ``[settings]`` of a pairs file describes.

    Args:
        table: values by key; keys that are left out have their defaults.
        where: what the table is, for the start of an error message.

    Raises:
        RLCircuitsError: a key is unknown, or a value is not allowed; the message names the key.
    """
    _check_keys(table, where)
    sampling = table.get("sampling")
    if isinstance(sampling, Mapping) and "n" not in sampling and sampling.get("temperature") != 0:
        table = {**table, "sampling": {**sampling, "n": defaults.COMPARED_ANSWERS}}
    try:
        # As JSON, because pydantic's strict mode takes a JSON object for a dataclass, but no dict.
        return _SETTINGS.validate_json(json.dumps(table, default=_as_list), strict=True)
    except ValidationError as error:
        raise RLCircuitsError(f"{where}{describe_error(error)}") from None


def check_noise_for_signs(settings: Settings, where: str, instead: str | None = None) -> None:
    """Raise RLCircuitsError if noise that signs are compared with may be left out.

    Args:
        settings: how pairs are measured whose signs are measured too.
        where: what they are named as in the message.
        instead: what else than to measure all noise is possible.
    """
    if settings.noise_if_needed:
        other = "" if instead is None else f", or {instead}"
        raise RLCircuitsError(
            f"{where}: noise_if_needed is true, and signs are compared with all noise draws; set it to false{other}"
        )


def check_step_end(positions: str, step_end: str | None) -> None:
    """Raise RLCircuitsError for a pattern of steps without spans, or one that is none."""
    if step_end is None:
        return
    if positions == defaults.POSITIONS:
        raise RLCircuitsError(
            f"step_end is {truncated_repr(step_end)}, which says where a step ends, and positions is {positions!r}; "
            "leave step_end out, or set positions to 'span'"
        )
    step_pattern(step_end)


def merge_tables(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Return one table with the keys of both, nested tables included; `last` wins where both have a key."""
    both = dict(first)
    for key, value in last.items():
        other = both.get(key)
        both[key] = merge_tables(other, value) if isinstance(other, Mapping) and isinstance(value, Mapping) else value
    return both


def _check_keys(table: Mapping[str, Any], where: str) -> None:
    tables: dict[Section, tuple[str, object]] = {
        "settings": ("", table),
        "settings.sampling": ("sampling.", table.get("sampling")),
        "settings.prompting": ("prompting.", table.get("prompting")),
    }
    for section, (prefix, found) in tables.items():
        known = known_keys(section)
        for key in found if isinstance(found, Mapping) else ():
            if key not in known:
                raise RLCircuitsError(f"{where}, key {f'{prefix}{key}'!r}: unknown; known keys are {', '.join(known)}")


def _check_device(name: str | None) -> None:
    """Raise RLCircuitsError unless torch knows such a device; only a run finds out whether this machine has it."""
    if name is None:
        return
    try:
        torch.device(name)
    except (RuntimeError, TypeError):
        raise RLCircuitsError(
            f"device is {truncated_repr(name)}; a device of torch is wanted, such as cpu or cuda:0"
        ) from None


def _as_list(value: object) -> object:
    """Return a value that JSON has no type for, such as a date, as a list, which no setting is."""
    return [str(value)]
