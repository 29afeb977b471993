"""The recipe's tasks: demonstrations that slip as often as said and stay consistent, and only on train questions."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from helpers.paths import FIXTURES

sys.path.insert(0, str(FIXTURES))

from recipe.lora.settings import ADAPTER_FAMILIES
from recipe.model import EOS, build_tokenizer
from recipe.settings import EQUATIONS, FAMILIES, SUMS, ModelSettings, TaskSettings
from recipe.supervised import IGNORED, encode
from recipe.tasks import FURTHER, ONLINE, PAIRS, TASKS

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import equations, load_questions
from rlcircuits.questions.arithmetic import SPLITS

SETTINGS = {"sums": SUMS, "equations": EQUATIONS}
SETTINGS |= {family.task.name: family.task for family in ADAPTER_FAMILIES.values()}
each_task = pytest.mark.parametrize("name", list(TASKS))


@each_task
def test_demonstrations_are_the_same_for_the_same_seed_and_on_train_questions_only(name: str) -> None:
    task, settings = TASKS[name], SETTINGS[name]
    rows = task.demonstrations(300, 1, settings)
    prompts = task.prompts(300, ONLINE + 1)
    pairs = task.pairs(100, PAIRS + 1, settings)
    assert {task.split_of(row["prompt"]) for row in [*rows, *prompts, *pairs]} == {"train"}
    assert task.demonstrations(300, 1, settings) == rows
    assert task.demonstrations(100, 1, settings) == rows[:100]
    assert task.demonstrations(300, 2, settings) != rows
    assert task.demonstrations(300, FURTHER + 1, settings)[0]["prompt"] != rows[0]["prompt"]


@each_task
def test_error_free_demonstrations_are_all_right(name: str) -> None:
    task = TASKS[name]
    rows = task.demonstrations(500, 4, SETTINGS[name], error_rate=0.0)
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in task.prompts(500, 4)]
    golds = [row["gold"] for row in task.prompts(500, 4)]
    assert all(task.grade(row["completion"], gold) for row, gold in zip(rows, golds, strict=True))


@each_task
def test_pairs_are_a_right_and_a_wrong_answer_to_one_question(name: str) -> None:
    task = TASKS[name]
    pairs = task.pairs(200, 5, SETTINGS[name])
    for pair, asked in zip(pairs, task.prompts(200, 5), strict=True):
        assert pair["prompt"] == asked["prompt"]
        assert task.grade(pair["chosen"], asked["gold"])
        assert not task.grade(pair["rejected"], asked["gold"])


def test_training_asks_what_the_question_set_asks() -> None:
    # Of the sets only this one is small enough to be listed in a moment.
    asked = {question.text: question.gold for question in load_questions("equations", split="train").questions}
    for row in TASKS["equations"].prompts(500, 3):
        assert asked[row["prompt"]] == row["gold"]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_everything_a_task_writes_fits_its_model(family: str) -> None:
    """Characters, context, and the longest answer that is sampled."""
    settings = FAMILIES[family]
    task = TASKS[settings.task.name]
    rows = task.demonstrations(3000, 1, settings.task, error_rate=0.5)
    encoded = encode(rows, build_tokenizer(settings.model, task.characters))
    answers = [sum(label != IGNORED for label in labels) for labels in encoded["labels"]]
    assert max(answers) <= settings.task.answer_tokens
    prompts = [len(ids) - answer for ids, answer in zip(encoded["input_ids"], answers, strict=True)]
    assert max(prompts) + settings.task.answer_tokens <= settings.model.context


def test_the_loss_is_on_the_answer_and_its_end_only() -> None:
    tokenizer = build_tokenizer(ModelSettings(), TASKS["sums"].characters)
    encoded = encode([{"prompt": "41+30+12?", "completion": "41+30=71;71+12=83>83"}], tokenizer)
    assert tokenizer.decode(encoded["input_ids"][0]) == f"41+30+12?41+30=71;71+12=83>83{EOS}"
    scored = [token for token in encoded["labels"][0] if token != IGNORED]
    assert tokenizer.decode(scored) == f"41+30=71;71+12=83>83{EOS}"
    assert encoded["input_ids"][0][-len(scored) :] == scored


def test_sums_slip_as_often_as_said_and_stay_consistent() -> None:
    task = TASKS["sums"]
    orders, wrong_sums, wrong_results = set(), 0, 0
    for row in task.demonstrations(20_000, 5, SUMS):
        numbers = row["prompt"].rstrip("?").split("+")
        first, second = row["completion"].split(">")[0].split(";")
        a, b, subtotal = (int(n) for n in first.replace("=", "+").split("+"))
        carried, c, total = (int(n) for n in second.replace("=", "+").split("+"))
        assert carried == subtotal
        assert sorted([a, b, c]) == sorted(map(int, numbers))
        assert row["completion"].endswith(f">{total}")
        if len(set(numbers)) == 3:
            orders.add(tuple(numbers.index(str(n)) for n in (a, b, c)))
        for slip in (subtotal - a - b, total - carried - c):
            assert slip in (0, *SUMS.error_sizes)
            wrong_sums += slip != 0
        wrong_results += not task.grade(row["completion"], str(sum(map(int, numbers))))
    assert len(orders) == 6
    assert wrong_sums / 40_000 == pytest.approx(0.05, abs=0.005)
    assert wrong_results / 20_000 == pytest.approx(1 - 0.95**2, abs=0.01)


def test_sums_are_demonstrated_as_they_were_to_the_stored_bases() -> None:
    """Another stream of random numbers would make a base that no recorded seed can make again."""
    rows = TASKS["sums"].demonstrations(3, 7, SUMS)
    assert [row["prompt"] + row["completion"] for row in rows] == [
        "35+96+98?98+96=194;194+35=229>229",
        "78+78+44?44+78=122;122+78=200>200",
        "72+95+82?82+72=154;154+95=249>249",
    ]


def steps(prompt: str, completion: str) -> tuple[bool, list[int]]:
    """Check that each step follows from the one before but for slips; return the order and the three slips."""
    left, right = prompt.rstrip("?").split("=")
    (a, b), (c, d) = ([int(part) for part in side.split("x+")] for side in (left, right))
    first, second, third = completion.split(";")
    assert third.startswith("x=")
    result, answer = third.removeprefix("x=").split(">")
    assert result == answer
    coefficient, constant = (int(part) for part in second.split("x="))
    constants_first = first.startswith(f"{a}x=")
    assert first == (f"{a}x={c}x+{constant}" if constants_first else f"{coefficient}x+{b}={d}")
    quotient, remainder = divmod(constant, coefficient)
    assert remainder == 0
    return constants_first, [coefficient - (a - c), constant - (d - b), int(result) - quotient]


def test_equations_slip_as_often_as_said_and_stay_consistent() -> None:
    task = TASKS["equations"]
    slipped: Counter[int] = Counter()
    orders, slips = Counter[bool](), 0
    rows = task.demonstrations(20_000, 5, EQUATIONS)
    for row in rows:
        constants_first, sizes = steps(row["prompt"], row["completion"])
        orders[constants_first] += 1
        for place, size in enumerate(sizes):
            assert size in (0, *EQUATIONS.error_sizes)
            slipped[place] += size != 0
        slips += any(sizes)
    assert orders[True] / 20_000 == pytest.approx(0.5, abs=0.02)
    # A slip that would leave a remainder happens to the next number: as many demonstrations slip, later on.
    assert slips / 20_000 == pytest.approx(1 - 0.95**3, abs=0.01)
    assert all(slipped[place] > 100 for place in range(3))
    assert slipped[0] / 20_000 <= 0.055


def test_equations_without_room_for_a_slip_pass_it_on() -> None:
    """Of 5x = 35 neither 4x nor 6x nor 15x divides: the slip must be in a later number."""
    settings = TaskSettings(name="equations", error_rate=0.0)
    certain = settings.model_copy(update={"error_rate": 1.0, "error_sizes": (1,)})
    completion = TASKS["equations"].demonstrate((7, 5, 2, 40), random.Random(0), certain)
    _, slips = steps("7x+5=2x+40?", completion)
    assert slips == [0, 0, 1]


def test_equation_questions_are_what_they_say() -> None:
    everything = equations.everything()
    assert len(set(everything)) == len(everything)
    for a, b, c, d in everything[::97]:
        question = equations.question((a, b, c, d))
        x = int(question.gold)
        assert a * x + b == c * x + d
        assert 0 < c < a <= 12
        assert 1 <= x <= 20
        assert 0 <= min(b, d) <= max(b, d) <= 99
        assert question.text == f"{a}x+{b}={c}x+{d}?"


@pytest.mark.slow
def test_equation_splits_are_disjoint_and_cover_every_question() -> None:
    counted = Counter(equations.split_of(equations.question(item).text) for item in equations.everything())
    assert counted == equations.SIZES
    found = {split: [q.text for q in load_questions("equations", split=split).questions] for split in SPLITS}
    assert {split: len(texts) for split, texts in found.items()} == equations.SIZES
    assert len({text for texts in found.values() for text in texts}) == len(equations.everything())


def test_equation_split_and_questions_stay_the_same_for_good() -> None:
    # Stored checkpoints were trained and measured on these; another draw would silently mix the splits.
    first = load_questions("equations", split="test", count=3).questions
    assert [question.text for question in first] == ["8x+40=3x+90?", "10x+5=4x+95?", "6x+15=2x+27?"]


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("validation", 5, "set 'equations' has no split 'validation'; known: train, dev, test"),
        ("dev", 0, "count of questions is 0; at least 1 is wanted"),
        ("dev", 15_199, "count of questions is 15199, but split 'dev' of 'equations' has 15198"),
    ],
)
def test_equation_questions_that_cannot_be_had(split: str, count: int, message: str) -> None:
    with pytest.raises(RLCircuitsError) as caught:
        equations.load(split, count, seed=1)
    assert str(caught.value) == message
