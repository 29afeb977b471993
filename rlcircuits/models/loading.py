"""Load a causal LM from a folder's files, and make sure that every weight has its place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import safetensors
import torch

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.models.find_family import auto_class, ties_embeddings
from rlcircuits.models.folder import CONFIG, config_error, load_config
from rlcircuits.models.quantised import finish, loaded_dtype, quantisation_of, without_activation_scales
from rlcircuits.models.quiet import quiet
from rlcircuits.models.tensor_groups import layer_of
from rlcircuits.models.weight_files import FLOATS, first_left_over, stored_tensors

__all__ = ["load_model"]


def load_model(folder: Path, dtype: torch.dtype | str, device_map: str | None, *, trust_remote_code: bool) -> Any:
    """Return the model of a folder that passed ``check_folder``.

    Args:
        folder: The checkpoint's folder.
        dtype: The dtype to load in, or ``auto`` for the stored one; for quantised weights ``auto`` means the config's.
        device_map: The devices to load on, as transformers takes it; None for the CPU.
        trust_remote_code: Whether the repository's Python code may be run.

    Raises:
        RLCircuitsError: if the config and the weights do not describe one model: weights are missing, left over or of
            another shape. The message names the file and the field or weight.
    """
    config = load_config(folder, trust_remote_code=trust_remote_code)
    quantised = quantisation_of(folder)
    if quantised is not None:
        dtype = loaded_dtype(config, dtype)
    _check_shapes(folder, config, trust_remote_code)
    options: dict[str, Any] = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code}
    if getattr(config, "attn_logit_softcapping", None):
        # Fused attention has no soft-cap and would leave it out silently.
        options["attn_implementation"] = "eager"
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You passed `quantization_config`")  # it asks for dequantised weights
            options |= {} if quantised is None else quantised.options()
            model, report = auto_class(config).from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **options
            )
    # transformers raises errors of many classes for a bad value in a config, a dtype or a device_map.
    except Exception as error:
        if "ignore_mismatched_sizes" in str(error):  # transformers names the weights only in its log
            raise RLCircuitsError(
                f"{folder / CONFIG}: the model that it describes has weights of other shapes than the files hold; "
                f"correct the fields that give sizes (of experts, for example)"
            ) from error
        if quantised is not None and "CONVERSION" in str(error):  # transformers names the weights only in its log
            raise RLCircuitsError(
                f"{folder} cannot be dequantised ({quantised}): the codes of a weight and its scales do not fit each "
                f"other, or one of them is missing; restore the files"
            ) from error
        raise RLCircuitsError(f"{folder} cannot be loaded: {one_line(error)}") from error
    unexpected = report["unexpected_keys"]
    left_over = first_left_over(unexpected if quantised is None else without_activation_scales(unexpected))
    if report["missing_keys"]:
        others = f"; among the weights that it has no place for is {left_over}" if left_over else ""
        raise RLCircuitsError(f"{folder} has missing weights, the first is {min(report['missing_keys'])}{others}")
    if left_over:
        raise RLCircuitsError(
            f"{folder} holds weights that the model of its {CONFIG} has no place for, the first is {left_over}; "
            f"without them another model would be measured: correct {CONFIG}, or remove those weights"
        )
    if quantised is not None and isinstance(dtype, torch.dtype):
        model = finish(folder, model, quantised, dtype)
    _check_tied(folder, model)
    return model


def _check_shapes(folder: Path, config: Any, trust_remote_code: bool) -> None:
    """Raise RLCircuitsError, naming the field or the weight, if the config's model has other shapes than the files.

    The model is built on the meta device, without memory for its weights. Only weights that have the same name in the
    files and in the model are compared. transformers compares the others when it loads them.
    """
    file, stored = folder / CONFIG, stored_tensors(folder, packed=True)
    layers = 1 + max((layer for name in stored if (layer := layer_of(name)) is not None), default=-1)
    text = config.get_text_config()
    context = getattr(text, "max_position_embeddings", None)
    if context is not None and context < 1:
        raise RLCircuitsError(f"{file}: field 'max_position_embeddings' is {context}; at least 1 is wanted")
    wanted = getattr(text, "num_hidden_layers", None)
    # Checked before the model is built: a damaged config may ask for a billion layers.
    if isinstance(wanted, int) and 0 < layers < wanted:
        raise RLCircuitsError(f"{file}: field 'num_hidden_layers' is {wanted}; the weights are of {layers} layers")
    try:
        with torch.device("meta"), quiet():
            built = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
        shapes = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    except Exception as error:
        raise config_error(file, error) from error
    for name, shape in shapes.items():
        if name in stored and stored[name].dtype in FLOATS and stored[name].shape != shape:
            raise RLCircuitsError(
                f"{stored[name].file}: weight {name} has the shape {list(stored[name].shape)}; by {file} it must be "
                f"{list(shape)}"
            )


def _check_tied(folder: Path, model: Any) -> None:
    """Raise RLCircuitsError if the config ties the embeddings, but the files hold an unembedding that differs."""
    if not ties_embeddings(model.config):
        return
    head = model.get_output_embeddings()
    name = next((f"{name}.weight" for name, module in model.named_modules() if module is head), "")
    stored = stored_tensors(folder, packed=True).get(name)
    if stored is None:
        return
    if stored.dtype not in FLOATS:
        raise RLCircuitsError(
            f"{stored.file}: weight {name} is quantised, but {folder / CONFIG} ties it to the embedding "
            f"(tie_word_embeddings); set it to false there, or remove the weight"
        )
    with safetensors.safe_open(str(stored.file), framework="pt") as file:
        found = file.get_tensor(name)
    embedding = model.get_input_embeddings().weight
    if not torch.equal(found.to(embedding.device, embedding.dtype), embedding):
        raise RLCircuitsError(
            f"{stored.file}: weight {name} differs from the embedding, but {folder / CONFIG} ties them "
            f"(tie_word_embeddings); set it to false there, or remove the weight"
        )
