"""The error for whatever a user can fix, and the one-line texts that errors are made of."""

from __future__ import annotations

_LONGEST = 300
_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 450


class RLCircuitsError(ValueError):
    """Raised for anything that a user can fix: a bad file, field, checkpoint, sequence or option.

    Its text is one line, whatever it quotes. A text longer than ``longest`` characters loses its middle, because it
    begins with what is wrong and ends with what to do.
    """

    def __init__(self, message: str, longest: int = _LONGEST_MESSAGE) -> None:
        text = _printable(message)
        if len(text) > longest:
            half = longest // 2 - 2
            text = f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
        super().__init__(text)


class UnreachableError(RLCircuitsError):
    """Raised where a service does not answer. It may answer later, and this says nothing of the input."""


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line, or its class where it has no text.

    All lines are joined, up to 300 characters, because the reason often follows a first line that only announces it.
    A KeyError's text is only the key, so its class is put before it. An OSError gives its file and reason without the
    error number. An RLCircuitsError is returned as it is.
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
    """Return the ``repr`` of a value for an error message, truncated at 80 characters."""
    try:
        return truncate(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, or deeply nested lists
        return f"a value of type {type(value).__name__} that is too large to be shown"


def truncate(text: str, longest: int = _LONGEST_VALUE) -> str:
    """Return the first ``longest`` characters of a text, with an ellipsis where it is longer."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} …"


def _printable(text: str) -> str:
    """Return the text with its lines joined and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
