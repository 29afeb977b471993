"""A checkpoint's folder: find or download it, check its files, hash them, and load its config and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from transformers import AutoConfig, AutoTokenizer

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.files import file_hash
from rlcircuits.common.input_files import check_readable
from rlcircuits.common.json_files import read_json_object
from rlcircuits.models.quantised import check_packed, quantisation_of
from rlcircuits.models.quiet import quiet
from rlcircuits.models.weight_files import stored_tensors, weight_files

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_TOKENIZER = (
    "tokenizer*", "vocab*", "merges*", "added_tokens.json", "special_tokens_map.json", "*.model", "*.tiktoken",
    "tekken.json",
)  # fmt: skip
_TOKENIZER_OBJECTS = ("tokenizer.json", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
_TEMPLATES = ("chat_template*", "additional_chat_templates/*", "processor_config.json")
# generation_config.json is among them because it names the tokens that end an answer.
_IDENTITY = (CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG, *_TOKENIZER, *_TEMPLATES)
# Downloaded, but no part of a checkpoint's identity: only the results of questions with images depend on it, and the
# keys of these have its settings.
_IMAGES = "preprocessor_config.json"
_CODE = "**/*.py"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_STORED = ("**/*.safetensors", "*.safetensors.index.json")  # an index may name shards in folders below
# Copies of the weights in the formats of the models' publishers, which are not downloaded.
_DOUBLES = ("consolidated*", "original/*", "metal/*")

# File (with size, times and inode) → sha256, so that a process reads each file once.
_digests: dict[tuple[str, ...], str] = {}


def local_folder(path: str, revision: str | None = None, *, code: bool = False, weights: bool = True) -> Path:
    """Return the folder of a checkpoint, which is downloaded if it is not in the hub's cache.

    Args:
        path: A folder, or a hub id.
        revision: The branch, tag or commit of a hub id.
        code: Whether to download the repository's Python files too.
        weights: Whether to download the weights too.

    Raises:
        RLCircuitsError: for a path that is not a folder, a folder that may not be read, a revision given with a folder,
            or a hub id that is neither cached nor downloadable.
    """
    folder = Path(path)
    if _is_folder(folder):
        if revision is not None:
            raise RLCircuitsError(f"{path} is a folder and has no revisions, but revision {revision!r} was asked for")
        check_readable(folder)
        return folder
    if path.endswith(".gguf") and folder.is_file():
        raise RLCircuitsError(
            f"{path} is a GGUF file, which is not loaded; convert it to a checkpoint folder first (docs/checkpoints.md,"
            f" Quantised checkpoints), or give the checkpoint that it was made from"
        )
    if folder.is_absolute() or path.startswith((".", "~")):
        raise RLCircuitsError(f"{path} is no folder; a checkpoint folder or a hub id is needed")
    patterns = [*_IDENTITY, _IMAGES, *(_WEIGHTS if weights else ()), *(["*.py"] if code else [])]
    try:
        return Path(
            huggingface_hub.snapshot_download(
                path, revision=revision, allow_patterns=patterns, ignore_patterns=list(_DOUBLES)
            )
        )
    # huggingface_hub raises errors of its own and of its HTTP client, which have no common class.
    except Exception as error:
        raise RLCircuitsError(
            f"{path} is no folder here, and cannot be loaded from the hub: {one_line(error)}"
        ) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError as error:
        raise RLCircuitsError(
            f"{path} cannot be read: {error.strerror or error}; a folder above it may not be entered"
        ) from None
    except (OSError, ValueError):  # a name that no file can have
        return False


def contents(folder: Path, *, code: bool = False) -> dict[str, str]:
    """Return the sha256 of every file that a checkpoint's or adapter's results depend on.

    These are the configs, the tokenizer, the chat templates and the weights that are loaded; not reports, training
    states or weights that nothing loads.

    Args:
        folder: The checkpoint's folder.
        code: Whether Python files count too. They do if they are run (``trust_remote_code``).

    Returns:
        The file's path relative to the folder → its sha256.

    Raises:
        RLCircuitsError: if the weights' files cannot be determined (see ``weight_files``) or a file cannot be read.
    """
    _check_readable(folder)
    weights = (folder / ADAPTER_WEIGHTS,) if is_adapter(folder) else weight_files(folder)
    files = {*_files(folder, (*_IDENTITY, *([_CODE] if code else []))), *(file for file in weights if file.is_file())}
    return {file.relative_to(folder).as_posix(): _digest(file) for file in sorted(files)}


def result_files(folder: Path, *, code: bool = False) -> list[Path]:
    """Return the files that a checkpoint's or adapter's results may depend on, by their names alone, sorted.

    Unlike :func:`contents` this reads no file, and allows for weights that are missing or being written.

    Args:
        folder: The checkpoint's folder.
        code: Whether Python files count too.
    """
    return list(_files(folder, (*_IDENTITY, *_STORED, *([_CODE] if code else []))))


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds an adapter, not a whole checkpoint."""
    return (folder / ADAPTER_CONFIG).is_file()


