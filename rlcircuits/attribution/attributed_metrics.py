"""What attribution differentiates: one number for each sequence, which follows from the logits of its answer.

With M for the number, the score of an edge is the first-order effect on M of removing the edge. For logits z_t and
answer tokens y_t at the T scored positions of a sequence, and p_t = softmax(z_t):

    cross_entropy    −(1/T) Σ_t log p_t[y_t]                        the loss of arXiv 2509.21044, the default
    logprob          (1/T) Σ_t log p_t[y_t]                         its negative, and so are the scores
    logit_diff       z_1[answer] − z_1[foil]                        two tokens given: arXiv 2211.00593, MIB
    logit_diff       (1/T) Σ_t (z_t[y_t] − max_{j ≠ y_t} z_t[j])    no token given: the margin of the model's own answer
    kl               (1/T) Σ_t KL(p_t ‖ q_t)                        q_t of another model on the same tokens

All are computed in float32 (float64 for a float64 model). The first is better where it is lower, and so is the
divergence; the others are better where they are higher. So the sign of a score has its meaning from the metric.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from rlcircuits.capture.recording import sequence_losses
from rlcircuits.capture.sequence_metrics import log_probability, logit_margin
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.choices import CROSS_ENTROPY, METRICS
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.graph.sequences import AnswerSequence, Batch

__all__ = ["AttributedMetric", "MetricFunction", "make_metric"]

MetricFunction = Callable[[Tensor, Batch], Tensor]
"""From the logits [scored, vocabulary] at a batch's scored positions, and the batch, to one number for each of its
sequences, [batch]. ``batch.rows`` [scored] says which sequence each row of the logits is of, ``batch.targets`` [scored]
the answer's token there, and ``batch.indices`` [batch] the sequences' places in the list of all."""


class AttributedMetric(ABC):
    """What attribution differentiates; make one with :func:`~rlcircuits.logit_diff` or :func:`~rlcircuits.kl_to`."""

    name: str
    """The name that scores are recorded with."""

    @abstractmethod
    def on_batch(self, batch: Batch) -> MetricFunction:
        """Return the metric's function for a batch; called before the model runs on the batch."""

    def check(self, checkpoint: Checkpoint, sequences: Sequence[AnswerSequence]) -> None:  # noqa: B027 (optional)
        """Raise RLCircuitsError if the metric is not defined for a model and its sequences."""

    def of_row(self, place: int) -> Hashable:
        """Return what the metric has for one sequence alone. Equal sequences that have the same are scored once."""
        return None

    def of_rows(self, places: Sequence[int]) -> AttributedMetric:
        """Return the metric of some of the sequences, in this order."""
        return self

    def key(self) -> object:
        """Return what stored scores depend on beside the metric's name, as JSON writes it.

        Raises:
            RLCircuitsError: nothing identifies it, so that scores cannot be stored.
        """
        return None


@dataclass(frozen=True)
class _Plain(AttributedMetric):
    """A metric without parameters."""

    name: str
    function: MetricFunction

    def on_batch(self, batch: Batch) -> MetricFunction:
        return self.function


@dataclass(frozen=True)
class _Custom(AttributedMetric):
    """A user's own function."""

    function: MetricFunction

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(getattr(self.function, "__qualname__", type(self.function).__qualname__))

    def on_batch(self, batch: Batch) -> MetricFunction:
        def checked(logits: Tensor, of: Batch) -> Tensor:
            try:
                return self.function(logits, of)
            except (TypeError, ValueError, AttributeError, LookupError) as error:
                raise RLCircuitsError(
                    f"metric {self.name} ended in {type(error).__name__}: {error}; a function of the logits "
                    "[scored, vocabulary] and the batch is wanted, which returns one number a sequence"
                ) from error

        return checked

    def of_row(self, place: int) -> Hashable:
        return place  # the function may tell sequences apart by their places

    def of_rows(self, places: Sequence[int]) -> AttributedMetric:
        return self if list(places) == list(range(len(places))) else _refuse_order()

    def key(self) -> object:
        raise RLCircuitsError(
            f"metric is the function {self.name}, which no key identifies, so that its scores cannot be stored; leave "
            f"the store out, or use one of {', '.join(METRICS)}"
        )


def _refuse_order() -> AttributedMetric:
    raise AssertionError("a function of one's own gets all sequences in their order")


_PLAIN: dict[str, MetricFunction] = {
    CROSS_ENTROPY: sequence_losses,
    "logprob": log_probability,
    "logit_diff": logit_margin,
}


def make_metric(metric: str | AttributedMetric | MetricFunction) -> AttributedMetric:
    """Return the metric of this name, or of this function of logits and batch.

    Raises:
        RLCircuitsError: an unknown name, or one that needs a parameter.
    """
    if isinstance(metric, AttributedMetric):
        return metric
    if not isinstance(metric, str):
        return _Custom(metric)
    if metric in _PLAIN:
        return _Plain(metric, _PLAIN[metric])
    if metric == "kl":
        raise RLCircuitsError("metric 'kl' needs the other model: metric=rlcircuits.kl_to(reference)")
    raise RLCircuitsError(
        f"metric is {truncated_repr(metric)}; it must be one of {', '.join(METRICS)}, or a function of the logits and "
        "the batch"
    )
