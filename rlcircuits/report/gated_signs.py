"""What the vital signs of all pairs of a release mean for it: which gated signs fail, and in which words.

``rlcircuits compare`` and pytest judge the table ``[signs]`` of a pairs file by this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.common.failures import Failure
from rlcircuits.release.sign_rules import SignRules
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.sign_tables import failures_line, signs_table
from rlcircuits.vital_signs.gate import failing_signs

__all__ = ["GatedSigns", "judge_gated_signs"]


@dataclass(frozen=True)
class GatedSigns:
    """Signs of the pairs that were measured."""

    found: tuple[PairSigns, ...]
    failing: tuple[tuple[str, str], ...]
    """The pair and the name of each sign that fails the release."""
    line: str
    """What fails, in one line."""
    problems: tuple[Failure, ...]
    """Why pairs have no signs."""

    @property
    def tables(self) -> str:
        """Return the tables of all pairs, and below them what fails."""
        return "\n\n".join([*map(signs_table, self.found), self.line])


def judge_gated_signs(found: Sequence[PairSigns], problems: Sequence[Failure], rules: SignRules) -> GatedSigns:
    """Return what the signs of a release's pairs mean for it.

    Args:
        found: the signs of each pair.
        problems: why other pairs have none.
        rules: the table ``[signs]`` of the pairs file.
    """
    failing = failing_signs({one.name: one.signs for one in found}, rules.gate)
    line = f"signs: {failures_line(found, failing, rules.gate)}"
    return GatedSigns(tuple(found), tuple(failing), line, tuple(problems))
