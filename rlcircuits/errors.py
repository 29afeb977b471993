"""The one error a user meets: bad input, named, with what was found and what was wanted."""

from __future__ import annotations

_LONGEST = 300
_LONGEST_VALUE = 80


class RLCircuitsError(ValueError):
    """Raised for anything a user can mend: a bad file, field, checkpoint, sequence or option.

    Its text is one line, whatever it quotes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


def one_line(error: BaseException) -> str:
    """Return what another library's error says as one line, or its kind where it says nothing.

    The reason often stands below a first line that only announces it, so all lines are kept, up to a length.
    A KeyError's text is only the key, so that its kind is put before it.
    """
    text = _printable(str(error))
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"


def shortened(value: object) -> str:
    """Return the ``repr`` of a value that an error quotes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"


def _printable(text: str) -> str:
    """Return the text with lines joined, and other characters that cannot be shown as their escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
