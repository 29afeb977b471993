"""The metric that measures how far a model is from another one, on the same tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction
from rlcircuits.capture.recording import forward_logits, select_scored
from rlcircuits.capture.sequence_metrics import kl_divergence_from
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence, Batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks

__all__ = ["kl_to"]


@validate_arguments
def kl_to(reference: Any) -> AttributedMetric:
    """Return the metric KL(model ‖ reference) per token, in nats, for ``attribute(..., metric=...)``.

    With the checkpoint before post-training as the reference of the one after it, this is the divergence that training
    logs report, exact over the vocabulary, averaged over the answer's tokens. It is zero, and so are all scores, where
    both models agree.

    Args:
        reference: the other model: a source, such as ``CheckpointSource(folder)``, which is loaded at the first use; a
            Hugging Face causal LM or a ``Checkpoint``; or its logits, one tensor [answer tokens, vocabulary] for each
            sequence.

    Raises:
        RLCircuitsError: anything else.
    """
    if isinstance(reference, list | tuple):
        if not reference or not all(isinstance(each, Tensor) for each in reference):
            raise RLCircuitsError("kl_to: a list must hold one tensor of logits for each sequence")
        return _KLTo(tuple(each.detach() for each in reference))
    return _KLTo(reference if isinstance(reference, Source) else Checkpoint.of(reference))


@dataclass(frozen=True, eq=False)
class _KLTo(AttributedMetric):
    """KL(model ‖ reference). A source is loaded at its first use."""

    reference: Checkpoint | Source | tuple[Tensor, ...]
    name: str = "kl"
    _loaded: list[Checkpoint] = field(default_factory=list)

    def on_batch(self, batch: Batch) -> MetricFunction:
        if isinstance(self.reference, tuple):
            theirs = torch.cat([self.reference[place] for place in batch.indices]).to(batch.targets.device)
        else:
            theirs = _logits_of(self._checkpoint(), batch)
        return lambda logits, batch: kl_divergence_from(logits, theirs.to(logits.device), batch)

    def check(self, checkpoint: Checkpoint, sequences: Sequence[AnswerSequence]) -> None:
        wanted = _logit_count(checkpoint)
        if not isinstance(self.reference, tuple):
            reference = self._checkpoint()
            if (found := _logit_count(reference)) != wanted:
                raise RLCircuitsError(
                    f"kl_to: {reference.name} has logits of {found} tokens and {checkpoint.name} of {wanted}; both "
                    "models must have one vocabulary"
                )
            return
        if len(self.reference) != len(sequences):
            raise RLCircuitsError(
                f"kl_to: {len(self.reference)} tensors of logits for {len(sequences)} sequences; one each is needed"
            )
        for place, (logits, sequence) in enumerate(zip(self.reference, sequences, strict=True)):
            if tuple(logits.shape) != (shape := (len(sequence.answer_ids), wanted)):
                raise RLCircuitsError(
                    f"kl_to: the logits of sequence {place} are {list(logits.shape)}; {list(shape)} is wanted, one row "
                    "for each answer token"
                )

    def of_row(self, place: int) -> Hashable:
        return place if isinstance(self.reference, tuple) else None

    def of_rows(self, places: Sequence[int]) -> AttributedMetric:
        if not isinstance(self.reference, tuple):
            return self
        return replace(self, reference=tuple(self.reference[place] for place in places))

    def key(self) -> object:
        if isinstance(self.reference, Source):
            return self.reference.fingerprint()
        what = "logits" if isinstance(self.reference, tuple) else "a loaded checkpoint"
        raise RLCircuitsError(
            f"kl_to was given {what}, which no key identifies, so that scores cannot be stored; give a source, such as "
            "CheckpointSource(folder), or leave the store out"
        )

    def _checkpoint(self) -> Checkpoint:
        if isinstance(self.reference, Checkpoint):
            return self.reference
        assert not isinstance(self.reference, tuple)
        if not self._loaded:
            self._loaded.append(self.reference.load())
        return self._loaded[0]


def _logit_count(checkpoint: Checkpoint) -> int:
    weight: Tensor = checkpoint.parts.unembedding.weight  # type: ignore[assignment]
    return len(weight)


def _logits_of(checkpoint: Checkpoint, batch: Batch) -> Tensor:
    """Return a model's logits at the batch's scored positions, [scored, vocabulary]."""
    batch = batch.to(checkpoint.device)
    with frozen(checkpoint.model), torch.no_grad(), Hooks() as hooks:
        hooks.replace_input(checkpoint.parts.unembedding, lambda hidden: select_scored(batch, hidden))
        return forward_logits(checkpoint.model, batch)[0]
