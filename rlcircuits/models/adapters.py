"""LoRA adapters as checkpoints: find the base model, and merge the adapter into it in memory."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.json_files import read_json_object
from rlcircuits.common.limited_process import LimitedProcessError, map_in_limited_process
from rlcircuits.common.validation import describe_error
from rlcircuits.models.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, is_adapter, local_folder
from rlcircuits.models.weight_files import check_weights_file, tensor_headers, weight_files


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{truncated_repr(pattern)} is no regular expression: {error}") from None
    return pattern


_Pattern = Annotated[str, AfterValidator(_compiles)]


class _LoRAConfig(BaseModel):
    """The fields of an adapter's config that peft does not check itself."""

    model_config = ConfigDict(strict=True)

    base_model_name_or_path: str = Field(min_length=1)
    revision: str | None = None
    r: int = Field(ge=1)
    lora_alpha: float = Field(allow_inf_nan=False)
    target_modules: _Pattern | list[str] | None = None
    exclude_modules: _Pattern | list[str] | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: dict[_Pattern, int] | None = None
    alpha_pattern: dict[_Pattern, float] | None = None
    layer_replication: list[Any] | None = None
    use_dora: bool = False
    use_rslora: bool = False
    fan_in_fan_out: bool = False


_PROBE_TOKENS = 64

# How far rounding may move the merged model's logits from the unmerged model's, relative to their norm.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Base:
    """The checkpoint that an adapter was trained on.

    Args:
        folder: Its folder.
        name: Its name in the adapter's config.
        path: The folder or the hub id that it was found by.
        revision: The branch, tag or commit of a hub id.
    """

    folder: Path
    name: str
    path: str
    revision: str | None = None


def find_base(adapter: Path, *, weights: bool = True) -> Base:
    """Return the base that an adapter names in ``base_model_name_or_path``.

    A relative path is looked up from the working directory first, then from the adapter's folder.

    Args:
        adapter: The adapter's folder.
        weights: Whether the adapter's weights must be there, and the base's are downloaded. Else only configs are read.

    Raises:
        RLCircuitsError: if the adapter's config cannot be read, its method is not LoRA, its weights are missing, its
            folder holds a whole checkpoint as well, or its base is not found or is an adapter itself.
    """
    file = adapter / ADAPTER_CONFIG
    fields = read_json_object(file)
    if fields.get("peft_type") != "LORA":
        kind = truncated_repr(fields.get("peft_type"))
        raise RLCircuitsError(f"{file}: field 'peft_type' is {kind}; only LORA adapters can be merged")
    try:
        config = _LoRAConfig.model_validate(fields)
    except ValidationError as error:
        raise RLCircuitsError(f"{file}{describe_error(error)}") from None
    name = config.base_model_name_or_path
    if config.layer_replication:
        raise RLCircuitsError(
            f"{file}: field 'layer_replication' repeats layers of the base; an adapter can be merged only into the "
            f"layers that there are: save the merged model as a checkpoint of its own"
        )
    if weights:
        check_adapter_weights(adapter)
    try:
        beside = adapter / name
        path = str(beside) if beside.is_dir() and not Path(name).is_dir() else name
        base = Base(local_folder(path, config.revision, weights=weights), name, path, config.revision)
    except (RLCircuitsError, OSError, ValueError) as error:  # a name can be too long, or hold a null character
        raise RLCircuitsError(f"{file}: the adapter's base was not found: {one_line(error)}") from error
    if is_adapter(base.folder):
        raise RLCircuitsError(
            f"{file}: the adapter's base {name} is an adapter itself; merge that one and save it as a checkpoint first"
        )
    return base


def check_adapter_weights(adapter: Path) -> None:
    """Raise RLCircuitsError if an adapter's weights are missing or damaged, or a whole checkpoint's are beside them."""
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise RLCircuitsError(f"{adapter} has no {ADAPTER_WEIGHTS}; other weight formats are not loaded")
    check_weights_file(adapter / ADAPTER_WEIGHTS)
    if _holds_whole_weights(adapter):
        raise RLCircuitsError(
            f"{adapter} holds an adapter and a whole checkpoint ({CONFIG} and weights); move one of them to "
            f"another folder"
        )


