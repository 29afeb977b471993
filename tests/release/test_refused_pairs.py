"""Two checkpoints that cannot be compared are refused before any weights are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.tiny_checkpoints import save_checkpoint, tiny_tokenizer
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SETTINGS = Settings(device="cpu")


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: CheckpointSource) -> Checkpoint:
        raise AssertionError(f"{self.name} was loaded")

    monkeypatch.setattr(CheckpointSource, "load", load)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


def test_other_tokenizers_are_refused_before_anything_is_loaded(folders: tuple[Path, Path], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other")
    tokens = tuple(reversed(tiny_tokenizer().get_vocab()))
    tiny_tokenizer(tokens).save_pretrained(tmp_path / "other")
    pair = make_pair(name="mixed", before=str(folders[0]), after=str(tmp_path / "other"), algorithm="grpo")
    with pytest.raises(RLCircuitsError, match="have different tokenizers"):
        run_pair(pair, SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_hidden_layers": 3},
            "num_hidden_layers is 2 in the first and 3 in the second; a pair needs two checkpoin",
        ),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 2 in the first and 1 in the second"),
        ({"hidden_size": 64}, "hidden_size is 32 in the first and 64 in the second"),
        ({"model_type": "mistral"}, "model_type is 'llama' in the first and 'mistral' in the second"),
    ],
)
def test_other_architectures_are_refused_before_anything_is_loaded(
    folders: tuple[Path, Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    other = shutil.copytree(folders[1], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | change))
    pair = make_pair(name="mixed", before=str(folders[0]), after=str(other), algorithm="grpo")
    with pytest.raises(RLCircuitsError, match=f"have different architectures: {message}"):
        run_pair(pair, SETTINGS)
    (other / "config.json").write_text("{")
    with pytest.raises(RLCircuitsError, match=r"other/config.json holds no JSON object"):
        run_pair(pair, SETTINGS)


@pytest.mark.parametrize("granularity", ["head", "kv-head"])
def test_heads_that_a_graph_cannot_have_are_refused_before_anything_is_loaded(granularity: str, tmp_path: Path) -> None:
    before, after = (save_checkpoint(tmp_path / str(seed), "qwen3-5", seed=seed) for seed in (1, 2))
    pair = make_pair(name="mixers", before=str(before), after=str(after), algorithm="grpo")
    with pytest.raises(RLCircuitsError, match=r"which .*/1 cannot have: mixer\.0 is a layer .*; use 'sublayer'"):
        run_pair(pair, Settings(device="cpu", granularity=granularity))


def test_experts_of_a_dense_model_are_refused_before_anything_is_loaded(folders: tuple[Path, Path]) -> None:
    pair = make_pair(name="dense", before=str(folders[0]), after=str(folders[1]), algorithm="grpo")
    with pytest.raises(RLCircuitsError, match=r"'expert', which .* cannot have: it has no mixture of experts; use"):
        run_pair(pair, Settings(device="cpu", granularity="expert"))


def test_experts_behind_a_norm_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    before, after = (save_checkpoint(tmp_path / str(seed), "gemma4-moe", seed=seed) for seed in (1, 2))
    pair = make_pair(name="normed", before=str(before), after=str(after), algorithm="grpo")
    with pytest.raises(RLCircuitsError, match=r"'expert', which .*/1 cannot have: a norm of their sum stands between"):
        run_pair(pair, Settings(device="cpu", granularity="expert"))


def test_circuits_of_experts_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    before, after = (save_checkpoint(tmp_path / str(seed), "mixtral", seed=seed) for seed in (1, 2))
    pair = make_pair(name="experts", before=str(before), after=str(after), algorithm="grpo", circuits={})
    settings = Settings(device="cpu", granularity="expert")
    with pytest.raises(RLCircuitsError, match="'expert', whose edges cannot be removed from a forward"):
        run_pair(pair, settings)
    (problem,) = make_plan(PairsFile((pair,)), settings).problems
    assert "'expert', whose edges cannot be removed" in problem
