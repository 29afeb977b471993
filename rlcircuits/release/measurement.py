"""A pair that is being measured: what all stages share, made once before the first stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlcircuits.answers.max_new_tokens import choose_max_new_tokens, context_room
from rlcircuits.answers.question_prompts import check_text_alone, prompt_questions
from rlcircuits.answers.recorded import Side
from rlcircuits.checkpoints.source import CheckpointSource, Source, processor_of
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_detail
from rlcircuits.common.own_work import OwnWork
from rlcircuits.comparison.profiles import PROFILES, Profile
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.asking import load_asked
from rlcircuits.release.loaded_once import Stopwatch
from rlcircuits.release.pair import Pair
from rlcircuits.release.servers import check_servers
from rlcircuits.release.settings import Settings
from rlcircuits.release.throughput import Work, note_throughput


@dataclass(frozen=True)
class Measurement:
    """A pair with everything that its stages need."""

    pair: Pair
    settings: Settings
    """The run's settings, with the pair's own prompting and the longest answer filled in."""
    sources: Mapping[Side, Source]
    questions: QuestionSet
    folder: Path | None
    """The pair's folder of results; None if none are kept."""
    store: Path | None
    """The folder that caches answers and scores; None for no cache."""
    notify: Notify
    progress: bool
    """Whether to show progress bars."""
    prompts: Mapping[Side, Sequence[tuple[int, ...]]] = field(default_factory=dict)
    """The prompt token ids that were already made, one for each question."""

    shared: bool = False
    """Whether other processes do the same work at the same time, so that each does some of its batches."""

    @property
    def recorded(self) -> Mapping[Side, Path | None]:
        """Return the file of recorded answers by side; None for a model that generates its answers."""
        return {"before": self.pair.recorded_before, "after": self.pair.recorded_after}

    @property
    def servers(self) -> Mapping[Side, str | None]:
        """Return the address of the server by side; None for a model that none is stated for."""
        return {"before": self.pair.server_before, "after": self.pair.server_after}

    @property
    def control(self) -> CheckpointSource | None:
        """Return the source of the pair's supervised control; None if it states none."""
        return self.pair.control_source(*self.settings.loading)

    @property
    def checkpoints(self) -> tuple[Source, ...]:
        """Return the sources of all checkpoints that are measured: before, after, and the reference and the control."""
        others = (self.pair.reference_source(*self.settings.loading), self.control)
        return (*self.sources.values(), *(source for source in others if source is not None))

    @property
    def own_rules(self) -> Profile | None:
        """Return the pair's profile unless it is a built-in one."""
        profile = self.pair.expectations
        return None if profile in PROFILES else profile

    def log(self, line: str) -> None:
        """Report a stage in one line, with the pair's name before it."""
        self.notify(f"{self.pair.name}: {line}")

    def note_throughput(self, work: Work, stopwatch: Stopwatch, tokens: int, own: OwnWork, passes: float = 1.0) -> None:
        """Record the throughput of a stage in the store, unless the stage only read its result from there.

        Args:
            work: what the stage does.
            stopwatch: the time of the stage, without loading the model.
            tokens: those of the whole stage.
            own: what this process did of them, for a stage that others share.
            passes: how often each token is read.
        """
        tokens, seconds = (own.tokens, own.seconds) if self.shared else (tokens, stopwatch.seconds)
        tokens = round(tokens * passes)
        if not stopwatch.source.loaded or not tokens:
            return
        if self.store is not None:
            note_throughput(self.store, work, tokens, seconds)
        rate = tokens / max(seconds, 1e-9)
        log_detail(f"{self.pair.name}: {work}: {tokens:,} tokens in {seconds:.1f} s, {rate:,.0f} tokens/s")


def prepare(
    pair: Pair, settings: Settings, folder: Path | None, store: Path | None, notify: Notify, progress: bool
) -> Measurement:
    """Return a measurement, with its questions loaded and its longest answer known.

    Raises:
        RLCircuitsError: the questions cannot be loaded, or a model's tokenizer cannot; or the pair has a setting for
            what its profile does not assert.
    """
    pair.check_assertions()
    check_servers(pair, settings)
    if pair.prompting is not None:
        settings = replace(settings, prompting=pair.prompting)
    before, after = pair.sources(*settings.loading)
    questions = load_asked(pair.questions, settings)
    sources: dict[Side, Source] = {"before": before, "after": after}
    measurement = Measurement(pair, settings, sources, questions, folder, store, notify, progress)
    if questions.has_images:
        for side, source in sources.items():
            processor_of(source)  # an error of after's comes before the answers of before
            if measurement.recorded[side] is not None:
                check_text_alone(questions, "recorded answers are read for questions of text alone")
    return measurement if settings.sampling.max_new_tokens is not None else _with_longest_answer(measurement)


def _with_longest_answer(measurement: Measurement) -> Measurement:
    """Set the longest answer to the question set's limit, or to what both models' contexts leave if that is less."""
    settings, questions = measurement.settings, measurement.questions
    prompts: dict[Side, Sequence[tuple[int, ...]]] = {}
    rooms = []
    for side, source in measurement.sources.items():
        prompts[side] = prompt_questions(source, settings.prompting, questions).ids
        rooms.append(context_room(source, prompts[side]))
    sampling = choose_max_new_tokens(settings.sampling, questions, rooms, measurement.log)
    return replace(measurement, settings=replace(settings, sampling=sampling), prompts=prompts)
