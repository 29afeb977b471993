"""Write what ``rlcircuits check`` found as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from rlcircuits.release.model_findings import WHOLE, ModelFindings
from rlcircuits.release.pair_differences import PairDifferences
from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_cost_table import show_cost, show_duration
from rlcircuits.release.plan_work import Cost

__all__ = ["check_json", "check_table"]

FORMAT = "rlcircuits-check"


def check_table(checks: Sequence[ModelFindings], differences: PairDifferences | None, plan: Plan | None) -> str:
    """Return the text: what was found in each checkpoint, how two differ, and what measuring takes.

    What the second checkpoint has in common with the first is named, and not told again.

    Args:
        checks: One or two checkpoints.
        differences: How two checkpoints differ; None for one.
        plan: What measuring takes; None if no question set was given.
    """
    blocks = ["\n".join(_model_lines(check, checks[0] if place else None)) for place, check in enumerate(checks)]
    if differences is not None:
        blocks.append("\n".join(_difference_lines(differences)))
    if plan is not None:
        blocks.append("\n".join(_plan_lines(plan, [check.name for check in checks])))
    return "\n\n".join(blocks)


def check_json(checks: Sequence[ModelFindings], differences: PairDifferences | None, plan: Plan | None) -> str:
    """Return the same as one JSON document; the arguments are those of :func:`check_table`."""
    document = {
        "format": FORMAT,
        "version": 1,
        "supported": all(check.supported for check in checks) and not (differences and differences.problems),
        "models": [{**asdict(check), "supported": check.supported, "graphs": _graphs(check)} for check in checks],
        "differences": None if differences is None else asdict(differences),
        "cost": None if plan is None else _cost(plan, [check.name for check in checks]),
    }
    return json.dumps(document, indent=1)


def _graphs(check: ModelFindings) -> list[dict[str, Any]]:
    return [{**asdict(graph), "nodes": graph.nodes} for graph in check.graphs]


def _model_lines(check: ModelFindings, first: ModelFindings | None) -> Iterator[str]:
    """Yield the lines of a checkpoint; those that the first checkpoint has too are left out."""
    yield f"{check.name}: {'supported' if check.supported else 'not supported'}"
    for problem in check.problems:
        yield f"  problem: {problem}"
    for note in check.notes:
        yield f"  note: {note}"
    told = set() if first is None else set(_facts(first))
    facts = [(name, value) for name, value in _facts(check) if value]
    same = [name for name, value in facts if (name, value) in told]
    facts = [fact for fact in facts if fact not in told]
    graphs, parts = check.graphs, check.parts
    if first is not None and graphs and graphs == first.graphs:
        graphs, same = (), [*same, "graphs"]
    if first is not None and parts and (parts, check.checked) == (first.parts, first.checked):
        parts, same = {}, [*same, "parts"]
    if first is not None and same:
        yield f"  the same as in {first.name}: {', '.join(same)}"
    if facts:
        yield ""
        yield tabulate(facts, tablefmt="plain", disable_numparse=True)
    if graphs:
        sizes = [
            [each.granularity, *(f"{number:,}" for number in (each.nodes, each.writers, each.readers, each.edges))]
            for each in graphs
        ]
        yield ""
        yield tabulate(
            sizes,
            ("graph", "nodes", "writers", "readers", "edges"),
            disable_numparse=True,
            colalign=("left", *["right"] * 4),
        )
    if parts:
        yield ""
        yield tabulate(list(parts.items()), ("part", f"where it is in {check.checked}"), disable_numparse=True)
    if check.agreements:
        rows = [[each.what, f"{each.error:.1e}", f"{each.allowed:.0e}"] for each in check.agreements]
        headers = (f"checked in {check.checked}", "relative error", "at most")
        yield ""
        yield tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "right"))


def _difference_lines(differences: PairDifferences) -> Iterator[str]:
    if differences.problems:
        yield "The two cannot be compared:"
        yield from (f"  problem: {problem}" for problem in differences.problems)
    yield "What differs between the two, beside the weights' values:"
    yield from (f"  {one}" for one in differences.warnings or ("nothing that is told without running the models",))


def _facts(check: ModelFindings) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each fact; the text is empty if it is not known."""
    yield "adapter", f"LoRA, merged into {check.adapter_base}" if check.adapter_base else ""
    yield "family", " ".join([check.family or "", f"({check.model_class})" if check.model_class else ""]).strip()
    yield "size", ", ".join(_sizes(check))
    yield "weights", ", ".join(_weights(check))
    if check.family is not None:
        yield "context", "no limit" if check.context_length is None else f"{check.context_length:,} tokens"
    yield "tokenizer", check.tokenizer or ""
    yield "chat template", {None: "", True: "yes", False: "no"}[check.chat_template]
    if check.end_tokens is not None:
        yield "end tokens", ", ".join(f"{text} ({one})" for one, text in check.end_tokens.items()) or "none"


