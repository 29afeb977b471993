r"""Read one value of a sentence from its tokens: `2 2/3 cups`, `minus $5`, `2.5 million`, `9 * 2 = 18 eggs`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rlcircuits.questions.grading.notation.numerals import number
from rlcircuits.questions.grading.notation.units import SCALES
from rlcircuits.questions.grading.reading.tokens import Sentence, Token
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["Value", "latex_of", "read_value"]


@dataclass(frozen=True)
class Value:
    """A number or formula that can be an answer, with its unit."""

    latex: str
    """The number or formula, in tidy LaTeX."""
    unit: str = ""
    """The words of its unit."""
    plain: bool = False
    """True if it is one number."""
    spelled: bool = False
    """True if the number is written in words, `five`."""
    also: tuple[tuple[str, str], ...] = ()
    """The same amount in other units, as (latex, unit)."""

    @property
    def readings(self) -> tuple[tuple[str, str], ...]:
        """Every way in which the sentence gives the amount, as (latex, unit)."""
        return ((self.latex, self.unit), *self.also)

    @property
    def number(self) -> Fraction | None:
        """The number, without percent sign or degrees; None for a formula."""
        return number(self.latex.removesuffix("%").removesuffix(r"^\circ")) if self.plain else None


_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPELLED = {word: value for value, word in enumerate(_SMALL)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_RELATIONS = {"=", "<", ">", r"\leq ", r"\geq ", r"\neq ", r"\approx ", r"\in "}
_OPERATORS_IN_WORDS = {"plus": "+", "minus": "-", "times": r"\times ", "equals": "="}
_EITHER_SIGN = r"\pm "
_SIGNS_IN_WORDS = {"minus": "-", "negative": "-", "positive": ""}
_BEFORE_A_SIGN = {"is", "are", "was", "be", "of", "by", "equals", "to", ":", "="}
"""Words after which a minus that is followed by a space is a sign, not a dash."""
_NO_UNIT = word_set(
    "and or are is was were be been isn't not never neither nor has have had having do does did will would can "
    "could may might must shall should so because since as if when where while which who that this these those "
    "then than but for from in on at to of by with after before during until till into over under about more less "
    "fewer each every either between maybe perhaps possibly equals plus minus times instead rather however "
    "although though thus hence therefore total altogether out"
) | frozenset(_SPELLED)
_LONGEST_UNIT = 5
_CURRENCY_UNITS = {sign: sign for sign in "$€£₹¢"} | {".": "₹", "s": "₹"}
"""Unit of each currency, by the last character of its sign: `US$` and `Rs.` have several."""


def latex_of(value: Fraction) -> str:
    """Write an exact number in LaTeX."""
    sign = "-" if value < 0 else ""
    return str(value) if value.denominator == 1 else rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def read_value(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    """Read the value that begins at token `start`.

    Operands with operators between them are one value: `9 * 2 = 18` is an equation, `20 - 5` an expression.

    Returns:
        The value and the index after its last token; None if no value begins at `start`.
    """
    first = _operand(sentence, start)
    if first is None:
        return None
    value, place = first
    parts = [value.latex]
    while operator := _operator(sentence, place):
        following = _operand(sentence, place + 1, follows=True)
        if following is None and operator == r"\times " and sentence[place].kind == "operator":  # 2 x dollars
            unit, place = _unit(sentence, place + 1)
            return Value("".join([*parts, "x"]), unit), place
        if following is None or (operator == ":" and not (value.plain and following[0].plain)):
            break
        value, place = following
        if operator == "=" and "," in parts[0]:  # of 1,23 / 3 = 41, where a comma is out of place
            parts = [value.latex]
        else:
            negative = value.latex.startswith("-") and operator not in _RELATIONS
            parts += operator, f"({value.latex})" if negative else value.latex
    return (Value("".join(parts), value.unit) if len(parts) > 1 else value), place


def _operator(sentence: Sentence, place: int) -> str | None:
    token = sentence.at(place)
    if token is None:
        return None
    return token.text if token.kind == "operator" else _OPERATORS_IN_WORDS.get(sentence.word(place))


def _operand(sentence: Sentence, start: int, follows: bool = False) -> tuple[Value, int] | None:
    """Read one number or formula, with its sign, percent sign, scale word and unit.

    Args:
        sentence: its tokens.
        start: index of the first token.
        follows: an operator stands before the operand, so that a minus is a sign.
    """
    sign, place = _sign(sentence, start, follows)
    read = _scaled_number(sentence, place) or _variable(sentence, place) or _formula(sentence, place)
    if read is None:
        return None
    value, place = read
    if sign == "-":
        value = replace(value, latex=f"-{value.latex}" if value.plain else f"-({value.latex})")
    elif sign == _EITHER_SIGN:
        value = replace(value, latex=sign + value.latex, plain=False)
    value, place = _with_percent(sentence, place, value)
    unit, place = _unit(sentence, place)
    return (replace(value, unit=unit) if unit else value), place


def _sign(sentence: Sentence, place: int, follows: bool) -> tuple[str, int]:
    """Return the sign at index `place`, "" if there is none, and the index after it."""
    token, after = sentence.at(place), sentence.at(place + 1)
    if token is None or after is None:
        return "", place
    is_number = after.kind == "value" or after.text in _SPELLED
    if sentence.word(place) in _SIGNS_IN_WORDS and is_number:
        return _SIGNS_IN_WORDS[token.text], place + 1
    if token.text == _EITHER_SIGN and after.kind == "value":
        return _EITHER_SIGN, place + 1
    if token.kind == "operator" and token.text in "+-" and after.kind == "value":
        before = sentence.at(place - 1)
        if follows or after.glued or before is None or before.text in _BEFORE_A_SIGN:
            return token.text, place + 1
    return "", place


def _scaled_number(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    """Read a number with its scale words: `2.5 million`, `2 million 500 thousand`, `a dozen`."""
    read = _number(sentence, start)
    if read is None:
        return None
    value, end = _with_a_half(sentence, *read)
    scale, place = _scale(sentence, end)
    if scale is None or value.number is None:
        return value, end
    total = value.number * scale
    while part := _number(sentence, place + (sentence.word(place) == "and")):
        amount, after = part[0].number, part[1]
        own_scale, after = _scale(sentence, after)
        if amount is None or not 0 <= amount < scale or part[0].unit:
            break
        if amount * (own_scale or 1) < scale:
            total += amount * (own_scale or 1)
        elif own_scale is not None and own_scale > scale:  # two hundred and fifty thousand
            total = (total + amount) * own_scale
        else:
            break
        scale, place = own_scale or Fraction(1), after
    return Value(latex_of(total), value.unit, plain=True), place


def _with_a_half(sentence: Sentence, value: Value, place: int) -> tuple[Value, int]:
    """Add the fraction that follows a number: `3 and a half`, `two and three quarters`."""
    if sentence.word(place) != "and" or not value.latex.isdigit():
        return value, place
    article = sentence.word(place + 1) in ("a", "an")
    part = _PARTS.get(sentence.word(place + 2)) if article else None
    if part:
        return replace(value, latex=latex_of(int(value.latex) + Fraction(1, part))), place + 3
    spelled = _spelled_number(sentence, place + 1)
    amount = spelled[0].number if spelled else None
    if spelled is None or amount is None or not 0 < amount < 1:
        return value, place
    return replace(value, latex=latex_of(int(value.latex) + amount)), spelled[1]


def _scale(sentence: Sentence, place: int) -> tuple[Fraction | None, int]:
    """Return the product of the scale words at index `place`, None if there are none, and the index after them."""
    product: Fraction | None = None
    while product is None or product < 10**18:
        factor = SCALES.get(sentence.word(place).removesuffix("s"))
        if factor is None:
            break
        product, place = (product or 1) * factor, place + 1
    return product, place


def _number(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    """Read one number: digits, digits in groups of three, a whole number and a fraction, or words."""
    token = sentence.at(start)
    if token is None or token.kind != "value":
        return _spelled_number(sentence, start)
    if not token.plain:
        return None
    latex, place = _grouped_digits(sentence, start)
    part = sentence.at(place)
    if (
        part is not None
        and latex.lstrip("-").isdigit()
        and _follows_as_number(part)
        and re.search(r"/|frac", part.text)
    ):
        fraction = number(part.text.removesuffix("%"))
        if fraction is not None and 0 < fraction < 1:
            percent = "%" if part.text.endswith("%") else ""
            latex, place = f"{latex}{latex_of(fraction)}{percent}", place + 1
    return Value(latex, _CURRENCY_UNITS.get(token.currency[-1:], ""), plain=True), place


def _grouped_digits(sentence: Sentence, start: int) -> tuple[str, int]:
    """Join the digits of `1 234 567`."""
    groups, place = [sentence[start].text], start + 1
    if re.fullmatch(r"-?[1-9]\d{0,2}", groups[0]):
        while (group := sentence.at(place)) and _follows_as_number(group) and re.fullmatch(r"\d{3}", group.text):
            groups.append(group.text)
            place += 1
    return "".join(groups), place


def _follows_as_number(token: Token) -> bool:
    """Return True for a token that can continue a number, as 2/3 continues `2 2/3`."""
    return token.kind == "value" and token.plain and not token.currency and not token.glued


def _spelled_number(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    word, after = sentence.word(start), start + 1
    if word in ("a", "an", "half"):
        place = after + (word == "half" and sentence.word(after) in ("a", "an"))
        amount = Fraction(1, 2) if word == "half" else Fraction(1)
        return (_spelled(amount), place) if _scale(sentence, place)[0] else None
    if word not in _SPELLED or sentence.word(after) == "of":
        return None
    amount = Fraction(_SPELLED[word])
    hyphen = sentence.at(after)
    after += hyphen is not None and hyphen.text == "-" and hyphen.glued
    following = sentence.word(after)
    if word in _TENS and 0 < _SPELLED.get(following, 0) < 10:
        return _spelled(amount + _SPELLED[following]), after + 1
    part = _PARTS.get("half" if following == "halves" else following.removesuffix("s"))
    if part and amount < part:
        return _spelled(amount / part), after + 1
    return _spelled(amount), start + 1


def _spelled(amount: Fraction) -> Value:
    return Value(latex_of(amount), plain=True, spelled=True)


def _variable(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    """Read a variable before a relation, the `x` of `x = 5`. Elsewhere a letter is a word."""
    token = sentence.at(start)
    if token is None or token.kind not in ("word", "operator") or _operator(sentence, start + 1) not in _RELATIONS:
        return None
    name = "x" if token.text == r"\times " else token.text
    return (Value(name), start + 1) if len(name) == 1 and name.isalpha() else None


def _formula(sentence: Sentence, start: int) -> tuple[Value, int] | None:
    token = sentence.at(start)
    if token is None or token.kind != "value" or token.text.startswith("^"):
        return None
    scale, place = _scale(sentence, start + 1)
    if scale is None:
        return Value(token.text), place
    left, equals, right = token.text.rpartition("=")
    amount = number(right.strip())
    scaled = rf"({right})\cdot {latex_of(scale)}" if amount is None else latex_of(amount * scale)
    return Value(left + equals + scaled), place


def _with_percent(sentence: Sentence, place: int, value: Value) -> tuple[Value, int]:
    words = sentence.word(place), sentence.word(place + 1)
    if words in (("per", "cent"), ("percentage", "points")):
        return replace(value, latex=f"{value.latex}%"), place + 2
    if words[0] in ("percent", "pct"):
        return replace(value, latex=f"{value.latex}%"), place + 1
    return value, place


def _unit(sentence: Sentence, place: int) -> tuple[str, int]:
    """Read the words of a unit, such as `miles`, `miles/hour` or `cm^2`, and return them with the index after them."""
    words: list[str] = []
    while (token := sentence.at(place)) and len(words) < _LONGEST_UNIT:
        after = sentence.at(place + 1)
        inches = not words and (token.glued or after is None or after.kind not in ("word", "value"))
        if token.kind == "word" and (token.text not in _NO_UNIT or (token.text == "in" and inches)):
            words.append(token.text)
        elif token.text == "/" and after is not None and after.kind == "word":
            words.append("per")
        elif words and token.kind == "value" and token.text.startswith("^"):
            words[-1] += token.text
        else:
            break
        place += 1
    return " ".join(words), place
