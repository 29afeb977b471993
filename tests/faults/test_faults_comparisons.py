"""Stored comparisons: every field missing, misspelt or of every type, inconsistent parts, and odd names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import Fault, run
from mutations import (
    JSON_ODDITIES,
    JSON_VALUES,
    damaged,
    dotted,
    doubled,
    fields,
    is_json,
    renamed,
    replaced,
    values,
    without,
)
from valid_inputs import comparison

KIND = "comparison"
FILE = "comparison.json"
STORED: dict[str, Any] = json.loads(comparison())
METRIC = "intensity"

OPTIONAL = (
    "key",
    "verdict",
    "comparison.trust_remote_code",
    "comparison.unfinished",
    "comparison.rules",
    "comparison.claims",
    "comparison.group_controls",
    "comparison.weights",
    "comparison.differences",
    "comparison.greedy",
    "comparison.supervised",
    "comparison.requested",
    "comparison.accuracy.interval",
    "comparison.sampling.",
    "comparison.by_",
)
"""Prefixes of the fields that a comparison can be shown without."""

_NOT_NAMED = {*JSON_VALUES, *JSON_ODDITIES} - {"5,000 digits", "100,000 deep", "1e400", "NaN", "minus infinity"}
_TEXTS = {"text", "empty text"}
_NUMBERS = {"zero", "minus one", "whole", "fraction", "31 digits", "minus zero"}
_SHARES = {"zero", "fraction", "minus zero"}
ALLOWED: Mapping[str, set[str]] = {
    "key": {"null", *_TEXTS},
    "verdict": _NOT_NAMED,  # never read back
    **{f"comparison.{name}": _TEXTS for name in ("before", "after", "algorithm", "questions", "split", "granularity")},
    **{f"comparison.{name}": _TEXTS for name in ("name", "engine")},
    "comparison.note": {"null", *_TEXTS},
    "comparison.prompting": {"null", "object", "object of null"},
    "comparison.trust_remote_code": {"true"},
    **{f"comparison.{name}": _NUMBERS for name in ("alpha", "balance", "ref")},
    "comparison.t_cut": {"whole", "31 digits"},
    **{f"comparison.{name}": {"object"} for name in ("sampling", "funnel", "dropped")},
    **{f"comparison.by_{name}": {"object"} for name in ("reader_kind", "layer_band")},
    **{f"comparison.sampling.{name}": _NUMBERS for name in ("temperature", "top_p", "max_new_tokens", "seed")},
    "comparison.controls": {"list"},
    "comparison.controls.0.draw": {"zero", "whole", "minus one", "31 digits"},
    "comparison.controls.0.k": {"zero", "whole"},
    "comparison.controls.0.accuracy": _SHARES,
    "comparison.controls.0.shifts": {"object"},
    **{f"comparison.accuracy.{name}": _SHARES for name in ("before", "after", "p_fall")},
    **{f"comparison.accuracy.{name}": {"zero", "whole"} for name in ("lost", "gained")},
    "comparison.accuracy.asked": {"31 digits"},
    **{f"comparison.{name}": {"null"} for name in ("rules", "weights", "greedy", "supervised", "requested")},
    "comparison.accuracy.interval": {"null"},
    **{f"comparison.unfinished.{name}": _SHARES for name in ("before", "after")},
    **{f"comparison.{name}": {"list"} for name in ("claims", "group_controls", "differences")},
}  # fmt: skip
OF_EFFECTS: Mapping[str, set[str]] = {
    **{key: {"null", *_NUMBERS} for key in ("before", "after", "change", "difference")},
    **dict.fromkeys(("p_up", "p_down", "p_two_sided"), _SHARES),
    "win_share": {"null", *_SHARES},
}
"""The values, by name, that each field accepts."""


def write(data: bytes | Callable[[], str], *options: str) -> list[str]:
    """Write the file, and return the command that shows it. A function makes the file's text."""
    folder = Path("out", "pair")
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(data().encode() if callable(data) else data)
    return ["report", "out", *options]


