"""Hold two output folders side by side: what changed in outcomes, accuracy and metrics, and in how they were measured.

Pairs are matched by name; two folders of one pair each are matched whatever the names. Of a matched pair,

- **accuracy** is after's, over the questions that both runs asked: the exact sign test and the 90 % score interval;
- a **metric** is its effect, after − before, over the questions that both runs compared: Wilcoxon's signed-rank test
  and the 95 % bootstrap interval of the difference of differences, in percent of the first run's mean before.

All p-values of a report are corrected together by Holm's method. A measure changed if its corrected p is below .05 and
its interval lies on one side of zero: the test looks at ranks, the interval at the mean, and one alone may mislead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import CONTROL_METRICS, LABELS, Comparison, Requested
from rlcircuits.comparison.effect_differences import effect_differences, shared_questions
from rlcircuits.comparison.effects import ACCURACY_CONFIDENCE, Number, compare_accuracy
from rlcircuits.comparison.multiplicity import RELEASE_LEVEL, corrected_by_holm
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.comparison.storage import check_names, find_comparisons, load_comparison, to_document
from rlcircuits.comparison.verdict import Verdict, judge
from rlcircuits.release.pair_folders import read_result
from rlcircuits.release.result_files import answers_file
from rlcircuits.release.run_record import RUN_FILE, load_run
from rlcircuits.release.stored_signs import find_signs
from rlcircuits.report.headline import make_headline
from rlcircuits.report.outcome_words import finding_words, verdict_words
from rlcircuits.report.variants import first_variants

__all__ = ["DIFFERENCES_VERSION", "MeasureDifference", "PairDifference", "RunDifference", "compare_runs"]

DIFFERENCES_VERSION: Literal[1] = 1

_SHOWN = (
    "after", "before", "algorithm", "profile", "questions", "split", "engine", "granularity", "scoring", "score_on",
    "sampling", "prompting", "alpha", "balance", "requested",
)  # fmt: skip
"""Fields of a comparison that say how it was measured, in the order in which differences are told."""

_ONE_SCALE = ("granularity", "scoring", "score_on")
"""Fields without which the same metric is another quantity."""


@dataclass(frozen=True)
class MeasureDifference:
    """One measure in both runs. A number that is not known is null."""

    measure: str
    label: str
    unit: Literal["percentage points", "% of before"]
    first: Number
    """Accuracy after, as a share; of a metric its relative change, over all questions of the first run."""
    second: Number
    difference: Number
    """Second − first over the shared questions, in the unit."""
    low: Number
    """Lower end of the difference's interval."""
    high: Number
    confidence: float
    p: Number
    """Two-sided, of the paired test."""
    p_corrected: Number
    """The same after Holm's correction over all measures of the report."""
    changed: bool
    """Whether the corrected p is below .05, and zero is not in the interval."""
    questions: int
    """Shared questions."""
    words: tuple[str, str]
    """What each run's verdict says of it."""
    not_compared: str | None = None
    """Why the two cannot be compared."""


@dataclass(frozen=True)
class PairDifference:
    """One pair in both runs."""

    first: str
    """Its name in the first run."""
    second: str
    outcomes: tuple[Outcome, Outcome]
    words: tuple[str, str]
    same: bool
    """Whether both runs hold the same results."""
    differs: tuple[str, ...]
    """How the two were measured differently: checkpoints, weights, settings, versions; a sentence each."""
    measures: tuple[MeasureDifference, ...]
    signs: tuple[tuple[str, str, str], ...]
    """Vital signs whose outcomes differ: name, outcome in the first, in the second."""


@dataclass(frozen=True)
class RunDifference:
    """Two runs side by side."""

    format: Literal["rlcircuits-differences"]
    version: Literal[1]
    first: str
    second: str
    outcomes: tuple[Outcome | None, Outcome | None]
    why: tuple[str, str]
    same: bool
    """Whether both hold the same pairs with the same results."""
    pairs: tuple[PairDifference, ...]
    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]
    problems: tuple[str, ...]
    """Stored vital signs that could not be read."""


@dataclass(frozen=True)
class _Pair:
    folder: Path
    comparison: Comparison
    signs: Mapping[str, str]
    """Outcome of each vital sign."""


