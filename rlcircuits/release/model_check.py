"""Find out whether a checkpoint is supported, and what is found in it.

Each step stands alone, so that one that fails leaves what the others find: the headers of the weights, the config, the
tokenizer, and the loaded model with its stream check. Where the model is not loaded, a tiny random model is built from
the config (``rlcircuits.models.shrunk``). It shows whether the architecture or the files are at fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn
from transformers import GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rlcircuits.answers.engines.engine import end_token_ids
from rlcircuits.capture.expert_check import verify_experts
from rlcircuits.capture.model_graph import granularities, model_graph
from rlcircuits.capture.stream_check import Agreement, verify_stream
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource, without_weights
from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.logs import log_stage
from rlcircuits.common.sublayers import LayerReads
from rlcircuits.graph.graph_sizes import graph_sizes
from rlcircuits.models.config_layers import (
    NO_MIXTURE,
    HeadCounts,
    head_counts,
    kv_heads_by_config,
    layers_by_config,
    of_layer,
)
from rlcircuits.models.find_family import module_names, ties_embeddings, why_not_mapped
from rlcircuits.models.folder import (
    CONFIG,
    GENERATION_CONFIG,
    check_folder,
    check_generation_config,
    is_adapter,
    load_config,
    no_config,
)
from rlcircuits.models.parameter_count import count_parameters
from rlcircuits.models.part_paths import part_paths
from rlcircuits.models.quantised import quantisation_of
from rlcircuits.models.quiet import quiet
from rlcircuits.models.shrunk import tiny_model
from rlcircuits.models.weight_files import is_recomputed, stored_tensors
from rlcircuits.release.model_findings import TINY, WHOLE, ModelFindings

__all__ = ["check_model"]

_T = TypeVar("_T")

_MOST_LAYERS = 10_000
"""Beyond all models; a damaged config may ask for more than can be counted."""

_SIZES = (
    "hidden_size", "vocab_size", "max_position_embeddings", "num_attention_heads", "num_key_value_heads", "head_dim",
)  # fmt: skip
"""Fields of a text model's config that are at least 1, where a family has them."""


def check_model(
    source: CheckpointSource, *, config_only: bool = False, notify: Callable[[str], None] = log_stage
) -> tuple[ModelFindings, Checkpoint | None]:
    """Return what is found in a checkpoint, and the checkpoint if it loads.

    Args:
        source: The checkpoint. It is downloaded if it is a hub id that is not cached.
        config_only: Read the config and the tokenizer alone, and check a tiny random model of the architecture.
        notify: Called with one line of text before a step that takes long.

    Raises:
        RLCircuitsError: if there is no such folder, and no such repository on the hub.
    """
    name = source.name
    if config_only:
        source = without_weights(source)
    check = _Check(source, name)
    checkpoint = None
    if check.find_folder():
        if not config_only:
            check.read_headers()
        check.read_config()
    check.read_tokenizer()
    if check.config is not None and check.is_mapped():
        if not config_only:
            notify(f"loading {name}")
            checkpoint = check.load()
        if checkpoint is None:
            notify(f"building {TINY}")
            check.build_tiny(config_only)
    return check.found, checkpoint


