"""The pages of a tracked run and of two runs in a browser: no error, no sideways scrolling, accessible, safe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import axe_script, open_browser
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.common.failures import Failure
from rlcircuits.comparison.storage import load_comparison, save_comparison
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.release.track import Track, TrackedStep, UnmeasuredStep
from rlcircuits.report.page.track import write_track_page
from rlcircuits.report.page.two_runs import write_two_runs_page
from rlcircuits.report.two_runs import compare_runs
from rlcircuits.vital_signs.sign import Sign

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror='window.broken = 1'>"
WIDTHS = (360, 1280, 3840)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


def tracked_page(folder: Path) -> Path:
    steps = []
    for step in (100, 200, 300):
        comparison = replace(made_up_comparison(f"step-{step:06d}"), after=f"{HOSTILE}/checkpoint-{step}")
        outcome = "trouble" if step == 300 else "no alarm"
        sign = Sign("pass@k", "a study", "share", outcome, HOSTILE, 0.9, 0.8, -0.1, (-0.2, 0.0), 0.001, (0.01,), 60)
        whole = Sign("stable_rank", "a study", "rank", "reported", "", change=float(step))
        steps.append(TrackedStep(step, comparison, PairSigns(comparison.name, (sign, whole), 1), folder))
    track = Track(HOSTILE, 0, tuple(steps), (UnmeasuredStep(400, Failure(HOSTILE)),))
    return write_track_page(track, folder / "track.html")


def page_of_two_runs(folder: Path) -> Path:
    for name, stored, before in (("first", "grpo", "base"), ("second", "sft-clean", HOSTILE)):
        save_comparison(replace(load_comparison(f"tests/stored/{stored}"), before=before), folder / name)
    return write_two_runs_page(compare_runs(folder / "first", folder / "second"), folder / "two.html")


@pytest.fixture(scope="module", params=[tracked_page, page_of_two_runs], ids=["track", "two-runs"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("pages"))
    return made


def opened(browser: Any, file: Path, width: int, theme: str) -> tuple[Any, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    return page, errors


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_error_no_sideways_scrolling_and_no_serious_violation(
    browser: Any, file: Path, width: int, theme: str
) -> None:
    page, errors = opened(browser, file, width, theme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.broken") is None
    assert errors == []
    if width == WIDTHS[1]:
        page.evaluate(axe_script())
        found = page.evaluate("axe.run()")["violations"]
        serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert serious == []
    page.close()
