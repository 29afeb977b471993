"""The tables of a calibration, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean, median
from typing import TypeVar

from tabulate import tabulate

from rlcircuits.calibration.execute import SAMPLES
from rlcircuits.calibration.rates import agreement, event_rate
from rlcircuits.calibration.run_record import Run
from rlcircuits.calibration.tasks import CLAIMING
from rlcircuits.comparison.outcome import OUTCOMES, Outcome
from rlcircuits.comparison.profiles import ACCURACY

_T = TypeVar("_T")

MUST_NOT_HOLD = ("untrained", "supervised", "damaged")
"""The tags of variants that a gate must not take for online RL, or must not pass when accuracy was lost."""

LOST = 0.02
"""A damaged checkpoint lost accuracy if it has more than this less than the undamaged one, as a share."""


def null_table(runs: Sequence[Run]) -> str:
    """Return how often nulls show the pattern: one checkpoint twice, and noise judged by other noise."""
    nulls = _of(runs, "nulls")
    noisy = [run for run in _of(runs, "repeatability") if run.noise_draws]
    draws = sum(run.noise_draws for run in noisy)
    rows = [
        [
            "one checkpoint, two sampling seeds",
            event_rate(sum(run.pattern for run in nulls), len(nulls)).words,
            event_rate(sum(run.outcome == "holds" for run in nulls), len(nulls)).words,
            event_rate(sum(run.findings[ACCURACY] == "holds" for run in nulls), len(nulls)).words,
        ],
        [
            "before with noise that matches the update, judged by other such noise",
            event_rate(sum(run.noise_patterns for run in noisy), draws).words,
            "",
            "",
        ],
    ]
    return _table(rows, ["null", "shows the pattern", "`online-rl` holds", "accuracy rose"])


def repeatability_table(runs: Sequence[Run]) -> str:
    """Return each pair's outcomes over the sampling seeds."""
    rows = [
        [name, *(sum(run.outcome == outcome for run in each) for outcome in OUTCOMES), _undecided(each)]
        for name, each in _by(_of(runs, "repeatability"), lambda run: run.name).items()
    ]
    return _table(rows, ["pair", *OUTCOMES, "what decides"])


def repeatability_words(runs: Sequence[Run]) -> str:
    """Return how often two runs of one pair contradict each other, and how often they differ."""
    found = agreement(_outcomes(_of(runs, "repeatability"), lambda run: run.outcome))
    low, high = found.differ_interval
    over = "" if low != low else f" (95 % interval over the pairs: {100 * low:.1f} to {100 * high:.1f} %)"
    return (
        f"Over {found.runs} runs of {found.pairs} pairs, two runs of one pair contradict each other (*holds* against "
        f"*does not hold*) in {100 * found.contradict:.1f} % of cases, and have another outcome of any kind in "
        f"{100 * found.differ:.1f} %{over}."
    )


def power_table(runs: Sequence[Run]) -> str:
    """Return the share of runs that hold, and how often two disagree, by number of answers and of questions."""
    chosen = _of(runs, "answers") + _of(runs, "repeatability")
    rows = []
    for n in sorted({run.n for run in chosen}):
        for k in (*SAMPLES, None):
            judged = [run for run in chosen if run.n == n and (k is None or k in run.by_k)]

            def outcome(run: Run, k: int | None = k) -> Outcome:
                return run.outcome if k is None else run.by_k[k]

            found = agreement(_outcomes(judged, outcome))
            shares = [
                f"{100 * sum(outcome(run) == wanted for run in judged) / max(len(judged), 1):.0f} %"
                for wanted in OUTCOMES
            ]
            disagree = [f"{100 * share:.1f} %" for share in (found.contradict, found.differ)]
            rows.append([n, "all" if k is None else k, len(judged), *shares, *disagree])
    return _table(rows, ["n", "K", "runs", *OUTCOMES, "two runs contradict", "two runs differ"])


def noise_answers_table(runs: Sequence[Run]) -> str:
    """Return what changes if the noise draws are scored on before's answers instead of their own."""
    own = {(run.name, run.seed): run for run in _of(runs, "repeatability")}
    both = [(own[run.name, run.seed], run) for run in _of(runs, "noise-answers") if (run.name, run.seed) in own]
    rows = [
        [ours, *(sum((a.outcome, b.outcome) == (ours, theirs) for a, b in both) for theirs in OUTCOMES)]
        for ours in OUTCOMES
    ]
    return _table(rows, ["draws on their own answers", *(f"on before's: {outcome}" for outcome in OUTCOMES)])