def compare_runs(first: str | Path, second: str | Path) -> RunDifference:
    """Return what differs between two output folders of runs, or two folders of pairs.

    Raises:
        RLCircuitsError: a folder holds no finished pair; the two have no pair in common; or all pairs in common were
            asked other questions.
    """
    (ours, our_problems), (theirs, their_problems) = _read(first), _read(second)
    matched = _matched(ours, theirs)
    if not matched:
        raise RLCircuitsError(
            f"{first} and {second} have no pair in common ({', '.join(sorted(ours))}; {', '.join(sorted(theirs))}), so "
            "that there is nothing to compare; pairs are matched by name: give the folders of the two pairs themselves"
        )
    refused = [_other_questions(ours[one], theirs[other]) for one, other in matched]
    if all(refused):
        raise RLCircuitsError(f"{refused[0]}; two runs are compared on the same question set")
    pairs = _corrected([_compare_pair(ours[one], theirs[other]) for one, other in matched])
    only = sorted(ours.keys() - {one for one, _ in matched}), sorted(theirs.keys() - {other for _, other in matched})
    heads = [make_headline(first_variants([pair.comparison for pair in run.values()])) for run in (ours, theirs)]
    return RunDifference(
        "rlcircuits-differences",
        DIFFERENCES_VERSION,
        str(first),
        str(second),
        (heads[0].outcome, heads[1].outcome),
        (heads[0].why, heads[1].why),
        not any(only) and all(pair.same for pair in pairs),
        tuple(pairs),
        tuple(only[0]),
        tuple(only[1]),
        (*our_problems, *their_problems),
    )


def _read(folder: str | Path) -> tuple[dict[str, _Pair], tuple[str, ...]]:
    """Return the pairs of a folder by name, and why stored signs cannot be read."""
    paths = find_comparisons(folder)
    comparisons = [load_comparison(path) for path in paths]
    check_names(comparisons, paths)
    signs, problems = find_signs([path.parent for path in paths])
    by_name = {each.name: {sign.name: sign.outcome for sign in each.signs} for each in signs}
    pairs = {
        comparison.name: _Pair(path.parent, comparison, by_name.get(comparison.name, {}))
        for path, comparison in zip(paths, comparisons, strict=True)
    }
    return pairs, problems


def _matched(ours: Mapping[str, _Pair], theirs: Mapping[str, _Pair]) -> list[tuple[str, str]]:
    if len(ours) == len(theirs) == 1:
        return [(next(iter(ours)), next(iter(theirs)))]
    return [(name, name) for name in ours if name in theirs]


def _compare_pair(one: _Pair, other: _Pair) -> PairDifference:
    first, second = one.comparison, other.comparison
    verdicts = judge(first), judge(second)
    return PairDifference(
        first.name,
        second.name,
        (verdicts[0].outcome, verdicts[1].outcome),
        (verdict_words(verdicts[0]), verdict_words(verdicts[1])),
        _document(first) == _document(second),
        tuple(_differing(one, other)),
        (_accuracy(one, other, verdicts), *_metrics(one, other, verdicts)),
        tuple(
            (name, outcome, other.signs[name])
            for name, outcome in one.signs.items()
            if name in other.signs and other.signs[name] != outcome
        ),
    )


def _other_questions(one: _Pair, other: _Pair) -> str | None:
    """Return why two pairs cannot be compared at all; None if they can be."""
    first, second = one.comparison, other.comparison
    if (first.questions, first.split) == (second.questions, second.split):
        return None
    return (
        f"{one.folder} was asked {first.questions} ({first.split}), and {other.folder} {second.questions} "
        f"({second.split})"
    )


def _document(comparison: Comparison) -> str:
    return json.dumps(to_document(comparison), sort_keys=True)


def _accuracy(one: _Pair, other: _Pair, verdicts: tuple[Verdict, Verdict]) -> MeasureDifference:
    first, second = one.comparison.accuracy, other.comparison.accuracy
    found = MeasureDifference(
        ACCURACY, "accuracy", "percentage points", first.after, second.after, math.nan, math.nan, math.nan,
        ACCURACY_CONFIDENCE, math.nan, math.nan, False, 0,
        (finding_words(verdicts[0], verdicts[0].accuracy), finding_words(verdicts[1], verdicts[1].accuracy)),
    )  # fmt: skip
    if (why := _other_questions(one, other)) is not None:
        return replace(found, not_compared=why)
    try:
        answers = [read_result(Answers.load, answers_file(each.folder, "after"), "answers") for each in (one, other)]
        effect = compare_accuracy(*answers)
    except RLCircuitsError as error:
        return replace(found, not_compared=str(error))
    low, high = effect.interval or (math.nan, math.nan)
    return replace(
        found,
        difference=100 * (effect.after - effect.before),
        low=100 * low,
        high=100 * high,
        p=min(1.0, 2 * min(effect.p_fall, effect.p_rise)),
        questions=effect.asked,
    )


