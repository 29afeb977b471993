"""Wrong Python arguments: every public name with values of every other kind gives an error of ours, never another's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.paths import SEED_7
from helpers.synthetic_comparisons import answers_of, made_up_comparison, random_scores

import rlcircuits
from rlcircuits import AnswerSequence, RLCircuitsError, Sampling, Settings
from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.comparison.pairing import pair
from rlcircuits.models import families

FIXTURE = str(SEED_7 / "sft")

WRONG: tuple[Any, ...] = (
    None, True, 0, 5, -1, 2.5, float("nan"), "text", "", b"bytes", [], [1], ["a", None], (1.5,), {}, {"a": 1},
    object(), torch.zeros(3), np.arange(3), np.float32(0.5), len, int, Path("gone"), AnswerSequence([2], [3]),
    random_scores(2, seed=0), made_up_comparison(), answers_of([True]), Sampling(), iter([1]),
)  # fmt: skip

PAIRING = pair(answers_of([True] * 20), answers_of([True] * 20), k=20)
CHECKPOINT = rlcircuits.Checkpoint.load(FIXTURE)

RIGHT: dict[str, Any] = {
    "model": CHECKPOINT, "sequences": [AnswerSequence([2], [3])], "scores": random_scores(2, seed=0),
    "comparison": made_up_comparison(), "comparisons": [made_up_comparison()], "pairing": PAIRING,
    "before_answers": answers_of([True] * 20), "after_answers": answers_of([True] * 20),
    "questions": rlcircuits.load_questions("arithmetic", count=2), "sampling": Sampling(max_new_tokens=2),
    "path": "file.png", "folder": "folder", "source": "arithmetic", "algorithm": "grpo", "name": "name",
    "tokenizer": CHECKPOINT.tokenizer, "question": "1+1?", "t_cut": 1, "other": random_scores(2, seed=0).graph,
    "values": np.zeros(20), "draw": 0,
}  # fmt: skip
"""Arguments that are right, for those that are not the wrong one."""

OWN_RIGHT: dict[str, dict[str, Any]] = {
    "compare": {"before": random_scores(20, seed=0), "after": random_scores(20, seed=1)},
    "pair": {"before": answers_of([True] * 20), "after": answers_of([True] * 20)},
    "run_pair": {"pair": rlcircuits.Pair(name="a", before="./gone", after="./gone", algorithm="grpo")},
    "run_variants": {"pair": rlcircuits.Pair(name="a", before="./gone", after="./gone", algorithm="grpo")},
    "NoisedSource": {"before": rlcircuits.CheckpointSource("a"), "after": rlcircuits.CheckpointSource("b")},
    "Prompting.prompts": {"questions": ["1+1?"]},
    "Prompting.image_texts": {"questions": [["1+1?", ""]]},
    "Pair": {"name": "a", "before": "a", "after": "b"},
    "QuestionSource": {"name": "gsm8k"},
    "load_questions": {"source": "equations", "count": 2},  # the smaller set, since count may be None
    "Checkpoint.load": {"source": FIXTURE},
    "Checkpoint": {"model": CHECKPOINT.model},
    "EdgeScores.save": {"path": "scores.safetensors"},
    "plot_comparison": {"path": "plot.svg"},
    "register_family": {"model_type": "llama", "names": rlcircuits.ModuleNames()},
}
"""The same where another function's argument of that name is of another kind."""

INSTANCES: dict[str, Any] = {
    "AnswerSequence": AnswerSequence([2], [3]), "Answers": answers_of([True]), "Checkpoint": CHECKPOINT,
    "EdgeGraph": random_scores(1, seed=0).graph, "EdgeScores": random_scores(1, seed=0),
    "Pair": OWN_RIGHT["run_pair"]["pair"], "Pairing": PAIRING, "Prompting": rlcircuits.Prompting(),
}  # fmt: skip
"""For the methods that have arguments."""


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in rlcircuits.__all__:
        value = getattr(rlcircuits, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and value is not RLCircuitsError:
            yield name, value
            for member in vars(value):
                # Of a model's members pydantic's own are inherited, and not among these.
                if member.startswith("_") or not callable(getattr(value, member)):
                    continue
                of_class = inspect.ismethod(getattr(value, member))
                if of_class or name in INSTANCES:
                    yield f"{name}.{member}", getattr(value if of_class else INSTANCES[name], member)


CALLABLES = dict(public_callables())


def parameters(name: str) -> list[inspect.Parameter]:
    function = CALLABLES[name]
    fields = getattr(function, "model_fields", None)
    if fields:
        return [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty) for key in fields
        ]
    return list(inspect.signature(function).parameters.values())


