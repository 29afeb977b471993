"""The one error a user meets: bad input, named, with what was found and what was wanted."""

from __future__ import annotations


class RLCircuitsError(ValueError):
    """Raised for anything a user can mend: a bad file, field, checkpoint, sequence or option."""
