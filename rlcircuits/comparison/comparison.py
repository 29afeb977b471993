"""What a comparison holds: everything measured on one pair of checkpoints and on its noise controls.

:mod:`rlcircuits.comparison.from_scores` makes comparisons, :mod:`rlcircuits.comparison.storage` saves and loads them,
and :mod:`rlcircuits.comparison.verdict` judges them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.html_tables import format_interval, format_percent, format_value, titled_table
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect, ControlEffect, Effect, Number
from rlcircuits.comparison.profiles import GATE_METRICS, Profile, profile_named

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers

LABELS = {
    "intensity": "activation intensity",
    "complexity": "information complexity (histogram)",
    "kurtosis": "distribution kurtosis",
    "loss": "loss",
    "intensity_over_loss": "intensity / loss",
    "complexity_shared": "information complexity (shared range)",
    "complexity_mass": "information complexity (mass)",
    "effective_edges": "effective edges",
    "top_share": "share of the top 1 % of edges",
}
"""Every metric compared, by its name in a :class:`Comparison`, with its label in tables."""

CONTROL_METRICS = (*GATE_METRICS, "loss", "intensity_over_loss")
"""The metrics that are measured on the noise controls too."""


@dataclass(frozen=True)
class ControlDraw:
    """One draw of the noise control: the base with after's readout and noise on all else, against the base."""

    draw: int
    accuracy: float | None
    """Over all questions asked, like the pair's own; None if the draw gave no answers and was scored on before's."""
    k: int
    """The compared questions that the draw answered right, at a length near that of before's answer."""
    shifts: dict[str, ControlEffect]
    """Effect of the noise by metric of :data:`CONTROL_METRICS`. Empty where k is too small for a test."""

    def __repr__(self) -> str:
        moved = [f"{metric} {effect.change:+.1%}" for metric, effect in self.shifts.items() if metric in GATE_METRICS]
        accuracy = [] if self.accuracy is None else [f"accuracy {self.accuracy:.3f}"]
        return short_repr(self, f"draw {self.draw}", *accuracy, f"k = {self.k}", *moved)


@dataclass(frozen=True)
class GroupControl:
    """The noise control on one group of tensors alone, scored on before's own answers."""

    group: str
    """See :data:`rlcircuits.models.tensor_groups.GROUPS`."""
    shifts: dict[str, ControlEffect]
    """Effect of the noise by metric of :data:`CONTROL_METRICS`."""

    def __repr__(self) -> str:
        moved = [f"{metric} {effect.change:+.1%}" for metric, effect in self.shifts.items() if metric in GATE_METRICS]
        return short_repr(self, self.group, *moved)


@dataclass(frozen=True)
class BeyondSupervised:
    """One metric's effect beyond that of the supervised control, over the questions that both comparisons have."""

    difference: Number
    """Mean of (after − before) − (control − before), in the metric's unit; NaN without a question."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the difference."""
    questions: int
    """Questions where the metric is defined in all four."""


@dataclass(frozen=True)
class SupervisedControl:
    """A checkpoint that was trained from before without reinforcement learning, and the effects beyond its own.

    :mod:`rlcircuits.comparison.supervised_control` makes it.
    """

    checkpoint: str
    """The checkpoint's folder or hub id."""
    accuracy: float
    """Over all questions asked, like the pair's own."""
    beyond: dict[str, BeyondSupervised]
    """By metric of :data:`~rlcircuits.comparison.profiles.GATE_METRICS`."""

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.checkpoint), f"accuracy {self.accuracy:.3f}")


@dataclass(frozen=True)
class Group:
    """Mean intensity over a group of edges, before and after: the mean over the questions, in nats."""

    before: float
    after: float


@dataclass(frozen=True)
class Unfinished:
    """Shares of all answers that have no end token, because they were cut off or recorded without it."""

    before: float
    after: float

    @classmethod
    def of(cls, before: Answers, after: Answers) -> Unfinished:
        """Return the shares of these answers."""
        return cls(before.unfinished, after.unfinished)

    @property
    def words(self) -> str:
        """Return the shares in words: ``1.5 % before, 0.0 % after``."""
        return f"{100 * self.before:.1f} % before, {100 * self.after:.1f} % after"


@dataclass(frozen=True)
class Requested:
    """What the run was asked to measure, so that what was removed from a file is noticed."""

    k: int | None
    """Questions to compare; None for all that pass the protocol."""
    noise_draws: int
    """Draws of the noise control. None of them is measured if too few questions are left to compare."""


@dataclass(frozen=True)
class NoiseNotNeeded:
    """The noise that was asked for and not measured, because it could not change the verdict.

    :mod:`rlcircuits.comparison.noise_needed` says when that is so.
    """

    draws: int
    """Number of draws of the noise control that were not made."""
    groups: bool
    """Whether the noise on single groups of tensors was not measured."""

    @property
    def words(self) -> str:
        """Return what was left out, and why, in words."""
        draws = [format_count(self.draws, "noise draw")] if self.draws else []
        what = " and ".join([*draws, *(["noise on single groups of tensors"] if self.groups else [])])
        return f"not measured, because the verdict cannot depend on it: {what}"


