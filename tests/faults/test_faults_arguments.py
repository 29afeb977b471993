"""Numbers out of range or of the wrong type, as Python arguments and as pytest options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_check import check_sentence
from valid_inputs import AFTER, BEFORE

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import LIMITS
from rlcircuits.comparison.pairing import pair
from rlcircuits.release.settings import Settings

KIND = "argument"
Count = Callable[[str], None]

NO_NUMBERS: dict[str, Any] = {
    "nan": math.nan, "inf": math.inf, "minus inf": -math.inf, "minus one": -1, "a text": "3", "an empty text": "",
    "true": True, "a list": [1], "a table": {"x": 1}, "bytes": b"3", "5,000 digits": 10**5_000, "31 digits": 10**30,
    "complex": 1j,
}  # fmt: skip

SETTINGS = (
    "k", "alpha", "balance", "seed", "min_questions", "noise_draws", "question_count", "batch_size", "batch_tokens",
)  # fmt: skip
SAMPLING = ("temperature", "top_p", "max_new_tokens", "seed", "n")


def bad_numbers(name: str) -> Iterator[tuple[str, Any]]:
    """Return the values that an option must refuse."""
    yield from NO_NUMBERS.items()
    limits = LIMITS[name]
    if limits.whole:
        yield from {"a fraction": 2.5, "a whole fraction": 30.0}.items()
    yield "one more than the most", limits.most + 1
    if not limits.zero_too and not (limits.least == 0 and not limits.above):
        yield "zero", 0


MADE: dict[str, tuple[Callable[[str, Any], object], tuple[str, ...]]] = {
    "Settings": (lambda name, value: Settings(**{name: value}), SETTINGS),
    "Sampling": (lambda name, value: Sampling(**{name: value}), SAMPLING),
    "pair": (
        lambda name, value: pair(*[Answers("m", "s", "test", Sampling(), ())] * 2, **{name: value}),
        ("k", "alpha", "balance", "min_questions"),
    ),
    "attribute": (
        lambda name, value: attribute(Checkpoint.load(BEFORE), [AnswerSequence((3,), (4,))], **{name: value}),
        ("batch_tokens",),
    ),
}


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [
        pytest.param(make, name, value, id=f"{kind}-{name}-{what}")
        for kind, (make, names) in MADE.items()
        for name in names
        for what, value in bad_numbers(name)
    ],
)
def test_a_number_in_python(made: Callable[[str, Any], object], name: str, value: object, count: Count) -> None:
    with pytest.raises(RLCircuitsError) as error:
        made(name, value)
    check_sentence(f"rlcircuits: {error.value}", (f"{name} is", "wanted|at least"))
    count("refused")


OPTIONS = {
    "k": "0", "alpha": "1.5", "balance": "inf", "min-questions": "-1", "noise-draws": "1000000000",
    "question-count": "0", "temperature": "1e-300", "top-p": "0", "sampling-seed": "-1", "max-new-tokens": "0",
    "n": "99999999999", "batch-size": "0", "batch-tokens": "0", "device": "x y", "dtype": "int3", "engine": "steam",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_pytest(option: str, pytester: pytest.Pytester, count: Count) -> None:
    """The option is refused before tests are collected."""
    pytester.makepyfile("def test_effect(effect):\n    assert effect.holds")
    ran = pytester.runpytest_inprocess(
        f"--before={BEFORE}", f"--after={AFTER}", "--algorithm=grpo", f"--rlcircuits-{option}={OPTIONS[option]}"
    )
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in ran.errlines if line]
    word = option.removeprefix("sampling-").replace("-", "_")
    check_sentence(line.replace("ERROR: ", "rlcircuits: "), (f"{word} is",))
    count("refused")