def faults() -> Iterator[Fault]:
    paths = [path for path in fields(STORED) if _is_tried(path)]
    for path in paths:
        where, last = dotted(path), str(path[-1])
        harmless = where.startswith(OPTIONAL)
        says = (FILE, last)
        yield Fault(KIND, f"{where} missing", partial(write, partial(without, STORED, path)), says, harmless)
        if path in paths[::9]:
            yield Fault(KIND, f"{where} misspelt", partial(write, partial(renamed, STORED, path)), (FILE,), harmless)
            yield Fault(KIND, f"{where} twice", partial(write, partial(doubled, STORED, path)), says)
    for path, name, value in values(paths, JSON_VALUES, JSON_ODDITIES, 3):
        where, last = dotted(path), str(path[-1])
        allowed = ALLOWED.get(where, OF_EFFECTS.get(last, set()) if len(path) > 3 else set())
        made = partial(write, partial(replaced, STORED, path, value))
        yield Fault(KIND, f"{where} is {name}", made, (FILE,), name in allowed)
    for name, data in damaged(comparison(), cuts=12, flips=12):
        harmless = name in ("CRLF", "byte order mark") or (name.startswith("bit") and is_json(data))
        yield Fault(KIND, f"file: {name}", partial(write, data), (FILE,), harmless)
    for name, changed in edited().items():
        yield Fault(KIND, name, partial(write, json.dumps(changed).encode()), (FILE, "field 'comparison."))
    for number, name in enumerate(NAMES):
        changed = json.loads(comparison())
        changed["comparison"]["name"] = name
        shown = ("--html", "page.html") if number % 2 else ("--plot", "plot.svg")
        made = partial(write, json.dumps(changed).encode(), *shown)
        yield Fault(KIND, f"named {name[:12]!r}", made, (FILE, "comparison.name"), name.isprintable())


def _is_tried(path: tuple[str | int, ...]) -> bool:
    """Return False for the fields that are skipped: those of most effects, which are alike, and of lists by name."""
    if path[0] == "verdict":
        return len(path) == 1
    if path[:2] == ("comparison", "effects"):
        return len(path) < 3 or path[2] == METRIC or path[2:] == ("loss",)
    if path[:2] == ("comparison", "controls"):
        return len(path) < 5 or path[4] == METRIC
    return path[1:2] not in (("dropped",), ("funnel",), ("prompting",)) or len(path) == 2


NAMES = (
    "$x$", r"$\frac{", "$", "<b>&amp;</b>", "../up", "/etc/passwd", "模型", "x" * 5_000, "a\nb", "\x1b[31mred", "",
)  # fmt: skip


def edited() -> dict[str, Any]:
    """Return comparisons whose parts are valid one by one but contradict each other."""
    made: dict[str, Any] = {}

    def add(name: str) -> Any:
        made[name] = json.loads(comparison())
        return made[name]["comparison"]

    effects, controls = STORED["comparison"]["effects"], STORED["comparison"]["controls"]
    for metric in effects:
        del add(f"without the effect {metric}")["effects"][metric]
        for side in ("before_values", "after_values"):
            add(f"{metric} without the last of {side}")["effects"][metric][side].pop()
    add("with another effect")["effects"]["speed"] = effects[METRIC]
    add("with an effect in another's place")["effects"]["loss"] = effects[METRIC]
    add("with a question too many")["question_ids"].append("q999")
    add("with a question twice")["question_ids"][0] = "q1"
    add("without questions")["question_ids"] = []
    add("with a value undefined")["effects"][METRIC]["after_values"][0] = None
    add("with a value that is a text")["effects"][METRIC]["after_values"][0] = "0.1"
    add("with an interval turned round")["effects"][METRIC]["interval"] = [2.0, 1.0]
    add("with an interval of one end")["effects"][METRIC]["interval"] = [2.0]
    add("with p above 1")["effects"][METRIC]["p_up"] = 1.5
    add("with more lost than asked")["accuracy"]["lost"] = 10**6
    add("with fewer asked than compared")["accuracy"]["asked"] = 1
    add("with accuracy in percent")["accuracy"]["after"] = 97.5
    add("with a draw twice")["controls"].append(controls[0])
    add("with another profile")["profile"] = "wishful"
    add("with another choice of answers")["score_on"] = "luck"
    del add("with a control without a metric")["controls"][0]["shifts"][METRIC]
    add("with a control of more questions")["controls"][0]["k"] = 999
    add("with no answers to a question")["sampling"]["n"] = 0
    add("with half an answer to a question")["sampling"]["n"] = 0.5
    return made


@pytest.mark.parametrize("options", [(), ("--html", "page.html"), ("--plot", "plot.png")])
def test_the_valid_file_runs(options: tuple[str, ...]) -> None:
    assert run(write(comparison(), *options)).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_comparison(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
