"""The file of a pair's vital signs gives back what was written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.release.stored_signs import PairSigns, find_signs, load_signs, save_signs
from rlcircuits.report.sign_plots import plot_signs
from rlcircuits.vital_signs.sign import reported


@pytest.mark.parametrize("interval", [(0.1, 0.3), (0.1, math.inf), (-math.inf, 0.3), None])
def test_intervals_are_read_back_with_ends_that_have_no_bound(
    interval: tuple[float, float] | None, tmp_path: Path
) -> None:
    """A price of a point of accuracy has no upper bound where accuracy may not have risen at all."""
    written = PairSigns("a", (reported("kl_per_point", "", "", "", change=0.2, interval=interval),), 0)
    save_signs(written, tmp_path)
    assert load_signs(tmp_path) == written
    assert plot_signs(written, tmp_path / "signs.png").stat().st_size


sides = st.fixed_dictionaries({side: st.binary(max_size=20) for side in ("before", "after")})


@given(measured=sides, now=sides)
def test_signs_are_those_of_the_answers_beside_them(
    measured: dict[str, bytes], now: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    written = PairSigns("a", (reported("accuracy", "", "", ""),), 0)
    for side, content in measured.items():
        (folder / f"{side}.answers.jsonl").write_bytes(content)
    save_signs(written, folder)
    for side, content in now.items():
        (folder / f"{side}.answers.jsonl").write_bytes(content)
    found, problems = find_signs([folder])
    if measured == now:
        assert (found, problems) == ((written,), ())
        return
    assert found == ()
    assert "stale" in problems[0]
    with pytest.raises(RLCircuitsError, match="measure the signs again with rlcircuits signs, or remove the file"):
        load_signs(folder)
    save_signs(written, folder)
    assert load_signs(folder) == written
