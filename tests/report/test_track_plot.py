"""The panels of a tracked run's plot: only a change from the base begins at zero at the base's step."""

from __future__ import annotations

import pytest

from rlcircuits.report import track_plot
from rlcircuits.report.figures import new_figure
from rlcircuits.report.track_curves import Curve, Point


@pytest.mark.parametrize("from_base", [True, False])
def test_a_line_begins_at_the_base_if_it_is_a_change_from_it(from_base: bool) -> None:
    points = tuple(Point(step, float(step), (step - 1.0, step + 1.0), None, None) for step in (10, 20))
    axes = new_figure(3, 3).subplots()
    track_plot._draw(axes, Curve("rank", "rank", "share", points, from_base=from_base), 0)
    line = axes.lines[1]
    assert list(line.get_xdata()) == ([0, 10, 20] if from_base else [10, 20])
    assert list(line.get_ydata()) == ([0, 10, 20] if from_base else [10, 20])
