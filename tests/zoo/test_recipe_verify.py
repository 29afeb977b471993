"""`rlcircuits fixtures verify` names what is wrong: damaged files, a foreign parent, numbers that do not add up."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import FIXTURES

sys.path.insert(0, str(FIXTURES))

import recipe
from helpers.tiny_recipe import TINY, make_only
from recipe import provenance
from recipe.run import quiet

BASE, TRAINED = (Path("tiny") / "seed-3" / name for name in ("sft", "dpo"))
FAMILY = replace(TINY, seeds=(3,), algorithms=("sft", "dpo"))
RIGHT = 5
"""Of the 8 questions asked: what the trained checkpoint is said to have got right, and its base none."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of two, which a few steps leave without a right answer; the record of the second says otherwise."""
    pytest.importorskip("trl")
    root = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as monkeypatch, quiet():
        make_only(monkeypatch, FAMILY)
        recipe.train_missing("tiny", out=root)
    accuracy = json.loads((root / TRAINED / "provenance.json").read_text())["accuracy"]
    assert accuracy["sampled"]["correct"] == 0
    accuracy["sampled"] |= {"correct": RIGHT, "accuracy": RIGHT / 8}
    edit(root / TRAINED / "provenance.json", accuracy=accuracy)
    return root


@pytest.fixture
def copied(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_only(monkeypatch, FAMILY)
    with quiet():
        yield Path(shutil.copytree(zoo, tmp_path / "copy"))


def edit(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (record | changes).items() if value is not ...}))


def problems(root: Path) -> list[str]:
    return recipe.verify(root, accuracy=False)


def test_nothing_is_wrong(copied: Path) -> None:
    assert problems(copied) == []


@pytest.mark.parametrize("name", [*provenance.FILES])
def test_a_flipped_byte_is_reported_by_name(copied: Path, name: str) -> None:
    path = copied / TRAINED / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = problems(copied)
    assert problem.startswith(f"{path}: sha256 is ")


def test_another_parent_is_reported(copied: Path) -> None:
    base = copied / BASE / "model.safetensors"
    shutil.copy(copied / TRAINED / "model.safetensors", base)
    changed, orphaned = problems(copied)
    assert changed.startswith(f"{base}: sha256 is ")
    assert orphaned.startswith(f"{copied / TRAINED / 'provenance.json'}: parent: is ")


@pytest.mark.parametrize(
    "field", [name for name, field in provenance.Provenance.model_fields.items() if field.is_required()]
)
def test_a_missing_provenance_field_is_reported(copied: Path, field: str) -> None:
    path = copied / TRAINED / "provenance.json"
    edit(path, **{field: ...})
    (problem,) = problems(copied)
    assert problem == f"{path}: {field}: Field required"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "3"}, "seed: Input should be a valid integer"),
        ({"machine": "mine"}, "machine: Extra inputs are not permitted"),
        ({"curve": []}, "curve: is empty"),
        ({"algorithm": "sft"}, "is about ('tiny', 3, 'sft'), not ('tiny', 3, 'dpo')"),
        ({"recipe": {}}, "recipe: differs from the present settings"),
        ({"parent": None}, "parent: is None"),
        ({"accuracy_before": None}, "accuracy_before: is missing"),
    ],
)
def test_a_wrong_provenance_is_reported(copied: Path, changes: dict[str, Any], message: str) -> None:
    path = copied / TRAINED / "provenance.json"
    edit(path, **changes)
    (problem,) = problems(copied)
    assert problem.startswith(f"{path}: {message}")


def test_an_accuracy_that_is_not_its_counts_is_reported(copied: Path) -> None:
    path = copied / BASE / "provenance.json"
    accuracy = json.loads(path.read_text())["accuracy"]
    accuracy["sampled"]["correct"] += 1
    edit(path, accuracy=accuracy)
    assert problems(copied) == [f"{path}: accuracy: sampled says 1 of 8 and 0.0"]


def test_a_preference_run_that_did_not_improve_its_base_is_reported(copied: Path) -> None:
    path = copied / TRAINED / "provenance.json"
    record = json.loads(path.read_text())
    edit(path, accuracy=record["accuracy_before"])
    assert problems(copied) == [f"{path}: accuracy: 0.0 sampled is not above the parent's 0.0"]


def test_missing_and_unknown_files_are_reported(copied: Path) -> None:
    folder = copied / TRAINED
    (folder / "config.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert problems(copied) == [
        f"{folder / 'config.json'}: file is missing",
        f"{folder / 'pytorch_model.bin'}: file is not in the provenance",
    ]
    shutil.rmtree(folder)
    assert problems(copied) == [f"{folder}: checkpoint folder is missing"]


@pytest.mark.parametrize(("found", "named"), [(0.51, 0), (0.49, 0), (0.53, 1), (0.47, 1)])
def test_a_repeated_accuracy_may_be_off_by_two_points(
    copied: Path, monkeypatch: pytest.MonkeyPatch, found: float, named: int
) -> None:
    for folder in (BASE, TRAINED):
        path = copied / folder / "provenance.json"
        accuracy = json.loads(path.read_text())["accuracy"]
        accuracy["sampled"] |= {"correct": 4, "accuracy": 0.5}
        edit(path, accuracy=accuracy)
    monkeypatch.setattr(importlib.import_module("recipe.verify"), "sampled_accuracy", lambda *_: found)
    monkeypatch.setattr(importlib.import_module("recipe.verify"), "MUST_IMPROVE", ())
    assert len(recipe.verify(copied)) == 2 * named


def test_a_checkpoint_that_answers_worse_than_recorded_is_reported(copied: Path) -> None:
    """The base gets none right, as recorded, and is not named; the other gets none right either."""
    wrong = f"{copied / TRAINED}: sampled accuracy is 0.0, provenance says {RIGHT / 8}"
    assert recipe.verify(copied) == [wrong]


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped adapters, and no other family."""
    monkeypatch.setattr(importlib.import_module("recipe.verify"), "FAMILIES", {})
    root = tmp_path / "adapters"
    shutil.copytree(FIXTURES / "smollm2", root / "smollm2", ignore=shutil.ignore_patterns("base"))
    return root


def test_nothing_is_wrong_with_the_adapters(adapters: Path) -> None:
    """Without the pretrained base no accuracy is measured again."""
    assert recipe.verify(adapters, accuracy=True) == []


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "answers.jsonl"])
def test_a_changed_file_of_an_adapter_is_named(adapters: Path, file: str) -> None:
    path = adapters / "smollm2" / "sums" / "seed-7" / "grpo" / file
    path.write_bytes(path.read_bytes() + b" ")
    (problem,) = recipe.verify(adapters, accuracy=False)
    assert problem.startswith(f"{path}: sha256 is ")


def test_a_changed_base_of_adapters_is_noticed_by_each(adapters: Path) -> None:
    path = adapters / "smollm2" / "sums" / "seed-7" / "sft" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    problems = recipe.verify(adapters, accuracy=False)
    assert len(problems) == 5  # its own, and those of the four that start from it
    assert sum("parent: is" in problem for problem in problems) == 4
