"""A batch that does not fit the memory is split, wherever it fails; a sequence that does not fit alone is named."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import fixed_sequences, tiny
from torch import Tensor

from rlcircuits import RLCircuitsError, attribute
from rlcircuits.circuits import ablated, faithfulness, log_probability, replacements
from rlcircuits.graph.sequences import Batch

SIZES = (0.2, 0.5, 1.0)
FAILED = "out of memory on a batch"


def failing(most: int, function: Any, size: Any) -> Any:
    """The function, for which a device has only so much memory that ``most`` sequences fit."""

    def with_little_memory(*arguments: Any, **options: Any) -> Any:
        if size(arguments) > most:
            raise torch.OutOfMemoryError("out of memory")
        return function(*arguments, **options)

    return with_little_memory


def size_of_batch(arguments: tuple[Any, ...]) -> int:
    return next(len(each.indices) for each in arguments if isinstance(each, Batch))


@pytest.mark.filterwarnings(f"ignore:{FAILED}")
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_metric_that_does_not_fit_runs_on_smaller_batches(ablation: str) -> None:
    model, sequences = tiny("llama"), fixed_sequences()
    scores = attribute(model, sequences)
    metric = failing(1, log_probability, size_of_batch)
    found = faithfulness(model, sequences, scores, ablation, sizes=SIZES, metric=metric, batch_tokens=1000)
    wanted = faithfulness(model, sequences, scores, ablation, sizes=SIZES, batch_tokens=1000)
    np.testing.assert_allclose(found.metric, wanted.metric, rtol=1e-5)
    np.testing.assert_allclose(found.kl, wanted.kl, rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings(f"ignore:{FAILED}")
@pytest.mark.parametrize("ablation", ["mean", "mean-positional"])
def test_means_that_do_not_fit_are_taken_over_smaller_batches(ablation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sequences = tiny("llama"), fixed_sequences()
    mask = attribute(model, sequences).graph.mask.clone()
    mask[1:3] = False
    wanted = ablated(model, sequences, mask, ablation).loss
    monkeypatch.setattr(replacements, "written", failing(1, replacements.written, size_of_batch))
    torch.testing.assert_close(ablated(model, sequences, mask, ablation).loss, wanted)


@pytest.mark.filterwarnings(f"ignore:{FAILED}")
@pytest.mark.parametrize("place", ["metric", "means", "logits"])
def test_a_sequence_that_does_not_fit_alone_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sequences = tiny("llama"), fixed_sequences()
    scores = attribute(model, sequences)

    def never(logits: Tensor, batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    if place == "means":
        monkeypatch.setattr(replacements, "written", failing(0, replacements.written, size_of_batch))
    if place == "logits":
        monkeypatch.setattr("rlcircuits.circuits.ablated_forward.sequence_losses", never)
    run = partial(faithfulness, model, sequences, scores, sizes=SIZES, metric=never if place == "metric" else None)
    if place == "logits":
        run = partial(ablated, model, sequences, scores.graph.mask)
    with pytest.raises(RLCircuitsError, match=r"out of memory on sequence \d alone .*a device with more memory"):
        run()
