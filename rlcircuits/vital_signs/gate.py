"""Which signs may fail a release, and whether they do.

Three may by default: accuracy, pass@k at its boundary, and the likelihood of right answers. Each is judged by its own
rule. Since any of them fails a release, and a release may have several pairs, their p-values are corrected by Holm's
method over all of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rlcircuits.comparison.multiplicity import corrected_by_holm
from rlcircuits.vital_signs.sign import Sign

__all__ = ["GATED", "RELEASE_LEVEL", "failing_signs"]

GATED = ("accuracy", "pass@k", "right_up")
"""Names of the signs that may fail a release by default."""

RELEASE_LEVEL = 0.05
"""Largest chance that a release fails although nothing changed in any pair."""


def failing_signs(pairs: Mapping[str, Sequence[Sign]], gated: Collection[str] = GATED) -> list[tuple[str, str]]:
    """Return the pair and the name of each sign that fails the release.

    Args:
        pairs: by the pair's name, its signs.
        gated: names of the signs that may fail a release.
    """
    judged = [
        (name, sign)
        for name, signs in pairs.items()
        for sign in signs
        if sign.name in gated and sign.outcome not in ("no room", "not measurable")
    ]
    if not judged:
        return []
    corrected = corrected_by_holm([_p(sign) for _, sign in judged])
    return [
        (name, sign.name)
        for (name, sign), p in zip(judged, corrected, strict=True)
        if sign.outcome == "trouble" and p < RELEASE_LEVEL
    ]


def _p(sign: Sign) -> float:
    return 1.0 if sign.p is None else sign.p
