"""Generate answers with Hugging Face `generate`: left-padded batches and a KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from rlcircuits.answers.engines.engine import Completion, cut_after_end, end_token_ids
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.image_inputs import ImageInputs, batched_images
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.images import as_model_inputs
from rlcircuits.models.mixers import mask_padding

if TYPE_CHECKING:
    from rlcircuits.answers.types import Sampling
    from rlcircuits.checkpoints.checkpoint import Checkpoint


class HuggingFaceEngine:
    """The engine `transformers`. It restores the model's generation settings and training mode after each call."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model: Any = checkpoint.model
        self._parts = checkpoint.parts
        self._ends = end_token_ids(self._model.generation_config, checkpoint.tokenizer)
        pad = checkpoint.tokenizer.pad_token_id
        self._pad: int = pad if pad is not None else self._ends[0] if self._ends else 0

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and answer together; None if the model states no limit."""
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def vocabulary(self) -> int:
        """Number of rows of the embedding matrix."""
        return int(self._model.get_input_embeddings().weight.shape[0])

    def complete(
        self,
        prompts: Sequence[tuple[int, ...]],
        sampling: Sampling,
        seed: int,
        images: Sequence[ImageInputs | None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt; see :class:`~rlcircuits.answers.engines.engine.Engine`."""
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[self._pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        device = self._model.device
        starts = [width - len(prompt) for prompt in prompts]
        shown = as_model_inputs(self._model, batched_images(images or [None] * len(prompts), starts, width))
        try:
            with self._own_settings(sampling), _seeded(seed), Hooks() as hooks:
                mask_padding(hooks, self._parts)
                output = self._model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    **{name: tensor.to(device) for name, tensor in shown.items()},
                )
        except torch.OutOfMemoryError as error:
            raise RLCircuitsError(
                f"out of memory answering {len(prompts)} prompts of up to {width} tokens at once; "
                "a smaller batch_size is needed"
            ) from error
        except RuntimeError as error:
            if _NO_PROBABILITIES not in str(error):
                raise
            raise RLCircuitsError(
                "no token can be drawn: the model's probabilities are not finite, as after a training that diverged"
            ) from error
        return [cut_after_end(row, self._ends) for row in output[:, width:].tolist()]

    @contextmanager
    def _own_settings(self, sampling: Sampling) -> Iterator[None]:
        """Replace the checkpoint's generation settings by those of `sampling`, and switch to eval mode.

        Settings passed to `generate` are not enough: it takes whatever they leave open from the checkpoint's own file.
        """
        sampled = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        settings = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(self._ends) or None,
            pad_token_id=self._pad,
            use_cache=True,
            **(sampled if sampling.temperature > 0 else {"do_sample": False}),
        )
        model = self._model
        before, training = model.generation_config, model.training
        model.generation_config = settings
        model.eval()
        try:
            yield
        finally:
            model.generation_config = before
            model.train(training)


_NO_PROBABILITIES = "probability tensor contains"
"""How torch begins its error for probabilities that are not finite."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield
