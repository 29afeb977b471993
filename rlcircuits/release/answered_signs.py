"""The signs for which the models of a measured pair must answer anew.

| name | what is answered, by | answerings |
| --- | --- | --- |
| ``hints`` | the questions with each kind of hint, by both models | 6 kinds × 2 models |
| ``flatness`` | the questions, by both models with noise | 2 for each noise draw of the pair |
| ``rank-1`` | the questions, by the rank-1 checkpoint | 1 |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.choices import ANSWERED_ANEW
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.questions.source import QuestionSource
from rlcircuits.release.asked_again import AskedAgain, NotAskableError, ask_again
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.vital_signs import flatness, hints, rank_one_recovery, studies
from rlcircuits.vital_signs.counts import count_right
from rlcircuits.vital_signs.hint_file import QuestionHints, read_hints
from rlcircuits.vital_signs.hinted_questions import Asked, PromptReader, ask_with_hints
from rlcircuits.vital_signs.rank_one_source import RankOneSource
from rlcircuits.vital_signs.shaken_source import ShakenSource
from rlcircuits.vital_signs.sign import Sign, not_measurable
from rlcircuits.vital_signs.written_hints import has_written_hints, written_hints

__all__ = ["answered_signs"]

SEPARATOR = "\n\n"
"""What stands between a question and a hint from a file, if the tokenizer knows line breaks; else nothing."""


def answered_signs(
    which: Collection[str],
    stored: Comparison,
    answers: Mapping[Side, Answers],
    sources: Mapping[Side, CheckpointSource],
    store: Path,
    *,
    questions: QuestionSource | None = None,
    hint_file: Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> tuple[Sign, ...]:
    """Return the signs for which the models answer anew; where they cannot, they are not measurable, with the reason.

    Args:
        which: names in :data:`~rlcircuits.common.choices.ANSWERED_ANEW`.
        stored: the pair's comparison.
        answers: both models' answers.
        sources: both models.
        store: the run's store, which keeps the new answers.
        questions: the pair's question set, if the pair was given; None if only its folder was.
        hint_file: hints, as :func:`~rlcircuits.vital_signs.hint_file.read_hints` reads them; None for the built-in
            sets' own.
        notify: called with one line of text for each answering.
        progress: show a progress bar.

    Raises:
        RLCircuitsError: a name is unknown, or the hints cannot be read.
    """
    for name in which:
        if name not in ANSWERED_ANEW:
            raise RLCircuitsError(f"answer_anew: {name!r} is unknown; known: {', '.join(ANSWERED_ANEW)}")
    chosen = [name for name in ANSWERED_ANEW if name in which]
    if not chosen:
        return ()
    log = notify or log_stage
    try:
        pair = ask_again(stored, answers, sources, store, questions, log, progress)
    except NotAskableError as error:
        return tuple(sign for name in chosen for sign in _unmeasured(name, str(error)))
    count = len(pair.questions) * pair.sampling.n
    times = {"hints": 2 * len(hints.KINDS), "flatness": 2 * len(stored.controls), "rank-1": 1}
    costs = ", ".join(f"{name} {times[name] * count:,}" for name in chosen)
    log(f"{stored.name}: at most {sum(times[name] for name in chosen) * count:,} answers are generated ({costs})")
    return tuple(sign for name in chosen for sign in _MEASURES[name](pair, stored, hint_file))


def _hint_signs(pair: AskedAgain, stored: Comparison, hint_file: Path | None) -> tuple[Sign, ...]:
    """Return the gain of each kind of hint."""
    if hint_file is not None:
        found = read_hints(hint_file, [question.id for question in pair.questions.questions])
    elif has_written_hints(pair.questions.name):
        found = written_hints(pair.questions)
    else:
        why = f"no hints are known for {stored.questions}; give a file of them with --hints"
        return tuple(_unmeasured("hints", why))
    asked = _ask_hints(pair, found, may_separate=hint_file is not None)
    given = _answer_hints(pair, asked)
    plain = pair.answers["before"], pair.answers["after"]
    return tuple(
        hints.hint_gain_sign(kind, plain, (given[kind, "before"], given[kind, "after"]), each.left_out)
        if each.questions.questions
        else not_measurable(kind.sign_name, studies.SPARKLE, "share", _why_none(each))
        for kind, each in asked.items()
    )


def _ask_hints(pair: AskedAgain, found: Mapping[str, QuestionHints], may_separate: bool) -> dict[hints.HintKind, Asked]:
    """Return the questions with each kind of hint."""
    readers = [PromptReader(source.tokenizer(), source.context_length) for source in pair.sources.values()]
    separator = SEPARATOR if may_separate and all(_can_read(each.tokenizer, SEPARATOR) for each in readers) else ""
    longest = pair.sampling.max_new_tokens
    assert longest is not None, "stored answers say how long they may be"
    asked = {}
    for kind in hints.KINDS:
        texts = {question: text for question, each in found.items() if (text := getattr(each, kind.field)) is not None}
        asked[kind] = ask_with_hints(kind, pair.questions, texts, readers, pair.prompting, longest, separator)
    return asked


def _answer_hints(
    pair: AskedAgain, asked: Mapping[hints.HintKind, Asked]
) -> dict[tuple[hints.HintKind, Side], Answers]:
    """Return both models' answers with each kind of hint that can be asked; each model is loaded once."""
    given = {}
    for place, side in enumerate(SIDES):
        with LoadedOnce(pair.sources[side]) as loaded:
            for kind, each in asked.items():
                if each.questions.questions:
                    who = f"{side}, with {kind.name},"
                    given[kind, side] = pair.answer(loaded, who, each.questions, each.prompts[place])
    return given