def merge(model: Any, adapter: Path) -> Any:
    """Return the base ``model`` with the adapter's update added to its weights, in memory.

    If several modules share a weight (tied embeddings) and the adapter changes it in one of them, the weight is no
    longer shared.

    Args:
        model: The base, which is changed.
        adapter: The adapter's folder.

    Raises:
        RLCircuitsError: if peft is not installed, if the adapter does not fit the model, or if the merged model's
            logits are not those of the model with the adapter beside it.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise RLCircuitsError(
            f"{adapter} is a LoRA adapter, and merging it needs peft, which is not installed: pip install peft"
        ) from error
    _check_patterns(model, adapter)
    _check_resized(model, adapter)
    try:
        with warnings.catch_warnings():
            # peft warns of missing weights and of adapters on tied weights. Both are handled below.
            warnings.simplefilter("ignore")
            tuned = PeftModel.from_pretrained(model, str(adapter)).eval()
            # Loaded a second time for the report of missing and unexpected weights.
            loaded = tuned.load_adapter(str(adapter), tuned.active_adapter)
    # peft checks few fields of its config, so that a wrong type raises errors of many classes.
    except Exception as error:
        raise RLCircuitsError(f"{adapter} does not fit its base: {one_line(error)}") from error
    for what, names in (
        ("lacks weights", loaded.missing_keys),
        ("has weights that the base has no place for", loaded.unexpected_keys),
    ):
        if names:
            raise RLCircuitsError(
                f"{adapter} does not fit its base: it {what}, the first is {min(names)}; {ADAPTER_CONFIG} must say "
                f"what the adapter was trained with, and the base be the one it was trained on"
            )
    wanted = _logits(tuned, model.config)
    _untie(tuned)
    try:
        merged = tuned.merge_and_unload(safe_merge=True)
    except Exception as error:
        raise RLCircuitsError(f"{adapter} cannot be merged into its base: {one_line(error)}") from error
    found = _logits(merged, model.config)
    difference = float((found - wanted).norm() / wanted.norm())
    if not difference <= _TOLERANCE.get(next(merged.parameters()).dtype, 5e-2):
        raise RLCircuitsError(
            f"{adapter} cannot be merged into its base: the merged model computes other logits than the model with "
            f"the adapter beside it (relative difference {difference:.2g}); save the model as a whole checkpoint"
        )
    return merged


def _check_patterns(model: nn.Module, adapter: Path) -> None:
    """Raise RLCircuitsError for a regular expression that takes too long on a module's name. peft tries every name."""
    fields = read_json_object(adapter / ADAPTER_CONFIG)
    names = [name for name, _ in model.named_modules()]
    found = [(key, fields.get(key)) for key in ("target_modules", "exclude_modules")]
    found += [(key, pattern) for key in ("rank_pattern", "alpha_pattern") for pattern in fields.get(key) or {}]
    patterns = [(key, pattern) for key, pattern in found if isinstance(pattern, str)]
    tried = 0
    try:
        for _ in map_in_limited_process(lambda one: sum(bool(re.fullmatch(one[1], name)) for name in names), patterns):
            tried += 1
    except LimitedProcessError as error:
        key, pattern = patterns[tried]
        raise RLCircuitsError(
            f"{adapter / ADAPTER_CONFIG}, key {key!r}: on a module's name the regular expression "
            f"{truncated_repr(pattern)} {error}; write a simpler one, or list the names"
        ) from None


def _check_resized(model: nn.Module, adapter: Path) -> None:
    """Raise RLCircuitsError for a whole weight in the adapter's file whose shape in the base differs."""
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    for key, tensor in tensor_headers(adapter / ADAPTER_WEIGHTS):
        name = key.removeprefix("base_model.model.")
        if shapes.get(name, tensor.shape) != tensor.shape:
            raise RLCircuitsError(
                f"{tensor.file}: weight {name} has the shape {list(tensor.shape)}, in the base it has "
                f"{list(shapes[name])} (a vocabulary that was resized?); save the merged model as a whole checkpoint"
            )


def _untie(tuned: nn.Module) -> None:
    """Copy each shared weight for the modules that the adapter changes, so that a merge changes no other module."""
    shared = Counter(
        id(weight) for module in tuned.modules() for weight in module._parameters.values() if weight is not None
    )
    for module in tuned.modules():
        if not hasattr(module, "base_layer"):  # the adapter does not change this module
            continue
        layer: Any = module.get_base_layer()  # type: ignore[operator]
        if shared[id(getattr(layer, "weight", None))] > 1:
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
            tuned.config.tie_word_embeddings = False  # type: ignore[union-attr]


@torch.no_grad()
def _logits(model: Any, config: Any) -> Tensor:
    """Return the logits of a few fixed tokens, [1, tokens, vocabulary] in float32."""
    text = config.get_text_config()
    length = min(_PROBE_TOKENS, getattr(text, "max_position_embeddings", None) or _PROBE_TOKENS)
    tokens = torch.randint(text.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    device = model.get_input_embeddings().weight.device
    return model(input_ids=tokens.to(device), use_cache=False).logits.float()  # type: ignore[no-any-return]


def _holds_whole_weights(folder: Path) -> bool:
    if not (folder / CONFIG).is_file():
        return False
    try:
        return bool(weight_files(folder))
    except RLCircuitsError:
        return False
