"""Find, ablate and compare the circuits of a pair that was measured.

From a pair's folder of results come the scores, the sequences that they are of, and from the run's store the noise
draws. The circuits are found on every other question, and judged on the others.

The scores of a run are estimates for zero ablation. With ``resample``, circuits are therefore found by scores of the
same replacement (activation patching), which are made here, with the run's metric, method and rules; each checkpoint
is then loaded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.attribution.divergence import kl_to
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.ablated_forward import ablated
from rlcircuits.circuits.baselines import RandomCircuits, random_circuits
from rlcircuits.circuits.circuit import Circuit
from rlcircuits.circuits.circuit_comparison import CircuitComparison, compare_circuits
from rlcircuits.circuits.corruptions import other_sequences
from rlcircuits.circuits.cross_model import CrossFaithfulness, cross_faithfulness
from rlcircuits.circuits.edge_mask import check_can_ablate
from rlcircuits.circuits.estimates import EstimateQuality, estimate_quality
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES
from rlcircuits.circuits.select import find_circuit
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import ABLATIONS, CROSS_ENTROPY, KL, LOGPROB
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE, Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.circuit_scores import patching_scores, rows_of_half
from rlcircuits.release.pair_folders import pair_name
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.split_questions import FIND, JUDGE, scores_to_find_on
from rlcircuits.release.stored_pair import StoredPair

JUDGED = 200
"""Most sequences that circuits are judged on by default, one a question."""

SIZES = (0.02, 0.05, *(tenths / 10 for tenths in range(1, 11)))
"""The shares of the edges at which circuits are shown; MIB's, which its areas need, are too few for a small graph."""

FAITHFUL = 0.85
"""The faithfulness from which on a circuit counts as doing what the model does."""


_LOSS_ABSOLUTE, _LOSS_RELATIVE = 0.005, 0.02
"""How far losses may be from the stored ones, on average over the sequences, in nats and as a share of their mean."""


@dataclass(frozen=True, eq=False)
class SideCircuits:
    """What the edges of one checkpoint do."""

    signed: CrossFaithfulness
    """The faithfulness of its own circuits and of the other checkpoint's, ranked by signed score: CPR."""
    absolute: CrossFaithfulness
    """The same, ranked by |score|: CMD."""
    by_size: CrossFaithfulness
    """The same, ranked by |score|, at ``SIZES``."""
    random: RandomCircuits | None
    """Random circuits of MIB's sizes; None without draws."""
    estimates: EstimateQuality
    """How well the scores estimate the exact effects."""
    circuit: Circuit
    """The smallest of its own circuits, by |score|, whose faithfulness is within 1 − ``FAITHFUL`` of 1 on the judged
    sequences, by which it is chosen."""


@dataclass(frozen=True, eq=False)
class PairCircuits:
    """The circuits of a pair."""

    name: str
    """The pair's name; of a supervised control, with the pair's folder before it."""
    comparison: CircuitComparison
    """Overlap, and the edges that changed, over all compared questions."""
    sides: Mapping[Side, SideCircuits]
    """What each checkpoint's edges do."""
    judged: int
    """The number of sequences that the circuits were judged on, none of which they were found on."""
    ablation: str
    noise_draws: int
    """The noise draws whose scores the run's store has."""


