"""A checkpoint answers a question set: generate, grade, store.

Answers are kept as token ids, because those are what is scored later; the text beside them is what was
graded. On disk they are JSON lines: a header that says what was asked of whom and how, then one answer a
line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from rich.progress import TextColumn
from transformers import GenerationConfig

from rlcircuits.errors import RLCircuitsError
from rlcircuits.progress import progress_bar
from rlcircuits.questions import QuestionSet

if TYPE_CHECKING:
    from rlcircuits.checkpoint import Checkpoint

__all__ = ["Answer", "Answers", "Sampling", "answer_questions"]

_T = TypeVar("_T")
_FORMAT = "rlcircuits-answers"
_VERSION = 1


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    `temperature` 0 is greedy decoding; above 0 a token is drawn from softmax(logits / temperature),
    restricted to the smallest set of tokens whose probability reaches `top_p`. `seed` fixes the draws for a
    given batch size. Nothing is taken over from a checkpoint's own generation settings, so that both of a
    pair are asked alike.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    seed: int = 42

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise RLCircuitsError(f"sampling temperature is {self.temperature}; 0 (greedy) or more is wanted")
        if not 0 < self.top_p <= 1:
            raise RLCircuitsError(f"sampling top_p is {self.top_p}; a number above 0 and at most 1 is wanted")
        if self.max_new_tokens < 1:
            raise RLCircuitsError(f"sampling max_new_tokens is {self.max_new_tokens}; at least 1 is wanted")
        if not 0 <= self.seed < 2**63:
            raise RLCircuitsError(f"sampling seed is {self.seed}; a number from 0 to 2**63 - 1 is wanted")


@dataclass(frozen=True)
class Answer:
    """One answer to one question.

    `prompt_ids` and `answer_ids` are what the model saw and wrote, without padding; the end token is among
    `answer_ids` when it was written, and then `finished` is True. `text` is the answer decoded without
    special tokens, `correct` its grade.
    """

    question_id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    text: str
    correct: bool
    finished: bool


@dataclass(frozen=True)
class _Header:
    format: str
    version: int
    model: str
    question_set: str
    split: str
    sampling: Sampling
    count: int


_HEADER: TypeAdapter[_Header] = TypeAdapter(_Header)
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


@dataclass(frozen=True)
class Answers:
    """Every answer of one checkpoint to one question set, in the question set's order."""

    model: str
    question_set: str
    split: str
    sampling: Sampling
    items: tuple[Answer, ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def accuracy(self) -> float:
        """The share of answers graded correct. Raises RLCircuitsError when there are none."""
        if not self.items:
            raise RLCircuitsError(f"answers of {self.model!r} are empty, so they have no accuracy")
        return sum(item.correct for item in self.items) / len(self.items)

    def save(self, path: str | Path) -> None:
        """Write a header line, then one answer a line. `path` is replaced only once all is written."""
        path = Path(path)
        header = _Header(_FORMAT, _VERSION, self.model, self.question_set, self.split, self.sampling, len(self.items))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".tmp")
        with partial.open("w", encoding="utf-8") as file:
            for record in (asdict(header), *map(asdict, self.items)):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Answers:
        """Read what `save` wrote.

        Raises RLCircuitsError naming file and line for a missing, cut-off or malformed file.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RLCircuitsError(f"{path}: cannot be read as answers: {error}") from error
        if lines == [""]:
            raise RLCircuitsError(f"{path}:1: file is empty; a header line is wanted")
        header = _parse(_HEADER, path, 1, lines[0])
        if (header.format, header.version) != (_FORMAT, _VERSION):
            raise RLCircuitsError(
                f"{path}:1: found format {header.format!r} version {header.version}; "
                f"{_FORMAT!r} version {_VERSION} is wanted"
            )
        items: list[Answer] = []
        seen: dict[str, int] = {}
        for number, line in enumerate(lines[1:], start=2):
            item = _parse(_ANSWER, path, number, line)
            if item.question_id in seen:
                raise RLCircuitsError(
                    f"{path}:{number}: question {item.question_id!r} was already answered on "
                    f"line {seen[item.question_id]}"
                )
            seen[item.question_id] = number
            items.append(item)
        if len(items) != header.count:
            raise RLCircuitsError(
                f"{path}:{len(lines)}: file ends after {len(items)} answers; its header promises {header.count}"
            )
        return cls(header.model, header.question_set, header.split, header.sampling, tuple(items))


def answer_questions(
    checkpoint: Checkpoint,
    questions: QuestionSet,
    sampling: Sampling | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Answers:
    """Give one answer to every question, generated with left padding and a KV cache, then graded.

    The prompt is the tokenizer's chat template around the question where it has one, otherwise the question's
    text with the tokenizer's own special tokens. The same checkpoint, questions, sampling and batch size give
    the same answers; the global random state is left as it was.

    Raises RLCircuitsError for no questions, an empty prompt, or a prompt that leaves no room for
    `max_new_tokens`.
    """
    sampling = sampling or Sampling()
    if batch_size < 1:
        raise RLCircuitsError(f"batch_size is {batch_size}; at least 1 is wanted")
    if not questions.questions:
        raise RLCircuitsError(f"question set {questions.name!r} ({questions.split}) holds no questions")
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    prompts = [_prompt_ids(tokenizer, question.text) for question in questions.questions]
    _check_lengths(model, questions, prompts, sampling)

    # Neighbours of one length waste no padding; the longest first shows a lack of memory at once.
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    generated: dict[int, tuple[tuple[int, ...], bool]] = {}
    ends = _end_ids(model, tokenizer)
    rate = TextColumn("{task.fields[rate]}")
    with _own_settings(model, tokenizer, ends, sampling), _seeded(sampling.seed), progress_bar(progress, rate) as bar:
        task = bar.add_task(questions.name, total=len(order), rate="")
        tokens = 0
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows = _generate(model, [prompts[index] for index in batch])
            for index, row in zip(batch, rows, strict=True):
                generated[index] = _until_end(row, ends)
                tokens += len(generated[index][0])
            elapsed = bar.tasks[task].elapsed
            bar.update(task, advance=len(batch), rate=f"{tokens / elapsed:,.0f} tokens/s" if elapsed else "")

    items = []
    for index, question in enumerate(questions.questions):
        answer_ids, finished = generated[index]
        text = tokenizer.decode(answer_ids, skip_special_tokens=True)
        correct = bool(questions.grade(text, question.gold))
        items.append(Answer(question.id, prompts[index], answer_ids, text, correct, finished))
    return Answers(checkpoint.name, questions.name, questions.split, replace(sampling), tuple(items))


def _parse(adapter: TypeAdapter[_T], path: Path, number: int, line: str) -> _T:
    try:
        return adapter.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RLCircuitsError(f"{path}:{number}: {f'field {where!r}: ' if where else ''}{first['msg']}") from error


def _prompt_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    if getattr(tokenizer, "chat_template", None):
        encoded = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )
    else:
        encoded = tokenizer(text)
    return tuple(encoded["input_ids"])


def _check_lengths(model: Any, questions: QuestionSet, prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for question, prompt in zip(questions.questions, prompts, strict=True):
        if not prompt or not question.text:
            raise RLCircuitsError(f"question {question.id!r} of {questions.name!r} has an empty prompt")
        if context is not None and len(prompt) + sampling.max_new_tokens > context:
            raise RLCircuitsError(
                f"question {question.id!r} of {questions.name!r}: {len(prompt)} prompt tokens and "
                f"{sampling.max_new_tokens} new ones do not fit the model's context of {context}; "
                f"lower max_new_tokens"
            )


def _end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return every id that ends an answer: chat models often have an end of turn beside the end of text."""
    found = getattr(model.generation_config, "eos_token_id", None)
    ids = [] if found is None else [found] if isinstance(found, int) else list(found)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(ids))


@contextmanager
def _own_settings(model: Any, tokenizer: Any, ends: tuple[int, ...], sampling: Sampling) -> Iterator[None]:
    """Put our generation settings in the place of the checkpoint's, and eval mode on, for a while.

    Handing them to `generate` would not do: it fills whatever is left open from the checkpoint's own file.
    """
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if ends else 0
    sampled = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    settings = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
        use_cache=True,
        **(sampled if sampling.temperature > 0 else {"do_sample": False}),
    )
    before, training = model.generation_config, model.training
    model.generation_config = settings
    model.eval()
    try:
        yield
    finally:
        model.generation_config = before
        model.train(training)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield


def _generate(model: Any, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Return token ids after each prompt, [batch, new], still padded on the right where a row ended early."""
    width = max(len(prompt) for prompt in prompts)
    pad = model.generation_config.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    rows: list[list[int]] = output[:, width:].tolist()
    return rows


def _until_end(row: list[int], ends: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Return the row up to and with its first end token, and whether there was one."""
    for position, token in enumerate(row):
        if token in ends:
            return tuple(row[: position + 1]), True
    return tuple(row), False
