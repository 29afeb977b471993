"""Two documents differ exactly where a value was changed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.release.differences import ABSENT, Difference, compare_documents, leaves

values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
names = st.sampled_from(("a", "b", "c"))
nested = st.recursive(values, lambda each: st.lists(each, max_size=3) | st.dictionaries(names, each), max_leaves=5)
documents = st.dictionaries(names, nested, min_size=1)


def compared(found: Any, recomputed: Any) -> dict[str, Difference | None]:
    return compare_documents(found, recomputed, lambda field: False)


@given(documents)
def test_a_document_agrees_with_itself_read_back(document: Any) -> None:
    fields = compared(json.loads(json.dumps(document)), document)
    assert not any(fields.values())
    assert fields.keys() == {field for field, _ in leaves(document)}


@given(documents, values, st.data())
def test_a_changed_value_is_the_one_difference(document: Any, value: Any, data: st.DataObject) -> None:
    changed = json.loads(json.dumps(document))
    holder: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if not isinstance(holder[key], dict | list) or not holder[key]:
            break
        holder = holder[key]
    before, holder[key] = holder[key], value
    same = before == value and isinstance(before, bool) == isinstance(value, bool)
    differences = [each for each in compared(changed, document).values() if each]
    assert [(each.found, each.recomputed) for each in differences] == ([] if same else [(value, before)])


@pytest.mark.parametrize(
    ("found", "recomputed", "wanted"),
    [
        ({"a": [1, 2]}, {"a": [1]}, [Difference("a.1", 2, ABSENT)]),
        ({"a": [1]}, {"a": [1, 2]}, [Difference("a.1", ABSENT, 2)]),
        ({"a": True}, {"a": 1}, [Difference("a", True, 1)]),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": None}, {"a": 0.0}, [Difference("a", None, 0.0)]),
    ],
)
def test_what_counts_as_a_difference(found: Any, recomputed: Any, wanted: list[Difference]) -> None:
    assert [each for each in compared(found, recomputed).values() if each] == wanted


def test_what_is_left_out_is_not_compared() -> None:
    assert compare_documents({"a": 1, "b": 2}, {"a": 3, "b": 2}, lambda field: field == "a") == {"b": None}


@given(st.floats(1e-300, 1e300), st.integers(1, 50))
def test_a_few_last_bits_are_rounding(number: float, bits: int) -> None:
    other = number
    for _ in range(bits):
        other = math.nextafter(other, math.inf)
    assert Difference("a", number, other).is_rounding
    assert not Difference("a", number, number * 1.001).is_rounding


@pytest.mark.parametrize("both", [(1, 2), (None, 1.0), ("a", "b"), (1.0, ABSENT), (True, False), (0.0, 1e-30)])
def test_other_values_do_not_differ_by_rounding(both: tuple[Any, Any]) -> None:
    assert not Difference("a", *both).is_rounding
