"""Test pairs whose answers come from servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.completions_server import CompletionsServer
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.report.terminal import detail

SETTINGS = Settings(
    question_count=24,
    min_questions=2,
    noise_draws=1,
    noise_groups=False,
    stop_early=False,
    sampling=Sampling(temperature=0.0, max_new_tokens=6),
    engine="openai",
    dtype="float32",
    device="cpu",
)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    grade_kindly(monkeypatch)
    return save_tiny_pair(tmp_path)


@pytest.fixture
def servers(folders: tuple[Path, Path]) -> Iterator[tuple[CompletionsServer, CompletionsServer]]:
    models = [CheckpointSource(str(folder), dtype="float32", device="cpu").load().model for folder in folders]
    with CompletionsServer(models[0]).running() as before, CompletionsServer(models[1]).running() as after:
        yield before, after


def pair(folders: tuple[Path, Path], **fields: Any) -> Pair:
    return make_pair(name="served", before=str(folders[0]), after=str(folders[1]), algorithm="grpo", **fields)


def test_a_served_pair_is_measured_as_one_that_is_loaded(
    folders: tuple[Path, Path], servers: tuple[CompletionsServer, CompletionsServer], tmp_path: Path
) -> None:
    served = pair(folders, server_before=servers[0].address, server_after=servers[1].address)
    found = run_pair(served, SETTINGS, output=tmp_path / "out")
    assert found.k >= 2
    assert found.engine == "openai"
    assert "answers by openai (noise draws by transformers)" in detail(found)
    loaded = run_pair(pair(folders), replace(SETTINGS, engine="transformers"))
    assert replace(found, engine="transformers") == loaded
    asked = [len(server.requests) for server in servers]
    assert asked == [24 + 2 * 8, 24 + 2 * 8], "each question, and eight for both checks; none of the noise draw's"
    assert run_pair(served, SETTINGS, output=tmp_path / "out") == found
    assert [len(server.requests) for server in servers] == asked


def test_servers_that_are_interchanged(
    folders: tuple[Path, Path], servers: tuple[CompletionsServer, CompletionsServer]
) -> None:
    swapped = pair(folders, server_before=servers[1].address, server_after=servers[0].address)
    with pytest.raises(RLCircuitsError, match=r"does not have .*base: over \d+ tokens their mean log-probability is"):
        run_pair(swapped, SETTINGS)


URL = "http://host:8000/v1"


@pytest.mark.parametrize(
    ("fields", "settings", "message"),
    [
        ({}, SETTINGS, "no server is stated for before; give server_before, such as http"),
        ({"server_before": URL}, SETTINGS, "no server is stated for after; give server_after, such as http"),
        ({"server_after": URL}, replace(SETTINGS, engine="transformers"), "a server is asked by engine 'openai'"),
        ({"server_after": URL, "recorded_after": Path("a.jsonl"), "server_before": URL + "#b"}, SETTINGS,
         "server_after and recorded_after are both given"),
        ({"server_before": URL, "server_after": URL + "#a", "control": "some/model"}, SETTINGS,
         "the numerics of another engine would be taken for an effect"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(
    folders: tuple[Path, Path], fields: dict[str, Any], settings: Settings, message: str
) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        run_pair(pair(folders, **fields), settings)


def test_a_plan_says_what_does_not_go_together(folders: tuple[Path, Path]) -> None:
    (planned,) = make_plan(PairsFile((pair(folders, server_before=URL),)), SETTINGS).pairs
    assert [each for each in planned.problems if "server" in each] == [
        "the engine is 'openai', and no server is stated for after; give server_after, such as http://host:8000/v1"
    ]


def test_what_a_pair_cannot_state(folders: tuple[Path, Path]) -> None:
    with pytest.raises(RLCircuitsError, match="server_before and server_after are both 'http://host:8000/v1', and one"):
        pair(folders, server_before=URL, server_after=URL)
    with pytest.raises(RLCircuitsError, match=r"server_after is 'host:8000'; an address such as http"):
        pair(folders, server_after="host:8000")
