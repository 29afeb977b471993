"""Before and after on the same questions: what was measured of a pair, with its noise controls.

Each metric gives one number a question and model, the mean over the question's answers where it has several;
:mod:`rlcircuits.comparison.effects` makes effects of them. What the numbers should be is none of this module's
business: see :mod:`rlcircuits.comparison.verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.comparison.effects import (
    AccuracyEffect,
    ControlEffect,
    Effect,
    Number,
    compare_accuracy,
    paired_effect,
    paired_effects,
    shifts,
    signed_rank,
)
from rlcircuits.comparison.pairing import ControlPairing, Pairing
from rlcircuits.comparison.profiles import GATE_METRICS, profile_for
from rlcircuits.graph import metrics
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.graph.edge_graph import EdgeGraph
    from rlcircuits.graph.edge_scores import EdgeScores

__all__ = [
    "CONTROL_METRICS",
    "LABELS",
    "AccuracyEffect",
    "Comparison",
    "Control",
    "ControlDraw",
    "ControlEffect",
    "Effect",
    "Group",
    "Number",
    "Unfinished",
    "check_same_graph",
    "compare",
    "compare_accuracy",
    "paired_effect",
    "signed_rank",
]

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
"""Every metric compared, by its name in a :class:`Comparison`, with the words for it."""

CONTROL_METRICS = (*GATE_METRICS, "loss", "intensity_over_loss")
"""The metrics that are measured on the noise controls too."""


@dataclass(frozen=True, eq=False)
class Control:
    """What one noise draw answered and scored: what :func:`compare` makes a :class:`ControlDraw` of."""

    draw: int
    answers: Answers
    paired: ControlPairing
    scores: EdgeScores | None
    """Row i is beside the pairing's row ``paired.rows[i]``. None where there were too few to be scored."""

    def __repr__(self) -> str:
        return short_repr(self, f"draw {self.draw}", repr(self.paired))


@dataclass(frozen=True)
class ControlDraw:
    """What one draw of noise of the update's size did: the base with noise against the base."""

    draw: int
    accuracy: float
    """On all the questions asked, as the pair's."""
    k: int
    """The compared questions that it answered right, with a length near before's."""
    shifts: dict[str, ControlEffect]
    """By metric, :data:`CONTROL_METRICS`. Empty where k is too small to say anything."""

    def __repr__(self) -> str:
        moved = [f"{metric} {shift.change:+.1%}" for metric, shift in self.shifts.items() if metric in GATE_METRICS]
        return short_repr(self, f"draw {self.draw}", f"accuracy {self.accuracy:.3f}", f"k = {self.k}", *moved)


@dataclass(frozen=True)
class Group:
    """Mean intensity over a group of edges, before and after (mean over the questions, in nats)."""

    before: float
    after: float


@dataclass(frozen=True)
class Unfinished:
    """Shares of all answers that have no end token: cut off, or recorded without one."""

    before: float
    after: float

    @classmethod
    def of(cls, before: Answers, after: Answers) -> Unfinished:
        """The shares of these answers."""
        return cls(before.unfinished, after.unfinished)

    @property
    def words(self) -> str:
        """``1.5 % before, 0.0 % after``."""
        return f"{100 * self.before:.1f} % before, {100 * self.after:.1f} % after"


@dataclass(frozen=True)
class Comparison:
    """Everything measured on one pair of checkpoints. To JSON and back: :mod:`rlcircuits.comparison.storage`."""

    name: str
    before: str
    """The checkpoint's folder or hub id."""
    after: str
    algorithm: str
    profile: str
    """Name of the expectations it is held against; see :data:`rlcircuits.comparison.profiles.PROFILES`."""
    questions: str
    """The question set's name."""
    split: str
    granularity: str
    engine: str
    """What generated the answers of before and after, ``recorded`` where they were read from a file; both where they
    differ: ``recorded (before), transformers (after)``."""
    sampling: dict[str, int | float]
    """How both models' answers were drawn: the fields of :class:`~rlcircuits.answers.types.Sampling`."""
    prompting: dict[str, Any] | None
    """How questions became prompts: the fields of :class:`~rlcircuits.answers.prompting.PromptingUsed`, where known."""
    score_on: str
    """Whose answers were scored; see :data:`rlcircuits.common.choices.SCORE_ON`."""
    alpha: float
    balance: float
    question_ids: tuple[str, ...]
    t_cut: int
    ref: float
    funnel: dict[str, int]
    dropped: dict[str, tuple[str, ...]]
    """The questions that each stage of the funnel dropped."""
    note: str | None
    accuracy: AccuracyEffect
    effects: dict[str, Effect]
    """By metric, in the order of :data:`LABELS`."""
    controls: tuple[ControlDraw, ...]
    """The noise draws; none where no control was asked for."""
    by_reader_kind: dict[str, Group]
    by_layer_band: dict[str, Group]
    trust_remote_code: bool = False
    """Python code of the checkpoints' own repositories was allowed to run."""
    unfinished: Unfinished | None = None
    """None in a file of a version that did not note it."""

    def __repr__(self) -> str:
        accuracy = f"accuracy {self.accuracy.before:.3f} → {self.accuracy.after:.3f}"
        moved = [f"{metric} {self.effects[metric].change:+.1%}" for metric in GATE_METRICS if metric in self.effects]
        name = elided_repr(self.name)
        return short_repr(self, name, self.algorithm, self.questions, f"K = {self.k}", accuracy, *moved)

    @property
    def k(self) -> int:
        """Questions compared."""
        return len(self.question_ids)

    @property
    def n(self) -> int:
        """Answers to every question."""
        return int(self.sampling.get("n", 1))


