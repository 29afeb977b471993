"""The examples run as they stand, on the shipped checkpoints, and print what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT

from rlcircuits import EdgeScores
from rlcircuits.graph.edge_graph import build_graph

EXAMPLES = ROOT / "examples"
PRINTED = {
    "attribute_model.py": ("77 edges; loss ", "strongest edges\n"),
    "changed_steps.py": ("strengthened most, on ", "step 2", "all 77 edges"),
    "compare_checkpoints.py": ("grpo, K = 200, n = 8", "verdict: holds\n", "intensity: up as expected\n"),
    "find_circuit.py": ("after's circuit: ", "loss with the circuit", "f_after(C_before)", "edges that changed most"),
    "plot_changed_edges.py": ("answers are right", "figure: "),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_script_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    for words in PRINTED[name]:
        assert words in printed
    assert [path.suffix for path in tmp_path.iterdir()] == ([".png"] if name.startswith("plot") else [])


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "first_look.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the notebook's outputs before you commit it"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "activation_intensity" in printed
    assert "\nholds" in printed


def test_a_mib_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folders that MIB asks for, whose files hold GPT-2 small's 32,491 edges; other scores are refused."""
    graph = build_graph(12, 12, "head")
    scores = EdgeScores(torch.randn(2, *graph.mask.shape) * graph.mask, torch.zeros(2), graph, "matmul")
    scores.save(tmp_path / "ioi.safetensors")
    main = runpy.run_path(str(EXAMPLES / "mib_submission.py"))["main"]
    assert main([str(tmp_path / "made"), f"ioi_gpt2={tmp_path / 'ioi.safetensors'}"]) is None
    assert "32,491 edges" in (printed := capsys.readouterr().out)
    assert "at least two tasks and two models" in printed
    again = EdgeScores.from_eap_ig(tmp_path / "made" / "ioi_gpt2" / "importances.json")
    torch.testing.assert_close(again.values[0], scores.values.mean(0))
    for column, words in (("ioi_llama3", "32 layers and 32 heads"), ("ioi_gpt3", "no column of MIB")):
        assert words in main([str(tmp_path / "other"), f"{column}={tmp_path / 'ioi.safetensors'}"])
    assert not (tmp_path / "other").exists()
    assert "TASK_MODEL" in main([])


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.*")} == {*PRINTED, "first_look.ipynb", "mib_submission.py"}
