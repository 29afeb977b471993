"""A safetensors file of span scores that is filled row by row, so that it may be larger than the memory.

The library of safetensors writes tensors that are all in memory. Its format is a header and the tensors' bytes one
after another, in the order of the header:

    8 bytes        the header's length, little endian
    the header     JSON: {"__metadata__": {…}, "values": {"dtype": "F32", "shape": […], "data_offsets": [0, …]}, …}
    the tensors

So the header is written first, since all shapes are known, and the tensors are mapped into memory and filled.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.how_scored import HowScored

METADATA = "rlcircuits"
"""The entry of the file's metadata that holds the names, the backend, and how the scores were made."""

KIND = "spans"
"""What the metadata says the file holds."""

_CODES = {torch.float32: ("F32", np.float32), torch.int64: ("I64", np.int64), torch.bool: ("BOOL", np.bool_)}
"""The name in safetensors, and the dtype in numpy."""


class SpanFile:
    """A new file whose ``values``, ``loss`` and ``metric_values`` are tensors that lie in it.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        sequence: Tensor,
        span: Tensor,
        positions: Tensor,
        sequences: int,
        graph: EdgeGraph,
        backend: str,
        how: HowScored,
    ) -> None:
        shapes = {
            # In falling order of the numbers' size, so that each tensor is aligned.
            "sequence": (torch.int64, (len(span),)),
            "span": (torch.int64, (len(span),)),
            "positions": (torch.int64, (len(span),)),
            "values": (torch.float32, (len(span), *graph.mask.shape)),
            "loss": (torch.float32, (sequences,)),
            "metric_values": (torch.float32, (sequences,)),
            "mask": (torch.bool, tuple(graph.mask.shape)),
        }
        stored = {
            "kind": KIND,
            "writers": graph.writers,
            "readers": graph.readers,
            "backend": backend,
            "how": how.changed,
        }
        start = _write_header(path, shapes, {METADATA: json.dumps(stored)})
        self._maps: list[np.memmap[tuple[int, ...], np.dtype[np.generic]]] = []
        tensors = {}
        for name, (dtype, shape) in shapes.items():
            tensors[name] = self._mapped(path, start, dtype, shape)
            start += _nbytes(dtype, shape)
        for name, tensor in {"sequence": sequence, "span": span, "positions": positions, "mask": graph.mask}.items():
            tensors[name].copy_(tensor)
        self.values, self.loss, self.metric_values = (tensors[name] for name in ("values", "loss", "metric_values"))

    def close(self) -> None:
        """Write what is still in memory to the file."""
        for each in self._maps:
            each.flush()

    def _mapped(self, path: Path, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)  # nothing can be mapped
        self._maps.append(np.memmap(path, _CODES[dtype][1], "r+", start, shape))
        return torch.from_numpy(self._maps[-1])


def _write_header(path: Path, shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]], metadata: dict[str, str]) -> int:
    """Write the header and make the file as long as it will be; return where the tensors begin."""
    header: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for name, (dtype, shape) in shapes.items():
        stop = start + _nbytes(dtype, shape)
        header[name] = {"dtype": _CODES[dtype][0], "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        _reserve(file, 8 + len(text) + start)
    return 8 + len(text)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make a file ``size`` bytes long, on the disk: a full disk must be an error here, not a crash in mapped memory."""
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _nbytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)
