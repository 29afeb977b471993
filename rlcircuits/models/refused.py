"""Which models are refused, as whole families or by a field of their config, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["REFUSED", "REFUSED_FIELDS", "RefusedField"]

REFUSED: dict[str, str] = {
    "gemma3n_text": "its AltUp mixes several residual streams with one another in each block, so that none is a "
    "sum of what attentions and MLPs wrote",
}
"""``model_type`` → why its residual stream cannot be mapped."""


@dataclass(frozen=True)
class RefusedField:
    """A field of the config for which a model of a mapped family is refused.

    Args:
        name: The field.
        why: Why such a model is not supported.
        value: The value for which it is refused; None for any that is set and not zero.
    """

    name: str
    why: str
    value: str | None = None

    def is_set(self, config: Any) -> bool:
        """Return whether a (text) model's config has the field, with the value for which the model is refused."""
        found = getattr(config, self.name, None)
        return bool(found) if self.value is None else found == self.value


REFUSED_FIELDS: dict[str, tuple[RefusedField, ...]] = {
    "gemma4_text": (
        RefusedField(
            "hidden_size_per_layer_input",
            "a third sublayer of each block adds per-layer embeddings, and reads the token embedding beside the stream",
        ),
        RefusedField(
            "num_kv_shared_layers", "some layers have no k and v of their own, but read those of another layer"
        ),
        RefusedField("use_bidirectional_attention", "its tokens see later ones", "all"),
    ),
    "falcon": (
        RefusedField(
            "alibi", "transformers adds its bias twice in eager attention and once in sdpa, so that they differ"
        ),
    ),
}
"""``model_type`` → the fields of the config for which a model is not supported."""
