"""The HTML page: its verdict, its sections, what it says is missing, and what it makes of texts from outside."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.page_parts import Element, read_page
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.weight_changes import TensorChange, WeightChanges
from rlcircuits.comparison.comparison import NoiseNotNeeded
from rlcircuits.comparison.storage import find_comparisons, load_comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.page.axis import axis_over
from rlcircuits.report.page.payload import pack, unpack
from rlcircuits.report.page.signs import make_sign_rows
from rlcircuits.report.page.weight_map import make_weight_map
from rlcircuits.report.page.write import to_html, write_page
from rlcircuits.vital_signs.sign import reported

STORED = Path("tests/stored")
SECTIONS = (
    "effects", "questions", "heat", "circuit", "edges", "weights", "loss", "signs", "passk", "samples", "funnel",
    "timing", "provenance", "text",
)  # fmt: skip
HOSTILE = (
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><b x="', "'-alert(1)-'", "{{ 7*7 }}",
    "{% raw %}", "<!--", "]]>", "\u2028\u2029", "&lt;b&gt;", "javascript:alert(1)", "\x00<p>", "模型\u202e",
)  # fmt: skip


@pytest.fixture(scope="module")
def stored_page() -> Element:
    """The page of the stored run, with everything that is stored beside it."""
    paths = find_comparisons(STORED)
    return read_page(to_html([load_comparison(path) for path in paths], folders=[path.parent for path in paths]))


def payloads(page: Element) -> list[dict[str, object]]:
    return [unpack(each.text) for each in page.all("script", class_="payload")]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "The release holds"),
        ({"rise": False}, "The release does not hold"),
        ({"right_after": [True] * 40}, "Inconclusive"),
    ],
)
def test_the_page_begins_with_the_verdict_in_words_with_a_sign(changes: dict[str, object], title: str) -> None:
    page = read_page(to_html([made_up_comparison(**changes)]))  # type: ignore[arg-type]
    (heading,) = page.all("h1")
    assert heading.text.strip().endswith(title)
    assert heading.all("span")[0].attributes["aria-label"] in title.lower()
    reasons = page.all("dl", class_="reasons")[0].text
    assert "Why" in reasons
    assert "What to do next" in reasons


def test_a_release_with_an_unfinished_pair_has_no_verdict() -> None:
    page = read_page(to_html([made_up_comparison()], unfinished=["half"]))
    assert page.all("h1")[0].text.strip().endswith("No verdict")
    assert "half was not finished" in page.all("dl", class_="reasons")[0].text.lower()


def test_several_pairs_have_a_table_that_leads_to_each(tmp_path: Path) -> None:
    comparisons = [made_up_comparison("one"), made_up_comparison("two", "sft", rise=False)]
    page = read_page(write_page(comparisons, tmp_path / "pages" / "report.html").read_text(encoding="utf-8"))
    rows = page.all("table")[0].all("tbody")[0].all("tr")
    for comparison, row in zip(comparisons, rows, strict=True):
        (link,) = row.all("a")
        assert link.text == comparison.name
        words = verdict_words(judge(comparison))
        assert words in row.text
        assert f"{comparison.name}: {words}" in page.by_id(link.attributes["href"][1:]).all("h2")[0].text
    assert not [each for each in read_page(to_html(comparisons[:1])).all("h2") if each.text.startswith("All ")]


def test_the_table_of_pairs_counts_the_verdicts() -> None:
    pairs = [made_up_comparison("one"), made_up_comparison("two"), made_up_comparison("three", rise=False)]
    assert [judge(pair).outcome for pair in pairs] == ["holds", "holds", "does not hold"]
    assert "Each judged by itself: 1 does not hold, 2 hold." in read_page(to_html(pairs)).text


@pytest.mark.parametrize(
    ("outcomes", "words", "good"),
    [
        (("no alarm", "no alarm", "reported", "no room"), "raise an alarm: 2, none in trouble; 2 others", True),
        (("no alarm",), "raise an alarm: 1, none in trouble.", True),
        (("reported", "not measurable"), "No vital sign could raise an alarm", False),
        (("trouble", "no alarm"), "in trouble: sign-0.", False),
    ],
)
def test_only_signs_that_could_raise_an_alarm_are_a_reason_to_trust(
    outcomes: tuple[str, ...], words: str, good: bool
) -> None:
    made = (replace(reported(f"sign-{n}", "study", "unit", "note"), outcome=each) for n, each in enumerate(outcomes))
    comparison = made_up_comparison()
    page = read_page(to_html([comparison], signs=[PairSigns(comparison.name, tuple(made), 0)]))
    (reason,) = [each for each in page.all("li") if "ital sign" in each.text]
    assert words in reason.text
    assert ("careful" in reason.attributes.get("class", "")) is not good


@pytest.mark.parametrize(
    ("controls", "left_out", "words"),
    [
        ((1.0,), None, "not measured"),
        ((1.0,), NoiseNotNeeded(2, True), "cannot depend on it: 2 noise draws and noise on single groups of tensors."),
        ((), NoiseNotNeeded(3, True), "No noise control was measured, because the verdict cannot depend on it"),
    ],
)
def test_noise_that_was_left_out_is_said_at_a_glance(
    controls: tuple[float, ...], left_out: NoiseNotNeeded | None, words: str
) -> None:
    comparison = replace(made_up_comparison(controls=controls), noise_not_needed=left_out)
    reasons = [each.text for each in read_page(to_html([comparison])).all("li") if "noise" in each.text.lower()]
    assert len([each for each in reasons if words in each]) == (left_out is not None)


def test_every_section_is_there_and_every_link_leads_somewhere(stored_page: Element) -> None:
    ids = [each.attributes["id"] for each in stored_page.elements if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    for pair in ("pair-1", "pair-2"):
        assert {f"{pair}-{key}" for key in SECTIONS} <= set(ids)
    for each in stored_page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(each.attributes.get(name, "").split()) <= set(ids)
        target = each.attributes.get("href", "#main")
        assert target.startswith("#")
        assert target[1:] in ids
        assert "src" not in each.attributes  # nothing is fetched


def test_the_browser_is_told_to_run_no_script_but_the_pages_own(stored_page: Element) -> None:
    (policy,) = stored_page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    scripts = [each for each in stored_page.all("script") if not each.attributes]
    (script,) = scripts
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy.attributes["content"]
    assert policy.attributes["content"].startswith("default-src 'none';")
    assert not [each for each in stored_page.elements if any(name.startswith("on") for name in each.attributes)]


def test_the_edges_are_the_means_of_the_stored_scores(stored_page: Element) -> None:
    edges = payloads(stored_page)[0]["edges"]
    assert isinstance(edges, dict)
    for side in ("before", "after"):
        scores = EdgeScores.load(STORED / "grpo" / f"{side}.scores.safetensors")
        wanted = scores.values.double().mean(0)  # one answer a question, so that rows are questions
        assert edges["writers"] == list(scores.graph.writers)
        assert edges["readers"] == list(scores.graph.readers)
        rows, columns = np.divmod(np.cumsum(edges["steps"]), len(scores.graph.readers))
        assert {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)} == {
            (int(r), int(c)) for r, c in scores.graph.mask.nonzero()
        }
        found = np.array(edges[side]) * edges["unit"]
        np.testing.assert_allclose(found, wanted[rows, columns].numpy(), rtol=0, atol=edges["unit"])


def test_the_edges_that_changed_most_come_first(stored_page: Element) -> None:
    rows = stored_page.by_id("pair-1-edges").all("tbody")[0].all("tr")
    before, after = (EdgeScores.load(STORED / "grpo" / f"{side}.scores.safetensors") for side in ("before", "after"))
    change = after.values.double().mean(0) - before.values.double().mean(0)
    assert len(rows) == 20
    sizes = [float(row.all("td")[2].attributes["data-value"]) for row in rows]
    np.testing.assert_allclose(sizes, change.abs().flatten().sort(descending=True).values[:20].numpy())


def test_the_questions_have_both_answers_and_their_grades(stored_page: Element) -> None:
    comparison = load_comparison(STORED / "grpo")
    first = payloads(stored_page)[0]
    assert first["questions"] == list(comparison.question_ids)
    answers = first["answers"]
    assert isinstance(answers, list)
    assert all(side[1:] == ["right", True] for both in answers for side in both)  # only such questions are compared
    right = {
        side: {item.question_id: item for item in Answers.load(STORED / "grpo" / f"{side}.answers.jsonl").items}
        for side in ("before", "after")
    }
    gained = [q for q, item in right["before"].items() if not item.correct and right["after"][q].correct]
    samples = stored_page.by_id("pair-1-samples")
    assert f"Gained: {len(gained)} questions" in samples.text
    assert [each.all("summary")[0].text for each in samples.all("details")] == gained[:5]
    assert right["after"][gained[0]].text in samples.text


def test_each_plot_has_a_dot_a_question() -> None:
    comparison = made_up_comparison()
    page = read_page(to_html([comparison]))
    for metric in ("intensity", "complexity", "kurtosis", "loss", "intensity_over_loss"):
        (plot,) = page.all("svg", **{"data-metric": metric})
        effect = comparison.effects[metric]
        rose = sum(y > x for x, y in zip(effect.before_values, effect.after_values, strict=True))
        dots = {each.attributes["class"]: each.attributes["d"].count("M") for each in plot.all("path")}
        assert dots["dots rose"] + dots["dots fell"] == 40
        assert dots["dots rose"] == rose


def test_what_is_stored_is_told(stored_page: Element) -> None:
    provenance = stored_page.by_id("pair-1-provenance").text
    assert "c60f9684e48fb1f63bdc0a125d0b5976d2c690c6e353994a812b298f04adac8e" in provenance
    for words in ("fixtures/llama-sums/seed-7/grpo", "seed = 42", "temperature = 1.0", "arithmetic (test), 40 asked"):
        assert words in provenance
    assert "answers generated" in stored_page.by_id("pair-1-timing").text
    funnel = stored_page.by_id("pair-1-funnel").text
    assert "right by both" in funnel
    assert "32 (−8)" in funnel
    assert "one-sided Wilcoxon" in stored_page.by_id("pair-1-text").text


def test_what_is_not_stored_is_one_line_that_says_how_to_get_it() -> None:
    page = read_page(to_html([made_up_comparison()]))
    for key, how in {
        "heat": "--output",
        "circuit": "--output",
        "edges": "--output",
        "weights": "measure the pair again",
        "signs": "rlcircuits signs",
        "passk": "rlcircuits signs",
        "samples": "--output",
        "timing": "--output",
    }.items():
        section = page.by_id(f"pair-1-{key}")
        (line,) = section.all("p", class_="missing")
        assert how in line.text
        assert section.text.count("\n") < 10
        assert not section.all("canvas")


def test_a_damaged_file_costs_its_own_sections_only(tmp_path: Path) -> None:
    folder = tmp_path / "grpo"
    folder.mkdir()
    for path in (STORED / "grpo").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "after.scores.safetensors").write_bytes(b"no scores")
    page = read_page(to_html([load_comparison(folder)], folders=[folder]))
    assert "after.scores.safetensors" in page.by_id("pair-1-heat").all("p", class_="missing")[0].text
    assert not page.by_id("pair-1-samples").all("p", class_="missing")


@pytest.mark.parametrize("damage", ["swapped", "nan"])
def test_scores_that_are_not_those_of_the_comparison_are_not_drawn(damage: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(STORED / "grpo", tmp_path / "grpo"))
    before, after = (folder / f"{side}.scores.safetensors" for side in ("before", "after"))
    if damage == "swapped":
        before.rename(tmp_path / "kept")
        after.rename(before)
        (tmp_path / "kept").rename(after)
    else:
        scores = EdgeScores.load(after)
        scores.values[0, 0, 0] = math.nan
        scores.save(after)
    page = read_page(to_html([load_comparison(folder)], folders=[folder]))
    (line,) = page.by_id("pair-1-heat").all("p", class_="missing")
    assert ("comparison.json is of, by their intensity" if damage == "swapped" else "hold NaN or Inf") in line.text


def test_a_pair_without_a_question_to_compare_has_a_page() -> None:
    comparison = made_up_comparison()
    nothing = {
        name: replace(effect, questions=0, before_values=(), after_values=(), before=np.nan, after=np.nan,
                      change=np.nan, win_share=np.nan, interval=(np.nan, np.nan))
        for name, effect in comparison.effects.items()
    }  # fmt: skip
    page = read_page(to_html([replace(comparison, question_ids=(), effects=nothing, controls=(), note="too few")]))
    assert page.by_id("pair-1-questions").all("p", class_="missing")
    assert "No question was compared" in page.by_id("pair-1").text
    assert "nan" not in re.sub("[a-z]nan|nan[a-z]", "", page.by_id("pair-1-effects").text.lower())


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)), min_size=5, max_size=5))
@settings(max_examples=15, deadline=None)
def test_no_text_from_outside_breaks_out(texts: list[str]) -> None:
    name, checkpoint, question, note, sign = (f"x{text}" for text in texts)
    plain = read_page(_plain_page())
    page = read_page(_page_with(name, checkpoint, question, note, sign))

    def structure(element: Element) -> list[tuple[str, tuple[str, ...]]]:
        return [(each.tag, tuple(each.attributes)) for each in element.elements]

    assert structure(page) == structure(plain)
    assert payloads(page)[0]["questions"] == [f"{question} {i}" for i in range(40)]


@cache
def _plain_page() -> str:
    return _page_with("name", "checkpoint", "question", "note", "sign")


TEMPLATE = made_up_comparison()


def _page_with(name: str, checkpoint: str, question: str, note: str, sign: str) -> str:
    comparison = replace(
        TEMPLATE,
        name=name,
        after=checkpoint,
        question_ids=tuple(f"{question} {i}" for i in range(40)),
        note=f"{note}.",
        differences=(note,),
    )
    return to_html([comparison], signs=[PairSigns(name, (reported(sign, sign, sign, note),), 0)])


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.floats(allow_nan=False, allow_infinity=False))))
def test_a_payload_is_read_back_and_has_nothing_that_html_reads(content: dict[str, object]) -> None:
    packed = pack(content)
    assert unpack(packed) == content
    assert re.fullmatch("[A-Za-z0-9+/=]*", packed)
    assert pack(content) == packed


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(2, 8))
def test_an_axis_holds_its_numbers_and_few_round_ticks(values: list[float], most: int) -> None:
    axis = axis_over(values)
    assert axis.low < min(values) or axis.low == axis.high
    assert axis.high > max(values)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert all(axis.low - 1e-6 * abs(axis.low) <= tick <= axis.high + 1e-6 * abs(axis.high) for tick in ticks)
    percents = [axis.percent(value) for value in sorted(values)]
    assert percents == sorted(percents)
    assert all(0 <= each <= 100 for each in percents)


def test_the_map_of_weights_has_the_relative_update_of_each_module() -> None:
    def change(name: str, before: float, update: float) -> TensorChange:
        return TensorChange(name, 4, before, update, None, None, None)

    tensors = (
        change("model.embed_tokens.weight", 2.0, 0.0),
        change("model.layers.0.self_attn.q_proj.weight", 3.0, 0.3),
        change("model.layers.0.self_attn.q_proj.bias", 4.0, 0.4),
        change("model.layers.1.mlp.experts.0.up_proj.weight", 4.0, 2.0),
        change("model.layers.1.mlp.experts.1.up_proj.weight", 3.0, 0.0),
    )
    found = make_weight_map(replace(made_up_comparison(), weights=WeightChanges(tensors, (), False)))
    assert not hasattr(found, "how")
    assert found.modules == ("q_proj", "mlp.experts.*.up_proj")
    assert [(layer, [cell.text for cell in cells]) for layer, cells in found.blocks] == [
        ("0", ["10", ""]),
        ("1", ["", "40"]),
    ]
    assert [(module, cell.text) for module, cell in found.outside] == [("model.embed_tokens", "0")]
    assert found.blocks[1][1][1].strength == 1


@given(
    change=st.floats(-1e6, 1e6),
    ends=st.none() | st.tuples(st.floats(-1e6, 0) | st.just(-math.inf), st.floats(0, 1e6) | st.just(math.inf)),
    noise=st.lists(st.floats(-1e6, 1e6), max_size=3),
)
@settings(max_examples=25)
def test_each_sign_has_a_picture_of_its_change(
    change: float, ends: tuple[float, float] | None, noise: list[float]
) -> None:
    interval = None if ends is None else (change + ends[0], change + ends[1])
    sign = reported("sign", "study", "unit", "note", change=change, interval=interval, noise=tuple(noise))
    (row,) = make_sign_rows(PairSigns("pair", (sign,), 0))
    picture = row.picture
    assert picture is not None
    places = [picture.zero, picture.at, *picture.noise, *((picture.low, picture.high) if ends else ())]
    assert all(place is not None and 0 <= place <= 100 for place in places)
    assert (change > 0) <= (picture.at >= picture.zero)
    if ends:
        assert picture.low <= picture.at <= picture.high
    (empty,) = make_sign_rows(PairSigns("pair", (reported("sign", "study", "unit", "note"),), 0))
    assert empty.picture is None
