"""One answer, and how answers are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.graph.image_inputs import ImageInputs


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    A checkpoint's own generation settings are ignored, so that both checkpoints of a pair are sampled in the same way.

    Raises:
        RLCircuitsError: a value is outside its range, or `n` is more than 1 at temperature 0.
    """

    temperature: float = defaults.TEMPERATURE
    """0 is greedy decoding. Above 0, a token is drawn from softmax(logits / temperature)."""
    top_p: float = defaults.TOP_P
    """Draw only from the smallest set of tokens whose probabilities add up to at least `top_p`."""
    max_new_tokens: int | None = None
    """An answer ends with its end token, or after this many tokens. None: the question set's own limit."""
    seed: int = defaults.SAMPLING_SEED
    """Seed of the draws. The same seed gives the same answers only with the same batch size."""
    n: int = defaults.ANSWERS_PER_QUESTION
    """Number of independent answers to each question."""

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
        """Return the fields by name, without fields that are None and without `n` if it is 1."""
        return {name: value for name, value in asdict(self).items() if value is not None and (name, value) != ("n", 1)}


@dataclass(frozen=True)
class Answer:
    """One answer to one question."""

    question_id: str
    prompt_ids: tuple[int, ...]
    """Token ids of the prompt, without padding."""
    answer_ids: tuple[int, ...]
    """Token ids that the model generated, without padding, but with the end token if it was generated."""
    text: str
    """The answer, decoded without special tokens."""
    correct: bool
    """The grade."""
    finished: bool
    """True if the answer ends with an end token, False if it was cut off."""
    problem: str | None = None
    """Why the grader failed, if it did. The answer then counts as wrong."""
    sample: int = 0
    """Index among the answers to the same question."""
    images: ImageInputs | None = None
    """The images of the prompt; None for a prompt of text alone. A file of answers holds their key."""

    def __repr__(self) -> str:
        graded = "right" if self.correct else "wrong"
        length = format_count(len(self.answer_ids), "token") + ("" if self.finished else ", unfinished")
        return short_repr(self, elided_repr(self.question_id), graded, length, f"text={elided_repr(self.text)}")
