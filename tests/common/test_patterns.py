"""Users' regular expressions: what `re` finds, with a limit on the time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common import patterns
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.patterns import UserPattern
from rlcircuits.vital_signs.formats import by_patterns
from rlcircuits.vital_signs.reopening import delimiter

pieces = st.sampled_from(["a", "b", ";", r"\d", r"\w+", "[ab]", "(a|b)", "a?", "(?:ab)*", "^", "$", r"\b", "."])
expressions = st.lists(pieces, min_size=1, max_size=4).map("".join)
SLOW = "(a|aa)+$"
"""An expression that tries every way to cut a text of a's."""


@given(expression=expressions, text=st.text("ab;1 \n", max_size=12))
def test_it_finds_what_python_finds(expression: str, text: str) -> None:
    pattern = UserPattern("format 'x'", expression)
    assert pattern.is_in(text) == (re.search(expression, text) is not None)
    if re.search(expression, "") is None:  # where empty matches are, the two differ, and a boundary has none
        assert list(pattern.ends(text)) == [match.end() for match in re.finditer(expression, text)]


@pytest.mark.parametrize("expression", ["(", "[a", "*", "(?P<a>x)(?P<a>y", r"\2(a)"])
def test_what_is_no_expression_is_named(expression: str) -> None:
    with pytest.raises(RLCircuitsError, match=r"format 'x': .*is no regular expression"):
        UserPattern("format 'x'", expression)


def test_a_search_that_takes_too_long_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    text = "a" * 80 + "b"
    classify = by_patterns({"code": SLOW})
    assert classify("", "aa") == "code"
    with pytest.raises(RLCircuitsError, match=r"format 'code': .*takes more than 0.05 seconds on an answer of 81 char"):
        classify("", text)
    with pytest.raises(RLCircuitsError, match=r"boundary: .*takes more than 0.05 seconds"):
        list(delimiter(SLOW).ends(text))


def test_a_boundary_ends_something() -> None:
    assert list(delimiter(";").ends("a;b;")) == [2, 4]
    with pytest.raises(RLCircuitsError, match="matches an empty text"):
        delimiter("x*")
