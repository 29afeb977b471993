"""The three outcomes of a pair or of a whole release."""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["holds", "does not hold", "inconclusive"]
"""``does not hold`` needs evidence against what is asserted; too little evidence for it is ``inconclusive``."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
