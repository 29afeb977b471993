"""Write as a table for a terminal what each part of a planned run costs: each noise draw, each group, the reference."""

from __future__ import annotations

import math
from dataclasses import replace

from tabulate import tabulate

from rlcircuits.common.reprs import format_count
from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_work import GREEDY, PARTS, Cost, ModelWork

_HEADERS = ("part", "models", "answers", "there already", "answer tokens ≤", "scored ≤", "scored tokens ≤")


def show_cost(plan: Plan) -> list[str]:
    """Return the lines that say what is left to do costs: a table by part of the run, and notes below it.

    Answers that several pairs share count once.
    """
    if not plan.left:
        return ["Nothing is left to do: every pair is measured."]
    total = Cost.of(plan.left)
    timed = plan.seconds_for(total) is not None
    rows = []
    for part in PARTS:
        works = [work for work in plan.left if work.part == part]
        if works:
            rows.append([_plural(part, works), *_numbers(Cost.of(works)), _size(plan, Cost.of(works), total)])
    rows.append(["all", *_numbers(total), _size(plan, total, total)])
    table = tabulate(
        rows,
        (*_HEADERS, "time ≤" if timed else "share of the answer tokens, of the scored"),
        disable_numparse=True,
        colalign=("left", *["right"] * 7),
    )
    return ["What is left to do costs, by part of the run:", "", table, "", *_notes(plan, total)]


def show_duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours, rounded up but for the hours."""
    if seconds <= 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _plural(part: str, works: list[ModelWork]) -> str:
    return {"noise draw": "noise draws", "noise on a group": "noise on groups"}.get(part, part)


def _numbers(cost: Cost) -> list[str]:
    scored = "unknown" if cost.scored_tokens is None else f"{cost.scored_tokens:,}"
    counts = (cost.models, cost.answers, cost.stored, cost.tokens_left, cost.scored)
    return [*(f"{count:,}" for count in counts), scored]


def _size(plan: Plan, cost: Cost, total: Cost) -> str:
    """Write a cost as a duration if one is known, else as shares of what the whole run takes."""
    seconds = plan.seconds_for(cost)
    if seconds is not None and plan.seconds_for(total) is not None:
        return show_duration(seconds)
    scored = "unknown" if cost.scored_tokens is None else _percent(cost.scored_tokens, total.scored_tokens)
    return f"{_percent(cost.tokens_left, total.tokens_left)}, {scored}"


def _percent(part: int, total: int | None) -> str:
    return f"{100 * part / total:.0f} %" if total else "0 %"


def _notes(plan: Plan, total: Cost) -> list[str]:
    notes = []
    several = sorted({pair.n for pair in plan.pairs if not pair.measured and pair.n > 1})
    # A greedy answer is given once to each question, whatever n is.
    beside = " (greedy answers do not depend on n)" if any(work.part == GREEDY for work in plan.left) else ""
    for n in several:
        notes.append(
            f"Each model gives {n} answers to each question. n = 1 would need 1/{n} of the sampled answers and of the "
            f"scores{beside}."
        )
    for passes in sorted({work.passes for work in plan.left if work.scored} - {1}):
        notes.append(
            f"To score an answer takes {passes:g} forwards and backwards, by the metric, the method and the "
            f"counterfactuals; the default takes one. Scored tokens count each of them."
        )
    for part, name in (("noise draw", "Each noise draw"), ("noise on a group", "Noise on each group of tensors")):
        works = [work for work in plan.left if work.part == part]
        if works:
            dearest = Cost.of([max(works, key=lambda work: (work.tokens_left, work.scored_tokens or 0))])
            notes.append(f"{name} takes {_one(dearest)} at most: {_in_words(plan, dearest, total)}.")
    circuits = [work for work in plan.left if work.part == "circuits"]
    if circuits:
        cost = Cost.of(circuits)
        notes.append(
            f"[circuits] runs {format_count(cost.scored, 'answer')} without an edge or a circuit at most, which takes "
            f"no more than to score as many."
        )
    return [*notes, *_saving(plan, total)]


def _one(cost: Cost) -> str:
    left = cost.answers - cost.stored
    scored = f"the scoring of {cost.scored:,} answers"
    return f"{left:,} new answers and {scored}" if left else scored


def _in_words(plan: Plan, cost: Cost, total: Cost) -> str:
    seconds = plan.seconds_for(cost)
    if seconds is not None and plan.seconds_for(total) is not None:
        return show_duration(seconds)
    shares = [f"{_percent(cost.tokens_left, total.tokens_left)} of the answer tokens"] if cost.tokens_left else []
    if cost.scored_tokens != 0:
        known = cost.scored_tokens is not None
        share = _percent(cost.scored_tokens or 0, total.scored_tokens) if known else "an unknown share"
        shares.append(f"{share} of the scored tokens")
    return " and ".join(shares)


def _saving(plan: Plan, total: Cost) -> list[str]:
    """Say what it saves to score the noise draws on before's answers."""
    draws = [work for work in plan.left if work.part == "noise draw"]
    if not draws:
        return []
    if plan.noise_answers == "before":
        return ['With noise_answers = "before" the noise draws generate no answers, and are scored on before\'s.']
    cost = replace(Cost.of(draws), scored=0, scored_tokens=0)
    left = cost.answers - cost.stored
    if not left:
        return []
    return [
        f'noise_answers = "before" would save {format_count(left, "answer")} of the noise draws: '
        f"{_in_words(plan, cost, total)}."
    ]
