"""What an output folder and a pair's files already hold, as far as a plan can tell without reading weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rlcircuits.answers.answer_file import Header, parse_answers
from rlcircuits.answers.cache import cached_headers
from rlcircuits.answers.recorded import SIDES, Side, recorded_answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.attribution.options import Estimator
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison, NoiseNotNeeded, Requested
from rlcircuits.comparison.profiles import current_name
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.models.backward_rules import BackwardRules
from rlcircuits.release.answering import engine_names
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.result_files import are_complete
from rlcircuits.release.settings import Settings


@dataclass(frozen=True)
class StoredAnswers:
    """One answer file of the store."""

    path: Path
    header: Header

    @property
    def count(self) -> int:
        """Return the number of answers that a run takes from the file."""
        return len(self.items)

    @cached_property
    def items(self) -> tuple[Answer, ...]:
        """The answers that a run takes from the file: all of a finished one, else those of whole batches.

        Raises:
            RLCircuitsError: a line is damaged, or the file holds more answers than its header promises.
        """
        # A killed run may leave its last line without an end.
        lines = self.path.read_bytes().split(b"\n")[1:-1]
        wanted, batch = self.header.count, self.header.batch_size
        if len(lines) > wanted:
            raise RLCircuitsError(f"{self.path}: holds {len(lines)} answers; its header promises {wanted}")
        if len(lines) < wanted and batch:
            lines = lines[: len(lines) - len(lines) % batch]
        return tuple(line.answer() for line in parse_answers(self.path, lines, self.header.sampling.n))


@dataclass(frozen=True)
class KnownAnswers:
    """One model's answers that are known before a run."""

    items: tuple[Answer, ...]
    wanted: int
    """Answers that the run asks for."""
    origin: str
    """Where they are from: ``answers in the store``, ``recorded answers``."""

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to generate."""
        return len(self.items) >= self.wanted

    @property
    def grades(self) -> dict[tuple[str, int], bool]:
        """Return whether each answer is right, by question id and sample."""
        return {(item.question_id, item.sample): item.correct for item in self.items}


def check_output(output: str | Path | None) -> Path | None:
    """Return the output folder, which need not exist yet.

    Raises:
        RLCircuitsError: it cannot be a folder, because it or a folder above it is a file.
    """
    if output is None:
        return None
    folder = Path(output)
    for part in (folder, *folder.parents):
        if part.is_dir():
            return folder
        if part.exists():
            raise RLCircuitsError(f"output: {part} is a file; the folder of a run's results is wanted")
    return folder


def stored_answers(store: Path | None) -> list[StoredAnswers]:
    """Return every answer file of the store whose header can be read, the newest first.

    Raises:
        RLCircuitsError: a file of the store cannot be read.
    """
    if store is None:
        return []
    try:
        found = [StoredAnswers(path, header) for path, header in cached_headers(store)]
        return sorted(found, key=lambda each: each.path.stat().st_mtime_ns, reverse=True)
    except OSError as error:
        raise RLCircuitsError(f"{error.filename or store}: cannot be read: {error.strerror}") from None


def find_answers(
    stored: Iterable[StoredAnswers], model: str, measurement: Measurement, sampling: Sampling, engine: str
) -> StoredAnswers | None:
    """Return the file of a model's answers that the run would go on with, if there is one.

    Args:
        stored: the answer files of the store.
        model: name of the model.
        measurement: what is planned.
        sampling: how the answers are sampled.
        engine: name of the engine that generates the answers.
    """
    settings, questions = measurement.settings, measurement.questions
    answers = len(questions) * sampling.n
    wanted = (model, questions.name, questions.split, answers, sampling, settings.batch_size, engine)
    for each in stored:
        header = each.header
        same = wanted == (
            header.model, header.question_set, header.split, header.count, header.sampling, header.batch_size,
            header.engine,
        )  # fmt: skip
        used = header.prompting.model_dump() if header.prompting else {}
        if same and _is_used(settings.prompting.model_dump(), used):
            return each
    return None


def read_recorded(measurement: Measurement, models: Mapping[Side, Source]) -> dict[Side, KnownAnswers]:
    """Return the recorded answers that the pair names, read and graded as the run does.

    Args:
        measurement: what is planned.
        models: the models, for their tokenizers.

    Raises:
        RLCircuitsError: a file cannot be used; the message names file, line and field.
    """
    recorded = measurement.recorded
    # One file for both models holds their answers side by side.
    both = recorded["before"] == recorded["after"]
    found: dict[Side, KnownAnswers] = {}
    for side in SIDES:
        if (file := recorded[side]) is not None:
            sampling, which = measurement.settings.sampling, side if both else None
            answers = recorded_answers(file, models[side], measurement.questions, sampling=sampling, side=which)
            found[side] = KnownAnswers(answers.items, len(answers.items), "recorded answers")
    return found


def earlier_comparison(measurement: Measurement) -> Comparison | None:
    """Return the comparison of these two checkpoints on this question set that the pair's folder holds, if it does."""
    if measurement.folder is None:
        return None
    try:
        found = load_comparison(measurement.folder)
    except RLCircuitsError:
        return None
    before, after = measurement.sources.values()
    questions = measurement.questions
    same = (found.before, found.after, found.questions, found.split)
    return found if same == (before.name, after.name, questions.name, questions.split) else None