@validate_arguments
def measure_pair_circuits(
    folder: str | Path,
    ablation: str = "mean",
    *,
    judged: int = JUDGED,
    random_draws: int = 20,
    resamples: int | None = None,
    seed: int = 0,
    batch_tokens: int | None = None,
    device: str | None = None,
    device_map: str | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> PairCircuits:
    """Return the circuits of a pair that ``run_pair`` or ``rlcircuits compare --output`` has measured.

    Args:
        folder: the pair's folder of results. The run's store beside it gives the noise draws, if it is there.
        ablation: what replaces the edges outside a circuit, see ``ablated``; ``resample`` takes another sequence of the
            same lengths.
        judged: most sequences that circuits are judged on.
        random_draws: random circuits of each size, or 0 for none.
        resamples: how often the questions are resampled; by default as ``compare_circuits`` has it.
        seed: seed of the random circuits, the corrupted sequences and the resampling.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        device: torch device to run on; by default the best available.
        device_map: how a model is split over several devices.
        notify: called with one line of text for each stage.
        progress: show a progress bar within each stage.

    Raises:
        RLCircuitsError: a file is missing or damaged, the pair was not scored, gold answers were scored (whose token
            ids no file holds), a checkpoint is not found or has other weights than those that were scored, or what
            ``ablated`` refuses.
    """
    if ablation not in ABLATIONS:
        raise RLCircuitsError(f"ablation is {ablation!r}; it must be one of {', '.join(ABLATIONS)}")
    log = notify or log_stage
    pair = _MeasuredPair(Path(folder), device, device_map)
    log(f"{pair.stored.name}: {len(pair.pairing.question_ids)} questions, {len(pair.noise)} noise draws")
    comparison = compare_circuits(
        pair.scores["before"],
        pair.scores["after"],
        noise=[scores for scores, _ in pair.noise],
        noise_questions=[places for _, places in pair.noise],
        questions=pair.pairing.places,
        resamples=resamples,
        seed=seed,
    )
    how: dict[str, object] = {"ablation": ablation, "batch_tokens": batch_tokens, "progress": progress}
    found_by = {side: _found_by(pair, side, seed, how, log) for side in SIDES}
    sides: dict[Side, SideCircuits] = {}
    counts: list[int] = []
    for side in SIDES:
        log(f"{side}: circuits are run")
        rows = pair.judged_rows(side, judged, paired=ablation == "resample")
        counts.append(len(rows))
        checkpoint = pair.load(side)
        _check_losses(pair, side, checkpoint, rows, batch_tokens)
        if ablation == "resample":
            how["corrupted"] = pair.others(side, judged, seed)
        sides[side] = _measure_side(pair, side, checkpoint, found_by, rows, random_draws, seed, how)
    name = pair_name(Path(folder), pair.stored.name)
    return PairCircuits(name, comparison, sides, min(counts), ablation, len(pair.noise))


class _MeasuredPair(StoredPair):
    """A pair that was scored, on token ids that its files hold.

    Attributes:
        noise: the scores of the noise draws, as far as the store has them, each with the question of each row.
    """

    def __init__(self, folder: Path, device: str | None, device_map: str | None) -> None:
        super().__init__(folder)
        self._placed = {"device": device, "device_map": device_map}
        if not self.stored.is_measured:
            raise RLCircuitsError(f"{folder}: too few questions were left to compare, so that no edge was scored")
        if self.stored.score_on == "gold":
            raise RLCircuitsError(
                f"{folder}: gold answers were scored, whose token ids no file holds; measure the pair with another "
                "score_on"
            )
        places = self.pairing.places
        if any(len(scores) != len(places) for scores in self.scores.values()):
            counts = " and ".join(str(len(scores)) for scores in self.scores.values())
            raise RLCircuitsError(
                f"{folder}: the answers give {len(places)} sequences, and the files hold scores of "
                f"{counts}; copy the files from one run, or measure the pair again"
            )
        self._check_graphs()
        check_can_ablate(self.stored.granularity)
        self.noise = [(each.scores, each.paired.places) for each in self.controls if each.scores is not None]

    def load(self, side: Side) -> Checkpoint:
        """Load a side's checkpoint, with the weights and in the dtype that were scored."""
        return replace(self.source(side), **self._placed).load()  # type: ignore[arg-type]

    def _check_graphs(self) -> None:
        for side, scores in self.scores.items():
            if scores.graph.granularity != self.stored.granularity:
                raise RLCircuitsError(
                    f"{scores_file(self.folder, side)}: the scores are of the {scores.graph.granularity} graph, and "
                    f"{COMPARISON_FILE} is of the {self.stored.granularity} graph; copy the files from one run, or "
                    "measure the pair again"
                )

    def judged_rows(self, side: Side, most: int, *, paired: bool) -> list[int]:
        """Return the first row of every other question.

        Args:
            side: which side's sequences are meant.
            most: most rows.
            paired: whether only sequences are wanted whose lengths another of them has.
        """
        return self._rows(side, JUDGE, paired)[:most]

    def others(self, side: Side, most: int, seed: int) -> list[AnswerSequence]:
        """Return for each of ``judged_rows`` another sequence of its lengths, which may lie beyond the most rows."""
        rows = self._rows(side, JUDGE, paired=True)
        return other_sequences([self.sequences(side)[row] for row in rows], seed=seed)[:most]

    def found_rows(self, side: Side, *, paired: bool) -> list[int]:
        """Return the first row of each of the other questions, as ``judged_rows`` does."""
        return self._rows(side, FIND, paired)

    def _rows(self, side: Side, parity: int, paired: bool) -> list[int]:
        if len(set(self.pairing.places)) == 1:
            raise RLCircuitsError(
                f"{self.folder}: one question was compared; circuits are found on some questions and judged on others, "
                "so that two at least are needed"
            )
        rows = rows_of_half(self.sequences(side), self.pairing.places, parity, paired=paired)
        if paired and not rows:
            raise RLCircuitsError(
                f"{self.folder}: no two sequences of {side} have the same lengths, so that nothing can replace what an "
                "edge carries; use the ablation mean or zero"
            )
        return rows

    def found_on(self, side: Side) -> EdgeScores:
        """Return the run's scores of the questions that circuits are found on, each question with equal weight."""
        return scores_to_find_on(self.scores[side], self.pairing.places)


def _found_by(pair: _MeasuredPair, side: Side, seed: int, how: Mapping[str, object], log: Notify) -> EdgeScores:
    """Return the scores that a side's circuits are found by: the run's, or patching scores for ``resample``."""
    if how["ablation"] != "resample":
        return pair.found_on(side)
    rows = pair.found_rows(side, paired=True)
    sequences = [pair.sequences(side)[row] for row in rows]
    log(f"{side} is attributed on {len(sequences)} answers, with others in their place")
    return patching_scores(
        pair.load(side),
        sequences,
        pair.stored.granularity,
        seed=seed,
        batch_tokens=how["batch_tokens"],  # type: ignore[arg-type]
        progress=bool(how["progress"]),
        **_estimator(pair, side),
    )


def _estimator(pair: _MeasuredPair, side: Side) -> dict[str, Any]:
    """Return how the run's scores of a side were estimated, as arguments of ``attribute``.

    Raises:
        RLCircuitsError: by a metric that may depend on what no file holds.
    """
    how = pair.scores[side].how
    metric: Any = kl_to(pair.source("after" if side == "before" else "before")) if how.metric == KL else how.metric
    if how.metric not in (CROSS_ENTROPY, LOGPROB, KL):
        raise RLCircuitsError(
            f"{pair.folder}: edges were scored by the metric {how.metric}, which may compare answers with foils that "
            "no file here holds, so that they cannot be scored anew with other answers in their place; use the "
            "ablation mean or zero"
        )
    return {"metric": metric, "method": how.method, "steps": how.steps, "points": how.points, "rules": how.rules}


def _check_losses(
    pair: _MeasuredPair, side: Side, checkpoint: Checkpoint, rows: list[int], batch_tokens: int | None
) -> None:
    """Raise RLCircuitsError if the checkpoint's losses are not those that were stored with the scores.

    Then scores, answers and checkpoint are not of one run, and every number would be wrong. Another device or dtype
    moves a loss by far less than another checkpoint or other answers do.
    """
    stored = pair.scores[side]
    sequences = [pair.sequences(side)[row] for row in rows]
    found = ablated(checkpoint, sequences, stored.graph.mask, batch_tokens=batch_tokens).loss.double()
    wanted = stored.loss[rows].double()
    if not float((found - wanted).abs().mean()) <= _LOSS_ABSOLUTE + _LOSS_RELATIVE * float(wanted.mean()):
        raise RLCircuitsError(
            f"{scores_file(pair.folder, side)}: the scores have a mean loss of {float(wanted.mean()):.4f} nats, and "
            f"{checkpoint.name} has {float(found.mean()):.4f} on {answers_file(pair.folder, side).name}, so "
            "that they are not of one run; copy the files and the checkpoint from one run, or measure the pair again"
        )


def _measure_side(
    pair: _MeasuredPair,
    side: Side,
    checkpoint: Checkpoint,
    found_by: Mapping[Side, EdgeScores],
    rows: list[int],
    random_draws: int,
    seed: int,
    options: Mapping[str, object],
) -> SideCircuits:
    """Run the circuits of both checkpoints in one of them, on the sequences of these rows."""
    sequences = [pair.sequences(side)[row] for row in rows]
    how: dict[str, object] = dict(options)
    own, other = found_by[side], found_by["after" if side == "before" else "before"]
    signed, absolute, by_size = (
        cross_faithfulness(checkpoint, sequences, own, other, ranking=ranking, sizes=sizes, **how)  # type: ignore[arg-type]
        for ranking, sizes in (("signed", MIB_SIZES), ("absolute", MIB_SIZES), ("absolute", SIZES))
    )
    random = None
    if random_draws:
        random = random_circuits(checkpoint, sequences, own.graph, draws=random_draws, seed=seed, **how)  # type: ignore[arg-type]
    estimates = estimate_quality(
        checkpoint,
        sequences,
        pair.scores[side].of_rows(rows),
        seed=seed,
        batch_tokens=how["batch_tokens"],  # type: ignore[arg-type]
        progress=bool(how["progress"]),
    )
    faithful = [size for size, f in zip(SIZES, by_size.own.faithfulness, strict=True) if abs(1 - f) <= 1 - FAITHFUL]
    circuit = find_circuit(own, float(faithful[0] if faithful else 1.0))
    return SideCircuits(signed, absolute, by_size, random, estimates, circuit)
