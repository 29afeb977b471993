"""A template of pairs: a pairs file without `after`, and the pairs that a checkpoint makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.watch_template import checkpoint_label, load_template

PAIR = """
[[pair]]
name = "sums"
before = "base"
algorithm = "grpo"
"""


def template(folder: Path, text: str) -> Path:
    (folder / "base").mkdir(exist_ok=True)
    (folder / "last").mkdir(exist_ok=True)
    path = folder / "gate.toml"
    path.write_text(text)
    return path


def test_a_checkpoint_becomes_after_and_all_else_stays(tmp_path: Path) -> None:
    text = f"""
[settings]
question_count = 17
{PAIR}questions = ["arithmetic", "gsm8k"]
reference = "last"
margin = 0.02
does_not_hold = {{ complexity = "negligible" }}
"""
    found = load_template(template(tmp_path, text))
    made = found.for_checkpoint("step-100", tmp_path / "run" / "step-100")
    assert [pair.name for pair in made.pairs] == ["step-100-sums-arithmetic", "step-100-sums-gsm8k"]
    assert made.make_settings().question_count == 17
    assert set(found.named) == {str(tmp_path / "base"), str(tmp_path / "last")}

    # They are the pairs of an ordinary file with this after.
    (tmp_path / "run" / "step-100").mkdir(parents=True)
    ordinary = text.replace('name = "sums"', 'name = "step-100-sums"\nafter = "run/step-100"')
    assert made.pairs == load_pairs_file(template(tmp_path, ordinary)).pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PAIR + 'after = "last"', "pair 1, key 'after': each new checkpoint of the folder is after"),
        (PAIR + 'revision_after = "main"', "key 'revision_after': it is of a hub id"),
        (PAIR + 'recorded_after = "x.jsonl"', "key 'recorded_after': it holds the answers of one checkpoint"),
        (PAIR + 'server_after = "http://host:8000/v1"', "key 'server_after': a server has one checkpoint loaded"),
        (PAIR + 'pool = "grpo"', "key 'pool': checkpoints of one training are not independent"),
        ('[settings]\nengine = "openai"\n' + PAIR, "key 'engine' is 'openai', and no server has the new checkpoints"),
        (PAIR.replace('"base"', '"./nowhere"'), "key 'before': there is no folder"),
        (PAIR.replace('before = "base"\n', ""), "key 'before': missing"),
        (PAIR + PAIR.replace("sums", "hard-sums"), "the name of pair 'hard-sums' ends in that of 'sums'"),
        (PAIR.replace("sums", "s" * 60), "has a name of 60 bytes"),
        (PAIR + "unknown = 1", "'unknown'"),
        ("", "key 'pair' must be one or more"),
        ("[[", "cannot be read as TOML"),
    ],
)
def test_what_no_template_is(text: str, message: str, tmp_path: Path) -> None:
    path = template(tmp_path, text)
    with pytest.raises(RLCircuitsError) as raised:
        load_template(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_an_ordinary_pairs_file_still_needs_after(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="key 'after': missing; only templates of rlcircuits watch have none"):
        load_pairs_file(template(tmp_path, PAIR))


names = st.text(min_size=1, max_size=200).filter(lambda name: "/" not in name and "\0" not in name)


@given(names, names)
def test_each_name_gives_a_valid_label_of_its_own(one: str, other: str) -> None:
    labels = [checkpoint_label(name) for name in (one, other)]
    assert (labels[0] == labels[1]) == (one == other)
    for label in labels:
        assert Pair(name=f"{label}-{'p' * 59}", before="a", after="b", algorithm="grpo").name.startswith(label)


@pytest.mark.parametrize("name", ["step-100", "candidate_a", "global_step_300", "v1.2"])
def test_usual_names_stay(name: str) -> None:
    assert checkpoint_label(name) == name
