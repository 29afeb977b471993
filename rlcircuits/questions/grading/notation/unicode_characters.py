r"""Replace Unicode characters of mathematics, `2¾`, `10⁶`, `x ≤ √2`, with ASCII and LaTeX."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["CURRENCY_SIGNS", "ascii_latex"]

_SYMBOLS = {
    "−": "-",
    "–": "-",
    "‐": "-",
    "‑": "-",
    "‒": "-",
    "﹣": "-",
    "×": r"\times ",
    "✕": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∙": r"\cdot ",
    "÷": r"\div ",
    "⁄": "/",
    "∕": "/",
    "∶": ":",
    "∞": r"\infty ",
    "°": r"^\circ ",
    "˚": r"^\circ ",
    "º": r"^\circ ",
    "℃": r"^\circ C",
    "℉": r"^\circ F",
    "≤": r"\leq ",
    "⩽": r"\leq ",
    "≥": r"\geq ",
    "⩾": r"\geq ",
    "≠": r"\neq ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∖": r"\setminus ",
    "∅": r"\emptyset ",
    "⌀": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}",
    "ℂ": r"\mathbb{C}",
    "∧": r"\land ",
    "∨": r"\lor ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "′": "'",
    "’": "'",
    "‘": "'",
    "″": '"',
    "“": '"',
    "”": '"',
}


def _compatible(first: int, last: int) -> dict[str, str]:
    """Map the styled and wide forms of characters, such as `𝑥` and `５`, to the plain characters."""
    return {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(first, last + 1)}


def _greek() -> dict[str, str]:
    found = {}
    for code in range(0x0391, 0x03CA):
        name = unicodedata.name(chr(code), "").replace("LAMDA", "LAMBDA")
        case, _, letter = name.removeprefix("GREEK ").partition(" LETTER ")
        if letter.isalpha():
            found[chr(code)] = "\\" + (letter.lower() if case == "SMALL" else letter.capitalize()) + " "
    return found


def _vulgar_fractions() -> dict[str, str]:
    codes = [*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189]
    parts = {chr(code): unicodedata.normalize("NFKC", chr(code)).split("⁄") for code in codes}
    return {character: rf"\frac{{{above}}}{{{below}}}" for character, (above, below) in parts.items()}


_SPACES = dict.fromkeys(map(chr, [0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000]), " ")
_NOTHING = dict.fromkeys(map(chr, [0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF]), "")
_TABLE = str.maketrans(
    _compatible(0x1D400, 0x1D7FF)
    | _compatible(0xFF01, 0xFF5E)
    | _greek()
    | _vulgar_fractions()
    | _SPACES
    | _NOTHING
    | _SYMBOLS
)
_RAISED_CHARACTERS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ"
_LOWERED_CHARACTERS = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ"
_RAISED = re.compile(f"[{_RAISED_CHARACTERS}]+")
_LOWERED = re.compile(f"[{_LOWERED_CHARACTERS}]+")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z])?")
_DEGREE_OF_ROOT = {"√": "", "∛": "[3]", "∜": "[4]"}

CURRENCY_SIGNS = "".join(
    chr(code)
    for code in [*range(0xA2, 0xA6), *range(0x20A0, 0x20D0), 0x0E3F]
    if unicodedata.category(chr(code)) == "Sc"
)
"""Currency signs other than $: ¢£€¥₹ and so on."""


def ascii_latex(text: str) -> str:
    r"""Return the text with each known Unicode character written in LaTeX: `x ≤ √2` as `x \leq \sqrt{2}`."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda run: "^{" + _level(run[0]) + "}", text)
    text = _LOWERED.sub(lambda run: "_{" + _level(run[0]) + "}", text)
    text = _ROOT.sub(lambda root: rf"\sqrt{_DEGREE_OF_ROOT[root[1]]}" + (f"{{{root[2]}}}" if root[2] else ""), text)
    return text.translate(_TABLE)


def _level(run: str) -> str:
    return unicodedata.normalize("NFKC", run).replace("−", "-")
