"""The page of the speed: its table of families is the stored measurement, and within the bound."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks" / "speed"))

import family_table  # noqa: E402
from family_models import families  # noqa: E402
from test_family_speed import MOST_TIME  # noqa: E402

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
NUMBERS = json.loads(family_table.NUMBERS.read_text(encoding="utf-8"))


def test_the_table_is_what_was_measured() -> None:
    found = PAGE.split(family_table.FIRST)[1].split(family_table.LAST)[0].strip()
    assert found == family_table.table(NUMBERS)


def test_every_number_is_of_a_family_and_within_the_bound() -> None:
    assert NUMBERS.keys() <= set(families())
    assert max(NUMBERS.values()) <= MOST_TIME
