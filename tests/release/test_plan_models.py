"""What a plan finds out of a checkpoint's size: no weights are downloaded for it, an adapter's base's neither."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build

from rlcircuits import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.release.plan_models import PlannedModel

HUB = "huggingface_hub"


@dataclass
class Hub:
    """The hub's client, of one repository, team/base.

    Args:
        cached: The folder of the whole checkpoint in the cache; None if it is not there.
        described: The folder with its configs and tokenizer, which may be downloaded.
    """

    cached: Path | None
    described: Path
    asked: list[tuple[str | None, list[str]]] = field(default_factory=list)

    def snapshot_download(self, name: str, revision: str | None = None, **options: Any) -> str:
        """Return the folder of a snapshot, and note what was asked for."""
        assert name == "team/base"
        if options.get("local_files_only"):
            if self.cached is None:
                raise FileNotFoundError(name)
            return str(self.cached)
        self.asked.append((revision, options["allow_patterns"]))
        return str(self.described)

    def get_safetensors_metadata(self, name: str, revision: str | None = None) -> Any:
        """Return how many numbers the weights' files hold."""
        assert (name, revision) == ("team/base", "r1")
        return SimpleNamespace(parameter_count={"F32": 1234})


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = save_checkpoint(tmp_path / "base", "llama")
    model = Checkpoint.load(base, device="cpu").model
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "team/base", "revision": "r1"})
    )
    return tmp_path / "lora"


def planned(adapter: Path) -> PlannedModel:
    return PlannedModel(CheckpointSource(str(adapter), device="cpu"), Path())


def use(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{HUB}.snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(f"{HUB}.get_safetensors_metadata", hub.get_safetensors_metadata)


def test_the_weights_of_an_adapters_base_are_not_downloaded(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = adapter.parent / "base"
    (described / "model.safetensors").unlink()
    hub = Hub(cached=described, described=described)  # in the cache without weights
    use(hub, monkeypatch)
    model = planned(adapter)
    plan = model.plan(10)
    assert (plan.parameters, plan.weight_bytes, plan.problem) == (1234, 4 * 1234, None)
    assert plan.cache_bytes
    assert model.groups()
    model.tokenizer()
    assert hub.asked
    assert {revision for revision, _ in hub.asked} == {"r1"}
    assert not any("safetensors" in pattern for _, patterns in hub.asked for pattern in patterns)


def test_a_base_in_the_cache_is_read_there(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = adapter.parent / "base"
    use(Hub(cached=base, described=base), monkeypatch)
    whole = build("llama", seed=3)
    assert planned(adapter).plan(10).parameters == sum(each.numel() for each in whole.parameters())


def test_an_adapter_without_weights_of_its_own_is_a_problem(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    use(Hub(cached=None, described=adapter.parent / "base"), monkeypatch)
    problem = planned(adapter).plan(10).problem
    assert problem is not None
    assert "has no adapter_model.safetensors" in problem
