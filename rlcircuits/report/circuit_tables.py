"""Write a pair's circuits as text tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from rlcircuits.answers.recorded import SIDES
from rlcircuits.circuits.circuit_comparison import CircuitComparison
from rlcircuits.circuits.cross_model import CrossFaithfulness
from rlcircuits.circuits.faithfulness_curve import Faithfulness
from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.circuit_checks import Agreement
from rlcircuits.comparison.significance import format_p
from rlcircuits.release.pair_circuits import PairCircuits, SideCircuits
from rlcircuits.report.circuit_lines import estimate_line, format_number

_FDR = 0.05
"""The false discovery rate at which edges are counted as changed."""


def circuit_tables(found: PairCircuits, edges: int = 20) -> str:
    """Return a pair's circuits as text: the edges that changed most, the overlap, and what circuits do.

    Args:
        found: the circuits.
        edges: how many edges are listed.
    """
    return "\n\n".join(
        [
            f"{found.name}: circuits\n{_edges_table(found.comparison, edges)}",
            _parts_line(found.comparison),
            f"overlap of the two circuits\n{_overlap_table(found)}",
            f"faithfulness of circuits by |score|, {found.ablation} ablation, on {found.judged} sequences that no "
            f"circuit was found on\n{_faithfulness_table(found)}",
            f"areas under the curves\n{_areas_table(found)}",
            *(estimate_line(side, _agreements(found.sides[side])) for side in SIDES),
            *(f"{side}: {found.sides[side].circuit!r}" for side in SIDES),
        ]
    )


def _edges_table(comparison: CircuitComparison, count: int) -> str:
    rows = [
        (
            f"{edge.writer} → {edge.reader}",
            f"{edge.before:+.4f} → {edge.after:+.4f}",
            f"{edge.change:+.4f}",
            format_p(edge.p),
            format_p(edge.q),
            f"{edge.stability[0]:.0%} → {edge.stability[1]:.0%}",
        )
        for edge in comparison.edges[:count]
    ]
    table = tabulate(
        rows,
        ("edge", "score, nats", "change", "p", "q", "in the top tenth"),
        disable_numparse=True,
        colalign=("left", *["right"] * 5),
    )
    changed = comparison.edges.n_changed(_FDR)
    return (
        f"{table}\n{changed} of {len(comparison.edges)} edges changed on {comparison.questions} questions "
        f"(Wilcoxon, false discovery rate {_FDR:g})"
    )


def _parts_line(comparison: CircuitComparison) -> str:
    shares = ", ".join(f"{part} {share:.0%}" for part, share in comparison.parts.items())
    return f"where the change went: {shares}"


def _overlap_table(found: PairCircuits) -> str:
    rows = []
    for one in found.comparison.overlaps:
        noise = f"{min(one.noise):.2f} to {max(one.noise):.2f}" if one.noise else "not measured"
        below = {None: "", True: "below noise", False: "within noise"}[one.is_below_noise]
        rows.append(
            (
                f"{one.size:g}",
                one.n_edges,
                f"{one.jaccard:.2f} [{one.interval[0]:.2f}, {one.interval[1]:.2f}]",
                format_number(one.rank_correlation),
                f"{one.expected:.2f}",
                format_p(one.p_chance),
                f"{one.itself:.2f}",
                noise,
                below,
            )
        )
    headers = ("size", "edges", "Jaccard", "rank corr.", "by chance", "p", "resampled", "noise draws", "")
    return tabulate(rows, headers, disable_numparse=True, colalign=("right",) * 8 + ("left",))


def _faithfulness_table(found: PairCircuits) -> str:
    rows = []
    sides = [found.sides[side] for side in SIDES]
    for place, size in enumerate(sides[0].by_size.own.sizes):
        row = [f"{size:g}"]
        for one in sides:
            own, other = one.by_size.own, one.by_size.other
            row += [
                format_number(own.faithfulness[place]),
                format_number(other.faithfulness[place]),
                _random(one, size),
                f"{own.kl[place]:.3f} / {other.kl[place]:.3f}",
                f"{own.accuracy[place]:.0%} / {other.accuracy[place]:.0%}",
            ]
        rows.append(row)
    headers = ["size"]
    for name, rest in (("before", "after"), ("after", "before")):
        headers += [f"f_{name}(C_{name})", f"f_{name}(C_{rest})", "random", "KL", "answers kept"]
    return tabulate(rows, headers, disable_numparse=True, stralign="right")


def _random(side: SideCircuits, size: float) -> str:
    """Return the interval of random circuits of a size; it is measured at MIB's sizes only."""
    if side.random is None or size not in side.random.sizes:
        return ""
    low, high = side.random.interval[:, side.random.sizes.index(size)]
    return f"{format_number(low)} to {format_number(high)}"


