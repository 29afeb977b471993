"""A release on Ray whose machines share a URL and no folder: the results of a run in one process, bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.output_files import result_bytes
from helpers.paths import ROOT
from helpers.ray_pairs import PAIRS

from rlcircuits.answers.types import Sampling
from rlcircuits.common.failures import StageFailed
from rlcircuits.common.mirror import SCRATCH_VARIABLE, Mirror
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.runners.ray_runner import RayRun

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytest.importorskip("obstore", reason="obstore is not installed: pip install '.[remote]'")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

# Batches so small that a stage would be shared in a folder.
SETTINGS = Settings(
    question_count=60, min_questions=5, noise_draws=1, sampling=Sampling(n=2), batch_size=10, device="cpu"
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of two machines, each with a scratch folder of its own."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for name in ("A", "B"):
        made.add_node(num_cpus=1, env_vars={SCRATCH_VARIABLE: str(tmp_path / name)})
    yield made.address
    made.shutdown()


def test_machines_that_share_a_url_alone(tmp_path: Path, cluster: str) -> None:
    for pair in PAIRS:
        run_pair(pair, SETTINGS, output=tmp_path / "alone")
    url = f"file://{tmp_path}/there"
    driver = Mirror(url, tmp_path / "driver")
    lines: list[str] = []
    with driver, RayRun(PAIRS, SETTINGS, driver.folder, address=cluster, notify=lines.append, mirror=driver) as run:
        for pair in PAIRS:
            run.finish(pair)
            assert run_pair(pair, SETTINGS, output=driver.folder, notify=lines.append).name == pair.name
    assert [line for line in lines if "measured before" in line] == [
        f"{pair.name}: measured before, and nothing has changed since" for pair in PAIRS
    ]
    assert result_bytes(tmp_path / "there") == result_bytes(tmp_path / "alone")
    for name in ("A", "B"):  # both did some of it
        assert list((tmp_path / name).glob("*/output/store/*"))
    # The driver needed the results alone, no answers or scores of the store.
    assert not list(driver.folder.glob("store/*"))


def drive(url: str, scratch: Path, address: str) -> None:
    """Run the pairs, as a driver on a machine of its own."""
    torch.set_num_threads(1)
    driver = Mirror(url, scratch)
    with driver, RayRun(PAIRS, SETTINGS, driver.folder, address=address, notify=lambda _: None, mirror=driver) as run:
        for pair in PAIRS:
            run.finish(pair)


def test_a_driver_that_is_killed_is_followed_by_one_elsewhere(tmp_path: Path, cluster: str) -> None:
    for pair in PAIRS:
        run_pair(pair, SETTINGS, output=tmp_path / "alone")
    url = f"file://{tmp_path}/there"
    code = (
        "import sys; sys.path.insert(0, 'tests/runners'); from pathlib import Path; import test_ray_url as t; "
        f"t.drive({url!r}, Path({str(tmp_path / 'driver')!r}), {cluster!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "there").glob("store/*")):
            assert driver.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.05)
    finally:
        driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert not list((tmp_path / "there").glob("*/comparison.json"))
    drive(url, tmp_path / "other driver", cluster)
    reader = Mirror(url, tmp_path / "reader")  # which leaves out what a killed worker was writing
    reader.fetch_results()
    reader.fetch_key("")
    assert result_bytes(reader.folder) == result_bytes(tmp_path / "alone")


def test_a_bucket_that_is_gone_fails_the_pair_in_one_sentence(tmp_path: Path, cluster: str) -> None:
    there = tmp_path / "there"
    driver = Mirror(f"file://{there}", tmp_path / "driver")
    with RayRun(PAIRS[:1], SETTINGS, driver.folder, address=cluster, notify=print, mirror=driver) as run:
        there.rmdir()
        there.write_text("no folder")
        with pytest.raises(StageFailed, match=r"file://.*there: not reached") as caught:
            run.finish(PAIRS[0])
    assert "\n" not in str(caught.value)