def right(name: str) -> dict[str, Any]:
    known = {**RIGHT, **OWN_RIGHT.get(name, {})}
    fields = getattr(CALLABLES[name], "model_fields", None)
    if fields:
        return {key: value for key, value in known.items() if key in fields and key in OWN_RIGHT.get(name, ())}
    wanted = [one.name for one in parameters(name) if one.default is inspect.Parameter.empty]
    return {key: known.get(key, "text") for key in (*wanted, *OWN_RIGHT.get(name, ()))}


@pytest.mark.parametrize("name", CALLABLES)
def test_a_wrong_argument_is_our_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))  # register_family adds to it
    monkeypatch.chdir(tmp_path)
    tried = 0
    for parameter in parameters(name):
        for value in WRONG:
            try:
                CALLABLES[name](**{**right(name), parameter.name: value})
            except RLCircuitsError as error:
                text = str(error)
                assert 0 < len(text) < 1000, (parameter.name, value, text)
                assert "\n" not in text, (parameter.name, value, text)
            except Exception as error:
                raise AssertionError(f"{name}({parameter.name}={value!r}) raised {error!r}") from error
            tried += 1
    assert tried >= len(WRONG) or not parameters(name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rlcircuits.attribute(CHECKPOINT, AnswerSequence([2], [3])), "attribute: sequences is AnswerSequence"),
        (lambda: rlcircuits.attribute(CHECKPOINT, [[2, 3]]), r"sequences is a list with \[2, 3\] at position 0; a"),
        (lambda: Settings(k="3"), "^Settings: k is '3'; a whole number or None is wanted$"),
        (lambda: Settings(k=30.0), "^Settings: k is 30.0; a whole number or None is wanted$"),
        (lambda: Settings(sampling={"n": 2}), "^Settings: sampling is {'n': 2}; a Sampling is wanted$"),
        (lambda: Sampling(temperature="1"), "^Sampling: temperature is '1'; a number is wanted$"),
        (lambda: AnswerSequence("ab", [1]), "^AnswerSequence: prompt_ids is 'ab'; a list of token ids is wanted$"),
        (lambda: AnswerSequence([1], [1.5]), r"^AnswerSequence: answer_ids is \[1.5\]; a list of token ids is wanted$"),
        (lambda: rlcircuits.activation_intensity(torch.ones(2)), r"scores is tensor\(\[1., 1.\]\); an EdgeScores is"),
        (lambda: rlcircuits.load_questions(3), "^load_questions: source is 3; a string or a QuestionSource is wanted$"),
        (lambda: rlcircuits.load_questions("arithmetic", count="5"), "count is '5'; a whole number or None is wanted$"),
        (lambda: rlcircuits.Checkpoint.load(None), "^Checkpoint.load: source is None; a path is wanted$"),
        (lambda: rlcircuits.run_pair("x"), "^run_pair: pair is 'x'; a Pair is wanted$"),
        (lambda: rlcircuits.judge(5), "^judge: comparison is 5; a Comparison is wanted$"),
        (lambda: rlcircuits.summary_table(made_up_comparison()), "a list of Comparison is wanted$"),
        (lambda: rlcircuits.compare(
            answers_of([True]), answers_of([True]), PAIRING, *[random_scores(20, 0)] * 2, name="a", algorithm="grpo"
        ), "^compare: before is .*; an EdgeScores is wanted$"),
    ],
)  # fmt: skip
def test_the_error_says_which_argument_and_what_is_wanted(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        call()


def test_numbers_of_numpy_and_whole_ones_for_others_are_as_good_as_pythons() -> None:
    given = Settings(k=np.int64(30), alpha=1, balance=np.float32(0.5), sampling=Sampling(temperature=1))
    assert given == Settings(k=30, alpha=1.0, balance=0.5, sampling=Sampling(temperature=1.0))
    assert [type(value) for value in (given.k, given.alpha, given.balance)] == [int, float, float]
    sequence = AnswerSequence(np.array([1, 2]), torch.tensor([3]))
    assert sequence == AnswerSequence((1, 2), (3,))
    assert {type(token) for token in (*sequence.prompt_ids, *sequence.answer_ids)} == {int}


def test_pythons_own_errors_of_a_call_stay() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'comparison'"):
        rlcircuits.judge()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'verbose'"):
        rlcircuits.judge(made_up_comparison(), verbose=True)  # type: ignore[call-arg]


def test_every_public_function_checks_its_arguments() -> None:
    functions = [name for name, value in CALLABLES.items() if inspect.isfunction(value)]
    assert len(functions) >= 20
    for name in functions:
        assert hasattr(CALLABLES[name], "__wrapped__"), f"{name} is not checked"


def test_an_iterator_is_not_used_up() -> None:
    @validate_arguments
    def total(numbers: Iterator[int]) -> int:
        return sum(numbers)

    assert total(iter([1, 2])) == 3
    with pytest.raises(RLCircuitsError, match="numbers is 3; a list of whole numbers is wanted"):
        total(3)  # type: ignore[arg-type]
    validate_fields(Settings())