def _areas_table(found: PairCircuits) -> str:
    rows: list[tuple[str, ...]] = []
    for side in SIDES:
        one = found.sides[side]
        random = one.random
        rows += [
            (side, "its own", f"{one.signed.own.cpr:.3f}", f"{one.absolute.own.cmd:.3f}"),
            (side, "the other's", f"{one.signed.other.cpr:.3f}", f"{one.absolute.other.cmd:.3f}"),
        ]
        if random is not None:
            areas = [f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in (random.cpr, random.cmd)]
            rows.append((side, "random", *areas))
    return tabulate(rows, ("model", "circuits", "CPR (by score)", "CMD (by |score|)"), disable_numparse=True)


def _agreements(one: SideCircuits) -> tuple[Agreement, Agreement]:
    return one.estimates.top, one.estimates.random


def circuits_json(found: Sequence[PairCircuits]) -> str:
    """Return the circuits of pairs as a JSON document; numbers that are not defined are null."""
    document = {
        "format": "rlcircuits-circuits",
        "version": 1,
        "pairs": [_pair_document(one) for one in found],
    }
    return json.dumps(without_nan(document), indent=1, allow_nan=False)


def _pair_document(found: PairCircuits) -> dict[str, Any]:
    return {
        "name": found.name,
        "ablation": found.ablation,
        "judged": found.judged,
        "noise_draws": found.noise_draws,
        "questions": found.comparison.questions,
        "resamples": found.comparison.resamples,
        "edges": [{**vars(edge), "change": edge.change} for edge in found.comparison.edges],
        "parts": dict(found.comparison.parts),
        "overlaps": [{**asdict(one), "is_below_noise": one.is_below_noise} for one in found.comparison.overlaps],
        "sides": {side: _side_document(one) for side, one in found.sides.items()},
    }


def _side_document(one: SideCircuits) -> dict[str, Any]:
    def cross(curves: CrossFaithfulness) -> dict[str, Any]:
        return {"own": _curve(curves.own), "other": _curve(curves.other)}

    random = one.random
    return {
        "signed": cross(one.signed),
        "absolute": cross(one.absolute),
        "by_size": cross(one.by_size),
        "random": None
        if random is None
        else {
            "sizes": random.sizes,
            "cpr": random.cpr,
            "cmd": random.cmd,
            "interval": random.interval.tolist(),
        },
        "estimates": {
            "top": asdict(one.estimates.top),
            "random": asdict(one.estimates.random),
            "edges": [
                {"writer": writer, "reader": reader, "estimate": estimate, "effect": effect}
                for (writer, reader), estimate, effect in zip(
                    one.estimates.edges, one.estimates.estimates.tolist(), one.estimates.effects.tolist(), strict=True
                )
            ],
        },
        "circuit": {"found_by": one.circuit.found_by, "edges": one.circuit.edges},
    }


def _curve(curve: Faithfulness) -> dict[str, Any]:
    arrays = {name: getattr(curve, name).tolist() for name in ("faithfulness", "metric", "kl", "accuracy")}
    return {
        "sizes": curve.sizes,
        "n_edges": curve.n_edges,
        **arrays,
        "full": curve.full,
        "empty": curve.empty,
        "cpr": curve.cpr,
        "cmd": curve.cmd,
    }
