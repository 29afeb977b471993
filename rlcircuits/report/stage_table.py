"""The table of ``--stage-times``: where the time of a run went."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from rlcircuits.common.stage_times import StageTime

__all__ = ["stage_rows", "stage_table"]

_HEAD = ("stage", "seconds", "share", "of it in noise draws")
_LEAST = 0.001
"""Fewest seconds of a stage that has a row."""


def stage_rows(times: Sequence[StageTime]) -> list[tuple[str, str, str, str]]:
    """Return a row for each stage and one for all of them: its name, seconds, share, and seconds within controls."""
    whole = sum(each.seconds for each in times)
    controls = sum(each.in_controls for each in times)

    def row(name: str, seconds: float, in_controls: float) -> tuple[str, str, str, str]:
        share = f"{100 * seconds / whole:.1f} %" if whole else ""
        return name, f"{seconds:,.2f}", share, f"{in_controls:,.2f}" if in_controls else ""

    # A stage that only looked whether there is anything to do is left out.
    rows = [row(each.stage, each.seconds, each.in_controls) for each in times if each.seconds >= _LEAST]
    return [*rows, row("all", whole, controls)]


def stage_table(times: Sequence[StageTime]) -> str:
    """Return the stages as a table of text."""
    aligned = ("left", "right", "right", "right")
    return tabulate(stage_rows(times), headers=_HEAD, colalign=aligned, disable_numparse=True)