def check_folder(folder: Path) -> None:
    """Check a checkpoint's files before anything large is read.

    Raises:
        RLCircuitsError: if config.json or a weights file is missing; if a config, an index or a weights file is
            damaged; if the weights are quantised in a way that is not read, or lack a scale; or if the end tokens in
            generation_config.json are not token ids. The message names the file and the field or weight.
    """
    _check_readable(folder)
    if not (folder / CONFIG).is_file():
        raise no_config(folder)
    config = read_json_object(folder / CONFIG)
    if (other := config.get("transformers_weights")) is not None:
        raise RLCircuitsError(
            f"{folder / CONFIG}: field 'transformers_weights' names {other!r} as the weights; only the usual names "
            f"are loaded: rename the file to model.safetensors and remove the field"
        )
    check_generation_config(folder)
    if (found := quantisation_of(folder)) is None:
        stored_tensors(folder)
    else:
        check_packed(folder, found)


def check_generation_config(folder: Path) -> None:
    """Raise RLCircuitsError if a folder's generation config is damaged, or names tokens that are no token ids."""
    if (folder / GENERATION_CONFIG).is_file():
        _check_tokens(folder / GENERATION_CONFIG, read_json_object(folder / GENERATION_CONFIG))


def no_config(folder: Path) -> RLCircuitsError:
    """Return the error for a folder without a config."""
    if found := sorted(folder.glob("*.gguf")):
        return RLCircuitsError(
            f"{found[0]} holds GGUF weights, which are not loaded; convert the file to a checkpoint folder first "
            f"(docs/checkpoints.md, Quantised checkpoints), or give the checkpoint that it was made from"
        )
    return RLCircuitsError(f"{folder} has no {CONFIG}; a checkpoint folder in Hugging Face format is needed")


def load_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the transformers config of a folder.

    Args:
        folder: The checkpoint's folder.
        trust_remote_code: Whether the repository's Python code may be run.

    Raises:
        RLCircuitsError: if config.json cannot be read, has a value that transformers rejects, describes an
            encoder-decoder, or needs the repository's code and that is not trusted.
    """
    file = folder / CONFIG
    fields = read_json_object(file)
    _check_code(file, fields)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises errors of many classes for a value of the wrong type
        if fields.get("auto_map") and not trust_remote_code:
            raise RLCircuitsError(
                f"{file}: model_type {fields.get('model_type')!r} needs the repository's own Python code, which is not "
                f"run unless you say that you trust it: trust_remote_code (--trust-remote-code)"
            ) from error
        raise config_error(file, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise RLCircuitsError(f"{file}: field 'is_encoder_decoder' is true; a model that is a decoder alone is wanted")
    return config


def config_error(file: Path, error: Exception) -> RLCircuitsError:
    """Return the error for a config that a library rejects, with the field whose value the library's message quotes."""
    text = str(error)
    blamed = [name for name, value in _strings(read_json_object(file)) if repr(value) in text and name not in text]
    field = f"field {blamed[0]!r}: " if len(blamed) == 1 else ""
    return RLCircuitsError(f"{file} describes no model that can be loaded: {field}{one_line(error)}")


def has_tokenizer(folder: Path) -> bool:
    """Return whether the folder has files of a tokenizer."""
    return any(_files(folder, ("tokenizer*", "vocab*", "*.model", "tekken.json")))


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a folder's tokenizer and chat templates."""
    return list(_files(folder, (*_TOKENIZER, *_TEMPLATES)))


