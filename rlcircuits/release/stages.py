"""The stages of a pair's measurement as work of its own, which other processes can do beforehand.

A stage returns nothing: its results are in the store, under the key that :func:`~rlcircuits.release.run.run_pair` looks
for them under. So whoever has done all stages of a pair, in whatever order and wherever, leaves ``run_pair`` nothing to
do but to compare, and its comparison is that of a run in one process.

====================== =============================================================== ===============================
stage                  work                                                            waits for
====================== =============================================================== ===============================
answers                one model answers all questions: before, after or the reference nothing
greedy answers         before or after answers at temperature 0                        nothing
scores                 before or after is attributed                                   answers of before and after
noise draw             before with noise answers, and is attributed                    answers of before and after
noise on               before with noise on one group of tensors is attributed         answers of before and after
pair                   everything else, by ``run_pair``                                all others
whole pair             all of the above, by ``run_pair``                               stages that other pairs share
====================== =============================================================== ===============================

A pair has either the stage ``pair`` and those before it, or, by :func:`in_one`, the stage ``whole pair``.

With ``noise_if_needed`` a noise draw also waits for the scores of before and after, and noise on a group also for the
draws. Each then does nothing if the verdict cannot depend on it. Draws that run side by side do not know one another,
so that a few more may be made than ``run_pair`` makes and reports.

The supervised control of a pair is a pair of its own, so it has stages too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from rlcircuits.answers.recorded import SIDES
from rlcircuits.checkpoints.compare_weights import group_changed, groups_in_files
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.files import STORE, Notify, content_hash
from rlcircuits.models.tensor_groups import Group
from rlcircuits.release.answering import generate
from rlcircuits.release.checkpoint_differences import check_alike
from rlcircuits.release.controls import measure_control, measure_group
from rlcircuits.release.finished import finished_comparison, measurement_key
from rlcircuits.release.greedy import greedy_sampling
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.noise_stages import noise_stage_is_needed
from rlcircuits.release.pair import Pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.scoring import score
from rlcircuits.release.settings import Settings
from rlcircuits.release.stage_memory import StageMemory
from rlcircuits.release.supervised import control_pair, control_settings

__all__ = ["Stage", "in_one", "plan_stages", "run_stage"]

Kind = Literal["answers", "greedy answers", "scores", "noise draw", "noise on", "pair", "whole pair"]


@dataclass(frozen=True)
class Stage:
    """A part of a pair's measurement."""

    pair: Pair
    settings: Settings
    kind: Kind
    of: str
    """The model (``before``, ``after`` or ``reference``), the number of the noise draw, or the group of tensors with
    noise; empty for the pair itself."""
    measured: str
    """The key of the pair's measurement, which says what the stages of one pair share."""
    key: str
    """A hash of the work: stages of one key leave the same results, so that one of them is enough."""
    batches: int
    """About how many batches the work has that several processes can share."""
    waits_for: tuple[str, ...] = ()
    """The keys of the stages that must be done before."""

    @property
    def words(self) -> str:
        """What the stage does, for messages."""
        words = {"pair": "the comparison", "whole pair": "the whole pair"}.get(self.kind)
        between = " of " if self.kind in ("answers", "greedy answers", "scores") else " "
        return f"{self.pair.name}: {words or f'{self.kind}{between}{self.of}'}"


def plan_stages(pair: Pair, settings: Settings, output: Path | None = None) -> tuple[Stage, ...]:
    """Return the stages of a pair, each after those that it waits for; the last one is the pair itself.

    Args:
        pair: the pair.
        settings: how it is measured.
        output: the run's output folder. A pair that is finished there has no stages.

    Raises:
        RLCircuitsError: a checkpoint, the questions or an option is wrong.
    """
    measurement = _prepared(pair, settings)
    key = measurement_key(measurement)
    if output is not None and finished_comparison(measurement, output / pair.name, key, quiet=True) is not None:
        return ()
    stages = _stages_in_the_store(pair, settings, measurement, key)
    if pair.control is not None:
        how = control_pair(pair), control_settings(settings)
        of_control = _prepared(*how)
        stages += _stages_in_the_store(*how, of_control, measurement_key(of_control))
    done = tuple(stage.key for stage in stages)
    return (*stages, Stage(pair, settings, "pair", "", key, content_hash(["pair", pair.name, *done]), 1, done))


def in_one(stages: Sequence[Stage], apart: Collection[str]) -> tuple[Stage, ...]:
    """Return a pair's stages as a single one, which makes everything once and keeps it for as long as it needs it.

    Args:
        stages: those of the pair, as :func:`plan_stages` returns them.
        apart: the keys of those that remain stages of their own and come before, since other pairs wait for them too.
    """
    before: dict[str, Stage] = {}
    for stage in stages[:-1]:
        if stage.key in apart:
            before.setdefault(stage.key, stage)  # a control may have a stage of this key too
    return (*before.values(), replace(stages[-1], kind="whole pair", waits_for=tuple(before)))


