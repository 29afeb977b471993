"""Pairs files: every key, the pairs and settings that they give, and one clear error for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.paths import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.questions import names as question_names
from rlcircuits.release.pair import Pair, asked_questions, make_pair, pair_name
from rlcircuits.release.pairs_file import load_pairs, load_pairs_file
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "ours.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (tmp_path / "recorded.jsonl").write_text("{}\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "pairs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_pairs_alone(folder: Path) -> None:
    one, two = load_pairs(write(folder, PAIRS))
    assert one.before == str(folder / "base")
    assert (one.after, one.questions.name, one.expectations.name) == ("org/tuned", "arithmetic", "online-rl")
    assert two.algorithm == "ppo"
    assert load_pairs_file(folder / "pairs.toml").make_settings() == Settings()


def test_everything_a_pair_may_say(folder: Path) -> None:
    (pair,) = load_pairs(
        write(
            folder,
            """
            [[pair]]
            name = "all"
            before = "base"
            after = "org/tuned"
            profile = "control"
            algorithm = "distillation"
            revision_after = "v2"
            dtype = "bfloat16"
            device_map = "auto"
            questions = "ours.jsonl"
            recorded_before = "recorded.jsonl"
            prompting = { system = "Think." }
            does_not_hold = { not-online-rl = "all three moved" }
            """,
        )
    )
    assert (pair.algorithm, pair.expectations.name) == ("distillation", "not-rl")
    before, after = pair.sources(device="cpu", dtype="float32")
    assert (before.revision, after.revision) == (None, "v2")
    # The pair's own dtype goes first, and a device map stands for a device.
    assert (after.dtype, after.device, after.device_map) == ("bfloat16", None, "auto")
    assert (pair.questions.name, pair.questions.file) == ("ours", folder / "ours.jsonl")
    assert (pair.recorded_before, pair.recorded_after) == (folder / "recorded.jsonl", None)
    assert pair.prompting is not None
    assert pair.prompting.system == "Think."


def test_a_profile_stands_for_an_algorithm() -> None:
    pair = make_pair(name="x", before="a", after="b", profile="rejection")
    assert (pair.algorithm, pair.expectations.name) == ("rejection", "rejection")
    sources = make_pair(name="x", before="a", after="b", algorithm="sft").sources("cpu", "float32")
    assert [(s.path, s.device, s.dtype) for s in sources] == [("a", "cpu", "float32"), ("b", "cpu", "float32")]


def test_a_margin_that_the_profile_in_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('name = "ours"\n[accuracy]\nrule = "rose"\n')
    fields: dict[str, Any] = {"name": "x", "before": "a", "after": "b", "profile": str(file), "margin": 0.03}
    words = "margin is 0.03, and nothing that the pair asserts has one: accuracy is judged by the rule 'rose'"
    with pytest.raises(RLCircuitsError, match=words):
        make_pair(**fields)
    # A pair that was made without make_pair is told by the run, before it looks for any checkpoint.
    with pytest.raises(RLCircuitsError, match=words):
        run_pair(Pair(**fields))
    assert make_pair(**{**fields, "claimed_accuracy": 0.9}).margin == 0.03
    assert make_pair(**{**fields, "accuracy": "not-inferior"}).expectations.accuracy.margin == 0.03
    with pytest.raises(RLCircuitsError, match=r"does_not_hold names kurtosis, of which the profile 'ours' asserts"):
        make_pair(**{**fields, "margin": None, "does_not_hold": {"kurtosis": "it fell"}})
    with pytest.raises(RLCircuitsError, match=r"gone\.toml"):
        make_pair(**{**fields, "profile": str(tmp_path / "gone.toml")})


SEVERAL = """
[[questions]]
name = "ours"
file = "ours.jsonl"
gold = "plain"
grader = "exact"
count = 1

[[pair]]
name = "release"
before = "base"
after = "org/tuned"
algorithm = "grpo"
questions = ["arithmetic", "ours", "gsm8k"]

