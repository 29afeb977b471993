"""Logging to trackers: what TensorBoard and Weights & Biases read back of it, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.report.measure_rows import measure_rows
from rlcircuits.report.trackers import Target, log_results, parse_target

PAIRS = [made_up_comparison("one"), made_up_comparison("two", "dpo")]


def test_tensorboard_reads_every_number(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_results(Target("tensorboard", str(tmp_path / "tb")), PAIRS, "### holds")
    for pair in PAIRS:
        read = accumulators.EventAccumulator(str(tmp_path / "tb" / pair.name))
        read.Reload()
        scalars = set(read.Tags()["scalars"])
        for row in measure_rows(pair):
            for column in ("before", "after", "p"):
                value, name = getattr(row, column), f"{row.measure}/{column}"
                assert (name in scalars) == (value == value), name
                if name in scalars:
                    assert read.Scalars(name)[0].value == pytest.approx(value, rel=1e-6)  # float32
        (summary,) = read.Tensors("summary/text_summary")
        assert summary.tensor_proto.string_val[0] == b"### holds"


def test_logging_again_replaces_the_event_file_and_no_other(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    other = tmp_path / "one" / "events.out.tfevents.1.of.training"
    other.parent.mkdir()
    other.touch()
    for words in ("first", "second"):
        log_results(Target("tensorboard", str(tmp_path)), PAIRS[:1], words)
    assert len(list(other.parent.iterdir())) == 2
    assert other.exists()
    read = accumulators.EventAccumulator(str(other.parent))
    read.Reload()
    (summary,) = read.Tensors("summary/text_summary")
    assert summary.tensor_proto.string_val[0] == b"second"


def test_mlflow_reads_every_number_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (pip install 'rlcircuits[mlflow]')")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    for words in ("holds", "holds", "of another day"):
        log_results(Target("mlflow", "gate"), PAIRS, words)
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("gate").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["one", "one", "two", "two"]
    for pair in PAIRS:
        run = next(run for run in runs if run.info.run_name == pair.name)
        rows = measure_rows(pair)
        for row in rows:
            for column in ("before", "after", "p"):
                value, name = getattr(row, column), f"{row.measure}/{column}"
                assert (name in run.data.metrics) == (value == value), name
                if value == value:
                    assert run.data.metrics[name] == pytest.approx(value)
        assert run.data.params["algorithm"] == pair.algorithm
        assert run.data.params["verdict"] == rows[0].verdict
        assert run.info.status == "FINISHED"


def test_a_store_that_mlflow_cannot_open_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(RLCircuitsError, match=r"--log-to mlflow:gate: .*; set MLFLOW_TRACKING_URI to a server"):
        log_results(Target("mlflow", "gate"), PAIRS, "")


def records(path: Path) -> Iterator[bytes]:
    """The records of a file of Weights & Biases: LevelDB's log, blocks of 32 KiB, after a header of 7 bytes."""
    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_keeps_every_number_offline(tmp_path: Path) -> None:
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    save_comparison(PAIRS[0], tmp_path / "out" / "one")
    # A process of its own: the file of a run is complete when the process that logged it has ended.
    command = [sys.executable, "-m", "rlcircuits", "report", "out", "--json", "--log-to", "wandb:gate"]
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)[0]["comparison"]["name"] == "one"
    assert ran.stderr.endswith("logged to wandb: gate\n")
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, float] = {}
    config: dict[str, object] = {}
    for data in records(file):
        record = proto.Record.FromString(data)
        for item in record.history.item:
            found[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        for item in (*record.run.config.update, *record.config.update):
            config[item.key] = json.loads(item.value_json)
    for row in measure_rows(PAIRS[0]):
        if row.before == row.before:
            assert found[f"{row.measure}/before"] == pytest.approx(row.before)
    assert (config["algorithm"], config["verdict"]) == ("grpo", "holds")


@pytest.mark.parametrize("text", ["", "tensorboard", "tensorboard:", "tensorboard: ", "mlflow:", "neptune:x", ":x"])
def test_another_target_is_refused_before_anything_is_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RLCircuitsError, match="tensorboard:FOLDER, wandb:PROJECT or mlflow:EXPERIMENT is wanted"):
        parse_target(text)
    assert main(["report", "gone", f"--log-to={text}"]) == 2
    assert "--log-to" in capsys.readouterr().err


def test_a_place_may_hold_a_colon() -> None:
    assert parse_target("tensorboard:C:/runs") == Target("tensorboard", "C:/runs")


@pytest.mark.parametrize(
    ("tracker", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_a_package_that_is_missing_is_named(
    tracker: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RLCircuitsError, match=rf"pip install 'rlcircuits\[{tracker}\]'"):
        log_results(Target(tracker, str(tmp_path)), PAIRS, "")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(RLCircuitsError, match="--log-to tensorboard: no file can be written in the folder"):
        log_results(Target("tensorboard", str(tmp_path / "file")), PAIRS, "")
