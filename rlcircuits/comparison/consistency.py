"""Check a comparison read from a file: every part is there, in range, and of the same number of questions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from rlcircuits.common.choices import ABLATIONS, SCORE_ON
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import LIMITS
from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.comparison import (
    CONTROL_METRICS,
    LABELS,
    Comparison,
    ControlDraw,
    GroupControl,
    NoiseNotNeeded,
    SupervisedControl,
)
from rlcircuits.comparison.effects import AccuracyEffect, ControlEffect, Effect
from rlcircuits.comparison.noise_needed import noise_can_decide
from rlcircuits.comparison.profiles import FORMER_NAMES, GATE_METRICS, PROFILES
from rlcircuits.models.tensor_groups import GROUPS

__all__ = ["check_comparison"]

# Fields that are printed on one line.
_PRINTED = ("name", "algorithm", "questions", "split", "granularity", "engine")


def check_comparison(comparison: Comparison) -> None:
    """Raise RLCircuitsError, naming the field, for the first that is out of range or contradicts another."""
    for field, found, wanted in _problems(comparison):
        raise RLCircuitsError(f"field 'comparison.{field}' is {truncated_repr(found)}; {wanted} is wanted")


_Problems = Iterator[tuple[str, object, str]]
"""Field, the value found, and what is wanted instead."""


def _problems(comparison: Comparison) -> _Problems:
    for field in _PRINTED:
        text = getattr(comparison, field)
        if not text.isprintable():
            yield field, text, "text on one line"
    for place, text in enumerate(comparison.differences):
        if not text.isprintable():
            yield f"differences.{place}", text, "text on one line"
    if comparison.rules is None:
        yield from _outside("profile", comparison.profile, [*(profile.name for profile in PROFILES), *FORMER_NAMES])
    elif comparison.rules.name != comparison.profile:
        yield "profile", comparison.profile, f"the name of the profile in rules, {comparison.rules.name!r},"
    yield from _outside("score_on", comparison.score_on, SCORE_ON)
    if not LIMITS["n"].allow(n := comparison.sampling.get("n", 1)):
        yield "sampling.n", n, "the number of answers to every question"
    if comparison.t_cut < 1:
        yield "t_cut", comparison.t_cut, "a number of tokens from 1"
    if len(set(comparison.question_ids)) < comparison.k:
        yield "question_ids", list(comparison.question_ids), "a list of different ids"
    yield from _accuracy(comparison)
    if comparison.unfinished is not None:
        yield from _shares("unfinished", before=comparison.unfinished.before, after=comparison.unfinished.after)
    yield from _keys("effects", comparison.effects, LABELS)
    for metric, effect in comparison.effects.items():
        yield from _effect(f"effects.{metric}", metric, effect, comparison.k)
    draws = [control.draw for control in comparison.controls]
    if len(set(draws)) < len(draws):
        yield "controls", draws, "a list of different draws"
    for place, control in enumerate(comparison.controls):
        yield from _control(f"controls.{place}", control, comparison.k)
    yield from _requested(comparison)
    groups = [control.group for control in comparison.group_controls]
    if len(set(groups)) < len(groups) or not set(groups) <= set(GROUPS):
        yield "group_controls", groups, f"a list of different groups of {', '.join(GROUPS)}"
    for place, group in enumerate(comparison.group_controls):
        yield from _shifts(f"group_controls.{place}", group)
    if comparison.supervised is not None:
        yield from _supervised(comparison.supervised, comparison.k)
    if comparison.circuits is not None:
        yield from _circuits(comparison.circuits, comparison.k)
    if comparison.noise_not_needed is not None:
        yield from _not_needed(comparison, comparison.noise_not_needed)


def _requested(comparison: Comparison) -> _Problems:
    requested = comparison.requested
    if requested is None:  # a file of a version that did not record it
        return
    if requested.k is not None and not LIMITS["k"].allow(requested.k):
        yield "requested.k", requested.k, "a number of questions, or null for all,"
    elif requested.k is not None and requested.k < comparison.k:
        yield "requested.k", requested.k, f"at least the number of question_ids, {comparison.k}, or null"
    if not LIMITS["noise_draws"].allow(requested.noise_draws):
        yield "requested.noise_draws", requested.noise_draws, "a number of draws of the noise control"
    draws = requested.noise_draws if comparison.is_measured else 0
    left_out = comparison.noise_not_needed.draws if comparison.noise_not_needed is not None else 0
    if len(comparison.controls) + left_out != draws:
        found = [control.draw for control in comparison.controls]
        but = f" but for {left_out} (noise_not_needed.draws)" if left_out else ""
        yield "controls", found, f"a list of {draws} draws, as many as were asked for (requested.noise_draws){but},"


def _not_needed(comparison: Comparison, left_out: NoiseNotNeeded) -> _Problems:
    """Yield noise that is said not to be needed, and could change the verdict."""
    if left_out.draws < 0 or not (left_out.draws or left_out.groups):
        yield "noise_not_needed", left_out, "null, or what was not measured, draws or groups,"
    elif not comparison.is_measured or comparison.requested is None or comparison.circuits is not None:
        yield "noise_not_needed", left_out, "null, as for a pair with circuits or without a question or a request,"
    elif left_out.groups and comparison.group_controls:
        yield "noise_not_needed", left_out, "no groups, as group_controls has them,"
    elif noise_can_decide(comparison, draws=left_out.draws > 0, groups=left_out.groups):
        yield "noise_not_needed", left_out, "null, as that noise could change the verdict,"


def _accuracy(comparison: Comparison) -> _Problems:
    yield from _accuracies("accuracy", comparison.accuracy)
    if comparison.accuracy.asked < comparison.k:
        yield "accuracy.asked", comparison.accuracy.asked, f"at least the number of question_ids, {comparison.k},"
    if comparison.greedy is not None:
        yield from _accuracies("greedy", comparison.greedy)
    measures = [claim.measure for claim in comparison.claims]
    if len(set(measures)) < len(measures):
        yield "claims", measures, "one claim of each kind at most"
    for place, claim in enumerate(comparison.claims):
        where = f"claims.{place}"
        yield from _shares(where, wanted=claim.wanted, found=claim.found, margin=claim.margin, p=claim.p)
        yield from _interval(f"{where}.interval", claim.interval)
        if claim.asked < 1:
            yield f"{where}.asked", claim.asked, "a number of questions from 1"
        if (claim.reference is None) != (claim.measure == "claimed-accuracy"):
            yield f"{where}.reference", claim.reference, "a checkpoint's name for reference-accuracy, else null,"


def _accuracies(field: str, found: AccuracyEffect) -> _Problems:
    yield from _shares(field, before=found.before, after=found.after, p_fall=found.p_fall)
    if found.interval is not None:
        yield from _interval(f"{field}.interval", found.interval)
    if min(found.lost, found.gained) < 0 or found.lost + found.gained > found.asked or found.asked < 1:
        yield f"{field}.lost", found.lost, f"a number that, with gained, is at most asked ({found.asked}),"


def _effect(field: str, metric: str, effect: Effect, k: int) -> _Problems:
    if effect.metric != metric:
        yield f"{field}.metric", effect.metric, repr(metric)
    for side in ("before_values", "after_values"):
        if (count := len(getattr(effect, side))) != k:
            yield f"{field}.{side}", f"{count} numbers", f"one for each of the {k} question_ids"
    both = zip(effect.before_values, effect.after_values, strict=False)
    defined = sum(not (math.isnan(before) or math.isnan(after)) for before, after in both)
    if effect.questions != defined:
        yield f"{field}.questions", effect.questions, f"the number of questions with both values, {defined},"
    yield from _tested(field, effect, defined)
    yield from _shares(field, p_two_sided=effect.p_two_sided)


def _control(field: str, control: ControlDraw, k: int) -> _Problems:
    if control.accuracy is not None:
        yield from _shares(field, accuracy=control.accuracy)
    if not 0 <= control.k <= k:
        yield f"{field}.k", control.k, f"a number from 0 to that of question_ids, {k},"
    yield from _shifts(field, control)


def _shifts(field: str, control: ControlDraw | GroupControl) -> _Problems:
    """Check the effects of a control, which has all of them or none."""
    if control.shifts:
        yield from _keys(f"{field}.shifts", control.shifts, CONTROL_METRICS)
    for metric, effect in control.shifts.items():
        yield from _tested(f"{field}.shifts.{metric}", effect, 0)


def _supervised(control: SupervisedControl, k: int) -> _Problems:
    yield from _shares("supervised", accuracy=control.accuracy)
    yield from _keys("supervised.beyond", control.beyond, GATE_METRICS)
    for metric, beyond in control.beyond.items():
        field = f"supervised.beyond.{metric}"
        if not 0 <= beyond.questions <= k:
            yield f"{field}.questions", beyond.questions, f"a number from 0 to that of question_ids, {k},"
        low, high = beyond.interval
        if low > high or (beyond.questions and math.isnan(low + high)):
            yield f"{field}.interval", list(beyond.interval), "the lower end, then the upper one,"
        if beyond.questions and math.isnan(beyond.difference):
            yield f"{field}.difference", None, "a number"


def _circuits(found: CircuitChecks, k: int) -> _Problems:
    where = "circuits"
    if not LIMITS["size"].allow(found.size):
        yield f"{where}.size", found.size, str(LIMITS["size"]).removesuffix(" is wanted")
    yield from _outside(f"{where}.ablation", found.ablation, ABLATIONS)
    for name in ("minimum_overlap", "minimum_faithfulness"):
        value = getattr(found, name)
        if value is not None and not LIMITS[name].allow(value):
            yield f"{where}.{name}", value, f"{LIMITS[name].in_words}, or null,"
    if not 0 <= found.judged <= k:
        yield f"{where}.judged", found.judged, f"a number from 0 to that of question_ids, {k},"
    if not math.isnan(found.overlap):
        yield from _shares(where, overlap=found.overlap)
    yield from _shares(where, **{f"noise.{place}": draw for place, draw in enumerate(found.noise)})
    for name in ("overlap", "faithfulness"):
        value, (low, high) = getattr(found, name), getattr(found, f"{name}_interval")
        if not math.isnan(low + high) and not low <= value <= high:
            yield f"{where}.{name}_interval", [low, high], f"the ends of an interval around {name}"


def _tested(field: str, effect: Effect | ControlEffect, defined: int) -> _Problems:
    """Check the fields that all effects share. They may be NaN unless `defined` questions have both values."""
    yield from _shares(field, p_up=effect.p_up, p_down=effect.p_down)
    low, high = effect.interval
    if low > high or (defined and math.isnan(low + high)):
        yield f"{field}.interval", list(effect.interval), "the lower end, then the upper one,"
    if not math.isnan(effect.win_share):
        yield from _shares(field, win_share=effect.win_share)
    elif defined:
        yield f"{field}.win_share", None, "a number from 0 to 1"


def _interval(field: str, interval: tuple[float, float]) -> _Problems:
    low, high = interval
    if not -1 <= low <= high <= 1:
        yield field, list(interval), "the lower end, then the upper one, each from -1 to 1,"


def _shares(field: str, **values: float) -> _Problems:
    for name, value in values.items():
        if not 0 <= value <= 1:
            yield f"{field}.{name}", value, "a number from 0 to 1"


def _keys(field: str, found: Collection[str], wanted: Collection[str]) -> _Problems:
    for name in wanted:
        if name not in found:
            yield field, f"without {name}", f"an object with {name}"
    for name in found:
        if name not in wanted:
            yield field, f"with {name}", f"an object with {', '.join(wanted)} alone"


def _outside(field: str, found: str, allowed: Collection[str]) -> _Problems:
    if found not in allowed:
        yield field, found, f"one of {', '.join(allowed)}"