def sabotage_table(runs: Sequence[Run]) -> str:
    """Return the outcomes of the sabotage suite by tag and kind of damage."""
    rows = []
    for (tag, kind), each in _by(_of(runs, "sabotage"), lambda run: (run.tag, run.kind)).items():
        variants = _by(each, lambda run: (run.base, run.name))
        claimed = tag in CLAIMING
        rows.append(
            [
                tag,
                kind,
                len(variants),
                len(each),
                *(sum(run.without_claim == outcome for run in each) for outcome in OUTCOMES),
                *(
                    [sum(run.outcome == "holds" for run in each), sum(run.outcome == "does not hold" for run in each)]
                    if claimed
                    else ["", ""]
                ),
            ]
        )
    headers = ["tag", "kind", "variants", "runs", *OUTCOMES, "with the claim: holds", "with the claim: does not hold"]
    return _table(rows, headers)


def passing_table(runs: Sequence[Run]) -> str:
    """Return the untrained, supervised and damaged variants that hold in any run, with their accuracies."""
    rows = []
    for (_, base, name), each in _by(_of(runs, "sabotage"), lambda run: (run.tag, run.base, run.name)).items():
        held = [run for run in each if run.without_claim == "holds"]
        if held and each[0].tag in MUST_NOT_HOLD:
            accuracy = f"{median(run.before for run in each):.3f} → {median(run.after for run in each):.3f}"
            claimed = sum(run.outcome == "holds" for run in each) if each[0].tag == "damaged" else ""
            rows.append([each[0].tag, f"{base} {name}", accuracy, f"{len(held)} of {len(each)}", claimed])
    return _table(rows, ["tag", "variant", "accuracy", "holds", "holds with the claim"]) if rows else "None."


def damaged_words(runs: Sequence[Run]) -> str:
    """Return how often a damaged checkpoint that lost accuracy holds, with and without the claim."""
    damaged = [run for run in _of(runs, "sabotage") if run.tag == "damaged"]
    lost: list[Run] = []
    for each in _by(damaged, lambda run: (run.base, run.name)).values():
        fell = mean(run.reference - run.after for run in each if run.reference is not None)
        lost += each if fell > LOST else []
    variants = len({(run.base, run.name) for run in lost})
    claimed = sum(run.outcome == "holds" for run in lost)
    unclaimed = sum(run.without_claim == "holds" for run in lost)
    return (
        f"{variants} damaged variants lost more than {100 * LOST:.0f} points of accuracy against the undamaged "
        f"checkpoint. Of their {len(lost)} runs, {claimed} hold if the release claims the undamaged accuracy, and "
        f"{unclaimed} if it claims nothing."
    )


def harmless_words(runs: Sequence[Run]) -> str:
    """Return how often a harmless change turns a pair that holds into one that does not."""
    harmless = [run for run in _of(runs, "sabotage") if run.tag == "harmless"]
    failed = sum(run.outcome == "does not hold" for run in harmless)
    return f"Of {len(harmless)} runs with a harmless change, {failed} do not hold."


def cost_words(runs: Sequence[Run]) -> str:
    """Return what a run costs by number of answers."""
    found = []
    for n, each in sorted(_by(_of(runs, "answers") + _of(runs, "repeatability"), lambda run: run.n).items()):
        found.append(f"{median(run.seconds for run in each):.0f} s with n = {n}")
    return f"The median run of one pair on one core: {', '.join(found)}."


def _undecided(runs: Iterable[Run]) -> str:
    """Return what does not hold or is inconclusive in any of the runs, with how often."""
    found: dict[str, int] = {}
    for run in runs:
        for measure, outcome in run.findings.items():
            if outcome != "holds":
                found[f"{measure} {outcome}"] = found.get(f"{measure} {outcome}", 0) + 1
    return ", ".join(f"{words} ({count})" for words, count in found.items())


def _outcomes(runs: Iterable[Run], outcome: Callable[[Run], Outcome]) -> dict[str, list[Outcome]]:
    return {name: [outcome(run) for run in each] for name, each in _by(runs, lambda run: run.name).items()}


def _of(runs: Iterable[Run], part: str) -> list[Run]:
    return [run for run in runs if run.part == part]


def _by(runs: Iterable[Run], key: Callable[[Run], _T]) -> dict[_T, list[Run]]:
    found: dict[_T, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
