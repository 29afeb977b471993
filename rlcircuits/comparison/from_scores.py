"""Make a comparison from both checkpoints' edge scores and answers.

1. Each metric is computed on every row of the pairing, for before, for after and for each noise control.
2. A question's value is the mean over its rows, so that every question counts once.
3. :mod:`rlcircuits.comparison.effects` tests and sizes the differences over the questions.

Which differences are expected is for :mod:`rlcircuits.comparison.verdict` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.comparison import Comparison, ControlDraw, Group, GroupControl
from rlcircuits.comparison.control_pairing import ControlPairing
from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect, Effect, control_effects, paired_effects
from rlcircuits.comparison.from_answers import compare_answers
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.comparison.profiles import Profile
from rlcircuits.graph import metrics
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.models.tensor_groups import Group as TensorGroup

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.graph.edge_graph import EdgeGraph
    from rlcircuits.graph.edge_scores import EdgeScores


@dataclass(frozen=True, eq=False)
class Control:
    """Answers and scores of one draw of the noise control."""

    draw: int
    answers: Answers | None
    """None if the draw was scored on before's answers."""
    paired: ControlPairing
    scores: EdgeScores | None
    """Row i is compared with the pairing's row ``paired.rows[i]``. None if too few answers were right to be scored."""

    def __repr__(self) -> str:
        return short_repr(self, f"draw {self.draw}", repr(self.paired))


@dataclass(frozen=True, eq=False)
class NoisedGroup:
    """Scores of before with noise on one group of tensors, on before's answers: row i is the pairing's row i."""

    group: TensorGroup
    scores: EdgeScores

    def __repr__(self) -> str:
        return short_repr(self, self.group, repr(self.scores))


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
    rules: Profile | None = None,
    claims: Sequence[AccuracyClaim] = (),
    groups: Sequence[NoisedGroup] = (),
    weights: WeightChanges | None = None,
    differences: Sequence[str] = (),
    greedy: AccuracyEffect | None = None,
) -> Comparison:
    """Compare two checkpoints by their edge scores and answers.

    Args:
        before: scores of the checkpoint that training started from; row i is the pairing's row i.
        after: scores of the checkpoint that training ended with, of the same rows.
        pairing: which answers are compared with which.
        before_answers: all answers of before.
        after_answers: all answers of after.
        name: the pair's name.
        algorithm: how after was trained.
        profile: the profile that the pair is judged by; by default the algorithm's.
        engine: what generated the answers.
        controls: draws of the noise control.
        trust_remote_code: whether the checkpoints' own code was allowed to run; the comparison records it.
        rules: the profile itself, if it is not a built-in one; `profile` is then its name.
        claims: what the release states of after's accuracy.
        groups: before with noise on one group of tensors at a time.
        weights: what differs between the two checkpoints' weights.
        differences: what else differs between the two, a sentence each.
        greedy: accuracy at temperature 0, if it was measured.

    Raises:
        RLCircuitsError: the two graphs differ, the scores are not of the pairing's rows, the answers share no question,
            or the algorithm has no profile and none is named.
    """
    check_same_graph(before, after)
    check_scored_alike(before, after)
    wanted = len(pairing.places)
    unit = "questions" if wanted == len(pairing.question_ids) else "pairs of answers"
    for side, scores in (("before", before), ("after", after)):
        if len(scores.values) != wanted:
            raise RLCircuitsError(
                f"the {side} scores are of {len(scores.values)} sequences; the pairing has {wanted} {unit}"
            )
    metrics_before, metrics_after = _all_metrics(before, after)
    noise = NoiseEffects(before, pairing, metrics_before)
    draws = tuple(noise.of_draw(control) for control in controls)
    answered = compare_answers(
        pairing,
        before_answers,
        after_answers,
        name=name,
        algorithm=algorithm,
        granularity=before.graph.granularity,
        profile=profile,
        engine=engine,
        trust_remote_code=trust_remote_code,
        rules=rules,
        claims=claims,
        weights=weights,
        differences=differences,
        greedy=greedy,
        noise_draws=len(controls),
    )
    return replace(
        answered,
        note=notes(pairing, draws),
        scoring=before.how.changed or None,
        effects=paired_effects(_by_question(metrics_before, pairing), _by_question(metrics_after, pairing)),
        controls=draws,
        group_controls=tuple(noise.of_group(noised) for noised in groups),
        by_reader_kind=_groups(metrics.intensity_by_reader_kind, before, after, pairing),
        by_layer_band=_groups(metrics.intensity_by_layer_band, before, after, pairing),
    )


