"""Write quantised checkpoints by the definitions of their formats, and say what their weights are in float64.

Each writer turns one weight into the tensors that a file of its format has, and the values that these stand for. It
shares no code with the libraries that read the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_models import build

Packed = tuple[dict[str, Tensor], Tensor]
"""The tensors in the file by name, and the values in float64."""

FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)
"""The values of E2M1 by code (OCP Microscaling Formats 1.0, section 5.3.3)."""
NF4 = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], dtype=torch.float64)  # fmt: skip
"""The values of NF4 by code (arXiv 2305.14314, appendix E)."""
_BLOCK = 16


def fp8(name: str, weight: Tensor) -> Packed:
    """E4M3 codes, and one float32 scale for each block of 16 by 16."""
    rows, columns = weight.shape
    blocks = weight.double().reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    scale = (blocks.abs().amax((1, 3)) / 448).float()
    codes = (blocks / scale.double()[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
    values = codes.double().reshape(blocks.shape) * scale.double()[:, None, :, None]
    return {name: codes, f"{name}_scale_inv": scale}, values.reshape(rows, columns)


def mxfp8(name: str, weight: Tensor) -> Packed:
    """E4M3 codes, and one power of two for each 32 numbers of a row, as its exponent plus 127 in a byte."""
    rows, columns = weight.shape
    blocks = weight.double().reshape(rows, columns // 32, 32)
    exponent = torch.ceil(torch.log2(blocks.abs().amax(-1) / 448))
    codes = (blocks / torch.exp2(exponent)[..., None]).reshape(rows, columns).to(torch.float8_e4m3fn)
    values = codes.double().reshape(blocks.shape) * torch.exp2(exponent)[..., None]
    return {name: codes, f"{name}_scale_inv": (exponent + 127).to(torch.uint8)}, values.reshape(rows, columns)


def mxfp4(name: str, weight: Tensor) -> Packed:
    """Two E2M1 codes in a byte, the first one low, and an exponent for each 32, of a weight [experts, in, out]."""
    experts, inputs, outputs = weight.shape
    blocks = weight.double().transpose(1, 2).reshape(experts, outputs, inputs // 32, 32)
    exponent = torch.floor(torch.log2(blocks.abs().amax(-1))) - 2
    scaled = blocks / torch.exp2(exponent)[..., None]
    codes = (scaled[..., None] - FP4).abs().argmin(-1)
    values = (FP4[codes] * torch.exp2(exponent)[..., None]).reshape(experts, outputs, inputs).transpose(1, 2)
    packed = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
    return {f"{name}_blocks": packed, f"{name}_scales": (exponent + 127).to(torch.uint8)}, values


def int8(name: str, weight: Tensor) -> Packed:
    """compressed-tensors, int-quantized: int8 codes, and a scale for each row."""
    scale = (weight.abs().amax(1, keepdim=True).float() / 127).to(torch.bfloat16)
    codes = (weight.double() / scale.double()).round().clamp(-128, 127)
    return {name: codes.to(torch.int8), f"{name}_scale": scale}, codes * scale.double()


def int4(name: str, weight: Tensor) -> Packed:
    """compressed-tensors, pack-quantized: eight codes plus 8 in an int32, the first one low; a scale for each 32."""
    rows, columns = weight.shape
    groups = weight.double().reshape(rows, columns // 32, 32)
    scale = (groups.abs().amax(-1).float() / 7).to(torch.bfloat16)
    codes = (groups / scale.double()[..., None]).round().clamp(-8, 7)
    values = (codes * scale.double()[..., None]).reshape(rows, columns)
    nibbles = (codes.reshape(rows, columns // 8, 8) + 8).long() << torch.arange(0, 32, 4)
    packed = nibbles.sum(-1)
    packed = torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
    shape = torch.tensor([rows, columns])
    return {f"{name}_packed": packed, f"{name}_scale": scale, f"{name}_shape": shape}, values


def bnb8(name: str, weight: Tensor) -> Packed:
    """bitsandbytes, LLM.int8: int8 codes, and the largest magnitude of each row."""
    largest = weight.abs().amax(1).float()
    codes = (weight.double() * 127 / largest.double()[:, None]).round()
    state = name.removesuffix("weight")
    tensors = {name: codes.to(torch.int8), f"{state}SCB": largest, f"{state}weight_format": torch.tensor(0).byte()}
    return tensors, codes * largest.double()[:, None] / 127


def nf4(name: str, weight: Tensor) -> Packed:
    """bitsandbytes, NF4: two codes in a byte, the first one high, and the largest magnitude of each 64 numbers."""
    blocks = weight.double().reshape(-1, 64)
    largest = blocks.abs().amax(1).float()
    codes = ((blocks / largest.double()[:, None])[..., None] - NF4).abs().argmin(-1)
    values = (NF4[codes] * largest.double()[:, None]).reshape(weight.shape)
    packed = (codes.reshape(-1)[0::2] << 4 | codes.reshape(-1)[1::2]).to(torch.uint8)[:, None]
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(weight.shape)}
    return {
        name: packed,
        f"{name}.absmax": largest,
        f"{name}.quant_map": NF4.float(),
        f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }, values


@dataclass(frozen=True)
class Format:
    """A format: how it packs a weight, and what the config says."""

    pack: Callable[[str, Tensor], Packed]
    config: Mapping[str, Any]


def _compressed(kind: str, bits: int, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False, **more}
    return {
        "quant_method": "compressed-tensors", "format": kind, "quantization_status": "compressed",
        "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }  # fmt: skip


FORMATS = {
    "fp8": Format(fp8, {"quant_method": "fp8", "weight_block_size": [_BLOCK, _BLOCK], "activation_scheme": "dynamic"}),
    "mxfp8": Format(mxfp8, {"quant_method": "mxfp8", "weight_block_size": [1, 32], "scale_fmt": "ue8m0"}),
    "int8": Format(int8, _compressed("int-quantized", 8, strategy="channel")),
    "int4": Format(int4, _compressed("pack-quantized", 4, strategy="group", group_size=32)),
    "bnb8": Format(bnb8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "nf4": Format(nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
}
"""Formats that pack the linear layers of any model."""

MXFP4 = Format(mxfp4, {"quant_method": "mxfp4"})
"""The format in which gpt-oss stores its experts."""


def write(folder: Path, form: Format, model: Any, packs: Callable[[str, Tensor], bool]) -> dict[str, Tensor]:
    """Save a model in bfloat16 with some weights packed, and a tokenizer.

    Args:
        folder: where to.
        form: the format.
        model: what is saved.
        packs: which weights are packed, by name and value.

    Returns:
        The values of all tensors in the file, by name, in float64.
    """
    model.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    tensors: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if packs(name, weight):
            packed, values[name] = form.pack(name, weight)
            tensors |= {key: tensor.contiguous() for key, tensor in packed.items()}
        else:
            tensors[name], values[name] = weight, weight.double()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": dict(form.config)}))
    return values


def is_linear(name: str, weight: Tensor) -> bool:
    """Return whether a weight is a linear layer's within a block, but for a router's."""
    return weight.ndim == 2 and name.endswith("_proj.weight")


SIZES = {"hidden_size": 64, "intermediate_size": 128}


def write_llama(folder: Path, form: str, name: str = "llama", **sizes: int) -> dict[str, Tensor]:
    """Save a tiny model in a format of FORMATS; return the values of its weights in float64, by name."""
    model = build(name, **{**SIZES, **sizes})
    return write(folder, FORMATS[form], model, is_linear)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a folder's file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **fields: object) -> None:
    """Change fields of a folder's config."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
