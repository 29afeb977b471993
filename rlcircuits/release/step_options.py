"""Say which options a step of a tracked run was measured with, where they are others than those of this call.

A step that is measured again with other options replaces its results, and with them the points of an earlier curve.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import COMPARISON_FILE
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import Profile, former_name, profile_named
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.questions.question_set import Question
from rlcircuits.release.finished import NOT_IN_KEY
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.option import Option, Section
from rlcircuits.release.options import find_option
from rlcircuits.release.pair import Pair
from rlcircuits.release.run_record import RunRecord, load_run
from rlcircuits.release.settings import Settings

__all__ = ["check_same_options"]

_SECTIONS: dict[str, Section] = {"sampling": "settings.sampling", "prompting": "settings.prompting"}


class _Difference(NamedTuple):
    """An option, as the command line has it, then and now."""

    found: str
    wanted: str


def check_same_options(pairs: Sequence[Pair], settings: Settings, output: Path) -> None:
    """Check that no step with results would be measured with other options, before anything is measured.

    A step whose results cannot be read is measured anew in any case, and one whose checkpoint was written anew too.

    Args:
        pairs: the steps, whose options are the same.
        settings: how they are to be measured.
        output: the folder with a folder of results for each step.

    Raises:
        RLCircuitsError: a step was measured with other options. The message names the step and the options.
    """
    wanted: Measurement | None = None
    for pair in pairs:
        folder = output / pair.name
        if not (folder / COMPARISON_FILE).is_file():
            continue
        try:
            comparison, run = load_comparison(folder), load_run(folder)
            # The longest answer and the questions are those of all steps, and finding them takes time.
            wanted = wanted or prepare(pair, settings, None, None, lambda _line: None, False)
        except RLCircuitsError:
            continue  # which is said when the step's turn comes
        if differences := [*_of_pair(comparison, wanted), *_of_questions(run, comparison, wanted), *_of(run, wanted)]:
            found, now = (" and ".join(each) for each in zip(*differences, strict=True))
            raise RLCircuitsError(
                f"{folder}: {pair.name} was measured {found}, and would be measured again {now}, which replaces its "
                "results; give the former options, another --output, or --replace"
            )


def _of(run: RunRecord, wanted: Measurement) -> Iterator[_Difference]:
    """Yield the settings that differ, but for those that change no result."""
    for section, then, now, default in _tables(run.settings, wanted.settings):
        for name in dict.fromkeys((*now, *then)):
            if name not in default or name in NOT_IN_KEY or name in _SECTIONS:
                continue
            values = (then.get(name, default[name]), now.get(name, default[name]))
            if values[0] != values[1]:
                yield _Difference(*(_given(find_option(name, section), value) for value in values))


def _tables(then: Any, settings: Settings) -> Iterator[tuple[Section, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Yield each table of settings: its section, its values then and now, and those of keys that are left out."""
    now = json.loads(json.dumps(settings.key_table()))  # lists in place of tuples, as in a file
    yield "settings", dict(then), now, asdict(Settings())
    left_out = {"sampling": {"n": 1, "max_new_tokens": None}, "prompting": {}}
    for key, section in _SECTIONS.items():
        yield section, dict(then.get(key, {})), now[key], {**now[key], **left_out[key]}


def _of_pair(comparison: Comparison, wanted: Measurement) -> Iterator[_Difference]:
    """Yield what differs of how the steps are judged."""
    pair, profile = wanted.pair, wanted.pair.expectations
    if former_name(comparison.algorithm) != former_name(pair.algorithm):
        yield _differ("algorithm", comparison.algorithm, pair.algorithm)
    elif former_name(comparison.profile) != former_name(profile.name):
        yield _differ("profile", comparison.profile, profile.name)
    else:
        yield from _of_profile(comparison.rules or profile_named(comparison.profile), profile)
    stated = comparison.supervised.checkpoint if comparison.supervised is not None else None
    if comparison.k and stated != pair.control:
        yield _differ("control", stated, pair.control)


def _of_profile(then: Profile, now: Profile) -> Iterator[_Difference]:
    if then.accuracy.rule != now.accuracy.rule:
        yield _differ("accuracy", then.accuracy.rule, now.accuracy.rule)
    if then.accuracy.margin != now.accuracy.margin:
        yield _differ("margin", then.accuracy.margin, now.accuracy.margin)
    if (then.metrics, then.must_not_show) != (now.metrics, now.must_not_show):
        yield _differ("profile", f"{then.name} as it was", f"{now.name} as it is")


def _of_questions(run: RunRecord, comparison: Comparison, wanted: Measurement) -> Iterator[_Difference]:
    """Yield what differs of the questions, unless the settings say it."""
    asked = wanted.questions
    if comparison.questions != asked.name:
        yield _differ("questions", comparison.questions, asked.name)
    elif _texts(run.questions) != _texts(asked.questions) and not any(_of(run, wanted)):
        yield _differ("questions", f"{asked.name} as it was", f"{asked.name} as it is")


def _texts(questions: Sequence[Question]) -> list[tuple[str, str, str]]:
    return [(question.id, question.text, question.gold) for question in questions]


def _differ(name: str, then: object, now: object) -> _Difference:
    option = find_option(name, "pair")
    return _Difference(_given(option, then), _given(option, now))


def _given(option: Option, value: Any) -> str:
    """Return how a command line states the value: ``with --alpha 0.5``, ``without --greedy``."""
    if value is None:
        return f"without --{option.flag}"
    if option.value_type is bool:
        return f"{'without' if value == option.default else 'with'} --{option.flag}"
    text = ",".join(value) if isinstance(value, list) else str(value)
    return f"with --{option.flag} {text if text.isprintable() and len(text) <= 80 else truncated_repr(text)}"
