"""All answers of one checkpoint to one question set, and their file format.

A file of answers is JSON lines: first a header that says which model answered which questions and how, then one answer
on each line, in the order of generation. The header holds the number of answers, so that a truncated file is noticed.
An answer is stored as token ids, which are what attribution scores, and as text, which is what was graded.

With one answer to each question, the fields `n` and `sample` are not written. Of a prompt's images, the field `images`
has the key; without images it is not written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from rlcircuits.answers.prompting import PromptingUsed
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import write_atomically
from rlcircuits.common.input_files import read_lines
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.common.validation import describe_error

_T = TypeVar("_T")
FORMAT = "rlcircuits-answers"
VERSION = 1
NO_TOKEN = 2**31
"""Upper bound of all token ids: the tokenizers library cannot read larger ones."""


@dataclass(frozen=True)
class Header:
    """The first line of a file of answers."""

    format: str
    version: int
    model: str
    question_set: str
    split: str
    sampling: Sampling
    count: int
    """Number of answers in the finished file."""
    prompting: PromptingUsed | None = None
    """How questions became prompts; None if that is not known, as for recorded answers."""
    engine: str | None = None
    """Name of the engine. This and the fields below are set only in cached files."""
    batch_size: int | None = None
    key: str | None = None
    """Hash of everything the answers depend on; see `cache.cache_key`."""


@dataclass(frozen=True)
class Line(Answer):
    """One answer in a file."""

    place: int | None = None
    """Index of its question in the question set. None if the file does not say; its lines then stay in their order."""

    @classmethod
    def of(cls, answer: Answer, place: int) -> Line:
        """Return the line that stores an answer."""
        return cls(**vars(answer), place=place)

    def answer(self) -> Answer:
        """Return the answer that this line stores."""
        return Answer(**{name: value for name, value in vars(self).items() if name != "place"})


_HEADER: TypeAdapter[Header] = TypeAdapter(Header)
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


@dataclass(frozen=True)
class Answers:
    """All answers of one checkpoint to one question set."""

    model: str
    question_set: str
    split: str
    sampling: Sampling
    items: tuple[Answer, ...]
    """The answers, in the order of the question set and then of the samples."""
    prompting: PromptingUsed | None = None
    """How questions became prompts; None if that is not known."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def unfinished(self) -> float:
        """Fraction of answers without an end token. Raises RLCircuitsError if there are no answers."""
        if not self.items:
            raise RLCircuitsError(f"answers of {self.model!r} are empty, so none of them has or lacks an end")
        return sum(not item.finished for item in self.items) / len(self.items)

    def __repr__(self) -> str:
        accuracy = [f"accuracy {self.accuracy:.3f}"] if self.items else []
        asked = f"{self.question_set} ({self.split})"
        return short_repr(self, elided_repr(self.model), asked, format_count(len(self), "answer"), *accuracy)

    @property
    def accuracy(self) -> float:
        """Fraction of answers graded correct. Raises RLCircuitsError if there are no answers."""
        if not self.items:
            raise RLCircuitsError(f"answers of {self.model!r} are empty, so they have no accuracy")
        return sum(item.correct for item in self.items) / len(self.items)

    @validate_arguments
    def save(self, path: str | Path) -> None:
        """Write the answers to a file, which is replaced atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        count = len(self.items)
        header = Header(
            FORMAT, VERSION, self.model, self.question_set, self.split, self.sampling, count, self.prompting
        )
        places = {name: place for place, name in enumerate(dict.fromkeys(item.question_id for item in self.items))}
        lines = [
            format_header(header),
            *(format_answer(Line.of(item, places[item.question_id])) for item in self.items),
        ]
        write_atomically(path, lambda partial: _written(partial, lines))

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> Answers:
        """Read a file that `save` wrote, or a finished file of the cache.

        Raises:
            RLCircuitsError: the file is missing, truncated or malformed; the message names file and line.
        """
        path = Path(path)
        lines = [line for _, line in read_lines(path, "answers")]
        header = parse_header(path, lines[0])
        found = parse_answers(path, lines[1:], header.sampling.n)
        if len(found) != header.count:
            raise RLCircuitsError(
                f"{path}:{len(lines)}: file ends after {len(found)} answers; its header promises {header.count}"
            )
        return assemble_answers(header, found)


def format_header(header: Header) -> bytes:
    """Return the header as a line of JSON."""
    return _HEADER.dump_json(header, exclude={"sampling": {"n"}} if header.sampling.n == 1 else None) + b"\n"


def format_answer(line: Line) -> bytes:
    """Return an answer as a line of JSON."""
    unset = {name for name, default in (("sample", 0), ("images", None)) if getattr(line, name) == default}
    return _LINE.dump_json(line, exclude=unset or None) + b"\n"


def assemble_answers(header: Header, lines: Iterable[Line]) -> Answers:
    """Return the answers of a file, sorted from the order of generation into that of the question set."""
    items = sorted(lines, key=lambda line: (-1, 0) if line.place is None else (line.place, line.sample))
    return Answers(
        header.model,
        header.question_set,
        header.split,
        header.sampling,
        tuple(line.answer() for line in items),
        header.prompting,
    )


def parse_header(path: Path, line: str | bytes) -> Header:
    """Read the first line of a file. Raises RLCircuitsError if it is malformed or has another format."""
    header = parse_line(_HEADER, path, 1, line)
    if (header.format, header.version) != (FORMAT, VERSION):
        raise RLCircuitsError(
            f"{path}:1: found format {header.format!r} version {header.version}; {FORMAT!r} version {VERSION} is wanted"
        )
    return header


def parse_answers(path: Path, lines: Iterable[str | bytes], n: int) -> list[Line]:
    """Read the lines after the header.

    Args:
        path: the file, for error messages.
        lines: the lines.
        n: number of answers to each question.

    Raises:
        RLCircuitsError: a line is malformed, repeats an answer, or has a sample index outside 0 to n - 1.
    """
    found: list[Line] = []
    seen: dict[tuple[str, int], int] = {}
    for number, line in enumerate(lines, start=2):
        item = parse_line(_LINE, path, number, line)
        if not 0 <= item.sample < n:
            raise RLCircuitsError(f"{path}:{number}: field 'sample' is {item.sample}; 0 to {n - 1} is wanted")
        for field, ids in (("prompt_ids", item.prompt_ids), ("answer_ids", item.answer_ids)):
            if ids and not (min(ids) >= 0 and max(ids) < NO_TOKEN):
                strange = [token for token in ids if not 0 <= token < NO_TOKEN]
                raise RLCircuitsError(
                    f"{path}:{number}: field {field!r} holds {truncated_repr(strange[0])}, which is no token id"
                )
        if not item.prompt_ids:
            raise RLCircuitsError(f"{path}:{number}: field 'prompt_ids' is empty; a prompt has one token id at least")
        answer = (item.question_id, item.sample)
        if answer in seen:
            which = f"sample {item.sample} of " if n > 1 else ""
            raise RLCircuitsError(
                f"{path}:{number}: {which}question {item.question_id!r} was already answered on line {seen[answer]}"
            )
        seen[answer] = number
        found.append(item)
    return found


def parse_line(adapter: TypeAdapter[_T], path: Path, number: int, line: str | bytes) -> _T:
    """Read one line of JSON. Raises RLCircuitsError, naming file, line and field, if it is malformed."""
    try:
        return adapter.validate_json(line, strict=True)
    except ValidationError as error:
        raise RLCircuitsError(f"{path}:{number}{describe_error(error, before=': field')}") from None


def _written(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(lines)
