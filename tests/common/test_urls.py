"""Which texts are URLs, and which URLs may be that of an output folder."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.urls import check_url, is_url

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/?#\\"), min_size=1)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_any_names_of_folders_are_taken(names: list[str]) -> None:
    for protocol in ("file:///", "s3://bucket/", "gs://bucket/", "S3://bucket/"):
        for url in (protocol + "/".join(names), protocol + "/".join(map(quote, names))):
            assert is_url(url)
            check_url(url)


@pytest.mark.parametrize("path", ["run", "/run", "C:/run", "./file:/run", "C:\\run", "runs/s3:x"])
def test_paths_are_no_urls(path: str) -> None:
    assert not is_url(path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:run", "names no folder by its whole path; write file:///FOLDER"),
        ("file:/run", "names no folder by its whole path"),
        ("file://runs/candidate", "names no folder by its whole path"),
        ("file:///", "names no folder; write file:///FOLDER"),
        ("file:///run?version=1", "'?' would not become part of the folder's name; leave it out, or write %3F for it"),
        ("file:///run#1", "'#' would not become part"),
        ("file:///run\\1", "would not become part"),
        ("file:///run%00", r"no name may have the character '\x00'"),
        ("s3://bucket/run\n1", r"no name may have the character '\n'"),
        ("s3://bucket/run\udcff", "no name may have the character"),
        ("s3:bucket/run", "names no bucket and folder; write s3://BUCKET/FOLDER"),
        ("s3:///run", "names no bucket and folder"),
        ("s3://bucket//run", "a folder in it has an empty name; write one slash between two folders"),
        ("s3://localhost:9000/bucket", "no bucket can have the name 'localhost:9000'; AWS_ENDPOINT_URL names another"),
        ("gs://büket/run", "no bucket can have the name 'büket'"),
        (" s3://bucket/run", "leave the space out"),
        ("http://host/run", "the protocol http:// is not known; s3://, gs://, file:// are"),
    ],
)
def test_urls_that_no_output_folder_has(url: str, words: str) -> None:
    assert is_url(url)
    with pytest.raises(RLCircuitsError) as error:
        check_url(url)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(RLCircuitsError, match="credentials in a URL are not read") as error:
        check_url("s3://someone:secret@bucket/run")
    assert "secret" not in str(error.value)
