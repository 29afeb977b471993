"""Test the `math` grader: correct answers in any words and notation, and wrong ones, however close."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from helpers.paths import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.questions import load_questions
from rlcircuits.questions.audit.__main__ import main
from rlcircuits.questions.audit.disguises import CHANGES, DISGUISES
from rlcircuits.questions.audit.grader_audit import audit_math_grader, rates, source_of
from rlcircuits.questions.audit.notations import NOTATIONS, OTHER_NUMBERS
from rlcircuits.questions.grading.math_grader import equivalent, grade_math
from rlcircuits.questions.grading.reading.extract_answer import extract_answer
from rlcircuits.questions.grading.reading.statement import stated_values

SHARED = SHARED_DATA

RIGHT = [
    # numbers
    ("18", "18"),
    ("1,234", "1234"),
    ("$1{,}234$", "1,234"),
    (r"10\,080", r"10,\!080"),
    ("5.0", "5"),
    ("+5", "5"),
    ("0.0000672", ".0000672"),
    (r"6.72\times 10^{-5}", ".0000672"),
    ("1,000,000", "10^6"),
    ("0.3333333", r"\frac13"),
    ("0.5", r"\frac12"),
    ("1/2", r"\dfrac{1}{2}"),
    ("-1/2", r"-\frac{1}{2}"),
    ("1 4/5", r"1\frac{4}{5}"),
    ("9/5", r"1\frac{4}{5}"),
    (r"2 \sqrt{3}", r"\sqrt{12}"),
    ("1.41421356", r"\sqrt{2}"),
    ("52", "52_8"),
    ("52_{8}", "52_8"),
    ("2+i", "i + 2"),
    ("-5i+6", "6 - 5i"),
    # percent, money, units
    ("20%", "20"),
    (r"20\%", "0.2"),
    ("12.5 percent", "12.5"),
    ("$32,348", r"\$32,\!348"),
    ("18.90 dollars", r"\$18.90"),
    ("864", r"864 \mbox{ inches}^2"),
    (r"4000/49\text{ m/s}", r"$4000 / 49 \mathrm{~m} / \mathrm{s}$"),
    ("90 degrees", r"90^\circ"),
    ("90°", r"90^{\circ}"),
    ("70 mph", "70 miles per hour"),
    ("5cm", "5"),
    ("2 x dollars", "$2x$"),
    # expressions, lists, equations
    ("-4n+10", "$10-4 n$"),
    ("2(5-2n)", "10-4n"),
    ("x=5", "5"),
    ("5", "$x=5$"),
    ("$x=6$ or $x=-6$", "$x=-6$ or $x=6$"),
    (r"\pm 6", "$x=-6$ or $x=6$"),
    ("-6, 6", "$x=-6$ or $x=6$"),
    ("1, 1, -1", "-1,1,1"),
    ("y=-3, x=7", r"$x=7$ and $y=-3$"),
    ("11=x^2", "$x^{2}-11=0$"),
    ("2x^2-22=0", "$x^{2}-11=0$"),
    ("y=2x+3", "3+2x"),
    ("216", r"$\log _{36}\left(36^{216}\right)=216$"),
    (r"\left(3,\frac{\pi}{2}\right)", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"-2\le x\le 7", r"x \in [-2,7]"),
    ("(-∞,2)∪(3,∞)", r"(-\infty, 2) \cup (3, \infty)"),
    (r"\begin{bmatrix}-1/3\\2/3\end{bmatrix}", r"\begin{pmatrix} -\frac13 \\ \frac23 \end{pmatrix}"),
    ("x^2 + C", "x^2+c"),
    (r"-2x\left(\frac{1}{3}\right)^{x^2}\ln 3", r"$-2 x \ln (3)(1 / 3)^{x^{2}}$"),
    (r"\sum_{n=0}^\infty \frac{x^{n+1}(-1)^n}{1+n}", r"$\sum_{n=0}^{\infty} \frac{(-1)^{n}}{n+1} x^{n+1}$"),
    (r"(t, 2t) \text{ for all real numbers } t", "$(t, 2 t)$ for all real numbers $t$"),
    # words
    ("No solution.", "no solution"),
    ("even", r"\text{even}"),
    ("C", r"\text{(C)}"),
    ("(C)", r"\text{(C)}"),
]

WRONG = [
    ("19", "18"),
    ("-18", "18"),
    ("1234", "1,2,3,4"),
    ("1,235", "1,234"),
    ("0.0000673", ".0000672"),
    (r"6.73\times 10^{-5}", ".0000672"),
    ("13742.20", "13742.19"),
    ("0.33", r"\frac13"),
    ("1.414", r"\sqrt2"),
    ("4.5", "5"),
    ("53_8", "52_8"),
    ("52_9", "52_8"),
    ("5%", "50%"),
    ("200%", "0.2"),
    ("10-5n", "10-4n"),
    ("4-3m", "4-3n"),
    ("4", "4-3m"),
    ("6", "$6 x y$"),
    ("y=5", "x=5"),
    ("0", "$x^{2}-11=0$"),
    ("x^2-12=0", "$x^{2}-11=0$"),
    ("x^2-2x+10=1", "$x^{2}-2 x+10=0$"),  # neither has real roots
    (r"I=\frac{20}{37}(\cos 25t-6\sin 26t)", r"$I=\frac{20}{37}(\cos 25 t-6 \sin 25 t)$"),
    (r"\log _{36}\left(36^{216}\right)=217", r"$\log _{36}\left(36^{216}\right)=216$"),
    ("-1, 1", "-1,1,1"),
    ("x=-6", "$x=-6$ or $x=6$"),
    ("x_3=1.475773163", "$x_{3}=1.475773162$"),
    ("1-5051/2^{101}", "$1-5051 / 2^{100}$"),
    (r"\cos(\theta) \approx 0.12", r"\cos (\theta) \approx 0.13"),
    (r"\ln x+C", r"$\ln |x|+C$"),
    ("X and Y are independent", "$X$ and $Y$ are related"),
    ("(2,1)", "(1,2)"),
    ("[1,2)", "(1,2]"),
    (r"3, \pi", r"\left( 3, \frac{\pi}{2} \right)"),
    ("3 +", "3"),
    (r"15\text{ cm}^3", r"15\mbox{ cm}^2"),
    ("converges", "diverges"),
    ("verges con", "converges"),  # the same letters
    ("D", r"\text{(C)}"),
    ("18x, since it is so", "18"),
    ("I do not know", "5"),
    ("", "5"),
    ("$$", "5"),
]


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_right(answer: str, gold: str) -> None:
    assert equivalent(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong(answer: str, gold: str) -> None:
    assert not equivalent(answer, gold)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (r"So $\boxed{\frac{1}{2}}$. I checked 3 times.", r"\frac{1}{2}"),
        (r"\boxed{1}, no: the answer is $\boxed{2}$", "2"),
        (r"Hence $\boxed{3}$ and $\boxed{5}$.", "3, 5"),
        ("16 - 3 - 4 = 9\n9 * 2 = 18\n#### 18", "18"),
        ("The answer is 5. Wait. The answer is 7.", "7"),
        ("The final answer is $18.50. I hope it is correct.", "$18.50"),
        ("The answer is: $x=1$ or $x=2$, as 1 + 1 = 2.\n\nThanks!", "$x=1$ or $x=2$, as 1 + 1 = 2"),
        ("**Answer:**\n\n42 apples\n\n", "42 apples"),
        ("Answer:\n\\[ \\frac{3}{4}\n\\]\nDone.", "\\[ \\frac{3}{4}\n\\]"),
        ("The answer to this question is 5 cm.", "5 cm"),
        ("<think>It may be \\boxed{5}.</think>\nThe answer is **7**.", "7**"),
        ("<think>It is \\boxed{5}.</think>", "5"),
        ("She has 5.\nShe makes 9 * 2 = $18 every day\nI am sure", "She makes 9 * 2 = $18 every day"),
        ("Then\n\\frac{1}{2}", r"\frac{1}{2}"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("No solution", "No solution"),
        ("", ""),
    ],
)
def test_the_answer_a_text_states(text: str, stated: str) -> None:
    assert extract_answer(text).text == stated


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("She makes 9 * 2 = $18 every day", r"9\cdot 2=18"),
        ("He had $5 a day, and $15 a week.", "15"),
        ("We are left with $x = 5$ apples.", "x = 5"),
        ("So there are 42 eggs in 7 days.", "7"),
        ("So 6 * 7 = 42 eggs in 7 days.", r"6\cdot 7=42"),
    ],
)
def test_the_value_a_sentence_states(text: str, stated: str) -> None:
    assert [statement.values[0].latex for statement in stated_values(text, announced=False)] == [stated]


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18 every day.\n#### 18", "18", True),
        ("Janet sells 9 eggs a day. So she makes $18 every day.", "18", True),
        ("The answer is 18. But 19 is near.", "18", True),
        ("The answer is 19, although 18 is near.", "18", False),
        ("The answer is $x=1$ or $x=2$, as 1 + 1 is 2.", "1, 2", True),
        ("The answer is 18 because 2 * 9 is 18, not 19.", "18", True),
        ("The answer is that 3 hens make $18 a day.", "18", True),
        (r"\boxed{18} is wrong. \boxed{19}", "18", False),
        ("Yes. It has a unique solution.", "Yes. It has a unique solution.", True),
        ("The answer is Yes. It has a unique solution.", "Yes. It has a unique solution.", True),
    ],
)
def test_whole_texts(text: str, gold: str, right: bool) -> None:
    assert grade_math(text, gold) is right


SENTENCES = (
    "The answer is {}.",
    "so\n#### {}",
    r"Thus $\boxed{{{}}}$, since 2 + 2 = 4.",
    "**Answer:** {} dollars",
    "{}",
)
SMALL = st.integers(-30, 30)


@given(SMALL, SMALL, st.sampled_from(SENTENCES))
def test_a_whole_number_is_right_exactly_when_it_is_the_gold_one(answer: int, gold: int, sentence: str) -> None:
    assert grade_math(sentence.format(answer), str(gold)) is (answer == gold)


@given(SMALL, st.integers(1, 12), SMALL, st.integers(1, 12), st.sampled_from(SENTENCES))
def test_a_fraction_is_right_exactly_when_its_value_is(a: int, b: int, c: int, d: int, sentence: str) -> None:
    gold = rf"{'-' * (c < 0)}\frac{{{abs(c)}}}{{{d}}}"
    assert grade_math(sentence.format(f"{a}/{b}"), gold) is (Fraction(a, b) == Fraction(c, d))


@given(st.text(max_size=40), st.sampled_from(["5", r"\frac12", "$x=5$", "no solution"]))
def test_no_text_breaks_it(text: str, gold: str) -> None:
    assert grade_math(text, gold) in (True, False)


SHARE = 40
"""Number of questions of each set, for a few seconds. For all: python -m rlcircuits.questions.audit FILE."""
NOT_AS_WANTED = {
    "as SymPy prints it": "1202 1261 1302 1386 1818 1849 2042 2139 2200 2223 2242 2510 2535 2661 2775 2810 2816",
    "last number + 1": "1006 1100 1145 1446 2548",
    "sign flipped": "51 322 424 443 544 598 683 1233 1660 1937 2177 2526 2531 2720 2766",
    "+ 7 added": "1544 1588 1964 1984",
}
"""Lines of College Math with a wrong grade; docs/questions.md says why. The other sets have no wrong grade."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k", "math500", "college_math"])
def test_gold_answers_in_disguise_and_changed(name: str) -> None:
    file = SHARED / f"{name}_test.jsonl"
    if not file.exists():
        pytest.skip(f"the original file is not at {file}")
    questions = load_questions(source_of(file), count=SHARE).questions
    outcomes = audit_math_grader(questions)
    known = NOT_AS_WANTED if name == "college_math" else {}
    for outcome in outcomes:
        assert outcome.as_wanted or outcome.question_id in known.get(outcome.rewrite, "").split(), outcome
    found = rates(outcomes)
    assert found["itself"] == found["in a sentence"] == found["boxed"] == (len(questions), len(questions))
    assert set(found) <= {*DISGUISES, *NOTATIONS, *CHANGES, *OTHER_NUMBERS}
    assert len(found) > 50


def test_the_audit_prints_rates_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gsm8k_small.jsonl"
    file.write_text('{"question": "Q", "answer": "#### 1,234"}\n{"question": "R", "answer": "#### 7"}\n')
    assert main([str(file)]) == 0
    printed = capsys.readouterr().out
    assert "gsm8k (2)" in printed
    assert re.search(r"\| correct +\| `\$1\{,\}234\$` +\| 1 / 1 \(100\.00 %\)", printed)
    assert main([str(tmp_path / "gone.jsonl")]) == 2
    assert "gone.jsonl: cannot be read as questions" in capsys.readouterr().err