def _can_read(tokenizer: Any, text: str) -> bool:
    """Return whether a tokenizer keeps a text; those of models that read digits and signs only may not."""
    try:
        return bool(text in tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]))
    except Exception:  # tokenizer libraries have no common error class
        return False


def _why_none(asked: Asked) -> str:
    return "no question can be asked so: " + ", ".join(f"{count} {why}" for why, count in asked.left_out.items())


def _flatness_signs(pair: AskedAgain, stored: Comparison, _: Path | None) -> tuple[Sign, ...]:
    """Return the flatness, over as many draws on each model as the pair was measured with."""
    before, after = pair.sources["before"], pair.sources["after"]
    draws = range(len(stored.controls))
    noised = {
        "before": [pair.answer(ShakenSource(before, after, draw), f"before with noise {draw}") for draw in draws],
        "after": [pair.answer(ShakenSource(after, before, draw), f"after with noise {draw}") for draw in draws],
    }
    answers = pair.answers["before"], pair.answers["after"]
    return (flatness.flatness_sign(*answers, noised["before"], noised["after"]),)


def _rank1_signs(pair: AskedAgain, stored: Comparison, _: Path | None) -> tuple[Sign, ...]:
    """Return the share of the gain that the rank-1 checkpoint has."""
    answers = pair.answer(RankOneSource(pair.sources["before"], pair.sources["after"]), "the rank-1 checkpoint")
    return (
        rank_one_recovery.rank1_recovery(*map(count_right, (pair.answers["before"], answers, pair.answers["after"]))),
    )


def _unmeasured(name: str, why: str) -> list[Sign]:
    signs = {
        "hints": [(kind.sign_name, studies.SPARKLE, "share") for kind in hints.KINDS],
        "flatness": [(flatness.NAME, studies.ES_AT_SCALE, "share")],
        "rank-1": [(rank_one_recovery.NAME, studies.ALPHA_RL, rank_one_recovery.UNIT)],
    }
    return [not_measurable(*each, why) for each in signs[name]]


_MEASURES: Mapping[str, Callable[[AskedAgain, Comparison, Path | None], tuple[Sign, ...]]] = {
    "hints": _hint_signs,
    "flatness": _flatness_signs,
    "rank-1": _rank1_signs,
}
"""How the signs of each name are measured."""
