"""The one error a user meets: bad input, named, with what was found and what was wanted."""

from __future__ import annotations

_LONGEST = 300
_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 450


class RLCircuitsError(ValueError):
    """Raised for anything a user can mend: a bad file, field, checkpoint, sequence or option.

    Its text is one line, whatever it quotes, and cut in the middle where it is longer than `longest`: what is wrong
    stands first, and what to do last.
    """

    def __init__(self, message: str, longest: int = _LONGEST_MESSAGE) -> None:
        text = _printable(message)
        if len(text) > longest:
            half = longest // 2 - 2
            text = f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
        super().__init__(text)


def one_line(error: BaseException) -> str:
    """Return what another library's error says as one line, or its kind where it says nothing.

    The reason often stands below a first line that only announces it, so all lines are kept, up to a length.
    A KeyError's text is only the key, so that its kind is put before it. Of an error of the system the file and the
    reason are kept, and not its number. One of ours is as it is.
    """
    text = _printable(str(error))
    if isinstance(error, RLCircuitsError):
        return text
    if isinstance(error, OSError) and error.strerror:
        text = _printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return truncate(text, _LONGEST)


def truncated_repr(value: object) -> str:
    """Return the ``repr`` of a value that an error quotes, cut where it is long."""
    try:
        return truncate(repr(value))
    except (ValueError, RecursionError):  # of a number of thousands of digits, of lists within lists
        return f"a value of type {type(value).__name__} that is too large to be shown"


def truncate(text: str, longest: int = _LONGEST_VALUE) -> str:
    """Return the text up to a length."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} …"


def _printable(text: str) -> str:
    """Return the text with lines joined, and other characters that cannot be shown as their escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
