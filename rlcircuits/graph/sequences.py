"""Prompts with the answers to score, and their layout in padded batches."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, SupportsIndex

import torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.devices import to_device_async
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import format_fields, short_repr
from rlcircuits.graph.image_inputs import ImageInputs, batched_images

PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class AnswerSequence:
    """A prompt and an answer to it, as token ids. Every answer token is scored.

    To score only the beginning of an answer, truncate it: ``sequence.truncated(t_cut)``. Attention is causal, so the
    tokens after it would change nothing.

    Raises:
        RLCircuitsError: ids that are not whole numbers.
    """

    prompt_ids: tuple[int, ...]
    """Token ids of the prompt, which is not scored."""
    answer_ids: tuple[int, ...]
    """Token ids of the answer."""
    images: ImageInputs | None = None
    """The images of the prompt, whose tokens are among ``prompt_ids``; None for a prompt of text alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", _token_ids("prompt_ids", self.prompt_ids))
        object.__setattr__(self, "answer_ids", _token_ids("answer_ids", self.answer_ids))

    def __repr__(self) -> str:
        return short_repr(self, *format_fields((n, v) for n, v in vars(self).items() if (n, v) != ("images", None)))

    @property
    def key_parts(self) -> tuple[object, ...]:
        """What the sequence is in keys of stored results: its ids, and the key of its images if it has any."""
        return (self.prompt_ids, self.answer_ids, *(() if self.images is None else (self.images.key,)))

    @property
    def input_length(self) -> int:
        """The number of tokens that the model reads; the last answer token is only predicted."""
        return len(self.prompt_ids) + len(self.answer_ids) - 1

    @validate_arguments
    def truncated(self, t_cut: int) -> AnswerSequence:
        """Return the prompt with the first ``t_cut`` answer tokens only.

        Raises:
            RLCircuitsError: ``t_cut`` is below 1.
        """
        if t_cut < 1:
            raise RLCircuitsError(f"t_cut is {t_cut}; at least one answer token is scored")
        return replace(self, answer_ids=self.answer_ids[:t_cut])


def _token_ids(name: str, ids: Iterable[SupportsIndex]) -> tuple[int, ...]:
    """Return the ids as Python integers. Raises RLCircuitsError for anything that is not a whole number."""
    try:
        if not isinstance(ids, str | bytes):
            return tuple(map(operator.index, ids))
    except TypeError:
        pass
    raise RLCircuitsError(f"AnswerSequence: {name} is {truncated_repr(ids)}; a list of token ids is wanted")


