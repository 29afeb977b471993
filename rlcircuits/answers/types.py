"""What an answer is, and how answers are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import elided_repr, format_count, short_repr


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    `temperature` 0 is greedy decoding; above 0 a token is drawn from softmax(logits / temperature),
    restricted to the smallest set of tokens whose probability reaches `top_p`. An answer ends with its end token,
    or after `max_new_tokens`; None for as many as the question set needs. `seed` fixes the draws for a given batch
    size. `n` answers are drawn to every question, independently; greedy ones would all be the same.
    Nothing is taken over from a checkpoint's own generation settings, so that both of a pair are asked alike.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 42
    n: int = 1

    def __post_init__(self) -> None:
        validate_fields(self)
        for name, value in asdict(self).items():
            if value is not None:
                check_number(name, value, f"sampling {name}")
        if self.n > 1 and self.temperature == 0:
            raise RLCircuitsError(
                f"sampling n is {self.n} at temperature 0, where all answers to a question are the same; n = 1 or a "
                f"temperature above 0 is wanted"
            )

    def __repr__(self) -> str:
        return f"Sampling({', '.join(f'{name}={value!r}' for name, value in self.table().items())})"

    def table(self) -> dict[str, int | float]:
        """The fields by name, but for an `n` of 1, without which one answer a question is written, and what is None."""
        return {name: value for name, value in asdict(self).items() if value is not None and (name, value) != ("n", 1)}


@dataclass(frozen=True)
class Answer:
    """One answer to one question, the `sample`-th (from 0) of those that were drawn.

    `prompt_ids` and `answer_ids` are what the model saw and wrote, without padding; the end token is among
    `answer_ids` when it was written, and then `finished` is True. `text` is the answer decoded without
    special tokens, `correct` its grade, `problem` what kept the grader from grading it, if anything did.
    """

    question_id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    text: str
    correct: bool
    finished: bool
    problem: str | None = None
    sample: int = 0

    def __repr__(self) -> str:
        graded = "right" if self.correct else "wrong"
        length = format_count(len(self.answer_ids), "token") + ("" if self.finished else ", unfinished")
        return short_repr(self, elided_repr(self.question_id), graded, length, f"text={elided_repr(self.text)}")
