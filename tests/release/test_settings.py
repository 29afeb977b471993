"""Settings made in Python: a value that does not fit raises an error at once."""

from __future__ import annotations

from typing import Any

import pytest

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.settings import Settings, make_settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3}, "k is 3"),
        ({"alpha": 2.0}, "alpha is 2.0"),
        ({"granularity": "atom"}, "granularity is 'atom'"),
        ({"engine": "steam"}, "engine is 'steam'"),
        ({"score_on": "both"}, "score_on is 'both'"),
        ({"noise_draws": -1}, "noise_draws is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"question_count": 0}, "question_count is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"dtype": "foo"}, "dtype is 'foo'"),
    ],
)
def test_settings_are_checked_before_any_model_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        Settings(**options)


@pytest.mark.parametrize(
    ("sampling", "n"),
    [(None, 8), ({"temperature": 0.5}, 8), ({"temperature": 0}, 1), ({"n": 2}, 2), ({"temperature": 0, "n": 1}, 1)],
)
def test_compared_answers_are_eight_unless_they_would_be_the_same(sampling: dict[str, Any] | None, n: int) -> None:
    assert make_settings({} if sampling is None else {"sampling": sampling}).sampling.n == n
