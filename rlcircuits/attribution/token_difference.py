"""The metric that compares the logits of two tokens at the first answer token."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.capture.sequence_metrics import first_places, first_token_difference
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.graph.sequences import AnswerSequence, Batch

__all__ = ["first_token", "logit_diff"]


@validate_arguments
def logit_diff(answer: int | Sequence[int] | None = None, foil: int | Sequence[int] | None = None) -> AttributedMetric:
    """Return the metric logit(answer) − logit(foil), for ``attribute(..., metric=...)``.

    It is taken at the first answer token (arXiv 2211.00593; the MIB benchmark). Without a foil it is the margin of the
    whole answer: the mean over all answer tokens of the token's logit less the highest other one.

    Args:
        answer: a token id for each sequence, or one for all; by default each sequence's first answer token.
        foil: the token that it is compared with, the same way.

    Raises:
        RLCircuitsError: ids that are not whole numbers, or an answer without a foil.
    """
    if foil is None:
        if answer is not None:
            raise RLCircuitsError("logit_diff was given an answer and no foil; give the token that it is compared with")
        return make_metric("logit_diff")
    return _LogitDiff(None if answer is None else _tokens("answer", answer), _tokens("foil", foil))


def first_token(tokenizer: Any, text: str, what: str) -> int:
    """Return the first token id of a text that follows a prompt.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: the text, with the space that a tokenizer may take for a part of its first token.
        what: the text's name, for messages.

    Raises:
        RLCircuitsError: the text has no token.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise RLCircuitsError(f"{what} is {truncated_repr(text)}, of which the tokenizer makes no token; give a text")
    return int(ids[0])


@dataclass(frozen=True)
class _LogitDiff(AttributedMetric):
    """z[answer] − z[foil] at the first answer token. One token of each sequence, or one for all."""

    answer: int | tuple[int, ...] | None
    foil: int | tuple[int, ...]
    name: str = "logit_diff"

    def on_batch(self, batch: Batch) -> MetricFunction:
        device = batch.targets.device
        foils = torch.tensor([_token(self.foil, place) for place in batch.indices], device=device)
        if self.answer is None:
            answers = batch.targets[first_places(batch)]
        else:
            answers = torch.tensor([_token(self.answer, place) for place in batch.indices], device=device)
        return lambda logits, batch: first_token_difference(logits, batch, answers, foils)

    def check(self, checkpoint: Checkpoint, sequences: Sequence[AnswerSequence]) -> None:
        vocabulary = checkpoint.parts.vocabulary
        for what, tokens in (("answer", self.answer), ("foil", self.foil)):
            if isinstance(tokens, tuple) and len(tokens) != len(sequences):
                raise RLCircuitsError(
                    f"logit_diff: {what} has {len(tokens)} tokens for {len(sequences)} sequences; one token for each, "
                    "or a single one for all, is needed"
                )
            for token in tokens if isinstance(tokens, tuple) else (tokens,):
                if token is not None and not 0 <= token < vocabulary:
                    raise RLCircuitsError(
                        f"logit_diff: {what} is {token}, outside the model's vocabulary of {vocabulary} ids (0 to "
                        f"{vocabulary - 1})"
                    )
        for place, sequence in enumerate(sequences):
            answer = sequence.answer_ids[0] if self.answer is None else _token(self.answer, place)
            if answer == _token(self.foil, place):
                raise RLCircuitsError(
                    f"logit_diff: answer and foil of sequence {place} are the same token {answer}, so that their "
                    "difference is always zero"
                )

    def of_row(self, place: int) -> Hashable:
        return None if self.answer is None else _token(self.answer, place), _token(self.foil, place)

    def of_rows(self, places: Sequence[int]) -> AttributedMetric:
        return replace(
            self,
            answer=None if self.answer is None else tuple(_token(self.answer, place) for place in places),
            foil=tuple(_token(self.foil, place) for place in places),
        )

    def key(self) -> object:
        return [self.answer, self.foil]


def _token(tokens: int | tuple[int, ...], place: int) -> int:
    if isinstance(tokens, int):
        return tokens
    if place >= len(tokens):
        raise RLCircuitsError(
            f"logit_diff was given {len(tokens)} tokens, and there are more sequences; one each is needed"
        )
    return tokens[place]


def _tokens(what: str, given: int | Sequence[int]) -> int | tuple[int, ...]:
    """Return token ids as Python integers. Raises RLCircuitsError for anything else."""
    ids = [given] if isinstance(given, int) else given
    if isinstance(ids, str | bytes) or isinstance(given, bool):
        ids = None  # type: ignore[assignment]
    try:
        found = tuple(operator.index(each) for each in ids)
    except TypeError:
        raise RLCircuitsError(f"logit_diff: {what} is {truncated_repr(given)}; token ids are wanted") from None
    return found[0] if isinstance(given, int) else found
