"""The picture of vital signs: a panel for each sign, labels inside the frame, and marks that a legend explains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.path_plot import plot_path
from rlcircuits.report.sign_plots import _figure, plot_signs
from rlcircuits.vital_signs.sign import Sign, no_room, reported

numbers = st.floats(-1e3, 1e3)
ends = st.tuples(numbers | st.just(-math.inf), numbers | st.just(math.inf))
signs = st.builds(
    Sign,
    name=st.sampled_from(["importance_accuracy", "hint_gain_prefix_25", "accuracy"]),
    study=st.just(""),
    unit=st.sampled_from(["share", "nats/token per accuracy point"]),
    outcome=st.sampled_from(["trouble", "no alarm", "no room", "not measurable", "reported"]),
    note=st.text("ab cd", max_size=400),
    before=st.none() | numbers,
    after=numbers,
    change=st.none() | numbers,
    interval=st.none() | ends,
    noise=st.lists(numbers, max_size=3).map(tuple),
)
CURVES = {"k": [1, 2], "before": [0.5, 0.6], "after": [0.4, 0.7], "all_before": [0.5, 0.4], "all_after": [0.4, 0.2]}
BAND = {**CURVES, "lower": [-0.2, -1], "upper": [0.1, 1]}


def texts_outside(figure: Any) -> list[str]:
    """Return the texts that run over the frame; draws the figure."""
    from matplotlib.text import Text

    figure.canvas.draw()
    texts = [figure._suptitle]
    for part in figure.subfigs:
        for axes in part.axes:
            if axes.axison:
                low, high = sorted(axes.get_xlim())
                inside = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
                texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label, *inside]
                texts += [each for tick in axes.yaxis.get_major_ticks() for each in (tick.label1, tick.label2)]
            texts += [] if (legend := axes.get_legend()) is None else legend.get_texts()
    assert all(isinstance(text, Text) for text in texts)
    frame = figure.bbox.padded(1)
    boxes = {text: text.get_window_extent() for text in texts if text.get_text().strip() and text.get_visible()}
    return [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    ]


@given(found=st.lists(signs, min_size=1, max_size=4), name=st.text("abc ", min_size=1, max_size=300))
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])  # a figure is slow to shrink
def test_labels_stay_inside_the_frame(found: list[Sign], name: str) -> None:
    assert texts_outside(_figure(PairSigns(name, tuple(found), 0))) == []


def test_there_is_a_panel_for_each_sign_and_a_legend(tmp_path: Path) -> None:
    found = (
        reported("pass@k", "", "share", "", change=0.1, interval=(0.0, 0.2), details=BAND),
        reported("coverage@k", "", "right ways", "", change=0.1, details=CURVES),
        reported("accuracy", "", "share", "", before=0.5, after=0.6, change=0.1, interval=(0.0, 0.2), noise=(0.05,)),
        no_room("length_gap", "", "tokens", "all answers have nearly the same length"),
    )
    figure: Any = _figure(PairSigns("a", found, 1))
    overview, panels = figure.subfigs
    titles = [axes.get_title() for axes in panels.axes if axes.axison]
    assert titles == [f"{sign.name}: {sign.outcome}" for sign in found]
    legend = [text.get_text() for text in overview.axes[0].get_legend().get_texts()]
    assert legend == ["reported", "noise draws"]
    assert plot_signs(PairSigns("none", (), 0), tmp_path / "none.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("noise", [(), (0.2, 0.5)])
def test_the_picture_of_a_path(noise: tuple[float, ...], tmp_path: Path) -> None:
    sign = reported("linearity", "", "R²", "", change=0.9, noise=noise)
    assert plot_path(sign, "runs/" + "x" * 300, tmp_path / "path.png").read_bytes()[1:4] == b"PNG"