@validate_arguments
def compare(
    before: EdgeScores,
    after: EdgeScores,
    pairing: Pairing,
    before_answers: Answers,
    after_answers: Answers,
    *,
    name: str,
    algorithm: str,
    profile: str | None = None,
    engine: str = defaults.ENGINE,
    controls: Sequence[Control] = (),
    trust_remote_code: bool = False,
) -> Comparison:
    """Compare two checkpoints' scores (row i: row i of `pairing`) and answers.

    `profile` says what the pair is held against; by default it is the algorithm's. `engine` generated the answers.
    `trust_remote_code` is noted in the result: whether the repositories' own code was allowed to run.

    Raises RLCircuitsError where the two graphs differ, the scores are not of the pairing's rows, the
    answers share no question, or the algorithm has no profile and none is named.
    """
    check_same_graph(before, after)
    wanted = len(pairing.places)
    unit = "questions" if wanted == len(pairing.question_ids) else "pairs of answers"
    for side, scores in (("before", before), ("after", after)):
        if len(scores.values) != wanted:
            raise RLCircuitsError(
                f"the {side} scores are of {len(scores.values)} sequences; the pairing has {wanted} {unit}"
            )
    first, second = _all_metrics(before, after)
    drawn = tuple(_control_effect(control, first, pairing) for control in controls)
    return Comparison(
        name=name,
        before=before_answers.model,
        after=after_answers.model,
        algorithm=algorithm,
        profile=profile or profile_for(algorithm).name,
        questions=before_answers.question_set,
        split=before_answers.split,
        granularity=before.graph.granularity,
        engine=engine,
        sampling=before_answers.sampling.table(),
        prompting=None if before_answers.prompting is None else before_answers.prompting.model_dump(),
        score_on=pairing.score_on,
        alpha=pairing.alpha,
        balance=pairing.balance,
        question_ids=pairing.question_ids,
        t_cut=pairing.t_cut,
        ref=pairing.ref,
        funnel=dict(pairing.funnel),
        dropped=dict(pairing.dropped_ids),
        note=_notes(pairing, drawn),
        accuracy=compare_accuracy(before_answers, after_answers),
        effects=paired_effects(_by_question(first, pairing), _by_question(second, pairing)),
        controls=drawn,
        by_reader_kind=_groups(metrics.intensity_by_reader_kind, before, after, pairing),
        by_layer_band=_groups(metrics.intensity_by_layer_band, before, after, pairing),
        trust_remote_code=trust_remote_code,
        unfinished=Unfinished.of(before_answers, after_answers),
    )


def check_same_graph(before: EdgeScores, after: EdgeScores) -> None:
    """Raise RLCircuitsError unless both scores are over the same writers, readers and edges."""
    ours, theirs = before.graph, after.graph
    if not ours.same_as(theirs):
        raise RLCircuitsError(
            f"before and after have different graphs ({_size(ours)} and {_size(theirs)}); a pair needs two "
            f"checkpoints of one architecture and size, scored at one granularity"
        )


def _control_effect(control: Control, before: Mapping[str, Float64Array], pairing: Pairing) -> ControlDraw:
    """Both sides over the rows that the control has; `before` is of all rows of the pairing."""
    found = {}
    if control.scores is not None:
        rows = control.paired.rows
        noised = _control_metrics(control.scores)
        beside = {metric: before[metric][list(rows)] for metric in noised}
        found = shifts(_by_question(beside, pairing, rows), _by_question(noised, pairing, rows))
    return ControlDraw(control.draw, control.answers.accuracy, control.paired.k, found)


def _by_question(
    values: Mapping[str, Float64Array], pairing: Pairing, rows: Sequence[int] | None = None
) -> dict[str, Float64Array]:
    return {name: pairing.by_question(each, rows) for name, each in values.items()}


def _notes(pairing: Pairing, controls: Sequence[ControlDraw]) -> str | None:
    notes = [pairing.note] if pairing.note else []
    notes += [
        f"noise draw {control.draw} answered only {control.k} of the compared questions right, "
        f"too few to be scored, so that no effect can exceed it"
        for control in controls
        if not control.shifts
    ]
    return "; ".join(notes) or None


def _control_metrics(scores: EdgeScores) -> dict[str, Float64Array]:
    """The metrics of :data:`CONTROL_METRICS`, [rows] each."""
    return {
        "intensity": metrics.activation_intensity(scores),
        "complexity": metrics.information_complexity(scores),
        "kurtosis": metrics.distribution_kurtosis(scores),
        "loss": np.asarray(scores.loss, dtype=np.float64),
        "intensity_over_loss": metrics.intensity_over_loss(scores),
    }


def _all_metrics(before: EdgeScores, after: EdgeScores) -> tuple[dict[str, Float64Array], dict[str, Float64Array]]:
    """Every metric of :data:`LABELS` for both, [rows] each."""
    shared = (0.0, np.maximum(metrics.largest(before), metrics.largest(after)))

    def measure(scores: EdgeScores) -> dict[str, Float64Array]:
        return {
            **_control_metrics(scores),
            "complexity_shared": metrics.information_complexity(scores, "histogram-shared", value_range=shared),
            "complexity_mass": metrics.information_complexity(scores, "mass"),
            "effective_edges": metrics.effective_edges(scores),
            "top_share": metrics.top_share(scores),
        }

    return measure(before), measure(after)


def _size(graph: EdgeGraph) -> str:
    return f"{len(graph.writers)} writers, {len(graph.readers)} readers, {graph.n_edges} edges"


def _groups(
    intensity: Callable[[EdgeScores], dict[str, Float64Array]], before: EdgeScores, after: EdgeScores, pairing: Pairing
) -> dict[str, Group]:
    ours, theirs = (_by_question(intensity(scores), pairing) for scores in (before, after))
    return {name: Group(float(ours[name].mean()), float(theirs[name].mean())) for name in ours}
