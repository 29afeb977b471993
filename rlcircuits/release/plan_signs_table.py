"""Write as a table for a terminal what each source of vital signs costs, and which signs each gives."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_cost_table import show_duration
from rlcircuits.release.plan_signs import SignCost
from rlcircuits.release.plan_work import Cost
from rlcircuits.vital_signs.names import MEASURED_FROM

__all__ = ["show_sign_costs"]

_HEADERS = ("signs from", "new answers ≤", "answer tokens ≤", "answers read", "tokens read ≤", "weights read")
_WITHOUT_OPTION = ("answers", "weights", "log-probabilities")
_LINE_LENGTH = 120


def show_sign_costs(plan: Plan) -> list[str]:
    """Return the lines that say what the signs of all pairs cost, beside the run itself."""
    by_source = {
        source: [each for pair in plan.pairs for each in pair.signs if each.source == source]
        for source in MEASURED_FROM
    }
    costs = {source: _sum(each) for source, each in by_source.items()}
    timed = all(plan.seconds_for(cost) is not None for cost in costs.values())
    rows = [
        [
            source if source in _WITHOUT_OPTION else f"--answer-anew {source}",
            *(f"{count:,}" for count in (cost.answers, cost.tokens_left, cost.scored)),
            "unknown" if cost.scored_tokens is None else f"{cost.scored_tokens:,}",
            _bytes(by_source[source]),
            *([show_duration(plan.seconds_for(cost) or 0)] if timed else []),
        ]
        for source, cost in costs.items()
    ]
    who = (
        "rlcircuits compare and pytest measure the first three, since the file has a table [signs]; rlcircuits signs "
        "measures them"
        if plan.gates_signs
        else "rlcircuits signs measures the first three"
    )
    table = tabulate(
        rows,
        (*_HEADERS, *(["time ≤"] if timed else [])),
        disable_numparse=True,
        colalign=("left", *["right"] * (len(_HEADERS) - 1 + timed)),
    )
    names = [
        textwrap.fill(f"{source}: {', '.join(signs)}", _LINE_LENGTH, subsequent_indent="  ", break_on_hyphens=False)
        for source, signs in MEASURED_FROM.items()
    ]
    title = f"Vital signs cost, beside that ({who}, and the others on request):"
    return [*textwrap.wrap(title, _LINE_LENGTH, break_on_hyphens=False), "", table, "", *names]


def _sum(each: Sequence[SignCost]) -> Cost:
    """Return the sum over pairs; each pair's models read and answer anew for themselves."""
    tokens = [one.cost.scored_tokens for one in each]
    return Cost(
        models=sum(one.cost.models for one in each),
        answers=sum(one.cost.answers for one in each),
        stored=0,
        tokens_left=sum(one.cost.tokens_left for one in each),
        scored=sum(one.cost.scored for one in each),
        scored_tokens=None if None in tokens else sum(found or 0 for found in tokens),
    )


def _bytes(each: Sequence[SignCost]) -> str:
    found = [one.weight_bytes for one in each]
    if None in found:
        return "unknown"
    total = sum(count or 0 for count in found)
    return f"{total / 1e9:,.2f} GB" if total >= 1e8 else f"{total / 1e6:,.1f} MB" if total else "0"
