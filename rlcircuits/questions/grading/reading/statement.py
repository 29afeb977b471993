r"""Read what a sentence states as the answer: one value, several values, or none.

Values that the sentence denies or only bounds, `not 5`, `more than 5`, `between 5 and 6`, are no answer. Of the other
groups of values:

- an answer that begins with a group states that group: `18, since 9 * 2 = 18`;
- any other sentence states its last group, except for asides: `6 * 7 = 42 eggs in 7 days` states 42.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.questions.grading.reading.asides import added_places, is_beside_the_point, is_given, next_clause
from rlcircuits.questions.grading.reading.tokens import Sentence, tokens
from rlcircuits.questions.grading.reading.value_groups import Group, Link, alternatives, groups_of, is_name, left_side
from rlcircuits.questions.grading.reading.values import Value, read_value
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["Statement", "holds_a_value", "stated_values", "whole_statement"]


@dataclass(frozen=True)
class Statement:
    """The values that a sentence states as the answer."""

    values: tuple[Value, ...]
    link: Link = ""
    """How the values belong together: "and" for a list, "or" for alternatives, "" for one value."""


_BEFORE_THE_ANSWER = word_set(
    "about approximately around roughly nearly almost exactly precisely simply just only equal to a an the total "
    "of number value rs usd inr eur gbp jpy cny rmb us either between from not at least most up over under above "
    "below more less fewer greater than be possibly probably maybe perhaps"
)
_IN_NO_UNIT = word_set("is are was were be has have had does do did not never can will when where if and or")
_LONGEST_UNIT = 5


def stated_values(text: str, announced: bool) -> list[Statement]:
    """Return what a sentence states.

    Args:
        text: the sentence, or the content of a box.
        announced: the text is the answer, as after "the answer is". Otherwise it is a sentence that contains it.

    Returns:
        One statement; none if the sentence states no value; two if it can be read in two ways.
    """
    sentence = tokens(text)
    groups = list(groups_of(sentence, announced))
    candidates = [group for group in groups if not group.denied]
    if announced and groups and _begins_with(sentence, groups[0]) and not groups[0].denied:
        if any(_is_attached(sentence, group) for group in groups[1:]):
            return []
        return [_with_others(groups[0], [group for group in candidates[1:] if group.possible])]
    if not announced:
        candidates = _to_the_point(sentence, candidates)
    candidates = [group for group in candidates if not all(value.spelled for value in group.values)]
    if not candidates:
        return []
    if len(candidates) > 1 and candidates[-1].possible:  # it is 5, but it could be 6
        return [_with_others(candidates[-2], candidates[-1:])]
    values, link = candidates[-1].values, candidates[-1].link
    names = {left_side(value) for value in values} - {None}
    if not announced and len(names) == len(values) > 1:  # a = 1, b = 2 and a + b = 3
        return [Statement(values, link), Statement(values[-1:])]
    return [Statement(values, link)]


def whole_statement(text: str) -> Statement | None:
    """Return what a text states that is nothing but values and their units; None for any other text."""
    sentence = tokens(text)
    group = next(groups_of(sentence, announced=True), None)
    if group is None or group.denied or not _begins_with(sentence, group):
        return None
    rest = [token for token in sentence[group.end :] if token.kind != "mark"]
    words = len(rest) + max(len(value.unit.split()) for value in group.values)
    if words > _LONGEST_UNIT or any(token.kind != "word" or token.text in _IN_NO_UNIT for token in rest):
        return None
    return Statement(group.values, group.link)


def holds_a_value(text: str) -> bool:
    """Return True if a sentence contains a formula or a number in digits."""
    sentence = tokens(text)
    values = (read_value(sentence, place) for place in range(len(sentence)))
    return any(value is not None and not value[0].spelled for value in values)


def _is_attached(sentence: Sentence, group: Group) -> bool:
    """Return True if a group continues what stands before it: the +7 of `40 (miles)+7`."""
    first = sentence[group.start]
    return first.glued and (first.kind == "operator" or first.text[0] in "+-")


def _begins_with(sentence: Sentence, group: Group) -> bool:
    return all(token.kind == "mark" or token.text in _BEFORE_THE_ANSWER for token in sentence[: group.start])


def _with_others(group: Group, others: Sequence[Group]) -> Statement:
    """Return the statement of a group and of others that are called possible: `5, but it could be 6`."""
    if not others:
        return Statement(group.values, group.link)
    values = alternatives([value for one in (group, *others) for value in one.values])
    return Statement(tuple(values), "or" if len(values) > 1 else "")


def _is_spoken_of(sentence: Sentence, group: Group) -> bool:
    """Return True for a name that is no value: the x of `values of x`."""
    return sentence.word(group.start - 1) in ("of", "for") and all(map(is_name, group.values))


def _to_the_point(sentence: Sentence, groups: list[Group]) -> list[Group]:
    """Drop names, values that the sentence presents as known, and asides, unless no group would be left."""
    groups = [group for group in groups if not _is_spoken_of(sentence, group)] or groups
    groups = [group for group in groups if _is_calculated(group) or not is_given(sentence, group.start)] or groups
    calculated = max((place for place, group in enumerate(groups) if _is_calculated(group)), default=None)
    if calculated is not None:
        groups = _without_what_follows(sentence, groups, calculated)
    added = added_places(sentence, groups[0].end) if groups else set()
    return [group for group in groups if _is_calculated(group) or group.start not in added]


def _is_calculated(group: Group) -> bool:
    """Return True for a calculation with its result, `9 * 2 = 18`, but not for `x = 5` or a plain value."""
    name, equals, _ = group.values[-1].latex.partition("=")
    return bool(equals) and not is_name(Value(name.strip()))


def _without_what_follows(sentence: Sentence, groups: list[Group], calculated: int) -> list[Group]:
    """Drop the groups after a calculation that are in its clause, or at the end with a preposition before them."""
    end = len(groups)
    while end > calculated + 1 and is_beside_the_point(sentence, groups[end - 1].start):
        end -= 1
    kept, rest = groups[: calculated + 1], groups[calculated + 1 : end]
    other = next_clause(sentence, kept[-1].end)
    return kept + [group for group in rest if group.start >= other]