def _prepared(pair: Pair, settings: Settings) -> Measurement:
    measurement = prepare(pair, settings, None, None, lambda _: None, False)
    check_alike(measurement)
    return measurement


def _stages_in_the_store(pair: Pair, settings: Settings, measurement: Measurement, whole: str) -> tuple[Stage, ...]:
    """Return the stages whose results are all in the store; ``whole`` is the measurement's key."""
    asked, size = len(measurement.questions), settings.batch_size
    batches, greedy_batches = math.ceil(asked * settings.sampling.n / size), math.ceil(asked / size)

    def stage(kind: Kind, of: str, key: str, batches: int = batches, waits_for: tuple[str, ...] = ()) -> Stage:
        return Stage(pair, settings, kind, of, whole, key, batches, waits_for)

    generating = [side for side in SIDES if measurement.recorded[side] is None]
    answers = [stage("answers", side, _answers_key(measurement, side)) for side in generating]
    first = list(answers)
    if pair.reference is not None:
        first.append(stage("answers", "reference", _answers_key(measurement, "reference")))
    if settings.greedy and settings.sampling.temperature != 0:
        keys = {side: content_hash(["greedy", _answers_key(measurement, side)]) for side in generating}
        first += [stage("greedy answers", side, key, greedy_batches) for side, key in keys.items()]
    groups = settings.noise_draws and settings.noise_groups
    later: list[tuple[Kind, Iterable[str]]] = [
        ("scores", SIDES),
        ("noise draw", map(str, range(settings.noise_draws))),
        ("noise on", groups_in_files(list(measurement.sources.values())) if groups else ()),
    ]
    waits_for, stages = tuple(each.key for each in answers), list(first)
    for kind, models in later:
        made = [stage(kind, of, content_hash([kind, of, whole]), batches, waits_for) for of in models]
        stages += made
        if settings.noise_if_needed:  # whether noise is needed depends on what was measured before it
            waits_for += tuple(each.key for each in made)
    return tuple(stages)


def _answers_key(measurement: Measurement, who: str) -> str:
    """Return a hash of everything that a model's answers depend on."""
    questions, settings = measurement.questions, measurement.settings
    table = settings.key_table()
    return content_hash(
        [
            _source(measurement, who).fingerprint(),
            [questions.name, questions.split, questions.grader],
            [question.key_table() for question in questions.questions],
            [table[name] for name in ("sampling", "prompting", "engine", "batch_size")],
        ]
    )


def _source(measurement: Measurement, who: str) -> Source:
    """Return the source of ``before``, ``after`` or ``reference``."""
    for side, source in measurement.sources.items():
        if side == who:
            return source
    reference = measurement.pair.reference_source(*measurement.settings.loading)
    assert reference is not None, "only a pair with a reference has a stage for it"
    return reference


def run_stage(
    stage: Stage, output: Path, notify: Notify, memory: StageMemory | None = None, *, shared: bool = False
) -> None:
    """Do a stage, but for what is in the store of an output folder already.

    Args:
        stage: the stage; those that it waits for are done.
        output: the output folder of the run.
        notify: called with one line of text for each part of it.
        memory: what this process keeps between stages; by default nothing.
        shared: whether other processes do the same stage at the same time, so that each does some of its batches.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.release.run.run_pair`.
    """
    if stage.kind in ("pair", "whole pair"):
        run_pair(stage.pair, stage.settings, output=output, notify=notify)
        return
    with closing(StageMemory()) if memory is None else nullcontext(memory) as kept:
        _do_in_the_store(stage, output / STORE, notify, kept, shared)


def _do_in_the_store(stage: Stage, store: Path, notify: Notify, memory: StageMemory, shared: bool) -> None:
    """Do a stage whose results are all in the store."""
    measurement = memory.measurement(stage.pair, stage.settings, stage.measured, store, notify)
    measurement = replace(measurement, shared=shared)
    if stage.kind in ("answers", "greedy answers"):
        prompts = next((made for side, made in measurement.prompts.items() if side == stage.of), None)
        sampling = measurement.settings.sampling
        with LoadedOnce(_source(measurement, stage.of)) as loaded:
            sampling = sampling if stage.kind == "answers" else greedy_sampling(sampling)
            generate(measurement, loaded, stage.of, prompts, sampling=sampling)
        return
    paired, before = memory.paired(measurement)
    if not paired.places:  # only accuracy is measured
        return
    if stage.kind == "scores":
        with LoadedOnce(_source(measurement, stage.of)) as loaded:
            score(measurement, loaded, stage.of, paired.before if stage.of == "before" else paired.after)
    elif not noise_stage_is_needed(measurement, memory, of_draw=stage.kind == "noise draw"):
        notify(f"{stage.words}: not needed, because the verdict cannot depend on it")
    elif stage.kind == "noise draw":
        measure_control(measurement, int(stage.of), paired, before)
    else:
        group = cast(Group, stage.of)
        if group_changed(measurement.sources["before"], measurement.sources["after"], group):
            measure_group(measurement, paired, group)
