"""Get the answers of a pair's models: generated, or read from a file of recorded answers.

Generation can stop after each model's first answers (:mod:`rlcircuits.release.early_stop` says when). The decision
takes the first answers of both models, but only one model is loaded at a time:

1. Before answers. If its first answers raise no doubt, before goes on to answer all questions.
2. If they raise doubt, before is freed, and after gives its first answers. The two together may stop the pair.
3. If they do not stop the pair, each model is loaded once more and answers the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.engines.served import Served
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.recorded import SIDES, Side, recorded_answers
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.own_work import own_work
from rlcircuits.common.stage_times import stage
from rlcircuits.release.early_stop import LONGEST_EVIDENCE, InDoubt, evidence, is_in_doubt, reason_to_stop
from rlcircuits.release.loaded_once import LoadedOnce, Stopwatch, free_kept_model
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.result_files import save_answers

TRANSFORMERS = "transformers"

RECORDED = "recorded"
"""Name of the engine, in a comparison, of answers that were read from a file."""


class PairAnswers:
    """The answers of before and after, with the early stop between them.

    Recorded answers are read at once, before any model is loaded: a file that cannot be read would waste that work.
    """

    def __init__(self, measurement: Measurement) -> None:
        self.measurement = measurement
        self._generating = tuple(side for side in SIDES if measurement.recorded[side] is None)
        self._first: dict[Side, Answers] = {}
        """Each model's first answers so far; all of them if they were recorded."""
        for side in SIDES:
            if side not in self._generating:
                self._first[side] = _read_recorded(measurement, side)

    def of_before(self) -> Answers:
        """Return all answers of before.

        Raises:
            RLCircuitsError: the pair is stopped early, because of both models' first answers.
        """
        with suppress(InDoubt), LoadedOnce(self.measurement.sources["before"]) as before:
            return self._of(before, "before")
        with suppress(InDoubt), LoadedOnce(self.measurement.sources["after"]) as after:
            self._of(after, "after", only_first=True)
        self._check_first()
        with LoadedOnce(self.measurement.sources["before"]) as before:
            return self._of(before, "before")

    def of_after(self, after: LoadedOnce) -> Answers:
        """Return all answers of after; it is loaded only if the store lacks some.

        Raises:
            RLCircuitsError: as :meth:`of_before`.
        """
        return self._of(after, "after")

    def _of(self, source: LoadedOnce, side: Side, *, only_first: bool = False) -> Answers:
        measurement = self.measurement
        if side in self._generating:
            first_look = partial(self._look, side, only_first=only_first) if measurement.settings.stop_early else None
            answers = generate(measurement, source, side, measurement.prompts.get(side), first_look)
        else:
            answers = self._first[side]
        if measurement.folder:
            save_answers(measurement.folder, side, answers)
        return answers

    def _look(self, side: Side, first: Answers, only_first: bool) -> None:
        """Record a model's first answers. Raises RLCircuitsError to stop the pair, or InDoubt to pause this model."""
        other_is_known = any(known != side for known in self._first)
        self._first[side] = first
        if other_is_known:
            self._check_first()
        elif is_in_doubt(first, self.measurement.settings):
            raise InDoubt
        if only_first:
            raise InDoubt

    def _check_first(self) -> None:
        """Raise RLCircuitsError if both models' first answers are a reason to stop the pair."""
        questions, settings = self.measurement.questions, self.measurement.settings
        reason = reason_to_stop(self._first, self._generating, len(questions), settings)
        if reason is not None:
            raise RLCircuitsError(
                f"stopped early: {reason}; {evidence(self._first, questions, self.measurement.folder)}; stop_early = "
                f"false (--no-stop-early) goes on all the same",
                longest=LONGEST_EVIDENCE,
            )


@stage("answer")
def generate(
    measurement: Measurement,
    source: LoadedOnce,
    who: str,
    prompts: Sequence[tuple[int, ...]] | None,
    first_look: Callable[[Answers], None] | None = None,
    sampling: Sampling | None = None,
) -> Answers:
    """Return a model's answers to the pair's questions, from the store if they are there.

    Args:
        measurement: the pair.
        source: the model; it is loaded only if answers are missing from the store.
        who: the model's name in the log.
        prompts: the model's prompt token ids, if they were already made.
        first_look: see :func:`~rlcircuits.answers.generate.answer_questions`.
        sampling: how to draw them; by default as the settings say.
    """
    settings, questions = measurement.settings, measurement.questions
    sampling = sampling or settings.sampling
    times = "" if sampling.n == 1 else f", {sampling.n} times each"
    measurement.log(f"{who} answers {len(questions)} questions of {questions.name}{times}")
    model, engine = _asked(measurement, source)
    if engine not in (TRANSFORMERS, OPENAI):  # it takes the device's memory for itself
        free_kept_model()
    stopwatch = Stopwatch(source)
    with own_work() as own:
        answers = answer_questions(
            model,
            questions,
            sampling,
            settings.batch_size,
            measurement.progress,
            engine=engine,
            prompting=settings.prompting,
            store=measurement.store,
            notify=measurement.log,
            prompts=prompts,
            first_look=first_look,
            share=measurement.shared,
        )
    if engine != TRANSFORMERS:
        gc.collect()  # frees the engine's memory before the next model is loaded
    measurement.note_throughput("answers", stopwatch, sum(len(item.answer_ids) for item in answers.items), own)
    return answers


def _asked(measurement: Measurement, source: LoadedOnce) -> tuple[Source, str]:
    """Return the source to ask, and the engine that asks it.

    An engine that loads models by itself is given the source, so that no model is loaded twice. No server has a model
    that is made in memory, such as before with noise: servers are stated for before and after alone, and
    ``transformers`` answers with the others.
    """
    engine = measurement.settings.engine
    if engine == OPENAI:
        served = [measurement.servers[side] for side, other in measurement.sources.items() if other == source.source]
        address = next((each for each in served if each is not None), None)
        return (source, TRANSFORMERS) if address is None else (Served(source, address), engine)
    return (source if engine == TRANSFORMERS else source.source), engine


def engine_names(measurement: Measurement) -> str:
    """Return what gave the answers, for the comparison: one name, or each side's if they differ."""
    engines = {
        side: measurement.settings.engine if file is None else RECORDED for side, file in measurement.recorded.items()
    }
    if engines["before"] == engines["after"]:
        return engines["before"]
    return ", ".join(f"{engine} ({side})" for side, engine in engines.items())


def _read_recorded(measurement: Measurement, side: Side) -> Answers:
    file = measurement.recorded[side]
    assert file is not None
    measurement.log(f"{side} has recorded answers in {file}")
    # One file for both models holds their answers side by side.
    which = side if measurement.recorded["before"] == measurement.recorded["after"] else None
    sampling = measurement.settings.sampling
    return recorded_answers(file, measurement.sources[side], measurement.questions, sampling=sampling, side=which)