def _metrics(one: _Pair, other: _Pair, verdicts: tuple[Verdict, Verdict]) -> Iterator[MeasureDifference]:
    first, second, why = one.comparison, other.comparison, _other_questions(one, other)
    differing = [name for name in _ONE_SCALE if getattr(first, name) != getattr(second, name)]
    if why is None and differing:
        why = f"the two were scored with another {', '.join(differing)}"
    if why is None and not shared_questions(first, second):
        why = "the two have no compared question in common"
    effects = {} if why else effect_differences(first, second, CONTROL_METRICS)
    for metric in CONTROL_METRICS:
        words = tuple(
            finding_words(verdict, verdict.findings[metric]) if metric in verdict.findings else "reported"
            for verdict in verdicts
        )
        found = MeasureDifference(
            metric, LABELS[metric], "% of before", first.effects[metric].change, second.effects[metric].change,
            math.nan, math.nan, math.nan, CONFIDENCE, math.nan, math.nan, False, 0, (words[0], words[1]), why,
        )  # fmt: skip
        effect = effects.get(metric)
        base = _base(first, second, metric) if effect is not None and effect.questions else math.nan
        if effect is not None and base > 0:
            low, high = (100 * end / base for end in effect.interval)
            difference = 100 * effect.difference / base
            found = replace(
                found, difference=difference, low=low, high=high, p=effect.p_two_sided, questions=effect.questions
            )
        elif why is None:
            found = replace(found, not_compared="not measured")
        yield found


def _base(first: Comparison, second: Comparison, metric: str) -> float:
    """Return the size of the first run's mean before, over the questions of both."""
    shared = set(shared_questions(first, second))
    values = [
        value
        for question, value in zip(first.question_ids, first.effects[metric].before_values, strict=True)
        if question in shared and not math.isnan(value)
    ]
    return abs(float(np.mean(values))) if values else math.nan


def _differing(one: _Pair, other: _Pair) -> Iterator[str]:
    """Yield a sentence for each thing in which the two were measured differently."""
    for name in _SHOWN:
        yield from _changed(name, getattr(one.comparison, name), getattr(other.comparison, name))
    if not all((each.folder / RUN_FILE).is_file() for each in (one, other)):
        yield f"weights, versions and other settings are not known: a folder lacks {RUN_FILE}"
        return
    ours, theirs = load_run(one.folder), load_run(other.folder)
    for side in SIDES:
        prints = ours.fingerprints.get(side, ""), theirs.fingerprints.get(side, "")
        if prints[0] != prints[1]:
            yield f"weights or tokenizer of {side}: fingerprint {prints[0][:12]} → {prints[1][:12]}"
    for what, before, after in (
        ("version", ours.versions, theirs.versions),
        ("setting", ours.settings, theirs.settings),
    ):
        for name in sorted((before.keys() | after.keys()) - set(_SHOWN)):
            yield from _changed(f"{what} {name}", before.get(name), after.get(name))


def _changed(name: str, ours: object, theirs: object) -> Iterator[str]:
    """Yield what differs between two values, of tables key by key."""
    ours, theirs = (asdict(each) if isinstance(each, Requested) else each for each in (ours, theirs))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _changed(f"{name} {key}", ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield f"{name}: {_shown(ours)} → {_shown(theirs)}"


def _shown(value: object) -> str:
    return "not stated" if value is None else str(value)


def _corrected(pairs: Sequence[PairDifference]) -> list[PairDifference]:
    """Return the pairs with their p-values corrected together."""
    known = [measure.p for pair in pairs for measure in pair.measures if not math.isnan(measure.p)]
    corrected = iter(corrected_by_holm(known) if known else [])

    def with_correction(measure: MeasureDifference) -> MeasureDifference:
        if math.isnan(measure.p):
            return measure
        p = next(corrected)
        one_side = measure.low > 0 or measure.high < 0
        return replace(measure, p_corrected=p, changed=p < RELEASE_LEVEL and one_side)

    return [replace(pair, measures=tuple(map(with_correction, pair.measures))) for pair in pairs]
