"""Which sublayers each layer of a checkpoint has, by its config: what can be damaged where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.sublayers import Sublayer
from rlcircuits.models.find_family import module_names
from rlcircuits.models.layer_kinds import layer_sublayers

__all__ = ["Layout", "layout_of", "uniform_layout"]

_PARTS: tuple[Sublayer, ...] = ("mlp", "attn", "mixer")
_BOTH: tuple[Sublayer, ...] = ("attn", "mlp")


@dataclass(frozen=True)
class Layout:
    """The sublayers of each layer.

    Args:
        sublayers: Those of each layer.
        kinds: The kind of each layer, by the config. Only layers of one kind have the same weights.
        heads: Attention heads of a layer with attention.
    """

    sublayers: tuple[tuple[Sublayer, ...], ...]
    kinds: tuple[str, ...]
    heads: int

    @property
    def parts(self) -> tuple[Sublayer, ...]:
        """The kinds of sublayers that the model has: MLP, attention, mixer."""
        return tuple(part for part in _PARTS if self.layers_with(part))

    @property
    def mixing(self) -> Sublayer:
        """The sublayer that stands for those that mix tokens: attention, or the mixer of a model without attention."""
        return "attn" if self.layers_with("attn") else "mixer"

    def layers_with(self, part: Sublayer) -> list[int]:
        """Return the layers that have a sublayer, in order."""
        return [layer for layer, present in enumerate(self.sublayers) if part in present]

    def last(self, part: Sublayer) -> str:
        """Return the last sublayer of a kind, such as ``mlp.7``."""
        return f"{part}.{self.layers_with(part)[-1]}"

    def first(self, part: Sublayer) -> str:
        """Return the first sublayer of a kind, such as ``mlp.0``."""
        return f"{part}.{self.layers_with(part)[0]}"

    def alike(self) -> list[tuple[int, int]]:
        """Return the pairs of layers of one kind."""
        return [pair for pair in combinations(range(len(self.kinds)), 2) if len({self.kinds[i] for i in pair}) == 1]

    def neighbours(self) -> list[tuple[int, int]]:
        """Return the pairs of layers of one kind between which there is none of it, by the second one."""
        latest = {second: (first, second) for first, second in self.alike()}
        return [latest[second] for second in sorted(latest)]

    def farthest(self) -> tuple[int, int] | None:
        """Return the first of the pairs of layers of one kind that are farthest apart; None if there is no pair."""
        return max(self.alike(), key=lambda pair: pair[1] - pair[0], default=None)


def uniform_layout(layers: int, heads: int) -> Layout:
    """Return the layout of a model whose layers all have an attention and an MLP."""
    return Layout((_BOTH,) * layers, ("",) * layers, heads)


def layout_of(source: CheckpointSource) -> Layout:
    """Return the layout of a checkpoint. Only its config is read.

    Raises:
        RLCircuitsError: a config that cannot be read, that has no numbers of layers and heads, or with a kind of layer
            that is not mapped; or a model without MLP.
    """
    sizes = source.architecture()
    layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
    if not isinstance(layers, int) or not isinstance(heads, int):
        raise RLCircuitsError(
            f"{source.name}: its config names no numbers of layers and heads, so no part can be damaged"
        )
    config = source.text_config()
    names = module_names(config)
    if names is None or names.layer_kinds is None:
        return uniform_layout(layers, heads)
    layout = Layout(tuple(layer_sublayers(names, config, layers)), tuple(config.layer_types), heads)
    if "mlp" not in layout.parts:
        raise RLCircuitsError(f"{source.name} has no layer with an MLP, which damage to a single part needs")
    return layout
