"""How many tokens a batch may have: planned from the free memory, halved when the memory runs out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.graph.sequences import AnswerSequence, check_sequences, plan_batches

_T = TypeVar("_T")

CPU_BATCH_TOKENS = 4096
"""The default budget on the CPU, in tokens."""

MEMORY_SHARE = 0.6
"""The share of an accelerator's free memory that the default budget plans with."""

_OURS = frozenset({"rlcircuits", "torch", "contextlib", "functools"})
"""Packages whose frames lie between the library's user and a batch."""

BatchIndices = tuple[int, ...]
"""The places of a batch's sequences in the list of all sequences."""


class MemoryBudget:
    """Plans batches of some sequences within a budget of tokens, padding included.

    Attributes:
        sequences: the sequences.
        tokens: most tokens of a batch.
    """

    def __init__(
        self, checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], batch_tokens: int | None = None
    ) -> None:
        """Start with ``batch_tokens`` tokens a batch, by default as many as the free memory takes.

        Raises:
            RLCircuitsError: a budget below one token, or a sequence that the model cannot score.
        """
        if batch_tokens is not None:
            check_number("batch_tokens", batch_tokens)
        parts = checkpoint.parts
        check_sequences(sequences, vocabulary=parts.vocabulary, context=parts.context)
        self.sequences = sequences
        self.tokens = batch_tokens or _default_batch_tokens(checkpoint)
        self._rotary_switch = parts.rotary_switch

    def plan(self, indices: Iterable[int] | None = None) -> list[BatchIndices]:
        """Return batches of the sequences at ``indices``, by default of all, the longest sequences first."""
        if indices is None:
            indices = range(len(self.sequences))
        return plan_batches(self.sequences, indices, self.tokens, self._rotary_switch)

    def halve(self, failed: BatchIndices, error: RuntimeError) -> None:
        """Set the budget at which a batch that ran out of memory becomes two, and warn of the failed attempt.

        Raises:
            RLCircuitsError: from ``error``, for a batch of one sequence.
        """
        longest = max(self.sequences[i].input_length for i in failed)
        if len(failed) == 1:
            raise RLCircuitsError(
                f"out of memory on sequence {failed[0]} alone ({longest} tokens); a device with more memory is needed"
            ) from error
        self.tokens = (len(failed) + 1) // 2 * longest
        warnings.warn(
            f"out of memory on a batch of {len(failed)} sequences of up to {longest} tokens; "
            f"going on with half as many (batch_tokens={self.tokens} avoids the failed attempt)",
            stacklevel=_level_of_caller(),
        )


def run_batches(
    budget: MemoryBudget, run: Callable[[BatchIndices], _T], batches: Iterable[BatchIndices] | None = None
) -> Iterator[tuple[BatchIndices, _T]]:
    """Yield the indices of each batch with what ``run`` returns for them.

    A batch that runs out of memory halves the budget, and all that remain are planned again.

    Args:
        budget: the sequences, and how to plan batches of them.
        run: computes one batch's result; what it keeps must not matter if it fails.
        batches: the batches; by default all that the budget plans.

    Raises:
        RLCircuitsError: a sequence that does not fit the memory alone.
    """
    remaining = budget.plan() if batches is None else list(batches)
    while remaining:
        indices = remaining[0]
        try:
            result = run(indices)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            budget.halve(indices, error)
            remaining = budget.plan(i for batch in remaining for i in batch)
            error.__traceback__ = None  # it keeps the failed batch's activations alive
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        remaining.pop(0)
        yield indices, result


def one_behind(results: Iterable[_T]) -> Iterator[_T]:
    """Yield each result once the next one is there, so that an accelerator works on that one in the meantime.

    An error of the next result comes after the one that is there.

    Args:
        results: what makes the results, each of which is on its way once it is yielded.
    """
    waiting: list[_T] = []
    try:
        for result in results:
            waiting.append(result)
            if len(waiting) == 2:
                yield waiting.pop(0)
    except Exception:
        yield from waiting
        raise
    yield from waiting


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an allocation failed; the CPU's allocator has no exception class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _level_of_caller() -> int:
    """Return the stack level at which a warning of the calling function names the library's user."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    return level


def itemsize(checkpoint: Checkpoint) -> int:
    """Return the bytes of one number of the model's weights, and so of its activations."""
    return int(next(checkpoint.model.parameters()).element_size())


def _default_batch_tokens(checkpoint: Checkpoint) -> int:
    if checkpoint.device.type != "cuda":
        return CPU_BATCH_TOKENS
    free, _ = torch.cuda.mem_get_info(checkpoint.device)
    config = checkpoint.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * checkpoint.parts.width
    # Kept for each token and block: the stream before both norms, two writers, q, k and v before and after the
    # rotation, the attention's output, and the MLP's gate, up projection and their product.
    per_block = 12 * checkpoint.parts.width + 4 * inner
    blocks = checkpoint.parts.blocks
    per_token = per_block * len(blocks) * itemsize(checkpoint) + sum(_mixer_bytes(block.mixer) for block in blocks)
    return max(1, int(MEMORY_SHARE * free / per_token))


def _mixer_bytes(mixer: Any) -> int:
    """Return the bytes that a mixer's torch code keeps for each token: float32, a table of a chunk's positions a head.

    Of these tables it keeps three: the decay between two positions, the products of what they read and write, and
    both together. A gated delta net has chunks of 64 positions.
    """
    if mixer is None:
        return 0
    heads = getattr(mixer, "num_heads", None) or getattr(mixer, "num_v_heads", None) or 0
    return 3 * 4 * int(heads) * int(getattr(mixer, "chunk_size", 64))
