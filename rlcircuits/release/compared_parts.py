"""Compare ``comparison.json`` with the comparison that was made again, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import current_name
from rlcircuits.comparison.storage import RULE_SINCE, to_json
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.differences import Difference, compare_documents
from rlcircuits.release.recomputed_comparison import PAIRING, SUPERVISED, RecomputedComparison

Agreement = Literal["agrees", "rounding", "differs", "not checked"]
"""What came of a check: all values are the same; they differ by rounding; they differ; or something could not be
compared."""

_VERDICT, _WEIGHTS, _CIRCUITS = "verdict", "weights", "circuits"

_OPTIONAL = (SUPERVISED, _WEIGHTS, _CIRCUITS)
"""Parts that a comparison may not have."""

_PARTS = {
    "comparison.accuracy": "accuracy",
    "comparison.unfinished": "accuracy",
    "comparison.claims": "accuracy",
    "comparison.greedy": "accuracy",
    "comparison.effects": "metrics",
    "comparison.scoring": "metrics",
    "comparison.by_reader_kind": "metrics",
    "comparison.by_layer_band": "metrics",
    "comparison.controls": "noise control",
    "comparison.group_controls": "noise control",
    "comparison.noise_not_needed": "noise control",
    "comparison.supervised": SUPERVISED,
    "comparison.circuits": _CIRCUITS,
    "comparison.weights": _WEIGHTS,
    "comparison.differences": _WEIGHTS,
    "verdict": _VERDICT,
}
"""The part of the report that a field belongs to; all others belong to `PAIRING`."""


@dataclass(frozen=True)
class Check:
    """One part of a pair's results, and whether it agrees with what it was recomputed from."""

    part: str
    """``pairing``, ``accuracy``, ``metrics``, ``noise control``, ``verdict``, ``scores``, ``checkpoints``, …"""
    agreement: Agreement
    words: str
    """What was compared, the first difference with both values, or why something could not be compared."""
    differences: tuple[Difference, ...] = ()
    """Every value that differs."""
    asked_for: bool = False
    """Whether the caller asked for this check, so that it matters if it could not be made."""


def compare_parts(document: dict[str, Any], recomputed: RecomputedComparison) -> tuple[list[Check], tuple[str, ...]]:
    """Return a check for each part of the document, and the fields that say what was asked for.

    Args:
        document: what ``comparison.json`` holds.
        recomputed: the comparison made again.
    """
    key, version = document.get("key"), document.get("version")
    wanted = parse_json_object(to_json(recomputed.comparison, key if isinstance(key, str) else None))
    earlier = version != wanted["version"]
    if earlier:
        wanted["version"] = version
        _rename_profiles(document)
    asked = {"key"} | recomputed.asked | (_unrecorded(document) if earlier else set())

    def is_left_out(field: str) -> bool:
        return _is_within(field, asked) or _is_within(field, recomputed.unchecked)

    found: dict[str, dict[str, Difference | None]] = {part: {} for part in (PAIRING, *_PARTS.values())}
    for field, difference in compare_documents(document, wanted, is_left_out).items():
        found[_part_of(field)][field] = difference
    checks = []
    for part, compared in found.items():
        if part in recomputed.problems:
            checks.append(Check(part, "differs", recomputed.problems[part]))
        elif part == _VERDICT and earlier and not (isinstance(version, int) and version >= RULE_SINCE):
            checks.append(_earlier_verdict(version, recomputed))
        elif part not in _OPTIONAL or any(compared.values()) or _has(part, recomputed.comparison):
            checks.append(_summarised(part, compared, recomputed.unchecked))
    return checks, tuple(sorted(asked))


def _summarised(part: str, compared: Mapping[str, Difference | None], unchecked: Mapping[str, str]) -> Check:
    differences = tuple(difference for difference in compared.values() if difference)
    reasons: dict[str, list[str]] = {}
    for field, why in unchecked.items():
        if _part_of(field) == part:
            reasons.setdefault(why, []).append(field.removeprefix("comparison."))
    lacking = "; ".join(f"not {', '.join(names)}: {why}" for why, names in reasons.items())
    beside = f"; {lacking}" if lacking else ""
    if large := [difference for difference in differences if not difference.is_rounding]:
        more = f"; {len(large) - 1} more differ" if len(large) > 1 else ""
        return Check(part, "differs", f"{large[0].words}{more}{beside}", differences)
    words = format_count(len(compared), "value")
    if differences:
        most = max(difference.relative for difference in differences)
        words = f"{differences[0].words}; {len(differences)} of {len(compared)} values differ by {most:.1e} at most"
    if lacking:
        return Check(part, "not checked", f"{words} agree{beside}" if compared else lacking, differences)
    return Check(part, "rounding" if differences else "agrees", words, differences)


def _earlier_verdict(version: object, recomputed: RecomputedComparison) -> Check:
    words = f"the file is of version {version}, whose verdict follows an earlier rule; by today's rule the same numbers"
    return Check(_VERDICT, "not checked", f"{words} give: {judge(recomputed.comparison).words}")


def _has(part: str, comparison: Comparison) -> bool:
    if part == SUPERVISED:
        return comparison.supervised is not None
    if part == _CIRCUITS:
        return comparison.circuits is not None
    return comparison.weights is not None or bool(comparison.differences)


def _part_of(field: str) -> str:
    return next((part for name, part in _PARTS.items() if _is_within(field, [name])), PAIRING)


def _is_within(field: str, names: Iterable[str]) -> bool:
    return any(f"{field}.".startswith(f"{name}.") for name in names)


def _unrecorded(document: Mapping[str, Any]) -> set[str]:
    """Return the fields that an earlier version did not record."""
    found = document.get("comparison", {})
    optional = [
        field.name
        for field in fields(Comparison)
        if (field.default, field.default_factory) != (MISSING, MISSING) and field.name not in found
    ]
    inner = ["accuracy.interval"] if "interval" not in found.get("accuracy", {}) else []
    return {f"comparison.{name}" for name in (*optional, *inner)}


def _rename_profiles(document: dict[str, Any]) -> None:
    """Replace the names that profiles had in earlier versions."""
    for table in (document.get("comparison"), document.get("verdict")):
        if isinstance(table, dict) and isinstance(table.get("profile"), str):
            table["profile"] = current_name(table["profile"])
