"""Generate answers with vLLM, if it is installed: on a GPU, many more tokens a second than `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from rlcircuits.answers.engines.engine import Completion, cut_after_end, end_token_ids
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.image_inputs import ImageInputs
from rlcircuits.models.folder import GENERATION_CONFIG, check_folder, is_adapter, load_config
from rlcircuits.models.quantised import quantisation_of

if TYPE_CHECKING:
    from rlcircuits.answers.types import Sampling
    from rlcircuits.checkpoints.checkpoint import Checkpoint
    from rlcircuits.checkpoints.source import Source


class VLLMEngine:
    """The engine `vllm`, for a checkpoint folder, which vLLM loads itself."""

    def __init__(self, model: Source | Checkpoint) -> None:
        """Load the model. Raises RLCircuitsError if vLLM is not installed or the model is no complete checkpoint."""
        if not isinstance(model, CheckpointSource) or is_adapter(model.folder):
            raise RLCircuitsError(
                f"engine 'vllm' loads a checkpoint's folder by itself and cannot load {model.name}, which is made in "
                "memory; engine 'transformers' can"
            )
        try:
            import vllm  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RLCircuitsError("engine 'vllm' needs vllm, which is not installed: pip install vllm") from error
        folder = str(model.folder)
        check_folder(model.folder)
        if (quantised := quantisation_of(model.folder)) is not None:
            raise RLCircuitsError(
                f"{model.name} is stored quantised ({quantised}), and engine 'vllm' would run other arithmetic than "
                f"the dequantised model that is scored; use engine 'transformers', or save the checkpoint dequantised"
            )
        trusted = model.trust_remote_code
        text = load_config(model.folder, trust_remote_code=trusted).get_text_config()
        self.context: int | None = getattr(text, "max_position_embeddings", None)
        self.vocabulary = int(text.vocab_size)
        own = GenerationConfig.from_pretrained(folder) if (model.folder / GENERATION_CONFIG).is_file() else None
        self._ends = end_token_ids(own or text, model.tokenizer())
        self._params = vllm.SamplingParams
        # generation_config="vllm" keeps vLLM from using the checkpoint's own generation settings.
        self._llm: Any = vllm.LLM(
            folder, dtype=model.dtype or "auto", generation_config="vllm", trust_remote_code=trusted
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