def load_tokenizer(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer of a folder.

    Args:
        folder: The checkpoint's folder.
        name: What the error message calls the checkpoint.
        trust_remote_code: Whether the repository's Python code may be run.

    Raises:
        RLCircuitsError: if no tokenizer loads. The message names the file that is missing or damaged.
    """
    _check_readable(folder)
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # the tokenizer libraries raise errors of many classes for a damaged file
        if has_tokenizer(folder) and (folder / CONFIG).is_file():
            load_config(folder, trust_remote_code=trust_remote_code)  # a damaged config has an error of its own
        raise RLCircuitsError(f"{name} has no tokenizer that loads: {_what_is_wrong(folder, error)}") from error


def _what_is_wrong(folder: Path, error: Exception) -> str:
    """Return what is wrong with a tokenizer's files: our own finding, or else the library's message."""
    if not has_tokenizer(folder):
        return "there is no tokenizer.json in it"
    try:
        found = {name: read_json_object(folder / name) for name in _TOKENIZER_OBJECTS if (folder / name).is_file()}
    except RLCircuitsError as damaged:
        return str(damaged)
    templates = found.get(TOKENIZER_CONFIG, {}).get("chat_template")
    if isinstance(templates, list) and not all(
        isinstance(one, dict) and {"name", "template"} <= one.keys() for one in templates
    ):
        return (
            f"{folder / TOKENIZER_CONFIG}: field 'chat_template' is {truncated_repr(templates)}; a text, or a list of "
            f"objects with name and template is wanted"
        )
    return one_line(error)


def _check_code(file: Path, fields: dict[str, Any]) -> None:
    """Raise RLCircuitsError for code of another repository, which may change though no file here does."""
    found = fields.get("auto_map")
    for code in found.values() if isinstance(found, dict) else ():
        if "--" in str(code):
            raise RLCircuitsError(
                f"{file}: field 'auto_map' names code of another repository, {truncated_repr(code)}; copy the code "
                f"into the folder and name it there, so that it stays what it is"
            )


def _strings(fields: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the field name and value of every text in a config."""
    for name, value in fields.items():
        if isinstance(value, str):
            yield f"{path}{name}", value
        elif isinstance(value, dict):
            yield from _strings(value, f"{path}{name}.")


def _check_readable(folder: Path) -> None:
    """Raise RLCircuitsError for a file that cannot be read. transformers would load another model without it."""
    check_readable(folder)
    # iterdir rather than glob, which passes over broken links.
    for file in (*sorted(folder.iterdir()), *folder.glob("additional_chat_templates/*")):
        name = file.relative_to(folder)
        if not any(name.match(pattern) for pattern in (*_IDENTITY, *_WEIGHTS)):
            continue
        try:
            found = file.is_file()
        except PermissionError:  # a link into a folder that may not be entered
            found = True
        if found:
            check_readable(file)
            continue
        if file.is_symlink() or file.suffix in (".json", ".jinja", ".safetensors"):
            what = "a link to a file that is gone" if file.is_symlink() else "no file"
            raise RLCircuitsError(f"{file} is {what}; restore the file, or remove the name")


def _check_tokens(file: Path, fields: dict[str, Any]) -> None:
    """Raise RLCircuitsError for a special token of a generation config that is not a token id."""
    for name in ("pad_token_id", "bos_token_id"):
        token = fields.get(name)
        if token is not None and (isinstance(token, bool) or not isinstance(token, int)):
            raise RLCircuitsError(f"{file}: field {name!r} is {truncated_repr(token)}; a token id or null is wanted")
    found = fields.get("eos_token_id")
    for token in found if isinstance(found, list) else [] if found is None else [found]:
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise RLCircuitsError(
                f"{file}: field 'eos_token_id' is {truncated_repr(found)}; a token id, a list of token ids or null is "
                "wanted"
            )


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Return the files that match any of the patterns, without duplicates, sorted by name."""
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return iter(sorted(found))


def _digest(file: Path) -> str:
    state = file.stat()
    key = tuple(map(str, (file.resolve(), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)))
    if key not in _digests:
        _digests[key] = file_hash(file)
    return _digests[key]
