"""Write a plan as tables for a terminal."""

from __future__ import annotations

from tabulate import tabulate

from rlcircuits.release.plan import PairPlan, Plan
from rlcircuits.release.plan_bill_lines import show_bill
from rlcircuits.release.plan_cost_table import show_cost, show_duration
from rlcircuits.release.plan_power_table import show_detectable
from rlcircuits.release.plan_signs_table import show_sign_costs


def show_plan(plan: Plan, workers: int | None = None) -> str:
    """Return a plan as text: tables of the pairs, the models, the cost of what is left, and what can be detected.

    Args:
        plan: the plan.
        workers: what is left is told for so many workers too; None for one process alone.
    """
    pairs = [
        [
            pair.name,
            pair.questions,
            str(pair.asked) if pair.n == 1 else f"{pair.asked} × {pair.n}",
            len(pair.answering) or "recorded",
            _count(pair.answering[0].prompt_tokens) if pair.answering else "",
            _count(sum(work.answer_tokens for work in pair.answering)),
            _count(pair.scored_tokens),
            "measured" if pair.measured else _stored(pair),
        ]
        for pair in plan.pairs
    ]
    headers = (
        "pair",
        "questions",
        "asked",
        "of models",
        "prompt tokens",
        "answer tokens ≤",
        "scored tokens ≤",
        "there already",
    )
    models = [
        [
            model.name,
            _count(model.parameters),
            _bytes(model.weight_bytes),
            _bytes(model.cache_bytes),
            model.problem or "",
        ]
        for model in plan.models
    ]
    wait = "unknown until the first answers" if plan.seconds is None else f"at most {show_duration(plan.seconds)}"
    lines = [
        tabulate(
            pairs, headers, disable_numparse=True, colalign=_align(headers, ("pair", "questions", "there already"))
        ),
        "",
        tabulate(
            models,
            ("model", "parameters", "weights", "cache while answering", ""),
            disable_numparse=True,
            colalign=("left", "right", "right", "right", "left"),
        ),
        "",
        *show_cost(plan),
        "",
        *([] if workers is None else [*show_bill(plan, workers), ""]),
        *show_sign_costs(plan),
        "",
        *show_detectable(plan),
        "",
        "One model is loaded at a time, and for the noise control after's weights are on the CPU beside it; where"
        " models run on the CPU, a copy of a before of up to 1 GiB is too. Attribution fits its batches to the memory"
        " that is left.",
        f"To do: {_count(plan.answer_tokens)} answer tokens at most, {_count(plan.scored_tokens)} tokens to score;"
        f" time: {wait}.",
        *([f"Not counted: {', '.join(plan.unplanned)}, which cannot be planned."] if plan.unplanned else []),
    ]
    return "\n".join(lines)


def _stored(pair: PairPlan) -> str:
    stored, answers = (sum(getattr(work, name) for work in pair.answering) for name in ("stored", "answers"))
    return f"{stored:,} of {answers:,} answers" if stored else "nothing"


def _align(headers: tuple[str, ...], left: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("left" if header in left else "right" for header in headers)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _bytes(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 1e9:,.2f} GB"
