"""Keep the dtype that each tensor of a checkpoint is stored in, which may differ from the one it is loaded in.

transformers loads all weights of a checkpoint in one dtype, although its files may hold norms in float32 and matrices
in bfloat16. A damaged copy holds each tensor as its checkpoint does. So damage is rounded to the stored dtype in memory
too: a damaged source and the folder written from it load as the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.tensor_reader import can_stream, loaded_names
from rlcircuits.common.json_files import read_json_object
from rlcircuits.models.dtypes import torch_dtype
from rlcircuits.models.folder import CONFIG
from rlcircuits.models.weight_files import is_recomputed, stored_tensors

__all__ = ["cast_to", "round_to", "stored_dtypes", "write_loaded_dtype"]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stored_dtypes(source: Source, model: Any) -> Mapping[str, torch.dtype]:
    """Return the dtype in which each parameter of a source's model is stored.

    Args:
        source: a checkpoint. For an adapter, whose merged weights are in no file, for a source with a dtype of its own
            and for any other source nothing is known.
        model: what the source loads.

    Returns:
        Parameter name → dtype. A parameter that is not in the files under its own name (an expert's, stacked when it is
        loaded, or an untied unembedding) is there if all tensors are stored in one dtype.
    """
    if not can_stream(source) or torch_dtype(source.dtype) != "auto":
        return {}
    stored = {name: each for name, each in stored_tensors(source.folder).items() if not is_recomputed(name)}
    by_name = {
        loaded: _DTYPES[stored[name].dtype]
        for name, loaded in loaded_names(list(stored), model.config.model_type).items()
    }
    dtypes = set(by_name.values())
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if len(dtypes) == 1:
        return dict.fromkeys(names, dtypes.pop())
    return {name: by_name[name] for name in names if name in by_name}


@torch.no_grad()
def round_to(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Round each named parameter to a value that its stored dtype has, in place, in the dtype that it is loaded in."""
    for name, parameter in model.named_parameters():
        if dtypes.get(name, parameter.dtype) != parameter.dtype:
            parameter.copy_(parameter.to(dtypes[name]).to(parameter.dtype))


def cast_to(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Give each named parameter its stored dtype, in place; the model may not run after it."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtypes.get(name, parameter.dtype))


def write_loaded_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Write into a saved config in which dtype the weights are loaded; transformers wrote that of the first one."""
    file, name = folder / CONFIG, str(dtype).removeprefix("torch.")
    fields = read_json_object(file)
    if fields.get("dtype") != name:
        fields["dtype"] = name
        file.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
