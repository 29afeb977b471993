"""The file of a pair's vital signs gives back what was written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlcircuits.release.stored_signs import PairSigns, load_signs, save_signs
from rlcircuits.report.sign_plots import signs_png
from rlcircuits.vital_signs.sign import reported


@pytest.mark.parametrize("interval", [(0.1, 0.3), (0.1, math.inf), (-math.inf, 0.3), None])
def test_intervals_are_read_back_with_ends_that_have_no_bound(
    interval: tuple[float, float] | None, tmp_path: Path
) -> None:
    """A price of a point of accuracy has no upper bound where accuracy may not have risen at all."""
    written = PairSigns("a", (reported("kl_per_point", "", "", "", change=0.2, interval=interval),), 0)
    save_signs(written, tmp_path)
    assert load_signs(tmp_path) == written
    assert signs_png(written)
