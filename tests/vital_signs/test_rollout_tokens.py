"""Rollouts as token ids, what in them is not the model's, and the entropy after it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_pairs import save_tiny_pair
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.vital_signs.reopening import reopening
from rlcircuits.vital_signs.rollout_reopening import rollout_reopening
from rlcircuits.vital_signs.rollout_tokens import load_token_rollouts, read_segments
from rlcircuits.vital_signs.token_log_probs import answer_log_probs

PROMPT = [3, 4, 5]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def line(question: str, ids: list[int], **more: Any) -> dict[str, Any]:
    return {"question_id": question, "prompt_ids": PROMPT, "answer_ids": ids, "correct": True, **more}


@given(mask=st.lists(st.integers(0, 1), max_size=20))
def test_a_mask_says_what_segments_say(mask: list[int]) -> None:
    segments = read_segments("x", {"response_mask": mask}, len(mask))
    assert segments is not None
    outside = {place for start, stop in segments for place in range(start, stop)}
    assert outside == {place for place, own in enumerate(mask) if not own}
    assert all(one[1] < other[0] for one, other in pairwise(segments))  # no two touch
    stated = [list(each) for each in segments]
    assert read_segments("x", {"segments": stated, "loss_mask": []}, len(mask)) == segments
    assert read_segments("x", {"loss_mask": mask}, len(mask)) == segments


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"segments": [[2, 1]]}, r"r.jsonl:1: segments are \[\[2, 1\]\]; a list of \[start, stop\] in order"),
        ({"segments": [[0, 5]]}, "from 0 to the answer's 4 tokens"),
        ({"segments": "x"}, "segments are 'x'"),
        ({"segments": [[0, 1.5]]}, "segments are"),
        ({"response_mask": [1, 0]}, "response_mask is wrong; 0 or 1 for each of the answer's 4 tokens"),
        ({"response_mask": [1, 0, 2, 1]}, "response_mask is wrong"),
        ({"answer_ids": None}, "r.jsonl:1: no answer_ids; the token ids of the answer"),
        ({"answer_ids": ["a"]}, r"answer_ids is \['a'\]; a list of token ids"),
        ({"prompt_ids": None}, "r.jsonl:1: no prompt; prompt_ids, or prompt or input"),
        ({"prompt_ids": [], "prompt": ""}, "no prompt"),
        (
            {"prompt_ids": None, "prompt": [{"role": "user", "content": "1+1?"}]},
            "r.jsonl:1: the prompt cannot be made token ids",
        ),
        ({"answer_ids": []}, "no answer has a token"),
    ],
)
def test_bad_lines(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [line("a", [6, 7, 8, 9], **more)])
    with pytest.raises(RLCircuitsError, match=message):
        load_token_rollouts(path, tiny_tokenizer())


def test_a_line_longer_than_the_context_is_named(tmp_path: Path) -> None:
    lines = [line("a", [6, 7]), line("b", [6, 7, 8, 9])]
    path = write(tmp_path / "r.jsonl", lines)
    fits = len(PROMPT) + 4 - 1  # the last token is scored, and never read
    assert len(load_token_rollouts(path, tiny_tokenizer(), context=fits).answers.sequences) == 2
    with pytest.raises(RLCircuitsError, match=rf"r.jsonl:2: the models would read {fits} tokens .* of {fits - 1}"):
        load_token_rollouts(path, tiny_tokenizer(), context=fits - 1)


def test_prompts_are_ids_or_texts(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    lines = [line("a", [6]), line("b", [6], prompt_ids=None, prompt="1+1?"), line("b", [], prompt_ids=None)]
    found = load_token_rollouts(write(tmp_path / "r.jsonl", lines), tokenizer).answers
    assert [each.prompt_ids for each in found.sequences] == [tuple(PROMPT), tuple(tokenizer("1+1?")["input_ids"])]
    assert found.questions == ("a", "b")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    chat = [line("a", [6], prompt_ids=None, prompt=[{"role": "user", "content": "1+1?"}])]
    (sequence,) = load_token_rollouts(write(tmp_path / "c.jsonl", chat), tokenizer).answers.sequences
    assert sequence.prompt_ids == tuple(tokenizer("1+1?", add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    before, after = save_tiny_pair(tmp_path_factory.mktemp("pair"), update=0.3)
    return str(before), str(after)


def test_both_models_on_the_same_rollouts(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The definition, by hand from each model's own table; marks as segments, as a mask, and on the command line."""
    ids = [[6, 7, 8, 9, 10, 11], [9, 8, 7, 6, 5], [5, 6, 7, 8]]
    marks: list[list[list[int]]] = [[[1, 3], [4, 5]], [[2, 3]], []]
    lines = [line(name, each, segments=of) for name, each, of in zip("aab", ids, marks, strict=True)]
    path = write(tmp_path / "r.jsonl", lines)
    sources = [CheckpointSource(each, device="cpu") for each in pair]
    found = rollout_reopening(path, *sources)
    rollouts = load_token_rollouts(path, tiny_tokenizer())
    tables = [answer_log_probs(source.load(), rollouts.answers.sequences) for source in sources]
    segments = [[(start, stop) for start, stop in of] for of in marks]
    assert found == reopening(rollouts.answers, *tables, segments)
    assert found.details["boundaries"] == 3
    masks = [
        [int(not any(a <= k < b for a, b in of)) for k in range(len(each))] for each, of in zip(ids, marks, strict=True)
    ]
    masked = [line(name, each, response_mask=mask) for name, each, mask in zip("aab", ids, masks, strict=True)]
    assert rollout_reopening(write(tmp_path / "m.jsonl", masked), *sources) == found
    before, after = pair
    assert (
        main(["signs", "--rollouts", str(path), "--before", before, "--after", after, "--device", "cpu", "--json"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["signs"][0]["change"] == found.change
    assert document["steps"][0]["calls"] == 1.0


def test_a_boundary_for_rollouts_without_marks(pair: tuple[str, str], tmp_path: Path) -> None:
    sources = [CheckpointSource(each, device="cpu") for each in pair]
    path = write(tmp_path / "r.jsonl", [line("a", [6, 7, 8, 9]), line("b", [6, 7, 8, 9])])
    with pytest.raises(RLCircuitsError, match="no line has segments, response_mask or loss_mask"):
        rollout_reopening(path, *sources)
    token = tiny_tokenizer().decode([7])
    assert rollout_reopening(path, *sources, boundary=token.strip()).details["boundaries"] == 2
    marked = write(tmp_path / "m.jsonl", [line("a", [6, 7, 8, 9], segments=[[1, 2]])])
    with pytest.raises(RLCircuitsError, match="has marks of its own, and --boundary"):
        rollout_reopening(marked, *sources, boundary=";")
