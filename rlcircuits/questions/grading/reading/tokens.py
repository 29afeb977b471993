r"""Cut a sentence into tokens: values, words, operators and marks.

`She makes 9 * 2 = $18/hour` becomes word, word, value 9, operator, value 2, operator, value 18, operator, word.

A value is a number in any notation, a formula between dollar signs, or a formula without them, such as `x+2` or
`(2, 3)`. Its text is tidy LaTeX (see `notation/latex.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from rlcircuits.questions.grading.notation.latex import TEXT_COMMAND, has_words, tidy
from rlcircuits.questions.grading.notation.numerals import number
from rlcircuits.questions.grading.notation.unicode_characters import CURRENCY_SIGNS, ascii_latex
from rlcircuits.questions.grading.notation.units import SCALES
from rlcircuits.questions.grading.reading.formulas import formulas
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["Sentence", "Token", "tokens"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a sentence."""

    kind: Literal["value", "word", "operator", "mark"]
    text: str
    """The LaTeX of a value or operator, a word in lower case, or a punctuation mark."""
    glued: bool = False
    """True if no space separates the token from the one before it."""
    plain: bool = False
    """True for a value that is one number in digits."""
    currency: str = ""
    """The currency sign of a price."""


class Sentence(tuple[Token, ...]):
    """The tokens of a sentence. Every method accepts an index beyond the ends, where there is no token."""

    __slots__ = ()

    def at(self, place: int) -> Token | None:
        """Return the token at an index, None beyond the ends."""
        return self[place] if 0 <= place < len(self) else None

    def word(self, place: int) -> str:
        """Return the word at an index; "" if the token there is no word."""
        token = self.at(place)
        return token.text if token is not None and token.kind == "word" else ""

    def mark(self, place: int) -> str:
        """Return the mark at an index; "" if the token there is no mark."""
        token = self.at(place)
        return token.text if token is not None and token.kind == "mark" else ""

    def words(self, start: int, end: int) -> list[str]:
        """Return the words from index `start` to before `end`."""
        return [token.text for token in self[max(start, 0) : max(end, 0)] if token.kind == "word"]

    def word_before(self, place: int, skipped: frozenset[str] = frozenset()) -> str:
        """Return the word before an index, after skipping any of the words in `skipped`."""
        while self.word(place - 1) in skipped:
            place -= 1
        return self.word(place - 1)


_LONGEST_SENTENCE = 5000
"""Most characters of a sentence that is read. A longer sentence states nothing."""
_LONGEST_BRACKET = 200
"""Most characters within brackets that are read as one value, `(2, 3)`. Longer brackets hold prose."""

_TEXT = re.compile(TEXT_COMMAND)
_CONNECTED = re.compile(r"\\text\w*\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b")
_CURRENCY = rf"(?:(?:US|CA|AU|NZ|HK|SG|NT|MX|[ACRS])?\\?\$|[{CURRENCY_SIGNS}]|Rs\.?)"
_DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)"
_LAKHS = r"(?<=[₹.s])\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
_FRACTION = r"\\[dtc]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?P<currency>{_CURRENCY})?(?P<sign2>[-+]?)"
    rf"(?P<number>\d*{_FRACTION}|(?:(?:{_LAKHS}|{_DIGITS})(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,4}}(?!\w)|/\d+(?:\.\d+)?(?![\d/]))?)",
    re.ASCII,
)
_SPACED_CURRENCY = re.compile(rf"(?<![A-Za-z])({_CURRENCY})\s+(?=[-+]?\.?\d)")
_SPACED_DEGREES = re.compile(
    r"(?<=\d)\s*(?:\^\s*\\circ(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}|\\degree(?![A-Za-z]))(?P<letter>\s*(?=[A-Za-z]))?"
)
_RATIO = re.compile(r"(?::\d+(?:\.\d+)?)+", re.ASCII)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)$")
_ADJECTIVE = re.compile(r"-[A-Za-z]|D$")
_RATE = re.compile(r"/(?=[A-Za-z])")
_UNIT = re.compile(r"[A-Za-z]{2,}|[gmshL](?![A-Za-z])")
_THOUSANDS_OF_MONEY = re.compile(r"(k|K|M|m|bn|B|b)\b")
_SCALE_OF = {"k": "thousand", "m": "million", "b": "billion"}

