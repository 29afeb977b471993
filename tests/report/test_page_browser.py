"""The HTML page in a browser: no error, no sideways scrolling, and what the script adds works with keys and pointer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import axe_script, open_browser
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.comparison.storage import find_comparisons, load_comparison
from rlcircuits.report.page.write import write_page

pytestmark = pytest.mark.slow

WIDTHS = (360, 768, 1280, 3840)
HOSTILE = "</script><img src=x onerror='window.broken = 1'>\u2028<script>window.broken = 1</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = find_comparisons("tests/stored")
    folders = [path.parent for path in paths]
    return write_page([load_comparison(path) for path in paths], tmp_path_factory.mktemp("page") / "page.html",
                      folders=folders)  # fmt: skip


def opened(browser: Any, file: Path, width: int = 1280, theme: str = "light", **options: Any) -> tuple[Any, list[str]]:
    """Return the page once its script is done, and what the browser complained of."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(f"{file.as_uri()}#pair-1")
    page.wait_for_selector("html[data-ready=yes]")
    return page, errors


def test_a_pair_is_drawn_when_it_is_unfolded(browser: Any, file: Path) -> None:
    page, errors = opened(browser, file)
    other = page.locator("#pair-2")
    assert other.get_attribute("data-drawn") is None
    assert not other.locator(".tiles").is_visible()
    page.locator("table.release a[href='#pair-2']").click()
    page.wait_for_selector("#pair-2[data-drawn=yes]")
    assert other.locator("svg.circuit path").count() == 20
    assert other.locator("canvas.heat").first.bounding_box()["width"] > 100
    button = page.locator("#fold")
    for words, shown in (("Fold all pairs", True), ("Unfold all pairs", False)):
        page.evaluate("document.querySelectorAll('details.pair-fold').forEach((each, place) => { each.open = !place; })"
                      if shown else "0")  # fmt: skip
        button.click()
        assert button.text_content() == words
        assert other.locator(".tiles").is_visible() == shown
    page.locator("table.release a[href='#pair-2']").click()  # again, where the address does not change
    page.wait_for_function("document.querySelector('#pair-2 details').open")
    assert errors == []
    page.close()


@pytest.mark.parametrize("width", [360, 768])
def test_on_a_phone_the_table_of_pairs_shows_every_number(browser: Any, file: Path, width: int) -> None:
    page, _ = opened(browser, file, width)
    for cell in page.locator("table.release tbody td.num").all():
        box = cell.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_error_no_request_and_no_sideways_scrolling(browser: Any, file: Path, width: int, theme: str) -> None:
    page, errors = opened(browser, file, width, theme)
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    top = page.locator("h1").bounding_box()
    assert top["y"] + top["height"] < 400
    assert top["x"] + top["width"] <= width
    page.close()


def test_the_slider_changes_the_edges_of_the_circuit(browser: Any, file: Path) -> None:
    page, errors = opened(browser, file)
    section = page.locator("#pair-1-circuit")
    assert section.locator("svg path").count() == 20
    slider = section.locator("input")
    slider.focus()
    for _ in range(15):
        slider.press("ArrowLeft")
    assert section.locator("svg path").count() == 5
    first = section.locator("svg path").first.locator("title").text_content()
    section.locator("select").select_option("change")
    assert section.locator("svg path").count() == 5
    assert section.locator("output").text_content() == "5 of 77"
    assert first
    assert errors == []
    page.close()


def test_a_heading_sorts_its_table(browser: Any, file: Path) -> None:
    page, _ = opened(browser, file)
    table = page.locator("#pair-1-edges table")
    for column, key in ((1, float), (3, float), (0, str)):
        heading = table.locator("thead th").nth(column)
        orders = []
        for _ in range(2):
            heading.locator("button").click()
            orders.append(heading.get_attribute("aria-sort"))
            cells = table.locator(f"tbody tr > :nth-child({column + 1})").evaluate_all(
                "cells => cells.map(cell => cell.dataset.value ?? cell.textContent)"
            )
            values = [key(cell) for cell in cells]
            if key is float:
                assert values == sorted(values, reverse=orders[-1] == "descending")
        assert set(orders) == {"ascending", "descending"}
    page.close()


def test_keys_and_pointer_show_a_question_and_an_edge(browser: Any, file: Path) -> None:
    page, errors = opened(browser, file)
    questions = load_comparison("tests/stored/grpo").question_ids
    plot = page.locator("#pair-1-questions svg").first
    plot.focus()
    plot.press("ArrowRight")
    panel = page.locator("#pair-1-questions .chosen-question")
    shown = panel.locator("p").first.text_content()
    assert shown in questions
    assert panel.locator("pre").count() == 2
    plot.press("ArrowRight")
    assert panel.locator("p").first.text_content() != shown
    page.locator("#pair-1-heat .heat-box").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "nats" in page.locator("#pair-1-heat .readout").text_content()
    assert errors == []
    page.close()


def test_the_heat_maps_have_the_signs_of_the_scores(browser: Any, file: Path) -> None:
    """Blue where the score is negative, orange where it is positive, on a white page."""
    page, _ = opened(browser, file)
    wrong = page.evaluate("""async () => {
        const pair = document.querySelector("#pair-1"), wrong = [];
        const edges = rl.edges((await rl.unpack(pair.querySelector(".payload").textContent)).edges);
        for (const canvas of pair.querySelectorAll("canvas.heat")) {
            const context = canvas.getContext("2d"), size = (canvas.width - 48) / edges.readers.length;
            for (const edge of edges.list) {
                const value = edge[canvas.dataset.which];
                if (Math.abs(value) < edges.largest / 100) continue;
                const x = Math.round(44 + (edge.column + 0.5) * size), y = Math.round(24 + (edge.row + 0.5) * size);
                const [red, , blue] = context.getImageData(x, y, 1, 1).data;
                if ((red > blue) !== (value > 0)) wrong.push(edges.describe(edge));
            }
        }
        return wrong;
    }""")
    assert wrong == []
    page.close()


def test_the_theme_button_goes_through_the_themes(browser: Any, file: Path) -> None:
    page, _ = opened(browser, file)
    colours = []
    for _ in range(3):
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.locator("#theme").click()
    assert len(set(colours)) == 2
    assert page.locator("#theme").text_content() == "Theme: system"
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: Any, file: Path, theme: str) -> None:
    script = axe_script()
    page, _ = opened(browser, file, theme=theme, bypass_csp=True)
    page.add_script_tag(content=script)
    found = page.evaluate("axe.run()")["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
    page.close()


def test_no_text_from_outside_runs_as_a_script(browser: Any, tmp_path: Path) -> None:
    comparison = replace(
        made_up_comparison(),
        name=HOSTILE,
        after=HOSTILE,
        note=HOSTILE,
        question_ids=tuple(f"{HOSTILE}{i}" for i in range(40)),
    )
    page, errors = opened(browser, write_page([comparison], tmp_path / "page.html"))
    plot = page.locator("svg.paired").first
    plot.focus()
    plot.press("ArrowRight")
    assert HOSTILE in page.locator(".chosen-name").text_content()
    assert page.evaluate("window.broken") is None
    assert errors == []
    page.close()


def test_the_page_prints_with_every_answer_open(browser: Any, file: Path, tmp_path: Path) -> None:
    page, errors = opened(browser, file)
    page.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert page.locator("#pair-1 details:not([open])").count() == 0
    assert errors == []
    page.close()