def effects_on_rows(
    before: EdgeScores, other: EdgeScores, pairing: Pairing, paired: ControlPairing
) -> dict[str, Effect]:
    """Return the effects of another model against before, on those of the pairing's rows that it is compared on.

    Args:
        before: scores of before; row i is the pairing's row i.
        other: scores of the other model; row i is compared with the pairing's row ``paired.rows[i]``.
        pairing: the rows.
        paired: which of them the other model is compared on.

    Returns:
        By metric of :data:`~rlcircuits.comparison.comparison.CONTROL_METRICS`.

    Raises:
        RLCircuitsError: the two graphs differ, or how they were scored.
    """
    check_same_graph(before, other)
    check_scored_alike(before, other)
    rows = paired.rows
    ours = {metric: values[list(rows)] for metric, values in _control_metrics(before).items()}
    theirs = _control_metrics(other)
    return paired_effects(_by_question(ours, pairing, rows), _by_question(theirs, pairing, rows))


def check_same_graph(before: EdgeScores, after: EdgeScores) -> None:
    """Raise RLCircuitsError unless both scores are over the same writers, readers and edges."""
    ours, theirs = before.graph, after.graph
    if not ours.same_as(theirs):
        raise RLCircuitsError(
            f"before and after have different graphs ({_size(ours)} and {_size(theirs)}); a pair needs two "
            f"checkpoints of one architecture and size, scored at one granularity"
        )


def check_scored_alike(before: EdgeScores, after: EdgeScores) -> None:
    """Raise RLCircuitsError unless the scores of both are of one metric and method."""
    if before.how != after.how:
        raise RLCircuitsError(
            f"before and after were scored in different ways ({before.how} and {after.how}); a pair needs scores of "
            "one metric and method"
        )


class NoiseEffects:
    """The effects of noise controls against before, whose metrics are computed once for all of them."""

    def __init__(
        self, before: EdgeScores, pairing: Pairing, metrics_before: Mapping[str, Float64Array] | None = None
    ) -> None:
        """Take before's scores; row i is the pairing's row i.

        Args:
            before: the scores.
            pairing: the rows.
            metrics_before: before's metrics of all rows, if they are known.
        """
        self._metrics = _control_metrics(before) if metrics_before is None else metrics_before
        self._pairing = pairing

    def of_draw(self, control: Control) -> ControlDraw:
        """Compare a noise draw with before on the rows that the draw has."""
        effects = {}
        if control.scores is not None:
            rows = control.paired.rows
            noised = _control_metrics(control.scores)
            same_rows = {metric: self._metrics[metric][list(rows)] for metric in noised}
            effects = control_effects(
                _by_question(same_rows, self._pairing, rows), _by_question(noised, self._pairing, rows)
            )
        accuracy = None if control.answers is None else control.answers.accuracy
        return ControlDraw(control.draw, accuracy, control.paired.k, effects)

    def of_group(self, noised: NoisedGroup) -> GroupControl:
        """Compare noise on one group of tensors with before, on all rows."""
        found = _control_metrics(noised.scores)
        same = {metric: self._metrics[metric] for metric in found}
        return GroupControl(
            noised.group, control_effects(_by_question(same, self._pairing), _by_question(found, self._pairing))
        )


def _by_question(
    values: Mapping[str, Float64Array], pairing: Pairing, rows: Sequence[int] | None = None
) -> dict[str, Float64Array]:
    return {name: pairing.by_question(each, rows) for name, each in values.items()}


def notes(pairing: Pairing, draws: Sequence[ControlDraw]) -> str | None:
    """Return what a reader must know beside the numbers: too few questions, and noise draws that were not scored."""
    found = [pairing.note] if pairing.note else []
    found += [
        f"noise draw {draw.draw} answered only {draw.k} of the compared questions right, "
        f"too few to be scored, so that no effect can exceed it"
        for draw in draws
        if not draw.shifts
    ]
    return "; ".join(found) or None


def _control_metrics(scores: EdgeScores) -> dict[str, Float64Array]:
    """Return the metrics of :data:`~rlcircuits.comparison.comparison.CONTROL_METRICS`, each float64 [rows]."""
    return {
        "intensity": metrics.activation_intensity(scores),
        "complexity": metrics.information_complexity(scores),
        "kurtosis": metrics.distribution_kurtosis(scores),
        "loss": np.asarray(scores.loss, dtype=np.float64),
        "intensity_over_loss": metrics.intensity_over_loss(scores),
    }


def _all_metrics(before: EdgeScores, after: EdgeScores) -> tuple[dict[str, Float64Array], dict[str, Float64Array]]:
    """Return every metric of :data:`~rlcircuits.comparison.comparison.LABELS` for both, each float64 [rows]."""
    shared_range = (0.0, np.maximum(metrics.largest(before), metrics.largest(after)))

    def measure(scores: EdgeScores) -> dict[str, Float64Array]:
        return {
            **_control_metrics(scores),
            "complexity_shared": metrics.information_complexity(scores, "histogram-shared", value_range=shared_range),
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