class _Check:
    """One check while it is made.

    Attributes:
        found: What was found so far.
        config: The transformers config; None if it was not read.
    """

    def __init__(self, source: CheckpointSource, name: str) -> None:
        self._source = source
        self._folder = source.folder  # an error here leaves nothing to find
        self.config: Any = None
        self.found = ModelFindings(name)

    def find_folder(self) -> bool:
        """Find the folder of the config and the whole weights: an adapter's base."""
        if is_adapter(self._folder):
            base = self._attempt(lambda: self._source.model_folder)
            if base is None:
                return False
            self._folder = base
            self._add(adapter_base=str(base))
        return True

    def read_headers(self) -> None:
        """Count the weights by the headers of their files."""

        def read() -> None:
            check_folder(self._folder)
            found = quantisation_of(self._folder)
            everything = stored_tensors(self._folder, packed=found is not None)
            stored = [each for name, each in everything.items() if not is_recomputed(name)]
            self._add(stored_dtypes=tuple(sorted({each.dtype for each in stored})))
            if found is None:  # codes are packed, so that their number is not that of the weights
                self._add(parameters=sum(math.prod(each.shape) for each in stored))
            else:
                self._add(quantised=str(found))

        self._attempt(read)

    def read_config(self) -> None:
        """Read the config, and take from it what it says."""
        if not (self._folder / CONFIG).is_file():
            self._problem(str(no_config(self._folder)))
            return
        self.config = self._attempt(lambda: load_config(self._folder, trust_remote_code=self._source.trust_remote_code))
        if self.config is None:
            return
        # Said of the headers already, unless no weights are read; they are not supported all the same.
        self._attempt(lambda: quantisation_of(self._folder))
        text = self.config.get_text_config()
        layers = getattr(text, "num_hidden_layers", None)
        if (wrong := _wrong_size(text)) is not None:
            self._problem(f"{self._folder / CONFIG}: {wrong}")
            self.config = None
            return
        self._add(
            family=self.config.model_type,
            layers=layers,
            width=getattr(text, "hidden_size", None),
            vocabulary=getattr(text, "vocab_size", None),
            context_length=getattr(text, "max_position_embeddings", None),
            tied_embeddings=ties_embeddings(self.config),
            dtype=_dtype_name(self._source.dtype or getattr(self.config, "dtype", None)),
        )

    def read_tokenizer(self) -> None:
        """Load the tokenizer. Attribution needs none: without one the checkpoint is supported all the same."""
        try:
            tokenizer = self._source.tokenizer()
        except RLCircuitsError as error:
            if str(error) not in self.found.problems:  # a config that is wrong is one problem, not two
                self._note(f"{error}; without a tokenizer it can answer no questions")
            return
        ends = end_token_ids(self._generation_config(), tokenizer)
        self._add(
            tokenizer=type(tokenizer).__name__,
            chat_template=bool(getattr(tokenizer, "chat_template", None)),
            end_tokens={one: str(tokenizer.convert_ids_to_tokens(one)) for one in ends},
        )
        if not ends:
            self._note("no token ends an answer (eos_token_id), so that every answer is as long as allowed")

    def is_mapped(self) -> bool:
        """Return whether the architecture's modules are mapped; if not, say so."""
        family = self.config.model_type
        if module_names(self.config) is not None:
            return True
        if family in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(self.config, "is_decoder", False):
            why = f"model_type {family!r} is an encoder, in which tokens read later ones; a causal LM is needed"
        else:
            why = why_not_mapped(self.config)
        self._problem(f"{self._folder / CONFIG}: {why}")
        return False

    def load(self) -> Checkpoint | None:
        """Load the checkpoint, and take from it what it says."""
        checkpoint = self._attempt(self._source.load)
        if checkpoint is None:
            return None
        parts, model = checkpoint.parts, checkpoint.model
        self._add(
            vocabulary=parts.vocabulary,
            parameters=_size(model),
            dtype=_dtype_name(next(model.parameters()).dtype),
            tied_embeddings=model.get_input_embeddings().weight is model.get_output_embeddings().weight,
        )
        heads = HeadCounts(parts.n_heads, parts.n_kv_heads, parts.head_dim)
        self._check_stream(checkpoint, WHOLE, parts.layers, heads, parts.kv_heads)
        return checkpoint

    def build_tiny(self, config_only: bool) -> None:
        """Build a tiny random model of the architecture, and check it. Sizes are those of the config."""
        config, trusted = self.config, self._source.trust_remote_code
        if self.found.parameters is None:
            self._add(parameters=count_parameters(config, trust_remote_code=trusted))

        def build() -> None:
            tiny = Checkpoint(tiny_model(config, trust_remote_code=trusted), name=TINY)
            text = config.get_text_config()
            self._check_stream(tiny, TINY, layers_by_config(config), head_counts(text), kv_heads_by_config(text))

        self._attempt(build)
        if config_only:
            self._note("the weights were not read")
        elif self.found.agreements:
            self._note(f"the architecture is supported: {TINY} passes the checks")

    def _check_stream(
        self,
        checkpoint: Checkpoint,
        whose: str,
        layers: tuple[LayerReads, ...],
        heads: HeadCounts,
        kv_heads: tuple[int, ...],
    ) -> None:
        parts, model = checkpoint.parts, checkpoint.model
        agreements = self._attempt(lambda: verify_stream(model, parts)) or ()
        by_expert = self._check_experts(checkpoint) if agreements else ()
        # Which layers are mixtures is known of a whole model only.
        experts = parts.experts if by_expert and whose == WHOLE else ()
        self._add(
            model_class=type(model).__name__,
            layers=len(layers),
            heads=heads.q,
            kv_heads=heads.kv,
            head_dim=heads.size,
            graphs=graph_sizes(
                layers,
                heads.q,
                n_kv_heads=kv_heads,
                granularities=[each for each in granularities(parts) if each != "expert" or experts],
                experts=experts,
            ),
            parts=part_paths(model, parts),
            checked=whose,
            agreements=(*agreements, *by_expert),
        )

    def _check_experts(self, checkpoint: Checkpoint) -> tuple[Agreement, ...]:
        """Return how well the experts of mixtures add up to what these write; note why they cannot be told apart."""
        parts = checkpoint.parts
        if parts.no_experts == NO_MIXTURE:
            return ()
        try:
            model_graph(parts, "expert")
            return (verify_experts(checkpoint.model, parts),)
        except RLCircuitsError as error:
            self._note(str(error))
            return ()

    def _generation_config(self) -> Any:
        """Return the generation config; without its file transformers takes the tokens of config.json."""
        if not (self._folder / GENERATION_CONFIG).is_file():
            return self.config

        def read() -> Any:
            check_generation_config(self._folder)
            try:
                with quiet():
                    return GenerationConfig.from_pretrained(str(self._folder))
            except Exception as error:  # transformers raises errors of many classes for a value that it rejects
                raise RLCircuitsError(
                    f"{self._folder / GENERATION_CONFIG} cannot be read: {one_line(error)}"
                ) from error

        return self._attempt(read)

    def _attempt(self, find: Callable[[], _T]) -> _T | None:
        """Return what ``find`` returns; None if it raises RLCircuitsError, which is then a problem."""
        try:
            return find()
        except RLCircuitsError as error:
            self._problem(str(error))
            return None

    def _problem(self, problem: str) -> None:
        if problem not in self.found.problems:  # two steps may meet the same one
            self._add(problems=(*self.found.problems, problem))

    def _note(self, note: str) -> None:
        self._add(notes=(*self.found.notes, note))

    def _add(self, **found: Any) -> None:
        self.found = replace(self.found, **found)


def _wrong_size(text: Any) -> str | None:
    """Return which size of a text model's config no model can have; None if there is none."""
    layers = getattr(text, "num_hidden_layers", None)
    if not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        return (
            f"field 'num_hidden_layers' is {truncated_repr(layers)}; a whole number from 1 to {_MOST_LAYERS:,} is "
            f"wanted"
        )
    text = of_layer(text, 0)
    for name in _SIZES:
        size = getattr(text, name, None)
        if isinstance(size, int) and size < 1:
            return f"field {name!r} is {size}; at least 1 is wanted"
    heads, kv_heads = (getattr(text, name, None) for name in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads:
        return f"field 'num_key_value_heads' is {kv_heads}; a divisor of the {heads} 'num_attention_heads' is wanted"
    return None


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _dtype_name(dtype: Any) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")