@dataclass(frozen=True)
class Batch:
    """Some sequences as one padded rectangle of tokens."""

    indices: tuple[int, ...]
    """The sequences' places in the list of all sequences."""
    input_ids: Tensor
    """int64 [batch, pos]."""
    attention_mask: Tensor | None
    """int64 [batch, pos], or None where no scored token can attend to padding."""
    rows: Tensor
    """int64 [scored], the sequence of each position whose next token is scored, in order of the sequences."""
    columns: Tensor
    """int64 [scored], those positions."""
    targets: Tensor
    """int64 [scored], the next tokens."""
    images: Mapping[str, Tensor] = field(default_factory=dict)
    """The inputs of the sequences' images, by the names that the model has for them; empty for text."""

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with its tensors on ``device``."""
        mask = None if self.attention_mask is None else to_device_async(self.attention_mask, device)
        rows, columns, targets = (to_device_async(t, device) for t in (self.rows, self.columns, self.targets))
        images = {name: to_device_async(tensor, device) for name, tensor in self.images.items()}
        return Batch(self.indices, to_device_async(self.input_ids, device), mask, rows, columns, targets, images)


def check_sequences(
    sequences: Sequence[AnswerSequence], *, vocabulary: int, context: int | None, what: str = "sequence"
) -> None:
    """Check that a model can score the sequences.

    Args:
        sequences: what to check.
        vocabulary: the number of the model's token ids.
        context: most tokens that the model can read; None for no limit.
        what: what errors call a sequence.

    Raises:
        RLCircuitsError: for the first sequence that has an empty prompt or answer, a token id outside the vocabulary,
            or more tokens than the context.
    """
    for index, sequence in enumerate(sequences):
        name = f"{what} {index}"
        if not isinstance(sequence, AnswerSequence):
            raise RLCircuitsError(f"{name} is a {type(sequence).__name__}; an AnswerSequence is needed")
        if not sequence.prompt_ids:
            raise RLCircuitsError(f"{name} has an empty prompt; at least one prompt token is needed")
        if not sequence.answer_ids:
            raise RLCircuitsError(f"{name} has an empty answer; at least one answer token is scored")
        for part, ids in (("prompt", sequence.prompt_ids), ("answer", sequence.answer_ids)):
            for place, token in enumerate(ids):
                if not 0 <= token < vocabulary:
                    raise RLCircuitsError(
                        f"{name} has token id {token} at {part} position {place}, outside the model's "
                        f"vocabulary of {vocabulary} ids (0 to {vocabulary - 1})"
                    )
        if context is not None and sequence.input_length > context:
            raise RLCircuitsError(
                f"{name} is {sequence.input_length} tokens long, more than the model's context of {context}"
            )


def plan_batches(
    sequences: Sequence[AnswerSequence], indices: Iterable[int], batch_tokens: int, switch: int | None = None
) -> list[tuple[int, ...]]:
    """Group sequences by length into batches of at most ``batch_tokens`` tokens, padding included.

    The longest sequences come first, so that a budget too large for the memory fails at once and not at the end.

    Args:
        sequences: all sequences.
        indices: the places of those to group.
        batch_tokens: most tokens of a batch: number of sequences × longest. A longer sequence is a batch by itself.
        switch: the length, in tokens, above which a model uses other rotary frequencies. It chooses them by a
            batch's longest sequence, so sequences above and below do not share a batch.

    Returns:
        The places of each batch's sequences.
    """
    order = sorted(indices, key=lambda i: -sequences[i].input_length)
    longer = 0 if switch is None else sum(sequences[i].input_length > switch for i in order)
    batches = []
    for group in (order[:longer], order[longer:]):
        start = 0
        while start < len(group):
            size = max(1, batch_tokens // sequences[group[start]].input_length)
            batches.append(tuple(group[start : start + size]))
            start += size
    return batches


def make_batch(
    sequences: Sequence[AnswerSequence], indices: Sequence[int], padding_side: PaddingSide = "right"
) -> Batch:
    """Return ``sequences[i] for i in indices`` as one padded batch, on the CPU.

    Padding on the right needs no attention mask: attention is causal, so no scored token attends to the padding
    behind it. Without a mask the model can use fused causal attention, and its default positions are right.
    """
    chosen = [sequences[i] for i in indices]
    longest = max(s.input_length for s in chosen)
    input_ids = torch.zeros(len(chosen), longest, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    starts: list[int] = []
    for row, sequence in enumerate(chosen):
        tokens = (*sequence.prompt_ids, *sequence.answer_ids[:-1])
        start = longest - len(tokens) if padding_side == "left" else 0
        input_ids[row, start : start + len(tokens)] = torch.tensor(tokens)
        attention_mask[row, start : start + len(tokens)] = 1
        starts.append(start)
        first = start + len(sequence.prompt_ids) - 1
        rows += [row] * len(sequence.answer_ids)
        columns += range(first, first + len(sequence.answer_ids))
        targets += sequence.answer_ids
    masked = padding_side == "left" and any(s.input_length < longest for s in chosen)
    return Batch(
        indices=tuple(indices),
        input_ids=input_ids,
        attention_mask=attention_mask if masked else None,
        rows=torch.tensor(rows),
        columns=torch.tensor(columns),
        targets=torch.tensor(targets),
        images=batched_images([sequence.images for sequence in chosen], starts, longest),
    )
