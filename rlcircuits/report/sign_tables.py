"""Write vital signs as text tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict

from tabulate import tabulate

from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.significance import format_p
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.vital_signs.rollout_summary import RolloutSummary
from rlcircuits.vital_signs.sign import Sign


def signs_table(found: PairSigns) -> str:
    """Return a pair's signs as a table (change with its interval, noise, p, outcome), and below it a note on each."""
    draws = f", {found.noise_draws} noise draws" if found.noise_draws else ", no noise draws"
    return f"{found.name}: vital signs{draws}\n{_table(found.signs)}"


def path_table(sign: Sign, before: str, path: Sequence[str], steps: Sequence[float]) -> str:
    """Return how straight a training's path is, as the table of one sign.

    Args:
        sign: the linearity.
        before: the checkpoint before the training.
        path: the others, in order.
        steps: the training step of each.
    """
    title = f"{before}: path of {len(path)} checkpoints, from step {steps[0]:g} to {steps[-1]:g} ({path[-1]})"
    return f"{title}\n{_table([sign], noise='random walks')}"


def path_json(sign: Sign, before: str, path: Sequence[str], steps: Sequence[float]) -> str:
    """Return the same as JSON: the checkpoints with their steps, and the sign."""
    places = [{"checkpoint": each, "step": step} for each, step in zip(path, steps, strict=True)]
    document = {"before": before, "path": places, "sign": without_nan(asdict(sign))}
    return json.dumps(document, indent=1, allow_nan=False)


def _table(signs: Sequence[Sign], noise: str = "noise") -> str:
    rows = [
        (
            sign.name,
            sign.unit,
            "" if sign.before is None else f"{_number(sign.before)} → {_number(sign.after)}",
            _change(sign),
            f"{_number(min(sign.noise), '+')} to {_number(max(sign.noise), '+')}" if sign.noise else "",
            "" if sign.p is None else format_p(sign.p),
            sign.outcome,
        )
        for sign in signs
    ]
    table = tabulate(
        rows,
        ("sign", "unit", "before → after", "change", noise, "p", "outcome"),
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "right", "right", "left"),
    )
    return "\n".join([table, *(f"{sign.name}: {sign.note}" for sign in signs)])


def failures_line(found: Sequence[PairSigns], failing: Sequence[tuple[str, str]], gated: Collection[str]) -> str:
    """Return one line that says which gated signs fail the release, and which were not measured."""
    if not gated:
        return "no sign is gated"
    if failing:
        line = "fails: " + "; ".join(f"{sign} of {pair}" for pair, sign in failing)
    else:
        line = f"no gated sign fails ({', '.join(gated)})"
    missing = [
        f"{name} of {pair.name}"
        for pair in found
        for name in gated
        if all(sign.name != name or sign.outcome == "not measurable" for sign in pair.signs)
    ]
    return f"{line}; not measured: {', '.join(missing)}" if missing else line


def signs_json(found: Sequence[PairSigns], failing: Sequence[tuple[str, str]]) -> str:
    """Return the signs of all pairs as JSON: by pair the list of signs, and which fail the release."""
    pairs = [without_nan(asdict(one)) for one in found]
    failures = [{"pair": pair, "sign": sign} for pair, sign in failing]
    return json.dumps({"pairs": pairs, "failing": failures}, indent=1, allow_nan=False)


def rollouts_table(steps: Sequence[RolloutSummary], signs: Sequence[Sign] = ()) -> str:
    """Return a summary of stored rollouts as a table, one row a training step; below it signs of all of them."""
    rows = [
        (
            "" if each.step is None else each.step,
            each.questions,
            each.answers,
            *map(_number, (each.accuracy, each.solved, each.dead, each.small_advantages, each.signal)),
            "" if each.pass_at_k is None else f"{each.pass_at_k:.3g} (k = {each.k})",
            _number(each.formats),
            _number(each.calls),
            f"{_number(each.right_length)} / {_number(each.wrong_length)}",
        )
        for each in steps
    ]
    headers = (
        "step",
        "questions",
        "answers",
        "accuracy",
        "all right",
        "all wrong",
        "|A| < 0.1",
        "signal",
        "pass@k",
        "formats",
        "calls",
        "length right / wrong",
    )
    table = tabulate(rows, headers, disable_numparse=True, colalign=["right"] * len(headers))
    return f"{table}\n\n{_table(signs)}" if signs else table


def rollouts_json(steps: Sequence[RolloutSummary], signs: Sequence[Sign] = ()) -> str:
    """Return a summary of stored rollouts as JSON: a list with one object a training step; with signs, both by name."""
    summaries = [without_nan(asdict(each)) for each in steps]
    document = {"steps": summaries, "signs": [without_nan(asdict(sign)) for sign in signs]} if signs else summaries
    return json.dumps(document, indent=1, allow_nan=False)


def _change(sign: Sign) -> str:
    if sign.change is None:
        return ""
    text = _number(sign.change, "+" if sign.before is not None else "")
    if sign.interval is None:
        return text
    low, high = (_number(end, "+" if sign.before is not None else "") for end in sign.interval)
    return f"{text} [{low}, {high}]"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3g}"
