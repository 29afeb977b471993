"""The page of the model families: its table is the stored measurement, of every family, and within bounds."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from helpers.tiny_models import ARCHITECTURES, MIXTURES, MODEL_TYPES, granularities, padding_sides

from rlcircuits.models.families import FAMILIES
from rlcircuits.models.refused import REFUSED

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "models"))

import support_table  # noqa: E402

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
NUMBERS = json.loads(support_table.NUMBERS.read_text(encoding="utf-8"))
# Language models of vision-language models, which test_vision_language compares with a text model or the oracle.
ONLY_WITHIN = {"qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"}
# That of the tests of the core: float32 against float64. Half precision errs as the models' own gradients do.
BOUNDS = dict.fromkeys(support_table.COLUMNS, 1e-4) | {"bfloat16": 0.2, "float16": 0.03}
# The error of the model's own gradient at its embeddings, where that is larger: the norm of what a delta net reads from
# its state makes rounding larger (test_mixers shows it).
OWN_ERRORS = {("qwen3-5", "float16"): 0.044}


def test_the_table_is_what_was_measured() -> None:
    assert PAGE.split(support_table.FIRST)[1].split(support_table.LAST)[0].strip() == support_table.table(NUMBERS)


def test_every_family_and_every_tiny_model_of_it_was_measured() -> None:
    assert NUMBERS.keys() == FAMILIES.keys() - ONLY_WITHIN
    assert {name: family for family, models in NUMBERS.items() for name in models} == MODEL_TYPES
    assert MODEL_TYPES.keys() == ARCHITECTURES.keys()


def test_every_refused_family_is_on_the_page() -> None:
    assert all(re.search(rf"^\| `{family}` \|", PAGE, flags=re.M) for family in REFUSED)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_errors_are_rounding_and_what_is_refused_is_refused(name: str) -> None:
    for column, error in NUMBERS[MODEL_TYPES[name]][name].items():
        if error == support_table.REFUSED:
            allowed = granularities(name) if "head" in column else [f"{side} padding" for side in padding_sides(name)]
            assert column not in allowed
        elif error == support_table.DENSE:
            assert column == "expert"
            assert name not in MIXTURES
        elif error == support_table.NOT_DEFINED:
            assert name == "olmo2-gqa"
            assert "head" in column
        else:
            assert error < OWN_ERRORS.get((name, column), BOUNDS[column])


def test_what_is_stored_is_what_is_measured_now() -> None:
    stored = NUMBERS["gpt2"]["gpt2"]
    found = support_table.measure("gpt2")
    assert found.keys() == stored.keys()
    assert found.pop("expert") == stored["expert"] == support_table.DENSE
    for column, error in found.items():  # rounding differs between processors, by less than this
        assert float(error) == pytest.approx(float(stored[column]), rel=20, abs=1e-12)
        assert float(error) < BOUNDS[column]
