"""Images in question files: what is read, what identifies it, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_images import picture, question_file
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.questions import QuestionSet, QuestionSource, images, load_questions
from rlcircuits.questions.images import QuestionImage, read_images


def load(folder: Path, **fields: Any) -> QuestionSet:
    """Load a file of one question, with ``fields`` beside it."""
    file = folder / "q.jsonl"
    file.write_text(json.dumps({"question": "How many?", "answer": "1", **fields}) + "\n", encoding="utf-8")
    return load_questions(QuestionSource(name="own", file=file, images="images", grader="exact"))


def encoded(seed: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("as_field", [lambda name: name, lambda name: [name], lambda name: [{"path": name}]])
def test_paths_are_relative_to_the_question_file(as_field: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    picture(1).save(tmp_path / "a" / "b.png")
    (found,) = load(tmp_path, images=as_field("a/b.png")).questions[0].images
    assert list(found.open().get_flattened_data()) == list(picture(1).get_flattened_data())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_dataset_gives_bytes_or_decoded_pictures(form: str) -> None:
    record = {"images": [{"bytes": encoded(1, form), "path": None}, picture(2)]}
    first, second = read_images(record, "images", "row 1", None)
    assert first.open().size == second.open().size == (16, 16)
    assert second.open().tobytes() == picture(2).tobytes()
    assert first.open().mode == "RGB"


def test_a_photo_is_turned_as_its_exif_says() -> None:
    wide = picture(1).resize((20, 10))
    exif = wide.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = io.BytesIO()
    wide.save(buffer, "PNG", exif=exif)
    (found,) = read_images({"images": {"bytes": buffer.getvalue()}}, "images", "row 1", None)
    assert found.open().size == (10, 20)
    assert found.open().tobytes() == wide.rotate(-90, expand=True).convert("RGB").tobytes()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_questions_are_the_same_to_keys_if_their_pictures_are(one: list[int], other: list[int]) -> None:
    keys = [
        tuple(image.sha256 for image in read_images({"i": [{"bytes": encoded(n)} for n in seeds]}, "i", "", None))
        for seeds in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)


def test_keys_of_text_alone_have_no_images_and_others_the_bytes(tmp_path: Path) -> None:
    assert "images" not in load(tmp_path).questions[0].key_table()
    assert "images" not in load(tmp_path, images=[]).questions[0].key_table()
    picture(1).save(tmp_path / "p.png")
    first = load(tmp_path, images="p.png").questions[0].key_table()
    picture(2).save(tmp_path / "p.png")
    second = load(tmp_path, images="p.png").questions[0].key_table()
    assert first != second
    assert json.dumps(first)
    (tmp_path / "p.png").rename(tmp_path / "other.png")
    assert load(tmp_path, images="other.png").questions[0].key_table() == second


def test_a_picture_that_changes_after_the_questions_were_read_is_an_error(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "p.png")
    (found,) = load(tmp_path, images="p.png").questions[0].images
    picture(2).save(tmp_path / "p.png")
    with pytest.raises(RLCircuitsError, match=r"q\.jsonl:1: field 'images': .*p\.png has changed since"):
        found.open()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gone.png", r"there is no image 'gone\.png' \(.*No such file.*\); paths are relative to"),
        ("text.png", r"text\.png is not an image that can be read \(.*\); one of PNG, JPEG, WEBP, GIF, BMP is wanted"),
        ("a\0b", "there is no image"),
        (".", "cannot be read as an image|is not an image"),
        (7, "holds a number; the path of an image, relative to the question file"),
        ([["a.png"]], "holds a list; the path"),
        ([{"url": "x"}], "the path of an image"),
        (["ok.png"] * 17, "has 17 images; at most 16 are allowed"),
        ("vector.svg", "is not an image that can be read"),
        ("large.png", "has more than 300 pixels; make it smaller"),
        ("cut.png", None),
    ],
)
def test_an_error_names_file_and_field(
    value: Any, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "cut.png").write_bytes(encoded(1)[:-200])
    picture(1).save(tmp_path / "ok.png")
    picture(1, 20, 20).save(tmp_path / "large.png")
    monkeypatch.setattr(images, "MOST_PIXELS", 300)
    if message is None:  # a header does not show it
        (found,) = load(tmp_path, images=value).questions[0].images
        with pytest.raises(RLCircuitsError, match=r"q\.jsonl:1: field 'images': .*cut\.png cannot be decoded"):
            found.open()
        return
    with pytest.raises(RLCircuitsError, match=message) as raised:
        load(tmp_path, images=value)
    assert "q.jsonl:1: field 'images'" in str(raised.value) or "cannot be read as an image" in str(raised.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_BYTES", 100)
    picture(1).save(tmp_path / "p.png")
    with pytest.raises(RLCircuitsError, match=r"field 'images': .*p\.png has [\d,]+ bytes; at most 100 are allowed"):
        load(tmp_path, images="p.png")


@pytest.mark.parametrize("text", ["<image>a<image>?", "<image>"])
def test_marks_and_images_must_be_equally_many(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        RLCircuitsError, match=r"field 'question' has \d times <image>, and field 'images' has 0 images"
    ):
        load(tmp_path, question=text)


def test_images_and_counterfactuals_are_not_asked_together(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="images and counterfactual were both given"):
        QuestionSource(name="own", file=tmp_path / "q.jsonl", images="images", counterfactual="foil")


def test_a_field_that_is_not_named_is_refused_as_before(tmp_path: Path) -> None:
    source = question_file(tmp_path).model_copy(update={"images": None})
    with pytest.raises(RLCircuitsError, match=r":2: field 'images' holds an image, .*named with images in the table"):
        load_questions(source)


def test_equal_bytes_are_equal_images() -> None:
    assert QuestionImage("a", "here", data=b"x") == QuestionImage("a", "there", Path("x"))
