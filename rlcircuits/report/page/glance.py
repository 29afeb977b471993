"""A pair at a glance: what changed, by how much, and what speaks for and against trusting it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlcircuits.comparison.comparison import LABELS
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import direction, exceeds_control, noise_reads_as_online_rl
from rlcircuits.report.outcome_words import finding_words
from rlcircuits.report.page.data import Missing, PairData
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.numbers import percent, points, range_of, share
from rlcircuits.vital_signs.sign import Sign

__all__ = ["Tile", "Trust", "make_tiles", "make_trust"]

_MANY_UNFINISHED = 0.1
"""Share of answers without an end from which on the page warns."""


@dataclass(frozen=True)
class Tile:
    """One number that changed."""

    label: str
    value: str
    detail: str
    words: str
    mark: Mark | None


@dataclass(frozen=True)
class Trust:
    """One reason to trust the numbers, or to be careful."""

    good: bool
    text: str
    kind: str = ""
    """What to be careful about, in words that are the same for every pair; empty for what speaks for the numbers."""


def make_tiles(pair: PairData) -> list[Tile]:
    """Return accuracy and the three metrics of the verdict."""
    comparison, verdict = pair.comparison, pair.verdict
    accuracy, finding = comparison.accuracy, verdict.accuracy
    interval = "" if accuracy.interval is None else f"; 90 % interval {range_of(*map(points, accuracy.interval))}"
    tiles = [
        Tile(
            "accuracy",
            f"{points(accuracy.after - accuracy.before)} points",
            f"{share(accuracy.before)} → {share(accuracy.after)} of {accuracy.asked:,} questions{interval}",
            finding_words(verdict, finding),
            None if finding.outcome is None else mark_of(finding.outcome),
        )
    ]
    for metric in GATE_METRICS:
        effect, found = comparison.effects[metric], verdict.findings[metric]
        base = abs(effect.before)
        ends = [percent(end / base) for end in effect.interval] if base and effect.questions else []
        noise = [each.shifts[metric].change for each in comparison.controls if metric in each.shifts]
        noise = [each for each in noise if not math.isnan(each)]
        parts = [f"95 % interval {range_of(*ends)}"] if ends else []
        parts += [f"noise does {range_of(percent(min(noise)), percent(max(noise)))}"] if noise else []
        mark = None if found.outcome is None or found.expected is None else mark_of(found.outcome)
        label = LABELS[metric].removesuffix(" (histogram)")
        tiles.append(Tile(label, percent(effect.change), "; ".join(parts), finding_words(verdict, found), mark))
    return tiles


def make_trust(pair: PairData) -> list[Trust]:
    """Return the reasons, those to be careful first."""
    return sorted(_reasons(pair), key=lambda reason: reason.good)


def _reasons(pair: PairData) -> Iterator[Trust]:
    comparison = pair.comparison
    asked = comparison.accuracy.asked
    if comparison.is_measured:
        answers = "one answer" if comparison.n == 1 else f"{comparison.n} answers"
        text = f"{comparison.k:,} of {asked:,} questions were compared, with {answers} each from both models."
        yield Trust(
            comparison.note is None,
            f"{text}{f' Note: {comparison.note}.' if comparison.note else ''}",
            "a note on the questions",
        )
    else:
        yield Trust(
            False, f"No question was compared: {comparison.note or 'too few were left'}.", "no question compared"
        )
    yield from _noise(pair)
    if comparison.unfinished is not None:
        worst = max(comparison.unfinished.before, comparison.unfinished.after)
        yield Trust(
            worst < _MANY_UNFINISHED,
            f"Answers that were cut off: {comparison.unfinished.words}.",
            "many answers cut off",
        )
    for difference in comparison.differences:
        text = f"The checkpoints differ in more than their weights: {difference}."
        yield Trust(False, text, "checkpoints that differ in more than their weights")
    if comparison.trust_remote_code:
        text = "Python code from the checkpoints' own repositories was allowed to run."
        yield Trust(False, text, "code of the checkpoints' own")
    if comparison.supervised is not None:
        yield Trust(True, f"Effects count only beyond supervised training's ({comparison.supervised.checkpoint}).")
    if not isinstance(pair.signs, Missing):
        yield _signs(pair.signs.signs)


def _signs(signs: Sequence[Sign]) -> Trust:
    """Return what the vital signs say; one without a threshold, or without room to move, is no reason to trust."""
    trouble = [sign.name for sign in signs if sign.outcome == "trouble"]
    if trouble:
        return Trust(False, f"Vital signs in trouble: {', '.join(trouble)}.", "vital signs in trouble")
    calm = sum(sign.outcome == "no alarm" for sign in signs)
    if not calm:
        text = "No vital sign could raise an alarm here: each is only reported, has no room or no number."
        return Trust(False, text, "no vital sign that could raise an alarm")
    rest = f"; {len(signs) - calm} others conclude nothing here" if calm < len(signs) else ""
    return Trust(True, f"Vital signs that could raise an alarm: {calm}, none in trouble{rest}.")


def _noise(pair: PairData) -> Iterator[Trust]:
    comparison = pair.comparison
    if not comparison.is_measured:
        return
    if not comparison.controls:
        why = ", because the verdict cannot depend on it" if comparison.noise_not_needed is not None else ""
        text = f"No noise control was measured{why}: a random change of this size might move the metrics as far."
        yield Trust(False, text, "no noise control")
        return
    moved = {metric: direction(comparison.effects[metric]) for metric in GATE_METRICS}
    beyond = [metric for metric, way in moved.items() if way and exceeds_control(comparison, metric, way)]
    within = [metric for metric, way in moved.items() if way and metric not in beyond]
    draws = f"{len(comparison.controls)} noise draw{'' if len(comparison.controls) == 1 else 's'} of the update's size"
    if beyond:
        yield Trust(True, f"Beyond what {draws} did: {', '.join(beyond)}.")
    if within:
        yield Trust(
            False, f"Not beyond what {draws} did: {', '.join(within)}.", "a metric moved no farther than noise moves it"
        )
    if not beyond and not within:
        yield Trust(True, f"No metric moved clearly, beside {draws}.")
    if comparison.noise_not_needed is not None:
        yield Trust(True, f"Noise {comparison.noise_not_needed.words}.")
    alarms = [control.draw for control in comparison.controls if noise_reads_as_online_rl(comparison, control)]
    if alarms:
        text = f"Noise alone shows the study's pattern in {len(alarms)} of {draws}."
        yield Trust(False, text, "noise alone shows the study's pattern")