_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_FUNCTION = re.compile(r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?(?![A-Za-z])|(?:log|ln|exp|sqrt|pi)(?![A-Za-z])")
_NAME = re.compile(r"[A-Za-z]+\d+[A-Za-z]?|\d+[kKDM]|[A-Za-z]+(?:/[A-Za-z]+)+")  # D3, a 10K run, m/s
_LONG_WORD = re.compile(rf"(?<![\\A-Za-z])(?!{_FUNCTION.pattern})[A-Za-z]{{2,}}")
_PART = re.compile(
    rf"\^\{{?-?\d+\}}?|{_WORD.pattern}|(?:{_CURRENCY})?{_DIGITS}(?:\.\d+)?%?|\\[A-Za-z]+|\s+|.", re.DOTALL
)
_OPERATORS = {
    "+": "+",
    "-": "-",
    "*": r"\cdot ",
    "/": "/",
    ":": ":",
    "=": "=",
    "==": "=",
    "<": "<",
    ">": ">",
    "<=": r"\leq ",
    ">=": r"\geq ",
    "!=": r"\neq ",
    "x": r"\times ",
    "^": "^",
} | {
    rf"\{name}": rf"\{name} "
    for name in sorted(word_set("times cdot div leq geq le ge lt gt neq ne approx cup cap in setminus pm equiv"))
}
_GLUED_OPERATOR = re.compile(r"(\\(?:times|cdot|div))(?![A-Za-z])")
_DOLLAR = re.compile(r"(?<!\\)\$")
_BARE_DOT = re.compile(r"\.(?!\d)")
_DECIMAL = re.compile(r"[\d./]+")
_LEADING, _TRAILING = "\"'*_~#`|", "\"'*_~`|.,;:!?"


def tokens(text: str) -> Sentence:
    """Return the tokens of a sentence or of an answer; none if it is longer than `_LONGEST_SENTENCE`."""
    if len(text) > _LONGEST_SENTENCE:
        return Sentence()
    text = ascii_latex(text).replace("**", "").replace("__", "")
    text = _SPACED_DEGREES.sub(lambda sign: r"^\circ" + " " * (sign["letter"] is not None), text)
    if r"\text" in text and not _DOLLAR.search(text) and not has_words(_TEXT.sub(" ", text)):
        return Sentence(_formula_tokens(text))  # the content of a box
    found: list[Token] = []
    position = 0
    for formula in formulas(text):
        found += _prose_tokens(text, position, formula.start)
        glued = formula.start > 0 and not text[formula.start - 1].isspace()
        found += _formula_tokens(formula.content, glued)
        position = formula.end
    return Sentence(found + _prose_tokens(text, position, len(text)))


def _formula_tokens(content: str, glued: bool = False) -> list[Token]:
    r"""Return the tokens of a formula: one value, or the values and words of `5 \text{ or } 6`."""
    found: list[Token] = []
    pieces = _TEXT.split(content) if has_words(tidy(content)) or _CONNECTED.search(content) else [content]
    for place, piece in enumerate(pieces):
        if place % 2:
            found += _prose_tokens(piece, 0, len(piece))
        elif latex := tidy(piece):
            goes_on = place > 0 and pieces[place - 1].strip() not in ("and", "or")
            if goes_on and latex[0] in "+-=<>":  # 90\text{ degrees} + 7
                found.append(Token("operator", latex[0], glued=True))
                piece, latex = latex[1:], latex[1:].strip()
            rate = latex.endswith("/") and place + 1 < len(pieces)  # 18/\text{hour}
            latex = latex.removesuffix("/") if rate else latex
            kind: Literal["operator", "value"] = "operator" if piece.strip() in _OPERATORS.keys() - {"x"} else "value"
            found.append(Token(kind, latex, place > 0 or glued, plain=_is_number(latex)))
            found += [Token("operator", "/", glued=True)] * rate
    return found


def _is_number(latex: str) -> bool:
    return number(latex.removesuffix("%").removesuffix(r"^\circ")) is not None


def _prose_tokens(text: str, start: int, end: int) -> list[Token]:
    """Return the tokens of `text[start:end]`, which contains no formula between delimiters."""
    piece = _SPACED_CURRENCY.sub(r"\1", _TEXT.sub(r" \1 ", text[start:end]))
    piece = _GLUED_OPERATOR.sub(r" \1 ", piece)
    found: list[Token] = []
    for chunk in _chunks(piece):
        found += _chunk_tokens(chunk)
    if found and start and not text[start].isspace():
        found[0] = replace(found[0], glued=True)
    return found


def _chunks(text: str) -> list[str]:
    """Split a text at its spaces, except within brackets that hold mathematics: `(2, 3)` is one chunk."""
    closings = _closings(text)
    found: list[str] = []
    start, kept_until = 0, -1
    for place, character in enumerate(text):
        if character in "([{" and place in closings and place > kept_until:
            closing = closings[place]
            inside = text[place + 1 : closing] if closing - place <= _LONGEST_BRACKET else ""
            if inside and not _LONG_WORD.search(inside):
                kept_until = closing
        elif character.isspace() and place > kept_until:
            found.append(text[start:place])
            start = place + 1
    found.append(text[start:])
    return [chunk for chunk in found if chunk]


def _closings(text: str) -> dict[int, int]:
    """Map the index of each opening bracket to that of its closing one, which may differ, as in `[1, 2)`."""
    found: dict[int, int] = {}
    opened: list[tuple[int, bool]] = []
    for place, character in enumerate(text):
        if character in "([{":
            opened.append((place, character == "{"))
        elif character in ")]}" and opened and opened[-1][1] == (character == "}"):
            found[opened.pop()[0]] = place
    return found


def _chunk_tokens(chunk: str) -> list[Token]:
    """Return the tokens of one chunk, with the marks around it."""
    if chunk in _OPERATORS:
        return [Token("operator", _OPERATORS[chunk])]
    core, before, after = _without_marks(chunk)
    found = [Token("mark", mark) for mark in before]
    if before.endswith(".") and core[:1] in ("+", "-"):  # $x$.+7
        found.append(Token("operator", core[0], glued=True))
        return [*found, *(replace(token, glued=True) for token in _chunk_tokens(core[1:] + after))]
    found += _core_tokens(core) if core else []
    found += [Token("mark", mark, glued=True) for mark in after]
    return found


def _without_marks(chunk: str) -> tuple[str, str, str]:
    """Split a chunk into its core and the marks before and after it: quotes, commas, unmatched brackets."""
    closings = _closings(chunk)
    closed = {*closings, *closings.values()}
    start, end = 0, len(chunk)
    while start < end and (
        chunk[start] in _LEADING or _BARE_DOT.match(chunk, start) or (chunk[start] in "([{" and start not in closed)
    ):
        start += 1
    while end > start and (chunk[end - 1] in _TRAILING or (chunk[end - 1] in ")]}" and end - 1 not in closed)):
        end -= 1
    return chunk[start:end], chunk[:start], chunk[end:]


def _core_tokens(core: str) -> list[Token]:
    if core in _OPERATORS:
        return [Token("operator", _OPERATORS[core])]
    if _WORD.fullmatch(core):
        return [Token("word", core.lower())]
    if number := _NUMBER.match(core):
        found = _number_tokens(number, core[number.end() :])
        if found:
            return found
    if _NAME.fullmatch(core):
        return [Token("word", core.lower())]
    if core[0] == "(" and core[-1] == ")" and (number := _NUMBER.fullmatch(core, 1, len(core) - 1)):
        return _number_tokens(number, "")
    if _LONG_WORD.search(core):
        parts = [part for part in _PART.findall(core) if part != core and not part.isspace()]
        return [replace(token, glued=place > 0) for place, part in enumerate(parts) for token in _core_tokens(part)]
    if core[0] == "^" or (re.search(r"[\d\\=<>+*/^_(\[]", core) and re.search(r"\w", core) and tidy(core)):
        return [Token("value", tidy(core))]
    return [Token("mark", core)]


def _number_tokens(number: re.Match[str], tail: str) -> list[Token]:
    """Return the tokens of a number and of the text attached to it; [] if the two are a formula, `18x`."""
    sign = "-" if (number["sign"] + number["sign2"]).count("-") == 1 else ""
    digits = number["number"].replace(",", "")
    latex = sign + (digits if _DECIMAL.fullmatch(digits) else tidy(digits))
    value = Token("value", latex, plain=True, currency=number["currency"] or "")
    if tail in ("", "/-") or _ORDINAL.match(tail):
        return [value]
    if tail in ("%", r"\%"):
        return [replace(value, text=latex + "%")]
    if tail == r"^\circ":
        return [replace(value, text=rf"{latex}^\circ")]
    if re.fullmatch(_CURRENCY, tail):
        return [replace(value, currency=tail)]
    if _RATIO.fullmatch(tail):
        return [replace(value, text=latex + tail, plain=False)]
    if tail[0] == "-" and tail[1:].removesuffix("s") in SCALES:
        return [value, Token("word", tail[1:], glued=True)]
    if _ADJECTIVE.match(tail):
        return [Token("word", number[0] + tail)]
    if feet := re.fullmatch(r"'(\d+(?:\.\d+)?)", tail):
        return [value, Token("word", "feet", True), Token("value", feet[1], True, True), Token("word", "inches", True)]
    if value.currency and (scale := _THOUSANDS_OF_MONEY.fullmatch(tail)):
        return [value, Token("word", _SCALE_OF[scale[1][0].lower()], glued=True)]
    if _UNIT.match(tail) and not _FUNCTION.match(tail):
        rest = [token for part in _PART.findall(tail) for token in _core_tokens(part)]
        return [value, *(replace(token, glued=True) for token in rest)]
    if _RATE.match(tail):
        return [value, Token("operator", "/", glued=True), *_core_tokens(tail[1:])]
    return []
