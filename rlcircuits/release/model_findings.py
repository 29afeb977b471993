"""What ``rlcircuits check`` finds in one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlcircuits.capture.stream_check import Agreement
from rlcircuits.graph.graph_sizes import GraphSize

__all__ = ["TINY", "WHOLE", "ModelFindings"]

WHOLE = "the checkpoint"
TINY = "a tiny random model of this architecture"


@dataclass(frozen=True)
class ModelFindings:
    """What was found in one checkpoint. What could not be found out is None or empty, and ``problems`` says why."""

    name: str
    """The checkpoint's folder or hub id."""
    problems: tuple[str, ...] = ()
    """Why the checkpoint is not supported, one sentence each; empty if it is."""
    notes: tuple[str, ...] = ()
    """What is no problem, but good to know, one sentence each."""
    adapter_base: str | None = None
    """The folder of the base, for a LoRA adapter."""
    family: str | None = None
    """The config's ``model_type``."""
    model_class: str | None = None
    """The class of the transformers model."""
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    width: int | None = None
    vocabulary: int | None = None
    parameters: int | None = None
    """The number of weights; of a loaded model, weights that modules share count once."""
    stored_dtypes: tuple[str, ...] = ()
    """The dtypes in the files, as safetensors names them."""
    quantised: str | None = None
    """How the weights are stored quantised; they are dequantised when they are loaded. None if they are not."""
    dtype: str | None = None
    """The dtype in which the model is loaded."""
    context_length: int | None = None
    """The most tokens that the model can read; None also if it sets no limit."""
    tied_embeddings: bool | None = None
    """Whether one weight embeds and unembeds."""
    tokenizer: str | None = None
    """The class of the tokenizer."""
    chat_template: bool | None = None
    """Whether the tokenizer has a chat template."""
    end_tokens: dict[int, str] | None = None
    """The tokens that end an answer, by their ids."""
    graphs: tuple[GraphSize, ...] = ()
    """The size of the graph at each granularity."""
    parts: dict[str, str] = field(default_factory=dict)
    """The path of each part in the model, by the part's name."""
    checked: str | None = None
    """Whose stream was checked: :data:`WHOLE` or :data:`TINY`."""
    agreements: tuple[Agreement, ...] = ()
    """The numerical checks with their errors."""

    @property
    def supported(self) -> bool:
        """Whether the checkpoint can be measured."""
        return not self.problems
