"""The JSON Schemas that are shipped: what is really written fits, what is wrong does not, and they are up to date."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.pairs_file_text import PAIRS
from helpers.paths import FIXTURES, ROOT
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.effects import AccuracyClaim
from rlcircuits.comparison.storage import to_document
from rlcircuits.release import pairs_schema
from rlcircuits.release.option import SECTIONS
from rlcircuits.release.options import OPTIONS
from rlcircuits.release.watch_template import OF_ONE_AFTER
from rlcircuits.report.pools import make_pools
from rlcircuits.report.release_json import release_json
from rlcircuits.report.schema_files import SCHEMAS, read_schema
from rlcircuits.report.schemas import schema_text

STORED = sorted((ROOT / "tests" / "stored").glob("**/comparison.json"))
PAIRS_FILES = [path for path in sorted(FIXTURES.glob("**/*.toml")) if "[[pair]]" in path.read_text(encoding="utf-8")]


def validator(name: str) -> Any:
    schema = json.loads(read_schema(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_shipped_schema_is_what_the_classes_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_schema(name) == schema_text(name), "run python -m rlcircuits.report.schemas"
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"].startswith(f"urn:rlcircuits:schema:{name}:")


@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stored_comparison_of_any_version_fits(path: Path) -> None:
    validator("comparison").validate(json.loads(path.read_text(encoding="utf-8")))


def documents() -> Iterator[Any]:
    plain = made_up_comparison("plain", "dpo")
    yield to_document(plain)
    yield to_document(made_up_comparison("no control", controls=(0,)), key="abc")
    claim = AccuracyClaim("claimed-accuracy", None, 0.97, 1.0, 60, 0.02, (-0.01, 0.05), 0.9)
    circuits = CircuitChecks(0.5, "zero", 0.5, None)  # nothing of it was measured
    empty = replace(plain.effects["kurtosis"], before=float("nan"), interval=(float("nan"), float("nan")))
    unusual = replace(plain, claims=(claim,), circuits=circuits, effects={**plain.effects, "kurtosis": empty})
    yield to_document(unusual)


@pytest.mark.parametrize("document", list(documents()))
def test_a_document_fits_and_with_any_part_taken_away_it_does_not(document: Any) -> None:
    fits = validator("comparison").is_valid
    document = json.loads(json.dumps(document, allow_nan=False))
    assert fits(document)
    for key in ("format", "version", "comparison", "verdict"):
        assert not fits({name: value for name, value in document.items() if name != key}), key
    for key in ("name", "effects", "accuracy", "question_ids", "funnel"):
        less = copy.deepcopy(document)
        del less["comparison"][key]
        assert not fits(less), key
    wrong = copy.deepcopy(document)
    wrong["comparison"]["effects"]["loss"]["before"] = "much"
    assert not fits(wrong)
    assert not fits({**document, "version": 99})
    assert not fits({**document, "verdict": {**document["verdict"], "outcome": "perhaps"}})


@pytest.mark.parametrize("as_list", [True, False])
def test_a_report_fits(as_list: bool) -> None:
    names = [f"pair {place}" for place in range(3)]
    pairs = [replace(made_up_comparison(name), before=name) for name in names][: None if as_list else 1]
    pools = make_pools(pairs, {"all": [pair.name for pair in pairs]})
    assert pools
    text = release_json([(pair,) for pair in pairs], ("lost",), pools, as_list=as_list)
    document = json.loads(text)
    validator("report").validate(document)
    assert not validator("report").is_valid([{}])
    assert not validator("report").is_valid(to_document(pairs[0]))  # the release is missing


@pytest.mark.parametrize("path", PAIRS_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_shipped_pairs_files_fit(path: Path) -> None:
    validator("release").validate(tomllib.loads(path.read_text(encoding="utf-8")))


def test_the_template_fits_also_with_all_that_it_comments_out(tmp_path: Path) -> None:
    main(["init", str(tmp_path / "release.toml")])
    text = (tmp_path / "release.toml").read_text(encoding="utf-8")
    validator("release").validate(tomllib.loads(text))
    everything = tomllib.loads(re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.M))
    assert everything["settings"].keys() > {"alpha", "sampling", "prompting"}
    assert everything.keys() >= {"circuits", "questions", "pair"}
    validator("release").validate(everything)


def test_a_template_has_no_after_and_is_a_pairs_file_in_all_else() -> None:
    tables = tomllib.loads(PAIRS)
    of_template = copy.deepcopy(tables)
    for pair in of_template["pair"]:
        for key in OF_ONE_AFTER:
            pair.pop(key, None)
    validator("template").validate(of_template)
    assert not validator("release").is_valid(of_template)
    for key in OF_ONE_AFTER:  # as load_template refuses them
        wrong = copy.deepcopy(of_template)
        wrong["pair"][0][key] = "x"
        assert not validator("template").is_valid(wrong), key
    for key in ("before", "algorithm"):
        less = copy.deepcopy(of_template)
        del less["pair"][0][key]
        assert not validator("template").is_valid(less), key


@pytest.mark.parametrize(
    "change",
    [
        lambda tables: tables.pop("pair"),
        lambda tables: tables.update(pair=[]),
        lambda tables: tables["pair"][0].pop("before"),
        lambda tables: tables["pair"][0].pop("algorithm"),
        lambda tables: tables["pair"][0].update(befor="x"),
        lambda tables: tables["pair"][0].update(questions=[]),
        lambda tables: tables["pair"][0].update(margin=2),
        lambda tables: tables["pair"][0].update(circuits={"minimum_overlap": "half"}),
        lambda tables: tables["pair"][0].update(accuracy="better"),
        lambda tables: tables.update(settings={"alpha": 0}),
        lambda tables: tables.update(settings={"question_count": 1.5}),
        lambda tables: tables.update(settings={"sampling": {"top_k": 3}}),
        lambda tables: tables.update(settings={"engine": "llama.cpp"}),
        lambda tables: tables.update(questions=[{"name": "ours", "files": "x"}]),
        lambda tables: tables.update(signs={"gate": "accuracy"}),
        lambda tables: tables.update(sign={}),
    ],
)
def test_a_wrong_pairs_file_does_not_fit(change: Callable[[dict[str, Any]], Any]) -> None:
    tables = tomllib.loads(PAIRS)
    validator("release").validate(tables)
    change(tables)
    assert not validator("release").is_valid(tables)


def test_every_key_of_the_table_of_options_is_in_the_schema_with_its_meaning() -> None:
    assert pairs_schema._CLASSES.keys() == SECTIONS.keys()
    classes = json.loads(read_schema("release"))["$defs"]
    for option in OPTIONS:
        if option.section is not None:
            found = classes[pairs_schema._CLASSES[option.section]]["properties"][option.name]
            assert found["description"], option.name
            assert found.get("default") == option.default, option.name
