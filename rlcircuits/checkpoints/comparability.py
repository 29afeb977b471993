"""Warn of what differs between two checkpoints beside their weights' values, so that other things are compared too.

A difference here is no error: post-training often sets a chat template or an end token. But it moves accuracy and
metrics by itself, and a reader of the verdict should know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncate
from rlcircuits.common.json_files import read_json_object
from rlcircuits.models.folder import CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG
from rlcircuits.models.quantised import quantisation_of
from rlcircuits.models.weight_files import is_recomputed, stored_tensors

__all__ = ["comparability_warnings"]

_TEMPLATE_FILE = "chat_template.jinja"
_TOKEN_FIELDS = ("eos_token_id", "bos_token_id", "pad_token_id")
# Fields of a generation config that say how it was made or what generation returns, and change no answer.
_NO_SETTINGS = frozenset({
    "transformers_version", "_from_model_config", "use_cache", "cache_implementation", "return_dict_in_generate",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits",
})  # fmt: skip
_LONGEST_VALUE = 60
# Characters that are shown before the first one that differs.
_CONTEXT = 15


@validate_arguments
def comparability_warnings(before: Source, after: Source) -> tuple[str, ...]:
    """Return a warning for each thing beside the weights that differs between two checkpoints, without loading them.

    These are the chat template, the special tokens, the generation config and the dtype of the weights. It is told too
    if weights are stored quantised. Sources that are no checkpoint folders are compared by their tokenizers alone.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.

    Returns:
        One sentence each, which names the file or field and both values, shortened.

    Raises:
        RLCircuitsError: a config or a header of the weights is missing or damaged.
    """
    warnings = _tokenizer_warnings(before, after)
    if isinstance(before, CheckpointSource) and isinstance(after, CheckpointSource):
        warnings += [
            *_generation_warnings(before, after),
            *_dtype_warnings(before, after),
            *_quantised_warnings(before, after),
        ]
    return tuple(warnings)


def _tokenizer_warnings(before: Source, after: Source) -> list[str]:
    tokenizers, problems = [], []
    for source in (before, after):
        try:
            tokenizers.append(source.tokenizer())
        except RLCircuitsError as error:
            problems.append(str(error))
    if len(problems) == 1:  # without both the run itself says what is missing
        return [f"chat template and special tokens were not compared: {problems[0]}"]
    if problems:
        return []
    left, right = tokenizers
    return [*_template_warnings(before, after, left, right), *_special_token_warnings(left, right)]


def _template_warnings(before: Source, after: Source, left: Any, right: Any) -> list[str]:
    ours, theirs = _templates(left), _templates(right)
    warnings = []
    for name in sorted(ours.keys() | theirs.keys()):
        called = "chat template" if name == "default" else f"chat template {name!r}"
        found = _difference(ours.get(name), theirs.get(name))
        if found:
            files = " and ".join(dict.fromkeys((_template_file(before), _template_file(after))))
            warnings.append(f"the {called} ({files}) is {found}")
    return warnings


def _templates(tokenizer: Any) -> dict[str, str]:
    found = getattr(tokenizer, "chat_template", None)
    if found is None:
        return {}
    named = found if isinstance(found, dict) else {"default": found}
    return {name: repr(template) for name, template in named.items()}


def _template_file(source: Source) -> str:
    if isinstance(source, CheckpointSource) and not (source.folder / _TEMPLATE_FILE).is_file():
        return TOKENIZER_CONFIG
    return _TEMPLATE_FILE


def _special_token_warnings(left: Any, right: Any) -> list[str]:
    """Return a warning for each role (end, padding, …) and for the first id that another token has."""
    ours, theirs = _roles(left), _roles(right)
    warnings = [
        f"the tokenizer's {role} is {found}"
        for role in sorted(ours.keys() | theirs.keys())
        if (found := _difference(ours.get(role), theirs.get(role)))
    ]
    ours_by_id, theirs_by_id = _special_tokens(left), _special_tokens(right)
    differing = [
        (number, found)
        for number in sorted(ours_by_id.keys() | theirs_by_id.keys())
        if (found := _difference(ours_by_id.get(number), theirs_by_id.get(number)))
    ]
    if differing:
        number, found = differing[0]
        others = f" (the first of {len(differing):,} ids that differ)" if len(differing) > 1 else ""
        warnings.append(f"the tokenizer's special token of id {number} is {found}{others}")
    return warnings


def _roles(tokenizer: Any) -> dict[str, str]:
    """Return the text and id of each special token that has a role: ``eos_token`` → ``'<eos>' (id 2)``."""
    return {
        role: f"{text!r} (id {tokenizer.convert_tokens_to_ids(text)})"
        for role, text in tokenizer.special_tokens_map.items()
        if isinstance(text, str)
    }


def _special_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the text of each special token by its id."""
    return {number: repr(token.content) for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def _generation_warnings(before: CheckpointSource, after: CheckpointSource) -> list[str]:
    ours, theirs = _generation_fields(before), _generation_fields(after)
    warnings = []
    for field in sorted((ours.keys() | theirs.keys()) - _NO_SETTINGS):
        found = _difference(ours.get(field), theirs.get(field))
        if found:
            note = "" if field in _TOKEN_FIELDS else "; the run samples both alike and does not use it"
            warnings.append(f"{GENERATION_CONFIG}, field {field!r}, is {found}{note}")
    return warnings


def _generation_fields(source: CheckpointSource) -> dict[str, str]:
    """Return the fields of the generation config; without its file transformers takes the tokens of config.json."""
    folder = source.model_folder
    if (folder / GENERATION_CONFIG).is_file():
        fields = read_json_object(folder / GENERATION_CONFIG)
    else:
        config = read_json_object(folder / CONFIG)
        fields = {field: config.get(field) for field in _TOKEN_FIELDS}
    return {field: repr(value) for field, value in fields.items() if value is not None}


def _quantised_warnings(before: CheckpointSource, after: CheckpointSource) -> Iterator[str]:
    found = {source.model_folder: quantisation_of(source.model_folder) for source in (before, after)}
    for source in {source.model_folder: source for source in (before, after)}.values():
        if (one := found[source.model_folder]) is not None:
            yield (
                f"the weights of {source.name} are stored quantised ({one}): what is measured is the model with its "
                f"weights dequantised, not with the kernels that it may be served with"
            )
    if any(found.values()) and len(found) > 1:
        yield "what quantising rounded is part of the update between the two"


def _dtype_warnings(before: CheckpointSource, after: CheckpointSource) -> list[str]:
    if before.reads_weights and after.reads_weights:
        found = _difference(_stored_dtypes(before), _stored_dtypes(after))
        if found:
            return [f"the dtype of the stored weights (*.safetensors) is {found}"]
    if before.dtype is not None and after.dtype is not None:  # the config's dtype is not used
        return []
    found = _difference(_config_dtype(before), _config_dtype(after))
    return [f"{CONFIG}, field 'dtype', in which the weights are loaded, is {found}"] if found else []


def _stored_dtypes(source: CheckpointSource) -> str:
    stored = stored_tensors(source.model_folder, packed=quantisation_of(source.model_folder) is not None)
    return " and ".join(sorted({tensor.dtype for name, tensor in stored.items() if not is_recomputed(name)}))


def _config_dtype(source: CheckpointSource) -> str | None:
    config = read_json_object(source.model_folder / CONFIG)
    found = config.get("dtype", config.get("torch_dtype"))  # the second is the name of earlier versions
    return None if found is None else str(found)


def _difference(before: str | None, after: str | None) -> str | None:
    """Return how two texts differ, ``a before and b after``, None being missing; None if they are equal."""
    if before == after:
        return None
    start = 0
    if before is not None and after is not None and max(len(before), len(after)) > _LONGEST_VALUE:
        # Long texts, such as templates, often begin alike, so the excerpt begins shortly before they differ.
        pairs = enumerate(zip(before, after, strict=False))
        first = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(before), len(after)))
        start = max(0, first - _CONTEXT)
    return f"{_excerpt(before, start)} before and {_excerpt(after, start)} after"


def _excerpt(text: str | None, start: int) -> str:
    return "missing" if text is None else f"{'… ' if start else ''}{truncate(text[start:], _LONGEST_VALUE)}"
