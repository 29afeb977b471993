"""A pair of vision-language checkpoints is planned, measured and gated on questions with images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.plugin_runs import PLUGIN
from helpers.tiny_images import picture, question_file, save_with_processor

from rlcircuits import RLCircuitsError
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.question_prompts import prompt_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.questions import load_questions
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

COUNT = 9
SETTINGS = Settings(
    k=6,
    min_questions=3,
    alpha=0.5,
    balance=2.0,
    noise_draws=1,
    sampling=Sampling(max_new_tokens=5, n=1),
    batch_size=4,
    stop_early=False,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of a Qwen 2.5 VL, and a question file with pictures."""
    made = tmp_path_factory.mktemp("pair")
    save_with_processor(made / "before", "qwen2_5_vl")
    save_with_processor(made / "after", "qwen2_5_vl", moved=0.02)
    question_file(made, COUNT)
    return made


def pair_of(folder: Path, **fields: Any) -> Any:
    questions = {"name": "pictures", "file": folder / "questions.jsonl", "images": "images",
                 "grader": "helpers.tiny_pairs:is_kindly_right"}  # fmt: skip
    return make_pair(
        name="multimodal",
        before=str(folder / "before"),
        after=str(folder / "after"),
        algorithm="grpo",
        questions=questions,
        **fields,
    )


@pytest.mark.slow
def test_a_pair_is_measured_once_for_its_pictures(folder: Path, tmp_path: Path) -> None:
    pair, lines = pair_of(folder), []
    first = run_pair(pair, SETTINGS, output=tmp_path, notify=lines.append)
    assert first.k >= 3
    assert first.effects["intensity"].questions == first.k
    lines.clear()
    again = run_pair(pair, SETTINGS, output=tmp_path, notify=lines.append)
    assert again.effects == first.effects
    assert any("measured before" in line for line in lines)
    kept = (folder / "pictures" / "1-0.png").read_bytes()
    try:
        picture(77, 16, 24).save(folder / "pictures" / "1-0.png")
        lines.clear()
        run_pair(pair, SETTINGS, output=tmp_path, notify=lines.append)
        assert any("before answers 9 questions" in line for line in lines)
    finally:
        (folder / "pictures" / "1-0.png").write_bytes(kept)
    assert main(["verify", str(tmp_path)]) == 0


def test_a_plan_counts_the_tokens_of_images(folder: Path) -> None:
    pair = pair_of(folder)
    source = CheckpointSource(str(folder / "before"))
    longest = max(map(len, prompt_questions(source, Prompting(), load_questions(pair.questions)).ids))
    plan = make_plan(PairsFile(pairs=(pair,)), SETTINGS)
    assert not plan.pairs[0].problems
    config = source.load().model.config.text_config
    per_token = (
        2 * config.num_hidden_layers * config.num_key_value_heads * config.hidden_size // 4 * 4
    )  # 4 heads, float32
    assert plan.models[0].cache_bytes == SETTINGS.batch_size * (longest + 5) * per_token


def test_a_model_without_images_stops_the_pair_before_any_model_answers(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    config = json.loads((folder / "after" / "config.json").read_text())
    for file in (folder / "after").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "qwen3_vl"}))
    pair = pair_of(folder).model_copy(update={"after": str(tmp_path)})
    with pytest.raises(RLCircuitsError, match=r"'qwen3_vl'\) cannot be asked questions with images: .*DeepStack"):
        run_pair(pair, SETTINGS, notify=lines.append)
    assert not lines


@pytest.mark.slow
def test_the_gate_asserts_effects_of_questions_with_images(folder: Path, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="def test_effect(effect):\n    assert effect.measure in effect.message or effect.holds is not None\n"
    )
    pytester.path.joinpath("release.toml").write_text(
        f"""
        [settings]
        k = 6
        min_questions = 3
        alpha = 0.5
        balance = 2.0
        noise_draws = 1
        batch_size = 4
        stop_early = false
        [settings.sampling]
        max_new_tokens = 5
        n = 1
        [[questions]]
        name = "pictures"
        file = "{folder / "questions.jsonl"}"
        images = "images"
        grader = "helpers.tiny_pairs:is_kindly_right"
        [[pair]]
        name = "multimodal"
        before = "{folder / "before"}"
        after = "{folder / "after"}"
        algorithm = "grpo"
        questions = "pictures"
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *PLUGIN, "-v", "--pairs=release.toml")
    result.stdout.fnmatch_lines(["*test_effect[[]multimodal-intensity[]]*", "*multimodal *accuracy*"])