def _sizes(check: ModelFindings) -> Iterator[str]:
    if check.layers is not None:
        yield f"{check.layers} layers"
    if check.heads is not None:
        shared = f" ({check.kv_heads} for keys and values)" if check.kv_heads != check.heads else ""
        yield f"{check.heads} heads of {check.head_dim} features{shared}"
    if check.width is not None:
        yield f"width {check.width:,}"
    if check.vocabulary is not None:
        yield f"vocabulary {check.vocabulary:,}"


def _weights(check: ModelFindings) -> Iterator[str]:
    if check.parameters is not None:
        yield f"{check.parameters:,} parameters"
    if check.stored_dtypes:
        yield f"stored as {' and '.join(check.stored_dtypes)}"
    if check.quantised:
        yield f"quantised ({check.quantised})"
    if check.dtype:
        yield f"{'dequantised to' if check.quantised else 'loaded as'} {check.dtype}"
    if check.tied_embeddings is not None:
        yield f"embeddings {'tied' if check.tied_embeddings else 'not tied'}"
    if check.checked == WHOLE:
        yield "each has its place and is finite"


def _alone(plan: Plan, name: str) -> Cost:
    """Return what one checkpoint of the plan takes: its answers, and their scores."""
    works = [work for work in plan.pairs[0].work if work.model == name and work.part in ("before", "after")]
    return Cost.of(works[:1])


def _plan_lines(plan: Plan, names: Sequence[str]) -> Iterator[str]:
    pair = plan.pairs[0]
    yield f"On {pair.asked:,} questions of {pair.questions}, each answered {pair.n} times:"
    models = {model.name: model for model in plan.models}
    for name in names:
        cost, model = _alone(plan, name), models[name]
        seconds = plan.seconds_for(cost)
        if model.problem:
            yield f"  {name}: the memory is not known, since {model.problem}"
        else:
            yield (
                f"  {name}: {_bytes(model.weight_bytes)} for the weights, at most {_bytes(model.cache_bytes)} "
                f"for the key-value cache while answering"
            )
        scored = "an unknown number of" if cost.scored_tokens is None else f"{cost.scored_tokens:,}"
        yield (
            f"  {name}: at most {cost.tokens_left:,} answer tokens and {scored} scored tokens, "
            f"{'time unknown' if seconds is None else f'in at most {show_duration(seconds)}'}"
        )
    speeds = [
        f"{speed:,.0f} tokens a second {what}"
        for speed, what in ((plan.answers_per_second, "generated"), (plan.scores_per_second, "scored"))
        if speed
    ]
    if speeds:
        yield f"  timed here on a small batch: {', '.join(speeds)}; larger batches are faster"
    for problem in pair.problems:
        yield f"  problem: {problem}"
    if len(names) > 1:
        yield ""
        yield from show_cost(plan)


def _cost(plan: Plan, names: Sequence[str]) -> dict[str, Any]:
    pair, models = plan.pairs[0], {model.name: model for model in plan.models}
    alone = {name: _alone(plan, name) for name in names}
    return {
        "questions": pair.questions,
        "asked": pair.asked,
        "answers_each": pair.n,
        "answer_tokens_per_second": plan.answers_per_second,
        "scored_tokens_per_second": plan.scores_per_second,
        "models": [
            {
                "name": name,
                "weight_bytes": models[name].weight_bytes,
                "cache_bytes": models[name].cache_bytes,
                "problem": models[name].problem,
                "answer_tokens": cost.tokens_left,
                "scored_tokens": cost.scored_tokens,
                "seconds": plan.seconds_for(cost),
            }
            for name, cost in alone.items()
        ],
        "pair": None
        if len(names) == 1
        else {"answer_tokens": plan.answer_tokens, "scored_tokens": plan.scored_tokens, "seconds": plan.seconds},
        "problems": list(pair.problems),
    }


def _bytes(number: int | None) -> str:
    if number is None:
        return "unknown"
    return f"{number / 1e9:,.2f} GB" if number >= 1e8 else f"{number / 1e6:,.2f} MB"
