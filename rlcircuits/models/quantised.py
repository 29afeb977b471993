"""Read quantised checkpoints: dequantise their weights in memory, or say why that cannot be done.

A packed weight is an array of codes that means nothing without its scale. So nothing reads the files of such a
checkpoint weight by weight. transformers reads and dequantises them, and this module makes sure of what it may leave
out silently:

1. Before loading (:func:`check_packed`): every packed weight has its scale. transformers loads the bare codes of some
   formats as if they were weights.
2. After loading (:func:`finish`): every weight is of an ordinary floating dtype, and all of one.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.json_files import read_json_object
from rlcircuits.models.dtypes import DTYPES
from rlcircuits.models.four_bit import check_values, last_values
from rlcircuits.models.quiet import quiet
from rlcircuits.models.weight_files import FLOATS, StoredTensor, stored_tensors

__all__ = [
    "METHODS",
    "Quantisation",
    "check_packed",
    "finish",
    "loaded_dtype",
    "packed_tensors",
    "quantisation_of",
    "without_activation_scales",
]

_CONFIG = "config.json"
_FIELD = "quantization_config"
_UNQUANTISED = "give the unquantised checkpoint that it was made from"
_OLD_FIELDS = ("compression_config",)


@dataclass(frozen=True)
class Method:
    r"""A way to quantise that is read.

    Args:
        scales: A pattern of the names of packed weights, and the names that a scale of such a weight may have, in which
            ``\1`` is the pattern's group.
        packages: The packages that dequantise it, besides transformers.
    """

    scales: tuple[tuple[str, tuple[str, ...]], ...]
    packages: tuple[str, ...] = ()


_FP8 = Method(
    (
        (r"^(.+\.)weight$", (r"\1weight_scale_inv", r"\1scale", r"\1qscale_weight")),
        (r"^(.+)$", (r"\1_scale_inv",)),
    ),
    ("accelerate",),
)

METHODS: Mapping[str, Method] = {
    "fp8": _FP8,
    "mxfp8": _FP8,
    "mxfp4": Method(((r"^(.+)_blocks$", (r"\1_scales",)),)),
    "compressed-tensors": Method(
        ((r"^(.+\.)weight_packed$", (r"\1weight_scale",)), (r"^(.+\.weight)$", (r"\1_scale",))), ("compressed-tensors",)
    ),
    "bitsandbytes": Method(((r"^(.+\.)weight$", (r"\1SCB", r"\1weight.absmax")),), ("accelerate", "bitsandbytes")),
}
"""The methods that are read, as ``quant_method`` of ``quantization_config`` names them."""

_SCALE = re.compile(
    r"_scales?$|_scale_inv$|\.scale$|\.qscale_\w+$|\.SCB$|_zero_point$|_global_scale$|_shape$|_g_idx$|_format$"
    r"|\.(?:nested_)?(?:absmax|quant_map)$|\.quant_state\.\w+$"
)
"""The ends of the names of tensors that belong to a packed weight, and may be of any dtype."""


_OF_ACTIVATIONS = re.compile(r"\.(?:input|output|activation|q|k|v)_(?:scale|zero_point|global_scale)$")
"""The ends of the names of scales with which kernels quantise activations. No weight depends on them."""


@dataclass(frozen=True)
class Quantisation:
    """How a checkpoint's weights are quantised, by its config.

    Args:
        method: The method, as the config names it.
        fields: The ``quantization_config``.
    """

    method: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        bits = "8" if self.fields.get("load_in_8bit") else "4" if self.fields.get("load_in_4bit") else ""
        return f"{self.method}, {bits} bits" if bits else self.method

    def options(self) -> dict[str, Any]:
        """Return the arguments with which ``from_pretrained`` dequantises the weights."""
        if self.method == "bitsandbytes":  # dequantised by :func:`finish`
            return {}
        from transformers.quantizers.auto import AutoQuantizationConfig  # here, since few checkpoints need it

        return {_FIELD: AutoQuantizationConfig.from_dict({**self.fields, "dequantize": True})}


def quantisation_of(folder: Path) -> Quantisation | None:
    """Return how the weights of a folder are quantised, by its config; None if they are not.

    Raises:
        RLCircuitsError: if the method is not read, or its package is not installed. The message says what to do.
    """
    file = folder / _CONFIG
    config = read_json_object(file)
    for name, table in ((None, config), *((key, value) for key, value in config.items() if isinstance(value, dict))):
        for field in (_FIELD, *_OLD_FIELDS):
            if table.get(field) is None or (name is not None and name in (_FIELD, *_OLD_FIELDS)):
                continue
            where = f"{file}: field '{field if name is None else f'{name}.{field}'}'"
            if name is not None or field != _FIELD:
                raise RLCircuitsError(
                    f"{where} says that the weights are quantised, but only field {_FIELD!r} is read; {_UNQUANTISED}"
                )
            return _known(where, table[field])
    return None


def _known(where: str, fields: Any) -> Quantisation:
    """Return the quantisation of a ``quantization_config``. Raises RLCircuitsError if it is not read."""
    method = fields.get("quant_method") if isinstance(fields, dict) else fields
    if isinstance(fields, dict) and method is None and (fields.get("load_in_4bit") or fields.get("load_in_8bit")):
        method = "bitsandbytes"
    if not isinstance(fields, dict) or not isinstance(method, str) or method not in METHODS:
        raise RLCircuitsError(
            f"{where} says that the weights are quantised ({truncated_repr(method)}); dequantised when they are loaded "
            f"are {', '.join(METHODS)}: {_UNQUANTISED}, or save it dequantised with the library that quantised it"
        )
    for package in METHODS[method].packages:
        if importlib.util.find_spec(package.replace("-", "_")) is not None:
            continue
        raise RLCircuitsError(
            f"{where} says that the weights are quantised ({method!r}); dequantising them needs {package}, which is "
            f"not installed: pip install 'rlcircuits[quantised]'"
        )
    if fields.get("transform_config"):
        raise RLCircuitsError(
            f"{where} has a 'transform_config', by which the model rotates what its weights read; dequantised weights "
            f"alone would be another model: {_UNQUANTISED}"
        )
    return Quantisation(method, fields)


def packed_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the weights of a folder that are stored as codes, by name, without their scales."""
    stored = stored_tensors(folder, packed=True)
    return {name: each for name, each in stored.items() if each.dtype not in FLOATS and not _SCALE.search(name)}


