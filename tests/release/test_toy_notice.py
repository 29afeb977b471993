"""Without a question set, a notice says that the default one is a toy, unless the checkpoint is one of the shipped."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from helpers.paths import FIXTURES
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import load_pairs
from rlcircuits.release.toy_notice import pair_notice, toy_notice

SHIPPED = [
    str(next((FIXTURES / family).glob("seed-*/sft"))) for family in ("llama-sums", "neox-sums", "qwen2-equations")
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a checkpoint that can write words."""
    return str(save_checkpoint(tmp_path_factory.mktemp("models") / "real"))


@pytest.mark.parametrize("shipped", SHIPPED)
def test_a_shipped_checkpoint_is_asked_sums_without_a_word(shipped: str, real: str) -> None:
    assert toy_notice([CheckpointSource(shipped)]) is None
    assert pair_notice(make_pair(name="a", before=shipped, after=shipped, algorithm="grpo")) is None
    notice = pair_notice(make_pair(name="a", before=shipped, after=real, algorithm="grpo"))
    assert notice is not None
    assert notice.startswith(f"note: no question set was named, so {real} is asked 'arithmetic', a toy for")
    assert (
        pair_notice(make_pair(name="a", before=shipped, after=real, algorithm="grpo", questions="arithmetic")) is None
    )


def test_a_checkpoint_without_a_tokenizer_is_for_others_to_refuse(tmp_path: Path) -> None:
    assert toy_notice([CheckpointSource(str(tmp_path))]) is None


def test_a_pairs_file_may_name_none_either(real: str, tmp_path: Path) -> None:
    file = tmp_path / "pairs.toml"
    pair = f'[[pair]]\nname = "a"\nbefore = "{real}"\nafter = "{real}"\nalgorithm = "grpo"\n'
    for questions, told in (("", True), ('questions = "arithmetic"\n', False), ('questions = ["arithmetic"]\n', False)):
        file.write_text(pair + questions)
        (one,) = load_pairs(file)
        assert one.questions.name == "arithmetic"
        assert (pair_notice(one) is not None) == told


def test_the_command_line_says_it_once_on_stderr(real: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ["answer", real, "--count", "2", "--out", str(tmp_path / "answers.jsonl")]
    compare = [
        "compare",
        "--before",
        real,
        "--after",
        real,
        "--algorithm",
        "sft",
        "--question-count",
        "20",
        "--k",
        "20",
    ]
    for arguments in (answer, compare):
        for more, told in (([], 1), (["--questions", "arithmetic"], 0)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what compare has to say of one checkpoint is a line of its own
                main([*arguments, *more])
            shown = capsys.readouterr()
            assert shown.err.count("before and after are the same checkpoint") == (arguments is compare)
            assert shown.err.count("note: no question set was named") == told
            assert "no question set" not in shown.out
