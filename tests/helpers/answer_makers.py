"""Answers made from grades, for tests of signs that need no model."""

from collections.abc import Mapping, Sequence

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling


def make_answers(
    grades: Mapping[str, Sequence[bool]],
    *,
    texts: Mapping[str, Sequence[str]] | None = None,
    lengths: Mapping[str, Sequence[int]] | None = None,
    finished: bool = True,
) -> Answers:
    """Return answers with these grades, texts and lengths, by question."""
    items = tuple(
        Answer(
            question,
            (1,),
            tuple(range(lengths[question][sample] if lengths else 3)),
            texts[question][sample] if texts else "",
            bool(correct),
            finished,
            sample=sample,
        )
        for question, all_grades in grades.items()
        for sample, correct in enumerate(all_grades)
    )
    n = max((len(each) for each in grades.values()), default=1)
    return Answers("model", "questions", "test", Sampling(n=n, max_new_tokens=50), items)