[pair.does_not_hold]
complexity = "nowhere"
[pair.does_not_hold.ours]
kurtosis = "not here"
"""


def test_many_question_sets_make_a_pair_each(folder: Path) -> None:
    pairs = load_pairs(write(folder, SEVERAL))
    assert [pair.name for pair in pairs] == ["release-arithmetic", "release-ours", "release-gsm8k"]
    ours = pairs[1].questions
    assert (ours.file, ours.grader, ours.count) == (folder / "ours.jsonl", "exact", 1)
    assert pairs[2].questions.gold == "hash"  # as GSM8K has it
    assert [set(pair.does_not_hold) for pair in pairs] == [{"complexity"}, {"complexity", "kurtosis"}, {"complexity"}]


def test_settings_of_the_file_and_typed_ones(folder: Path) -> None:
    text = """
    [settings]
    k = 100
    noise_draws = 0
    score_on = "gold"
    granularity = "head"
    [settings.sampling]
    max_new_tokens = 12
    [settings.prompting]
    few_shot = "1+1? 2. "
    """
    file = load_pairs_file(write(folder, text + PAIRS))
    settings = file.make_settings({"sampling": {"temperature": 0.5}, "k": 30})
    assert (settings.k, settings.noise_draws, settings.score_on, settings.granularity) == (30, 0, "gold", "head")
    assert (settings.sampling.temperature, settings.sampling.max_new_tokens) == (0.5, 12)
    assert settings.prompting.few_shot == "1+1? 2. "
    assert file.make_settings().k == 100


def test_the_shipped_files_load() -> None:
    paper = load_pairs_file(ROOT / "benchmarks" / "pairs" / "paper.toml")
    assert len(paper.pairs) == 4 * 3
    assert {pair.questions.name for pair in paper.pairs} == {"math", "college_math", "gsm8k"}
    assert [pair.algorithm for pair in paper.pairs[::3]] == ["grpo", "ppo", "grpo", "dpo"]
    settings = paper.make_settings()
    assert (settings.k, settings.seed, settings.dtype) == (100, 42, "bfloat16")
    for pair in load_pairs(ROOT / "fixtures" / "zoo.toml"):
        assert set(pair.does_not_hold) <= {*GATE_METRICS, "accuracy", "not-online-rl"}


def test_a_name_from_two_paths() -> None:
    assert pair_name("runs/base/", "org/tuned model") == "base-to-tuned-model"
    assert asked_questions("some where/our set.jsonl").name == "our-set"
    assert pair_name("my dir/модель", "_sft") == "model-модель-to-sft"
    assert pair_name(".", "+.-_") == "model-to-model"


@given(before=st.text(min_size=1), after=st.text(min_size=1), questions=st.text())
@example(before="модель", after="_sft", questions="_ü")
def test_a_made_up_name_always_fits(before: str, after: str, questions: str) -> None:
    name = pair_name(before, after)
    assert make_pair(name=name, before="a", after="b", algorithm="sft").name == name
    file = f"{questions.replace(chr(0), '')}.jsonl"
    if Path(file).stem not in question_names():
        assert asked_questions(file).name


POOLED = PAIRS.replace("[[pair]]", "[[pair]]\npool = 'x'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[pair]\n", "cannot be read as TOML: .*line 1"),
        ("", "key 'pair' must be one or more"),
        (
            PAIRS + "[[questions]]\nname = 'equations'\n",
            "questions 1, key 'name': no pair asks 'equations'; pairs ask .*: name it in a pair with questions = ",
        ),
        ("pair = 3", "key 'pair' must be one or more"),
        ("colour = 1\n" + PAIRS, "unknown key 'colour'; the file may hold"),
        (PAIRS.replace("name = ", "nome = "), "pair 1, key 'nome': unknown; known keys are name, before, "),
        (PAIRS + "colour = 1", "pair 2, key 'colour': unknown; known keys are name, before, "),
        (PAIRS + "[pair.does_not_hold]\nspeed = 'x'", r"key 'does_not_hold.speed.*': must be one of 'intensity', "),
        (PAIRS + "[pair.does_not_hold]\nnot-online-rl = 'x'", "pair 2: does_not_hold names not-online-rl, of which"),
        (PAIRS + "[pair.does_not_hold]\ncomplexity = 3", "pair 2, key 'does_not_hold.complexity': must be a string"),
        (PAIRS + "does_not_hold = 3", "pair 2, key 'does_not_hold': must be a table"),
        (PAIRS.replace('"PPO"', "7"), "pair 2, key 'algorithm': must be a string, not 7"),
        (PAIRS.replace('"PPO"', '"magic"'), "pair 2, key 'algorithm': algorithm is 'magic'; it must be one of grpo"),
        (PAIRS.replace('algorithm = "PPO"', ""), "pair 2, key 'algorithm': missing; say how"),
        (PAIRS + "profile = 'rl'", "pair 2, key 'profile': profile is 'rl'; it must be one of online-rl"),
        (PAIRS.replace('"two"', '"a/b"'), "pair 2, key 'name': 'a/b' names a folder too"),
        (PAIRS.replace('"two"', '"Store"'), "pair 2, key 'name': 'Store' is the folder in which answers"),
        (PAIRS.replace('"two"', '"one"'), "pair 2, key 'name': 'one' is the name of an earlier pair too"),
        (PAIRS.replace('"base"', '"x/y/z"'), "pair 1, key 'before': there is no folder "),
        (PAIRS.replace('"base"', '" "'), "pair 1, key 'before': it is empty"),
        (PAIRS + "dtype = 'foo'", "pair 2, key 'dtype': dtype is 'foo'; it must be auto or one of float32, "),
        (PAIRS + "recorded_after = 'gone.jsonl'", "pair 2, key 'recorded_after': there is no file .*gone.jsonl"),
        (PAIRS + "questions = 3", "pair 2, key 'questions': must be a question set's name or a list of names"),
        (PAIRS + "questions = []", "pair 2, key 'questions': must be a question set's name or a list of names"),
        (PAIRS + "questions = ['gsm8k', 'gsm8k']", "pair 2, key 'questions': names one set twice"),
        (PAIRS + "questions = 'riddles'", "pair 2, key 'questions': question set 'riddles' is not known"),
        (PAIRS + "questions = 'gone.jsonl'", "pair 2, key 'questions': there is no file "),
        (PAIRS + "prompting = { template = 'x' }", "pair 2, key 'prompting': .*must hold {question} once"),
        ("settings = 3\n" + PAIRS, r"key 'settings' must be one \[settings\] table"),
        ("[settings]\ncolour = 1\n" + PAIRS, r"\[settings\], key 'colour': unknown"),
        ("[settings]\nk = '9'\n" + PAIRS, r"\[settings\], key 'k': must be a whole number, not '9'"),
        ("[settings]\nalpha = 3\n" + PAIRS, r"\[settings\]: alpha is 3.0; a number above 0 and at most 1 is wanted"),
        ("[settings]\nseed = -1\n" + PAIRS, r"\[settings\]: seed is -1; a whole number from 0 to 9,223"),
        ("[settings]\nbatch_tokens = -3\n" + PAIRS, r"\[settings\]: batch_tokens is -3; a whole number from 1 to 1"),
        ("[settings]\ndtype = 'foo'\n" + PAIRS, r"\[settings\]: dtype is 'foo'; it must be auto or one of float32, "),
        ("[settings]\nsampling = 3\n" + PAIRS, r"\[settings\], key 'sampling': must be a table, not 3"),
        ("[settings.sampling]\ntop_k = 3\n" + PAIRS, r"\[settings\], key 'sampling.top_k': unknown"),
        ("[settings.sampling]\ntemperature = -1\n" + PAIRS, r"\[settings\], key 'sampling': .*temperature is -1"),
        ("[[questions]]\nfile = 'ours.jsonl'\n" + PAIRS, "questions 1, key 'name': missing"),
        ("[[questions]]\nname = 'x'\n" + PAIRS, "questions 1: question set 'x' is not known and has no file"),
        ("[[questions]]\nname = 'x'\nfile = 'y'\n" + PAIRS, "questions 1, key 'file': there is no file "),
        ("[[questions]]\nname = 'x'\nfile = 'ours.jsonl'\ncount = 0\n" + PAIRS, "questions 1, key 'count': "),
        ("[questions]\nname = 'x'\n" + PAIRS, "key 'questions' must be one or more"),
        (SEVERAL + "[pair.does_not_hold.math]\nkurtosis = 'x'", "key 'does_not_hold.math': 'math' is not among the"),
        (PAIRS + "questions = 'gsm8k'\ndoes_not_hold.gsm8k = 'x'", "key 'does_not_hold.gsm8k': must be a table"),
        (POOLED, "pair 2, key 'pool': 'x' has pair 'one' of algorithm 'grpo', and this one is of 'ppo'; pool pairs"),
        (POOLED.replace("PPO", "GRPO"), "pair 2, key 'pool': 'x' has the same checkpoints on the same questions"),
        (PAIRS + "pool = ' '", "pair 2, key 'pool': ' ' is no name; text on one line is wanted"),
        (PAIRS + "margin = 0.03", "margin is 0.03, and nothing that the pair asserts has one: .* 'rose'; leave"),
        (PAIRS + "control = 'x/y/z'", "pair 2, key 'control': there is no folder "),
        (SEVERAL.split("[[pair]]")[0] * 2 + PAIRS, "questions 2, key 'name': 'ours' is the name of an earlier"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_the_key(folder: Path, text: str, message: str) -> None:
    path = write(folder, text)
    with pytest.raises(RLCircuitsError, match=message) as error:
        load_pairs_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"gone.toml: there is no such file"):
        load_pairs_file(tmp_path / "gone.toml")


def test_pairs_that_share_a_pool_and_each_of_their_question_sets_are_pooled(folder: Path) -> None:
    sets = "pool = 'x'\nquestions = ['arithmetic', 'gsm8k']\n"
    file = load_pairs_file(write(folder, PAIRS + sets))
    assert file.pools == {"x": ["two-arithmetic", "two-gsm8k"]}
    assert load_pairs_file(write(folder, PAIRS)).pools == {}


def test_some_pairs_of_a_file_are_chosen_by_name() -> None:
    file = load_pairs_file(ROOT / "fixtures" / "zoo.toml")
    assert file.only(None) is file
    chosen = file.only(["*-seed-8-grpo", "neox-sums-*"])
    assert {pair.name for pair in chosen.pairs} == {
        pair.name for pair in file.pairs if pair.name == "llama-sums-seed-8-grpo" or pair.name.startswith("neox-sums-")
    }
    assert [pair for pair in file.pairs if pair in chosen.pairs] == list(chosen.pairs)  # in the file's order
    with pytest.raises(RLCircuitsError, match=r"--only nothing-\* matches no pair of .*zoo.toml, which has llama-"):
        file.only(["*", "nothing-*"])
