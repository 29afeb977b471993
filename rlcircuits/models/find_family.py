"""Find a model's family by its config: one of the table, one that a user added, or the one within a larger model.

A vision-language model's config has that of its language model in it. The family is the language model's, at the place
where the whole keeps it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from rlcircuits.models.falcon import falcon_names
from rlcircuits.models.families import FAMILIES, LANGUAGE_MODELS, ModuleNames, is_added
from rlcircuits.models.refused import REFUSED, REFUSED_FIELDS, RefusedField

__all__ = ["auto_class", "module_names", "ties_embeddings", "why_not_mapped"]


def module_names(config: Any) -> ModuleNames | None:
    """Return the names of a model's modules, or None for a family that is not in the tables.

    Args:
        config: The model's Hugging Face config. A vision-language model's has the language model's config in it.
    """
    if _refused_field(config) is not None:
        return None
    if config.model_type == "falcon" and not is_added(config):
        return falcon_names(FAMILIES["falcon"], config)
    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    names = FAMILIES.get(_text_family(config))
    place = LANGUAGE_MODELS.get(config.model_type)
    if names is None or place is None:
        return None
    return replace(
        names, layers=_within(place, names.layers), final_norm=_within(place, names.final_norm), stored_prefix=None
    )


def why_not_mapped(config: Any) -> str:
    """Return the sentence, without its end, that says why :func:`module_names` is None.

    Args:
        config: The model's Hugging Face config.
    """
    family, text_family = config.model_type, _text_family(config)
    within = "" if text_family == family else f" (with a language model of the model_type {text_family!r})"
    refused = next((REFUSED[each] for each in (family, text_family) if each in REFUSED and each not in FAMILIES), None)
    if refused is not None:
        return f"model_type {family!r}{within} is not supported: {refused}"
    if (field := _refused_field(config)) is not None:
        return f"model_type {family!r}{within} with {field.name} is not supported: {field.why}"
    return (
        f"model_type {family!r}{within} is not mapped: it is not known which of its modules write to the residual "
        f"stream and read from it; mapped are {', '.join(sorted(FAMILIES))}, and with one of these as their language "
        f"model {', '.join(sorted(LANGUAGE_MODELS))}; rlcircuits.register_family adds another"
    )


def ties_embeddings(config: Any) -> bool:
    """Return whether a model's unembedding shares the embedding's weight, by the config that the model goes by.

    In most vision-language models the head belongs to the whole model, and so does the field. In Llama 4 it belongs to
    the language model.

    Args:
        config: The model's Hugging Face config.
    """
    has_own_head = LANGUAGE_MODELS.get(config.model_type, "").startswith("language_model.")
    return bool(getattr(config.get_text_config() if has_own_head else config, "tie_word_embeddings", False))


def auto_class(config: Any) -> Any:
    """Return the transformers class that builds and loads a model: a vision-language model's whole, with its tower.

    Args:
        config: The model's Hugging Face config.
    """
    return AutoModelForImageTextToText if config.model_type in LANGUAGE_MODELS else AutoModelForCausalLM


def _text_family(config: Any) -> str:
    """Return the model_type of the language model. Code of others may bring a config that is only its fields."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return str(text.model_type)


def _refused_field(config: Any) -> RefusedField | None:
    """Return the field of the language model's config for which it is refused, unless a user added the family."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    fields = REFUSED_FIELDS.get(_text_family(config), ())
    if not fields or is_added(config):
        return None
    return next((field for field in fields if field.is_set(text)), None)


def _within(place: str, path: str) -> str:
    """Return a path from the causal LM as one from the whole, in which ``place`` stands for its first name."""
    return ".".join((place, *path.split(".")[1:]))
