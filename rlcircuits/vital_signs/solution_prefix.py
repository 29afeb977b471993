"""Cut a worked solution, so that answers can be forced to begin with its first part.

The cut is a boundary between two of the solution's tokens, at most the wanted share of them from its start. It lies
within no word and no number, and within no formula: a model continues half a number as another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Prefix", "cut_solution", "may_cut"]

_FORMULA = re.compile(
    r"\$\$.*?\$\$|(?<!\\)\$(?!\d[\d,.]*(?:\s|$)).*?(?<!\\)\$|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
    re.DOTALL,
)
"""LaTeX formulas. A dollar sign before an amount, such as ``$5 ``, begins none."""


@dataclass(frozen=True)
class Prefix:
    """The first part of a solution."""

    ids: tuple[int, ...]
    """Its token ids."""
    text: str
    """Its text, with the white space after it: the tokenizers of some families drop that from the next token."""


def cut_solution(tokenizer: Any, solution: str, share: float) -> Prefix | None:
    """Return the first part of a solution, or None if there is no place to cut it.

    Args:
        tokenizer: a Hugging Face tokenizer.
        solution: the worked solution.
        share: the largest share of its tokens, from 0 to 1; 1 gives all of it.
    """
    ids = tuple(tokenizer(solution, add_special_tokens=False)["input_ids"])
    if share >= 1:
        return Prefix(ids, solution)
    for length in range(int(share * len(ids)), 0, -1):
        end = _end_of(tokenizer, ids[:length], solution)
        if end is not None and may_cut(solution, end):
            rest = solution[end:]
            return Prefix(ids[:length], solution[: end + len(rest) - len(rest.lstrip())])
    return None


def may_cut(text: str, place: int) -> bool:
    """Return whether a text may be cut before its character at this index."""
    if not 0 < place < len(text):
        return False
    left, right = text[place - 1], text[place]
    if _in_word(left) and _in_word(right):
        return False
    if right == "{" and (left == "}" or left.isalpha()):
        return False  # before an argument of a LaTeX command
    if left == "\\" or (left.isdigit() and right in ".," and text[place + 1 : place + 2].isdigit()):
        return False
    if left in ".," and right.isdigit() and text[place - 2 : place - 1].isdigit():
        return False
    return not any(found.start() < place < found.end() for found in _FORMULA.finditer(text)) and _is_balanced(
        text[:place]
    )


def _in_word(character: str) -> bool:
    """Return whether a character is of a number or of a word in letters that are written without spaces between."""
    return character.isdigit() or (character.isascii() and character.isalpha())


def _is_balanced(text: str) -> bool:
    """Return whether every brace of a text is closed, as those of a LaTeX command must be."""
    return text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def _end_of(tokenizer: Any, ids: tuple[int, ...], solution: str) -> int | None:
    """Return where the text of the solution's first tokens ends in it; None within a character."""
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if solution.startswith(text):
        return len(text)
    dropped = len(solution) - len(solution.lstrip())  # some tokenizers drop white space at the start
    return dropped + len(text) if solution[dropped:].startswith(text) else None