def check_packed(folder: Path, found: Quantisation) -> None:
    """Check that every packed weight of a folder has its scale.

    Raises:
        RLCircuitsError: naming the first weight without one; or if no weight is packed, so that the config is wrong.
    """
    packed, names = packed_tensors(folder), stored_tensors(folder, packed=True).keys()
    if not packed:
        raise RLCircuitsError(
            f"{folder / _CONFIG}: field {_FIELD!r} says that the weights are quantised ({found}), but the files hold "
            f"none that is; remove the field if they are whole"
        )
    for name, tensor in packed.items():
        wanted = [
            re.sub(pattern, scale, name)
            for pattern, scales in METHODS[found.method].scales
            if re.search(pattern, name)
            for scale in scales
        ]
        if not wanted:
            raise RLCircuitsError(
                f"{tensor.file}: weight {name} is stored as {tensor.dtype}, which is no packed weight of "
                f"{found.method} (the method that {_CONFIG} names); {_UNQUANTISED}"
            )
        if names.isdisjoint(wanted):
            raise RLCircuitsError(
                f"{tensor.file}: weight {name} is stored as {tensor.dtype} without its scale ({wanted[0]}), and cannot "
                f"be dequantised; restore the scale"
            )


def without_activation_scales(names: Iterable[str]) -> list[str]:
    """Return the names without those of scales of activations, which stay whole in a dequantised model."""
    return [name for name in names if not _OF_ACTIVATIONS.search(name)]


def loaded_dtype(config: Any, dtype: torch.dtype | str) -> torch.dtype:
    """Return the dtype that a quantised model is dequantised to.

    Args:
        config: The transformers config.
        dtype: The dtype that is asked for; ``auto`` for the config's, and bfloat16 where the config names none.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return found if isinstance(found, torch.dtype) and found in DTYPES.values() else torch.bfloat16


def finish(folder: Path, model: Any, found: Quantisation, dtype: torch.dtype) -> Any:
    """Return a model that transformers has loaded, with all its weights dequantised and in one dtype.

    Args:
        folder: The folder that it was loaded from.
        model: The model.
        found: How the weights are quantised.
        dtype: The dtype that the weights get.

    Raises:
        RLCircuitsError: if a weight is still quantised.
    """
    if found.method == "bitsandbytes":
        try:
            with quiet():
                wanted = last_values(model)
                model = model.dequantize(dtype=dtype)
            check_values(model, wanted)
        except RLCircuitsError as error:
            raise RLCircuitsError(f"{folder}: {error}") from error
        except Exception as error:  # of the package, for codes that do not fit their scales
            raise RLCircuitsError(f"{folder} cannot be dequantised ({found}): {one_line(error)}") from error
    for name, parameter in model.named_parameters():
        if parameter.dtype not in DTYPES.values():
            raise RLCircuitsError(
                f"{folder}: weight {name} is still quantised ({found}) after loading, as {parameter.dtype}; "
                f"{_UNQUANTISED}"
            )
        # transformers leaves weights that are stored whole in the dtype that they are stored in.
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    # By these save_pretrained would quantise again, which transformers cannot for all formats.
    model._weight_conversions = None
    return model
