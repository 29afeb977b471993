"""Checkpoint folders: values of every type in every field of their files, and files damaged or missing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import Fault, run
from mutations import JSON_ODDITIES, JSON_VALUES, damaged, dotted, doubled, fields, is_json, replaced, values, without
from valid_inputs import BEFORE, answers

KIND = "checkpoint"
FOLDER = "model"
CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
TOKENIZER_CONFIG, WEIGHTS = "tokenizer_config.json", "model.safetensors"
INDEX, SHARD = "model.safetensors.index.json", "model-00001-of-00001.safetensors"

ATTRIBUTE = ["attribute", FOLDER, "--answers", "answers.jsonl", "--out", "out.safetensors"]
ANSWER = ["answer", FOLDER, "--count", "1", "--max-new-tokens", "2", "--out", "out.jsonl"]

ANYTHING = {*JSON_VALUES, *JSON_ODDITIES} - {"5,000 digits", "100,000 deep"}
NOTHING = {"null", "zero", "empty text", "list", "object", "minus zero"}
"""Values, by name, that are false in Python."""

ALLOWED: Mapping[str, Mapping[str, set[str]]] = {
    CONFIG: {
        # Neither the forward nor generation reads these.
        **dict.fromkeys(
            ("architectures", "attention_dropout", "bos_token_id", "eos_token_id", "initializer_range", "use_cache",
             "pretraining_tp", "transformers_version"),
            ANYTHING,
        ),
        **dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings"), NOTHING),
        "head_dim": {"null"},
        "num_key_value_heads": {"null"},
        "dtype": {"null"},
        "max_position_embeddings": {"whole", "31 digits"},
        "pad_token_id": {"null", "zero", "minus one", "whole"},
        "rms_norm_eps": {"zero", "minus zero", "minus one", "whole", "fraction"},
        "rope_parameters": {"null", "object", "object of null"},
        # True is 1 to Python.
        "rope_parameters.rope_theta": {"null", "true", "whole", "fraction", "31 digits"},
    },
    GENERATION: {
        "eos_token_id": {"null", "zero", "whole", "list"},
        **dict.fromkeys(("pad_token_id", "transformers_version"), ANYTHING),
    },
    TOKENIZER_CONFIG: dict.fromkeys(
        ("backend", "clean_up_tokenization_spaces", "eos_token", "model_max_length", "pad_token", "padding_side",
         "tokenizer_class"),
        ANYTHING,
    ),
    INDEX: {"metadata": ANYTHING, "metadata.total_size": ANYTHING},
}  # fmt: skip
"""The values, by name, file and field, with which a checkpoint may load: they mean the same as before or describe
another model with the same weights, or the field is not read."""

NEEDED = {
    CONFIG: {
        "hidden_size",
        "intermediate_size",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    },
    GENERATION: set[str](),
    TOKENIZER_CONFIG: set[str](),
    INDEX: {"weight_map"},
}
"""Fields without a default, or whose default does not fit the weights."""

Change = Callable[[Path], object]


def make(arguments: list[str], *changes: Change) -> list[str]:
    """Copy the checkpoint, change the copy, write answers, and return the command that scores them."""
    shutil.copytree(BEFORE, FOLDER)
    for change in changes:
        change(Path(FOLDER))
    Path("answers.jsonl").write_bytes(answers())
    return arguments


def wrote(name: str, data: str | bytes | Callable[[], str | bytes]) -> Change:
    """Write a file. Data that takes a while to make is a function, for the many faults that a session leaves out."""

    def write(folder: Path) -> None:
        made = data() if callable(data) else data
        (folder / name).write_bytes(made.encode() if isinstance(made, str) else made)

    return write


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def shard(folder: Path) -> None:
    """Write an index that names the file of weights."""
    (folder / WEIGHTS).rename(folder / SHARD)
    (folder / INDEX).write_text(json.dumps(index()))


def index() -> dict[str, Any]:
    return {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(header(), SHARD)}


def header() -> dict[str, Any]:
    """Return the header of the weights file."""
    data = Path(BEFORE, WEIGHTS).read_bytes()
    found: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    del found["__metadata__"]
    return found


def with_header(text: str) -> bytes:
    """Return the weights file with another header."""
    data = Path(BEFORE, WEIGHTS).read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    return len(text.encode()).to_bytes(8, "little") + text.encode() + tensors


def faults() -> Iterator[Fault]:
    yield from in_json(CONFIG, ATTRIBUTE)
    yield from in_json(GENERATION, ANSWER)
    yield from in_json(TOKENIZER_CONFIG, ANSWER)
    yield from in_tokenizer()
    yield from in_index()
    yield from in_weights()
    yield from in_folder()


def in_json(name: str, command: list[str]) -> Iterator[Fault]:
    text = Path(BEFORE, name).read_text()
    document = json.loads(text)
    allowed = ALLOWED[name]
    for path in fields(document):
        where = dotted(path)
        missing = partial(make, command, wrote(name, partial(without, document, path)))
        yield Fault(KIND, f"{name}: {where} missing", missing, (name,), where not in NEEDED[name])
    for path in list(fields(document))[::4]:
        twice = partial(make, command, wrote(name, partial(doubled, document, path)))
        yield Fault(KIND, f"{name}: {dotted(path)} twice", twice, (name,), name == TOKENIZER_CONFIG)
    unread = [path for path in fields(document) if allowed.get(dotted(path)) is ANYTHING]
    read = [path for path in fields(document) if path not in unread]
    few = {kind: JSON_VALUES[kind] for kind in ("null", "whole", "text", "list of null", "object of null")}
    for path, kind, value in (
        *values(read, JSON_VALUES, JSON_ODDITIES, 7),
        *values(unread, few, JSON_ODDITIES, 2),
    ):
        where = dotted(path)
        made = partial(make, command, wrote(name, partial(replaced, document, path, value)))
        harmless = kind in allowed.get(where, ())
        yield Fault(
            KIND,
            f"{name}: {where} is {kind}",
            made,
            # For a value that describes another model, the error may name the weight that does not fit.
            (f"{name}|{FOLDER}",),
            harmless,
        )
    for kind, data in damaged(text.encode(), cuts=5, flips=8):
        harmless = is_json(data) and isinstance(json.loads(data), dict)
        yield Fault(KIND, f"{name}: {kind}", partial(make, command, wrote(name, data)), (FOLDER,), harmless)


def in_tokenizer() -> Iterator[Fault]:
    text = Path(BEFORE, TOKENIZER).read_text()
    document = json.loads(text)
    needed = {"model", "model.type", "model.vocab"}
    paths = [path for path in fields(document) if path[:2] != ("model", "vocab") or len(path) == 2]
    for path in paths:
        where = dotted(path)
        missing = partial(make, ANSWER, wrote(TOKENIZER, partial(without, document, path)))
        yield Fault(KIND, f"{TOKENIZER}: {where} missing", missing, (FOLDER,), where not in {"model", "model.vocab"})
    for path, kind, value in values(paths, JSON_VALUES, JSON_ODDITIES, 3):
        where = dotted(path)
        made = partial(make, ANSWER, wrote(TOKENIZER, partial(replaced, document, path, value)))
        harmless = where not in needed and is_json(value.encode())
        yield Fault(KIND, f"{TOKENIZER}: {where} is {kind}", made, (FOLDER,), harmless)
    for kind, data in damaged(text.encode(), cuts=5, flips=8):
        harmless = is_json(data) and isinstance(json.loads(data), dict)
        yield Fault(KIND, f"{TOKENIZER}: {kind}", partial(make, ANSWER, wrote(TOKENIZER, data)), (FOLDER,), harmless)


def in_index() -> Iterator[Fault]:
    document = index()
    first = next(iter(document["weight_map"]))
    for path in (("metadata",), ("metadata", "total_size"), ("weight_map",), ("weight_map", first)):
        where = dotted(path)
        missing = partial(make, ATTRIBUTE, shard, wrote(INDEX, partial(without, document, path)))
        yield Fault(KIND, f"{INDEX}: {where} missing", missing, (INDEX,), path[0] == "metadata")
        count = 3 if path[0] == "metadata" else 14
        for _, kind, value in values([path], NAMES | JSON_VALUES, JSON_ODDITIES, count):
            made = partial(make, ATTRIBUTE, shard, wrote(INDEX, partial(replaced, document, path, value)))
            yield Fault(KIND, f"{INDEX}: {where} is {kind}", made, (INDEX,), path[0] == "metadata")
    for kind, data in damaged(json.dumps(document).encode(), cuts=5, flips=0):
        yield Fault(
            KIND, f"{INDEX}: {kind}", partial(make, ATTRIBUTE, shard, wrote(INDEX, data)), (INDEX,), is_json(data)
        )


NAMES = {
    "a missing file": '"gone.safetensors"',
    "above the folder": f'"../{FOLDER}/{SHARD}"',
    "another folder": '"/etc/passwd"',
    "no safetensors": f'"{CONFIG}"',
    "the folder itself": '"."',
    "with a NUL": r'"a\u0000b"',
    "too long": f'"{"x" * 300}"',
}
"""Values that are no name of a weights file."""


def in_weights() -> Iterator[Fault]:
    data = Path(BEFORE, WEIGHTS).read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    for end in (0, 1, 7, 8, 9, size // 2, size - 1, size, size + 1, len(data) // 2, len(data) - 1):
        made = partial(make, ATTRIBUTE, wrote(WEIGHTS, data[:end]))
        yield Fault(KIND, f"{WEIGHTS}: cut at byte {end}", made, (WEIGHTS,))
    for count in (0, len(data) + 1, 2**32, 2**63, 2**64 - 1):
        made = partial(make, ATTRIBUTE, wrote(WEIGHTS, count.to_bytes(8, "little") + data[8:]))
        yield Fault(KIND, f"{WEIGHTS}: a header of {count} bytes", made, (WEIGHTS,))
    for kind, other in (
        ("rubbish at the end", data + b"rubbish"),
        ("random bytes", os.urandom(99)),
        ("a pickle", b"\x80\x04N."),
        ("a ZIP file", b"PK\x03\x04"),
    ):
        yield Fault(KIND, f"{WEIGHTS}: {kind}", partial(make, ATTRIBUTE, wrote(WEIGHTS, other)), (WEIGHTS,))
    whole = header()
    first = next(iter(whole))
    for path in ((first,), (first, "dtype"), (first, "shape"), (first, "data_offsets")):
        for _, kind, value in values([path], SHAPES | JSON_VALUES, JSON_ODDITIES, 12):
            made = partial(make, ATTRIBUTE, wrote(WEIGHTS, partial(with_header, replaced(whole, path, value))))
            yield Fault(KIND, f"{WEIGHTS}: {dotted(path[1:]) or 'a weight'} is {kind}", made, (FOLDER,))
        made = partial(make, ATTRIBUTE, wrote(WEIGHTS, partial(with_header, without(whole, path))))
        yield Fault(KIND, f"{WEIGHTS}: {dotted(path[1:]) or 'a weight'} missing", made, (FOLDER,))


SHAPES = {
    "another dtype": '"I64"', "an 8-bit dtype": '"F8_E4M3"', "no dtype": '"F128"', "negative sizes": "[-1, -48]",
    "huge sizes": f"[{2**62}, {2**62}]", "offsets turned round": "[48, 0]", "offsets beyond the end": f"[0, {2**40}]",
}  # fmt: skip
"""Invalid descriptions of a weight in the header."""


def in_folder() -> Iterator[Fault]:
    for name in (CONFIG, WEIGHTS):
        yield Fault(KIND, f"without {name}", partial(make, ATTRIBUTE, removed(name)), (FOLDER,))
    for name in (TOKENIZER, TOKENIZER_CONFIG, GENERATION):
        yield Fault(KIND, f"without {name}", partial(make, ANSWER, removed(name)), (FOLDER,), name != TOKENIZER)
    for name in (CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS):
        for kind, put in INSTEAD.items():
            made = partial(make, ANSWER, removed(name), partial(_put, put, name))
            harmless = name in (GENERATION, TOKENIZER_CONFIG)
            yield Fault(KIND, f"{name} is {kind}", made, (FOLDER,), harmless)
    for kind, more in TEMPLATES.items():
        document = json.loads(Path(BEFORE, TOKENIZER_CONFIG).read_text())
        made = partial(make, ANSWER, wrote(TOKENIZER_CONFIG, json.dumps(document | {"chat_template": more})))
        yield Fault(KIND, f"a chat template that {kind}", made, ("template|prompt|tokenizer",))
    for kind, value in (JSON_VALUES).items():
        document = json.loads(Path(BEFORE, TOKENIZER_CONFIG).read_text()) | {"chat_template": 0}
        made = partial(make, ANSWER, wrote(TOKENIZER_CONFIG, replaced(document, ("chat_template",), value)))
        yield Fault(KIND, f"a chat template that is {kind}", made, ("template|prompt",), kind in NOTHING)
    for kind, data in damaged(b"{{ messages[0]['content'] }}", cuts=4, flips=0):
        yield Fault(
            KIND,
            f"chat_template.jinja: {kind}",
            partial(make, ANSWER, wrote("chat_template.jinja", data)),
            ("template|prompt",),
            True,
        )


def _put(put: Callable[[Path], object], name: str, folder: Path) -> None:
    put(folder / name)


INSTEAD: Mapping[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a link to nowhere": lambda file: file.symlink_to("nowhere"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
}
"""What may be in the place of a file."""

TEMPLATES = {
    "loops for ever": "{% for i in range(10 ** 9) %}{% for j in range(10 ** 9) %}{% endfor %}{% endfor %}",
    "writes for ever": "{% for i in range(10 ** 9) %}{{ 'x' * 10 ** 6 }}{% endfor %}",
    "calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "is not closed": "{% for message in messages %}",
    "divides by zero": "{{ 1 / 0 }}",
    "refuses": "{{ raise_exception('no, thank you') }}",
    "knows another filter": "{{ messages | nonesuch }}",
    "includes another": "{% include 'other' %}",
    "reaches out": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "writes nothing": "{% if false %}{% endif %}",
    "writes what the tokenizer cannot encode": "\N{SNOWMAN}",
}
"""Chat templates that fail."""


def test_the_valid_checkpoint_runs() -> None:
    assert run(make(ATTRIBUTE)).code == run(ANSWER).code == 0
    shutil.rmtree(FOLDER)
    assert run(make(ATTRIBUTE, shard)).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_checkpoint(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
