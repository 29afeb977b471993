"""What differs between the weights of two checkpoints, in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from rlcircuits.checkpoints.weight_changes import ChangeSummary, UnmatchedTensor, WeightChanges
from rlcircuits.common.reprs import format_count
from rlcircuits.models.tensor_groups import Group, group_of, layer_of

__all__ = ["change_count_line", "evidence_lines", "weight_change_lines"]

_FEW = 3
"""Most weights that are named one by one."""

_CONCENTRATED = 0.5
"""Share of the model's squared update above which one row is named."""


def change_count_line(changes: WeightChanges) -> str:
    """Return how many weights changed, and which if they are few: ``1 of 39 tensors changed: model.norm.weight``."""
    counted = f"{changes.changed:,} of {format_count(changes.count, 'tensor')} changed"
    if not changes.changed:
        return f"{counted}: before and after have the same weights"
    names = [tensor.name for tensor in changes.tensors if tensor.changed]
    names += [tensor.name for tensor in changes.unmatched]
    return f"{counted}: {', '.join(names)}" if len(names) <= _FEW else counted


def weight_change_lines(changes: WeightChanges) -> list[str]:
    """Return what changed, a line each: how many weights, each group of modules, and the update's direction.

    The lines describe the update and prove nothing of how it was trained.
    """
    lines = [change_count_line(changes)]
    if not changes.changed:
        return lines
    groups = changes.by_group()
    lines += [_group_line(changes, group, part) for group, part in groups.items() if part.changed]
    unchanged = [group for group, part in groups.items() if not part.changed]
    if unchanged:
        lines.append(f"unchanged: {', '.join(unchanged)}")
    if changes.unmatched:
        lines.append(_unmatched_line(changes.unmatched))
    lines += _concentration(changes)
    if changes.cosine is not None:
        lines.append(f"cosine of the update with the weights before {_number(changes.cosine)}")
    return lines


def evidence_lines(changes: WeightChanges) -> list[str]:
    """Return what the update alone says of how it was trained, in one line; none if nothing changed.

    On the shipped pairs it tells supervised training from RL. Whether it does elsewhere is not known, so that it is
    reported and judged by nothing.
    """
    found = []
    if changes.changed and changes.unembedding_share is not None:
        found.append(_unembedding_line(changes.unembedding_share, changes.tied))
    if changes.changed and changes.reference is not None:
        found.append(_reference_line(changes.reference, changes.reference_cosine))
    return [f"from the weights alone (reported, no proof): {'; '.join(found)}"] if found else []


def _group_line(changes: WeightChanges, group: Group, part: ChangeSummary) -> str:
    names = [tensor.name for tensor in changes.tensors if tensor.changed]
    names += [tensor.name for tensor in changes.unmatched]
    layers = {layer for name in names if group_of(name) == group and (layer := layer_of(name)) is not None}
    where = f"{_ranges(layers)}, {group}" if layers else group
    counted = f"{where}: {part.changed:,} of {format_count(part.count, 'tensor')} changed"
    if not part.update_norm:  # only unmatched weights
        return counted
    size = (
        f"update {_number(100 * part.update_norm / part.before_norm)} % of the norm before" if part.before_norm else ""
    )
    share = f"{_number(part.squared_share or 0.0)} of the squared update"
    return ", ".join(filter(None, (counted, size, share)))


def _ranges(layers: Iterable[int]) -> str:
    """Return layer indices in words: ``layer 3``, ``layers 0-3, 7``."""
    ordered = sorted(layers)
    starts = [ordered[0], *(later for earlier, later in pairwise(ordered) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(ordered) if later != earlier + 1), ordered[-1]]
    spans = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    return f"layer{'s' if len(ordered) > 1 else ''} {', '.join(spans)}"


def _unmatched_line(unmatched: tuple[UnmatchedTensor, ...]) -> str:
    shown = [
        f"{tensor.name} is {_shape(tensor.before)} before and {_shape(tensor.after)} after"
        for tensor in unmatched[:_FEW]
    ]
    more = [f"and {len(unmatched) - _FEW:,} more"] if len(unmatched) > _FEW else []
    return f"{format_count(len(unmatched), 'tensor')} cannot be compared: {'; '.join([*shown, *more])}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def _concentration(changes: WeightChanges) -> list[str]:
    """Return a line for a single row that has most of the model's squared update."""
    total = changes.update_norm**2
    shares = [
        ((tensor.largest_row_share or 0.0) * tensor.update_norm**2 / total, tensor.name)
        for tensor in changes.tensors
        if total
    ]
    share, name = max(shares, default=(0.0, ""))
    return [f"one row of {name} has {_number(share)} of the squared update"] if share > _CONCENTRATED else []


def _unembedding_line(share: float, tied: bool) -> str:
    if tied:
        return f"tied embeddings: the weight that embeds and unembeds has {_number(share)} of the squared update"
    return f"unembedding's share of the squared update {_number(share)}"


def _reference_line(reference: str, cosine: float | None) -> str:
    if cosine is None:
        return f"cosine of the update with that of {reference}: none, since one of them changed nothing"
    return f"cosine of the update with that of {reference} {_number(cosine)}"


def _number(value: float) -> str:
    """Return a number with two significant digits and no exponent where it is readable without."""
    return f"{value:.2f}" if 0.1 <= abs(value) < 1 else f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
