"""The summary in Markdown: what stands first, one row a pair, and text from outside that stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rlcircuits.common.failures import Failure
from rlcircuits.report.gated_signs import GatedSigns
from rlcircuits.report.headline import make_headline
from rlcircuits.report.markdown import escape_markdown, summary_markdown, write_summary

FELL = [True] * 30 + [False] * 10

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
"""GitHub's Markdown, but for what it does to the text afterwards."""

NASTY = (
    "a|b`c`<img src=x onerror=y>\n| x |\n\n# @octocat #12 [l](http://evil) *b* _i_ ~~s~~ \\| $x$ <!-- </pre> </details>"
)


def shown(tokens: list[Token]) -> str:
    """The text that a reader sees, from the tokens within one block."""
    return "".join(token.content for token in tokens).replace("\u200b", "")


def cells(markdown: str) -> list[list[str]]:
    """The rows of the first table; all that is in a cell must be text."""
    rows: list[list[str]] = []
    for token in PARSER.parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "table_close":
            break
        elif token.type == "inline" and rows:
            assert token.children is not None
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
            rows[-1].append(shown(token.children))
    return rows


def test_outcome_why_and_next_come_first_and_each_pair_has_a_row() -> None:
    pairs = [made_up_comparison("good"), made_up_comparison("bad", right_after=FELL)]
    headline = make_headline(pairs, ("lost",))
    text = summary_markdown(headline, pairs, {"lost": "there is no folder"})
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "### ⚠️ rlcircuits: no verdict"
    assert lines[1].startswith("**Why:** lost could not be measured; what was measured does not hold: accuracy of bad")
    assert lines[2].startswith("**Next:** mend what the errors name")
    (_, good, bad, lost) = cells(text)
    assert good[:3] == ["good", "✅ holds: shows the study's pattern", "0.667 → 1.000 (+33.3 points)"]
    assert bad[:2] == ["bad", "❌ does not hold: accuracy"]
    assert lost[:2] == ["lost", "⚠️ could not be measured"]
    assert "- **lost**: there is no folder" in lines
    assert "rose on" in text.split("<details>")[1]


def test_nothing_measured_has_no_verdict() -> None:
    assert summary_markdown(None, []) == "### ⚠️ rlcircuits: no verdict\n\n**Why:** no pair was measured\n"


def test_signs_that_fail_stand_above_a_verdict_that_holds() -> None:
    pair = made_up_comparison()
    signs = GatedSigns((), (("made-up", "pass@k"),), "signs: fails: pass@k of made-up", ())
    text = summary_markdown(make_headline([pair]), [pair], signs=signs)
    assert text.startswith("### ❌ rlcircuits: vital signs fail; outcome of the pairs: holds\n\n**Signs:** signs: ")


def test_signs_that_were_not_measured_stand_above_a_verdict_that_holds() -> None:
    pair = made_up_comparison()
    signs = GatedSigns((), (), "signs: no gated sign fails (pass@k)", (Failure("signs of 'made-up': out of memory"),))
    text = summary_markdown(make_headline([pair]), [pair], signs=signs)
    first = "### ⚠️ rlcircuits: vital signs not measured; outcome of the pairs: holds\n\n**Signs:** signs of 'made-up': "
    assert text.startswith(first)
    both = replace(signs, failing=(("other", "pass@k"),), line="signs: fails: pass@k of other")
    text = summary_markdown(make_headline([pair]), [pair], signs=both)
    assert text.startswith("### ❌ rlcircuits: vital signs fail;")
    assert text.index("pass@") < text.index("out of memory")


def test_signs_in_which_nothing_fails_are_not_told() -> None:
    pair = made_up_comparison()
    signs = GatedSigns((), (), "signs: no gated sign fails (pass@k)", ())
    assert summary_markdown(make_headline([pair]), [pair], signs=signs).startswith("### ✅ rlcircuits: holds\n")


@given(st.text())
@example(NASTY)
@example("\\")
@example("a\x00b\r\n\u2028c")
@example("&#64;x &amp; www.evil.com https://evil.com a@b.c")
def test_text_from_outside_stays_text(text: str) -> None:
    wanted = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    escaped = escape_markdown(text)
    assert cells(f"| a | b |\n|---|---|\n| x{escaped}y | z |\n")[1] == [f"x{wanted}y", "z"]
    inline = PARSER.parseInline(escaped)[0].children or []
    assert {token.type for token in inline} <= {"text", "text_special"}
    rendered = PARSER.renderInline(escaped)
    assert not any(f"{sign}{letter}" in rendered for sign in "@" for letter in "abcdefghijklmnopqrstuvwxyz")


def test_a_comparison_with_hostile_names_changes_neither_table_nor_fold() -> None:
    plain, hostile = made_up_comparison(), made_up_comparison(NASTY)
    hostile = replace(hostile, questions=NASTY, note=NASTY, before=NASTY)
    failures = {NASTY: NASTY}
    kinds = []
    for pair, lost in ((plain, {"x": "y"}), (hostile, failures)):
        text = summary_markdown(make_headline([pair], tuple(lost)), [replace(pair, note=pair.note or "n")], lost)
        tokens = PARSER.parse(text)
        kinds.append([token.type for token in tokens])
        blocks = [token.content for token in tokens if token.type == "html_block"]
        assert len(blocks) == 3
        assert blocks[1].count("<") == 2  # of <pre> and </pre>
    assert kinds[0] == kinds[1]


def test_a_file_is_replaced_and_a_steps_summary_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "summary.md"
    for text in ("one\n", "two\n"):
        assert write_summary(text, file) == file
    assert file.read_text() == "two\n"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    write_summary("three\n", file)
    assert file.read_text() == "two\nthree\n"