def is_measured(found: Comparison, measurement: Measurement) -> bool:
    """Return whether a comparison has all of the run's settings that it records, and its result files are complete.

    It does not record the seed, the batch size and the weights, which the run compares as well.
    """
    assert measurement.folder is not None, "a comparison was found there"
    complete = are_complete(measurement.folder, lambda _: None, scored=found.is_measured)
    return complete and _recorded_alike(found, measurement)


def _recorded_alike(found: Comparison, measurement: Measurement) -> bool:
    """Return whether a comparison has every setting that it records as the run would."""
    pair, settings = measurement.pair, measurement.settings
    profile, reference = pair.expectations, pair.reference_source()
    claims: list[tuple[str | None, float | None]] = []
    claims += [] if pair.claimed_accuracy is None else [(None, pair.claimed_accuracy)]
    claims += [] if reference is None else [(reference.name, None)]
    changed = found.weights is None or bool(found.weights.changed)
    # Without a question to compare nothing is compared with a control.
    draws = settings.noise_draws if found.is_measured else 0
    left_out = found.noise_not_needed or NoiseNotNeeded(0, False)
    control = measurement.control if found.is_measured else None
    ours = (
        settings.alpha,
        settings.balance,
        settings.score_on,
        settings.granularity,
        _metric_and_method(found, settings),
        settings.sampling.table(),
        len(measurement.questions),
        engine_names(measurement),
        (pair.algorithm, current_name(profile.name), measurement.own_rules),
        [(*claim, profile.accuracy.margin) for claim in claims],
        [settings.noise_answers == "before"] * (draws - left_out.draws),
        settings.noise_groups and draws > 0 and changed,
        settings.greedy,
        None if control is None else control.name,
        None if pair.circuits is None else pair.circuits.model_dump(),
    )
    theirs = (
        found.alpha,
        found.balance,
        found.score_on,
        found.granularity,
        _metric_and_method(found, None),
        found.sampling,
        found.accuracy.asked,
        found.engine,
        (found.algorithm, found.profile, found.rules),
        [(each.reference, None if each.reference else each.wanted, each.margin) for each in found.claims],
        [draw.accuracy is None for draw in found.controls],
        bool(found.group_controls) or left_out.groups,
        found.greedy is not None,
        None if found.supervised is None else found.supervised.checkpoint,
        None if found.circuits is None else {name: getattr(found.circuits, name) for name in CircuitRules.model_fields},
    )
    used = found.prompting
    same_prompting = used is None or _is_used(settings.prompting.model_dump(mode="json"), used)
    if found.noise_not_needed is not None and not settings.noise_if_needed:
        return False
    return ours == theirs and same_prompting and _is_requested(found, settings) and _fits_fewest(found, settings)


def _fits_fewest(found: Comparison, settings: Settings) -> bool:
    """Return whether a comparison is measured or not as the fewest questions say."""
    if found.is_measured:
        return found.k >= settings.min_questions
    return _left(found) < settings.min_questions


def _is_requested(found: Comparison, settings: Settings) -> bool:
    """Return whether a comparison was asked for as many questions and noise draws.

    A file of an earlier version does not say so. It was asked for K if it has as many, or says that fewer were left;
    one of no question does not tell.
    """
    if found.requested is not None:
        return found.requested == Requested(settings.k, settings.noise_draws)
    return not found.is_measured or _has_k(found, settings.k)


def _has_k(found: Comparison, k: int | None) -> bool:
    wanted = re.match(r"(\d+) questions were wanted", found.note or "")
    if wanted:
        return k == int(wanted[1])
    return found.k == (_left(found) if k is None else k)


def _left(found: Comparison) -> int:
    """Return how many questions passed the protocol, before K of them were sampled."""
    return [count for stage, count in found.funnel.items() if stage != "sampled"][-1]


def _is_used(prompting: Mapping[str, object], used: Mapping[str, object]) -> bool:
    return all(used.get(name) == value for name, value in prompting.items())


def _metric_and_method(found: Comparison, settings: Settings | None) -> tuple[object, ...]:
    """Return how the settings, or else a comparison that was found, have edges scored."""
    if not found.is_measured:
        return ()
    how = HowScored.of_changed(found.scoring or {})
    if settings is not None:
        rules = BackwardRules.named(settings.rules or ())
        path = Estimator(method=settings.method, steps=settings.steps, points=settings.points, rules=rules)
        how = replace(path.how(corrupted=False), metric=settings.metric)
    # Whether edges were patched depends on the questions, and its name does not tell a metric of one's own.
    return how.metric, how.method, how.steps, how.points, how.rules, how.rules_version
