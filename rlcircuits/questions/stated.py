r"""The answer that a text states, found the way graders of mathematics agree on.

In this order: what stands in the last `\boxed{}`; what follows the last `####`; what follows the last "answer is" or
"answer:"; the whole text where it is nothing but mathematics; its last line where that is; the last formula or number
in it; its last line.
"""

from __future__ import annotations

import re

from rlcircuits.questions.gold import boxes, last_hash
from rlcircuits.questions.latex import has_words, tidy

__all__ = ["last_mathematics", "mathematics_within", "said_last", "stated_answer"]

_THOUGHT_ENDS = "</think>"
_ANNOUNCED = re.compile(
    r"\banswers?\b(?:\s+(?:to|for)\b[^.\n:]{0,80}?)?\**\s*(?:\bis\b\s*:?|\bare\b\s*:?|:|=)[\s*]*(?=\S)", re.IGNORECASE
)
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\\$|[^$\n])+?)(?<!\\)\$|\\\((.+?)\\\)|(?<!\\)\\\[(.+?)\\\]", re.DOTALL
)
_NUMBER = re.compile(
    r"[-+−]?\d*\s*\\(?:[dt]?frac\s*\{[^{}]*\}|sqrt)\s*\{[^{}]*\}|"
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:\s*/\s*\d+)?(?:\s*%)?"
    r"(?![\d\\^(/_]|[A-Za-z](?![A-Za-z]))",  # 18 of 18 and 18cm, nothing of 18x and 18^2
    re.ASCII,
)
_PROSE = re.compile(r"[^\w\\]*[A-Za-z]+(?=[\s,.;:!?)]|$)")  # " dollars", but neither " in+7" nor r" \text{ in}+7"
_JOINT = re.compile(r"[\s$*,;]*(?:and|or)?[\s$*,;]*")
_SENTENCE_END = re.compile(r"\n|[.!?](?:\s|$)|[.!?]\*")


def stated_answer(text: str) -> str:
    """Return the answer as the text writes it, "" where nothing in it can be one.

    What stands before a closing `</think>` is thought, not answer, and not looked at.
    """
    text = _after_thought(text)
    if boxed := _last_boxes(text):
        return boxed
    if hashed := last_hash(text):
        return hashed
    if announced := said_last(text):
        return _sentence(announced)
    if not has_words(tidy(text)):
        return text.strip()
    last_line = text.strip().rpartition("\n")[2]
    return (last_mathematics(text) if has_words(tidy(last_line)) else "") or last_line


def said_last(text: str) -> str:
    """Return all that follows the last "answer is" or "answer:" of a text, "" where there is none."""
    text = _after_thought(text)
    announced = list(_ANNOUNCED.finditer(text))
    return text[announced[-1].end() :] if announced else ""


def _after_thought(text: str) -> str:
    said = text.rpartition(_THOUGHT_ENDS)[2]
    return said if said.strip() else text


def _last_boxes(text: str) -> str:
    r"""Return the last box, together with those just before it: `\boxed{1}` and `\boxed{2}` are one answer."""
    found = boxes(text)
    if not found:
        return ""
    first = len(found) - 1
    while first and _JOINT.fullmatch(text[found[first - 1].end : found[first].start]):
        first -= 1
    return ", ".join(dict.fromkeys(box.content for box in found[first:]))


def _sentence(text: str) -> str:
    """Return a text up to the end of its first sentence or line; a full stop within a formula ends none."""
    formulas = _formulas(text)
    for end in _SENTENCE_END.finditer(text):
        if not any(start < end.start() < stop for start, stop, _ in formulas):
            return text[: end.start()].strip()
    return text.strip()


def mathematics_within(sentence: str) -> str:
    """Return what a sentence that states an answer in words says in mathematics, "" where it says nothing in it.

    What it begins with, `$1$ and $2$, as 1 + 2 = 3`; else its last formula or number.
    """
    pieces = _pieces(sentence)
    first: list[str] = []
    end = 0
    for start, next_end, content in pieces:
        if not _JOINT.fullmatch(sentence[end:start]):
            break
        first.append(content.strip())
        end = next_end
    return ", ".join(first) if first and _PROSE.match(sentence, end) else last_mathematics(sentence)


def last_mathematics(text: str) -> str:
    """Return the last formula or number of a text, "" where there is none."""
    pieces = _pieces(text)
    return pieces[-1][2].strip() if pieces else ""


def _pieces(text: str) -> list[tuple[int, int, str]]:
    """Return start, end and content of each formula, and of each number in no formula, in their order."""
    formulas = _formulas(text)
    numbers = [(*match.span(), match.group()) for match in _NUMBER.finditer(text)]
    return sorted(formulas + [one for one in numbers if not any(f[0] < one[1] and one[0] < f[1] for f in formulas)])


def _formulas(text: str) -> list[tuple[int, int, str]]:
    """Return start, end and content of each formula; between two prices, `$2 a day, $14 a week`, stands none."""
    found = ((*match.span(), next(filter(None, match.groups()))) for match in _FORMULA.finditer(text))
    return [piece for piece in found if not has_words(tidy(piece[2]))]
