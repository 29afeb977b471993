"""Generate answers with vLLM, if it is installed: on a GPU, many more tokens a second than `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlcircuits.answers.engines.engine import Completion, cut_after_end
from rlcircuits.answers.engines.model_folder import model_folder
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.graph.image_inputs import ImageInputs

if TYPE_CHECKING:
    from rlcircuits.answers.types import Sampling
    from rlcircuits.checkpoints.checkpoint import Checkpoint
    from rlcircuits.checkpoints.source import Source


class VLLMEngine:
    """The engine `vllm`. vLLM loads a folder itself, so a model that is made in memory is saved for it."""

    def __init__(self, model: Source | Checkpoint, notify: Notify = log_stage) -> None:
        """Load the model.

        Args:
            model: a checkpoint, or a source of one.
            notify: called with one line of text if the model is saved into a temporary folder first.

        Raises:
            RLCircuitsError: vLLM is not installed, the checkpoint is not complete, or there is no room to save it.
        """
        try:
            import vllm  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RLCircuitsError("engine 'vllm' needs vllm, which is not installed: pip install vllm") from error
        self._params = vllm.SamplingParams
        with model_folder(model, notify) as found:
            self.context: int | None = found.context
            self.vocabulary = found.vocabulary
            self._ends = found.ends
            # By its default vLLM would round float32 to half precision. generation_config="vllm" keeps it from using
            # the checkpoint's own generation settings.
            self._llm: Any = vllm.LLM(
                str(found.path),
                dtype=str(found.dtype).removeprefix("torch."),
                generation_config="vllm",
                trust_remote_code=found.trust_remote_code,
            )

    def complete(
        self,
        prompts: Sequence[tuple[int, ...]],
        sampling: Sampling,
        seed: int,
        images: Sequence[ImageInputs | None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt; see :class:`~rlcircuits.answers.engines.engine.Engine`. Images are not passed on."""
        assert images is None, "questions with images are refused before"
        params = [
            self._params(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=(seed + place) % 2**63,
                stop_token_ids=list(self._ends),
                detokenize=False,
            )
            for place in range(len(prompts))
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs = self._llm.generate(asked, params, use_tqdm=False)
        return [cut_after_end(list(output.outputs[0].token_ids), self._ends) for output in outputs]
