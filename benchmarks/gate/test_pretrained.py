"""Pairs of a pretrained model of 135 million parameters, with recorded answers, where its base has been fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlcircuits.comparison.verdict import judge
from rlcircuits.models.packaged import ORIGIN
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.run import run_pair

PRETRAINED = Path(__file__).parents[2] / "fixtures" / "smollm2"
FILE = load_pairs_file(PRETRAINED / "pairs.toml")

pytestmark = pytest.mark.skipif(
    not (PRETRAINED / "base" / ORIGIN).is_file(),
    reason="the pretrained base is not here: rlcircuits fixtures fetch smollm2, or tox run -e real",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pairs share their base's scores."""
    return tmp_path_factory.mktemp("pretrained")


@pytest.mark.parametrize("pair", FILE.pairs, ids=lambda pair: pair.name)
def test_pretrained_pair(pair: Pair, store: Path) -> None:
    """What does not hold is what pairs.toml declares; an inconclusive finding is no surprise near a line."""
    verdict = judge(run_pair(pair, FILE.make_settings(), store=store))
    failed = {
        measure: each.message for measure, each in verdict.all_findings.items() if each.outcome == "does not hold"
    }
    assert failed.keys() == pair.does_not_hold.keys(), "\n".join(failed.values())