@dataclass(frozen=True)
class Comparison:
    """Everything measured on one pair of checkpoints."""

    name: str
    before: str
    """The checkpoint's folder or hub id."""
    after: str
    algorithm: str
    profile: str
    """Name of the profile that the comparison is judged by; see :data:`rlcircuits.comparison.profiles.PROFILES`."""
    questions: str
    """The question set's name."""
    split: str
    granularity: str
    engine: str
    """The engine that generated the answers, or ``recorded`` if they were read from a file. If the two models differ,
    both are named: ``recorded (before), transformers (after)``. It answered for noise draws and the reference
    too; but for ``openai``, whose servers have neither, ``transformers`` did, and for ``recorded`` the engine of the
    settings."""
    sampling: dict[str, int | float]
    """How both models' answers were drawn: the fields of :class:`~rlcircuits.answers.types.Sampling`."""
    prompting: dict[str, Any] | None
    """How questions became prompts: the fields of :class:`~rlcircuits.answers.prompting.PromptingUsed`, if known."""
    score_on: str
    """Whose answers were scored; see :data:`rlcircuits.common.choices.SCORE_ON`."""
    alpha: float
    """Share of the reference answer length that was scored."""
    balance: float
    """Largest difference allowed between a question's two answer lengths, as a share of their mean."""
    question_ids: tuple[str, ...]
    """The questions compared; none if too few were left, and the metrics were not measured."""
    t_cut: int
    """Most answer tokens scored."""
    ref: float
    """Reference answer length, in tokens."""
    funnel: dict[str, int]
    """Questions left after each stage of the pairing."""
    dropped: dict[str, tuple[str, ...]]
    """Questions dropped by each stage of the pairing."""
    note: str | None
    """What a reader must know beside the numbers, such as fewer questions than were asked for."""
    accuracy: AccuracyEffect
    effects: dict[str, Effect]
    """By metric, in the order of :data:`LABELS`."""
    controls: tuple[ControlDraw, ...]
    """The draws of the noise control; empty if none was asked for."""
    by_reader_kind: dict[str, Group]
    """Intensity of the edges into each kind of reader."""
    by_layer_band: dict[str, Group]
    """Intensity of the edges into each third of the depth."""
    trust_remote_code: bool = False
    """Whether Python code from the checkpoints' own repositories was allowed to run."""
    unfinished: Unfinished | None = None
    """None in a file of a version that did not record it."""
    rules: Profile | None = None
    """The profile itself, where it is not the built-in one of that name: a user's, or one with another rule for
    accuracy."""
    claims: tuple[AccuracyClaim, ...] = ()
    """What the release states of after's accuracy, beside what was found."""
    group_controls: tuple[GroupControl, ...] = ()
    """Noise on one group of tensors at a time; empty if it was not measured."""
    weights: WeightChanges | None = None
    """What differs between the two checkpoints' weights; None if it was not compared."""
    greedy: AccuracyEffect | None = None
    """Accuracy of both at temperature 0, on the same questions; None if it was not measured."""
    differences: tuple[str, ...] = ()
    """What else differs between the two and makes them harder to compare: chat template, special tokens, …"""
    supervised: SupervisedControl | None = None
    """The supervised control; None if the pair states none."""
    requested: Requested | None = None
    """How many questions and noise draws were asked for; None in a file of a version that did not record it."""
    circuits: CircuitChecks | None = None
    """The pair's circuits; None if they were not asked for."""
    scoring: dict[str, Any] | None = None
    """How edges were scored, as far as it differs from the default: fields of :class:`~rlcircuits.HowScored`."""
    noise_not_needed: NoiseNotNeeded | None = None
    """The noise that was not measured because it could not change the verdict; None if all was measured."""

    def __repr__(self) -> str:
        accuracy = f"accuracy {self.accuracy.before:.3f} → {self.accuracy.after:.3f}"
        moved = [f"{metric} {self.effects[metric].change:+.1%}" for metric in GATE_METRICS if metric in self.effects]
        return short_repr(
            self, elided_repr(self.name), self.algorithm, self.questions, f"K = {self.k}", accuracy, *moved
        )

    def _repr_html_(self) -> str:
        """Return the numbers as a table for a notebook; the verdict has its own (:func:`rlcircuits.judge`)."""
        accuracy = self.accuracy
        rows = [("accuracy", *_cells(accuracy.before, accuracy.after, accuracy.interval), "", f"{accuracy.asked}")]
        for metric, effect in self.effects.items():
            cells = _cells(effect.before, effect.after, effect.interval)
            rose = format_percent(effect.win_share).removeprefix("+")
            rows.append((LABELS.get(metric, metric), *cells, rose, f"{effect.questions}"))
        headers = ("measure", "before", "after", "change", "interval of the difference", "rose on", "questions")
        title = f"{self.name}: {self.before} → {self.after} ({self.algorithm}), {self.questions}"
        return titled_table(title, headers, rows)

    @property
    def judged_by(self) -> Profile:
        """Return the profile that the comparison is judged by.

        Raises:
            RLCircuitsError: there is no built-in profile of that name, and none is stored.
        """
        return profile_named(self.profile) if self.rules is None else self.rules

    def beyond_supervised(self, metric: str) -> BeyondSupervised | None:
        """Return a metric's effect beyond that of the supervised control; None if there is no such control."""
        return None if self.supervised is None else self.supervised.beyond[metric]

    @property
    def k(self) -> int:
        """Return the number of questions compared."""
        return len(self.question_ids)

    @property
    def is_measured(self) -> bool:
        """Return whether any question was compared; if not, only accuracy is known."""
        return bool(self.question_ids)

    @property
    def n(self) -> int:
        """Return the number of answers to every question."""
        return int(self.sampling.get("n", 1))


def _cells(before: float, after: float, interval: tuple[float, float] | None) -> tuple[str, str, str, str]:
    change = (after - before) / abs(before) if before else math.nan
    return format_value(before), format_value(after), format_percent(change), format_interval(interval)
