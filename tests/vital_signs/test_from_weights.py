"""All weights-only signs in one pass are those of the functions that measure one each."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.core_inputs import NAMES
from helpers.paths import SEED_7
from helpers.tiny_models import build
from helpers.weight_folders import FilesOnly, moved, saved, source

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.vital_signs.classifier_share import classifier_share
from rlcircuits.vital_signs.from_weights import weight_signs
from rlcircuits.vital_signs.rank_one import rank_one_signs
from rlcircuits.vital_signs.update_cosine import update_cosine


@pytest.mark.parametrize("name", NAMES)
def test_no_model_is_loaded(name: str, tmp_path: Path) -> None:
    models = build(name, seed=3), moved(name, 1), moved(name, 2)
    folders = [saved(tmp_path / str(place), model).folder for place, model in enumerate(models)]
    before, after, sibling = (FilesOnly(str(folder)) for folder in folders)
    wanted = (classifier_share(before, after), *rank_one_signs(before, after))
    assert weight_signs(before, after) == wanted
    assert weight_signs(before, after, sibling) == (*wanted, update_cosine(before, after, sibling))


def test_the_same_checkpoint_twice() -> None:
    base = source(SEED_7 / "sft")
    assert {sign.outcome for sign in weight_signs(base, base, base)} == {"not measurable"}


def test_arguments_are_checked() -> None:
    with pytest.raises(RLCircuitsError, match="weight_signs: before is 'folder'"):
        weight_signs("folder", source(SEED_7 / "sft"))  # type: ignore[arg-type]
