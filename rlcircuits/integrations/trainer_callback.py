"""A callback of transformers' ``Trainer``, and so of every trainer of TRL: follow the metrics while a model trains."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import ensure_writable_folder
from rlcircuits.comparison.effects import AccuracyEffect, Effect
from rlcircuits.integrations.untouched import random_state_kept, untouched
from rlcircuits.integrations.weights import check_finite, weights_hash
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.asking import load_asked
from rlcircuits.release.live import LiveBase, LiveEffects, check_live, load_base, measure_base, measure_live, save_base
from rlcircuits.release.pair import asked_questions
from rlcircuits.release.settings import Settings, make_settings

__all__ = ["TrainerCallback"]

_PREFIX = "rlcircuits/"
_QUESTIONS = 100
"""Questions asked at each measurement, by default."""

_log = logging.getLogger("rlcircuits")


class TrainerCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Measure a model every so many steps of its training, and log the numbers to the trainer's trackers.

    ``trainer.add_callback(TrainerCallback(trainer, questions="gsm8k", every=100))`` before ``trainer.train()``. When
    training begins, the base answers the questions and is scored. At every ``every``-th step the model in memory
    answers the same questions, and its metrics are compared with the base's stored scores. The training is bit for bit
    the same as without the callback: random states, modes, gradients and hooks are restored.

    The numbers go through ``Trainer.log``, so that they stand in ``trainer.state.log_history`` and in TensorBoard,
    Weights & Biases, …: ``rlcircuits/accuracy``, ``rlcircuits/intensity``, and of each the ``_change`` against the
    base (of accuracy as a share, of metrics in relation to the base) with its interval's ends ``_low`` and ``_high``.
    There is no verdict, which needs noise controls: ``rlcircuits track`` judges the saved checkpoints.
    """

    @validate_arguments
    def __init__(
        self,
        trainer: Any,
        *,
        questions: str,
        every: int = 100,
        budget: float = 0.1,
        settings: Settings | None = None,
        base: str | None = None,
        output: str | Path | None = None,
    ) -> None:
        """Prepare the callback; nothing is measured yet.

        Args:
            trainer: the trainer that the callback is added to.
            questions: the question set: a name, or a file of JSON lines.
            every: steps between two measurements.
            budget: largest share of the training's wall time that measuring may take, above 0 and at most 1. A
                measurement that would exceed it is skipped, and ``rlcircuits/skipped`` counts them.
            settings: how answers are drawn and scored; by default ``Settings()`` with 100 questions. Noise draws are
                not measured, and each model is scored on its own answers.
            base: folder or hub id of the base; by default the model as it is when training begins.
            output: folder that keeps the base's answers and scores, so that a resumed training goes on with them. A
                training that begins anew finds them only if its model has the base's weights.

        Raises:
            RLCircuitsError: an argument is wrong, or the questions cannot be loaded.
        """
        if every < 1:
            raise RLCircuitsError(f"every is {every}; a number of steps, at least 1, is wanted")
        if not 0 < budget <= 1:
            raise RLCircuitsError(f"budget is {budget:g}; a share of the wall time is wanted, above 0 and at most 1")
        self.trainer, self.every, self.budget, self.base = trainer, every, budget, base
        self.settings = settings or make_settings({"question_count": _QUESTIONS})
        check_live(self.settings)
        self.output = None if output is None else ensure_writable_folder(output, "output")
        self.questions: QuestionSet = load_asked(asked_questions(questions), self.settings)
        self.skipped = 0
        self._stored: LiveBase | None = None
        self._started = self._spent = self._last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """Measure the base, or read it from the output folder.

        Raises:
            RLCircuitsError: the weights are sharded over processes; the training is resumed, and neither a base nor
                stored results of it are given; or as :func:`~rlcircuits.release.live.measure_base`.
        """
        _check_whole(args)
        self._started, self._spent = time.perf_counter(), 0.0
        if not state.is_world_process_zero:
            return
        with self._timed():
            self._stored = self._measure_base(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """Measure the model if it is time to, and if the budget allows it."""
        if self._stored is None or state.global_step % self.every:
            return
        elapsed = time.perf_counter() - self._started
        if self._spent + self._last > self.budget * (elapsed + self._last):  # as it would be after the measurement
            self.skipped += 1
            _log.warning(
                "step %d: not measured; measuring has taken %.0f s, the next takes about %.0f s, and the budget is "
                "%.0f %% of the wall time (%d skipped so far)",
                state.global_step, self._spent, self._last, 100 * self.budget, self.skipped,
            )  # fmt: skip
            self._log_numbers(control, {"skipped": float(self.skipped)})
            return
        try:
            with self._timed(), untouched(self.trainer.model) as model:
                check_finite(model)
                checkpoint = Checkpoint(model, self._tokenizer(), f"step {state.global_step}")
                found = measure_live(checkpoint, self._stored, self.questions, self.settings)
        except (RLCircuitsError, torch.OutOfMemoryError) as error:  # a long training must not end for want of a number
            _log.warning("step %d: not measured: %s", state.global_step, one_line(error))
            return
        self._log_numbers(control, {**_numbers(found), "seconds": self._last})

    def _measure_base(self, step: int) -> LiveBase:
        model, source, weights = self.trainer.model, self._base_source(), None
        if source is not None:
            weights = source.fingerprint()
        elif step == 0:
            weights = weights_hash(model)
        if self.output is not None:
            stored = load_base(self.output, self.questions, self.settings, weights)
            if stored is not None:
                return stored
        if weights is None:
            raise RLCircuitsError(
                f"the training is resumed at step {step}, so that the model is not the base any more; give base=, the "
                "checkpoint that it started from, or output=, the folder that the first run kept the base's scores in"
            )
        if source is not None:
            with random_state_kept():
                measured = measure_base(source.load(), self.questions, self.settings)
        else:
            with untouched(model) as base:
                measured = measure_base(Checkpoint(base, self._tokenizer(), "base"), self.questions, self.settings)
        if self.output is not None:
            save_base(measured, self.output, self.questions, self.settings, weights)
        return measured

    def _base_source(self) -> CheckpointSource | None:
        if self.base is None:
            return None
        device = str(next(self.trainer.model.parameters()).device)
        return CheckpointSource(self.base, None, self.settings.dtype, device)

    def _tokenizer(self) -> Any:
        processing = self.trainer.processing_class
        if processing is None:
            raise RLCircuitsError("the trainer has no tokenizer; give it one: Trainer(processing_class=tokenizer)")
        return getattr(processing, "tokenizer", processing)

    def _log_numbers(self, control: Any, numbers: dict[str, float]) -> None:
        """Log through the trainer. Trainers of TRL add their own means there and clear them, so the plain one is used.

        Logging says that the step has been logged, after which the trainer would leave out its own log of the step.
        """
        pending = control.should_log
        known = {f"{_PREFIX}{name}": value for name, value in numbers.items() if math.isfinite(value)}
        transformers.Trainer.log(self.trainer, known)
        control.should_log = pending

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._last = time.perf_counter() - started
            self._spent += self._last


def _numbers(found: LiveEffects) -> dict[str, float]:
    numbers = {"compared": float(found.compared), **_accuracy(found.accuracy)}
    for metric, effect in found.effects.items():
        numbers |= _metric(metric, effect)
    return numbers


def _accuracy(effect: AccuracyEffect) -> dict[str, float]:
    low, high = effect.interval or (math.nan, math.nan)
    change = effect.after - effect.before
    return {"accuracy": effect.after, "accuracy_change": change, "accuracy_low": low, "accuracy_high": high}


def _metric(metric: str, effect: Effect) -> dict[str, float]:
    base = abs(effect.before) or math.nan
    low, high = (end / base for end in effect.interval)
    return {metric: effect.after, f"{metric}_change": effect.change, f"{metric}_low": low, f"{metric}_high": high}


def _check_whole(args: Any) -> None:
    """Raise RLCircuitsError if each process holds a part of the weights only."""
    for name in ("fsdp", "deepspeed"):
        if getattr(args, name, None):
            raise RLCircuitsError(
                f"the trainer shards the weights ({name}), and the callback needs them whole; follow the saved "
                "checkpoints instead: rlcircuits track RUN_DIR"
            )
