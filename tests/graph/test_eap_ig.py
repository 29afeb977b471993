"""EAP-IG's JSON: round trips, an independent reading, its own loader, and files that are refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.node_names import eap_ig_name, reader_hook, writer_hook

METRICS = ("cross_entropy", "logprob", "logit_diff", "kl")
graphs = st.builds(
    lambda layers, heads, parallel: build_graph(layers, heads, "head", parallel=parallel),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
)


def scores_of(graph: EdgeGraph, seed: int, *, sequences: int = 1, metric: str = "cross_entropy") -> EdgeScores:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sequences, *graph.mask.shape, generator=generator) * graph.mask
    loss = torch.rand(sequences, generator=generator)
    measured = loss if metric == "cross_entropy" else torch.randn(sequences, generator=generator)
    return EdgeScores(values, loss, graph, "matmul", HowScored(metric=metric, corrupted=True), measured)


@given(graph=graphs, seed=st.integers(0, 2**31), metric=st.sampled_from(METRICS), sequences=st.integers(1, 3))
def test_a_file_gives_back_the_mean_scores(
    tmp_path_factory: pytest.TempPathFactory, graph: EdgeGraph, seed: int, metric: str, sequences: int
) -> None:
    scores = scores_of(graph, seed, sequences=sequences, metric=metric)
    path = tmp_path_factory.mktemp("eap-ig") / "importances.json"
    scores.to_eap_ig(path, d_model=16, in_graph=scores.values[0] > 0)
    again = EdgeScores.from_eap_ig(path)
    assert again.graph.same_as(graph)
    assert torch.equal(again.values[0], scores.values.double().mean(0).float())
    assert (again.how, again.backend) == (scores.how, scores.backend)
    torch.testing.assert_close(again.loss, scores.loss.double().mean()[None].float())
    torch.testing.assert_close(again.metric_values, scores.metric_values.double().mean()[None].float())


@given(graph=graphs, seed=st.integers(0, 2**31), metric=st.sampled_from(METRICS))
def test_an_independent_reading_finds_every_edge(
    tmp_path_factory: pytest.TempPathFactory, graph: EdgeGraph, seed: int, metric: str
) -> None:
    """The format read by its description alone, edge by edge, and the sign turned for a metric that should be high."""
    scores = scores_of(graph, seed, metric=metric)
    path = tmp_path_factory.mktemp("eap-ig") / "importances.json"
    scores.to_eap_ig(path, d_model=16, in_graph=scores.values[0] > 0)
    stored = json.loads(path.read_text())
    sign = {"cross_entropy": 1, "kl": 1, "logprob": -1, "logit_diff": -1}[metric]
    cfg, count = stored["cfg"], 0
    heads = range(cfg["n_heads"])
    earlier = ["input"]

    def check(source: str, target: str) -> None:
        nonlocal count
        count += 1
        writer, reader = ours(source), ours(target)
        value = float(scores.values[0, graph.writers.index(writer), graph.readers.index(reader)])
        edge = stored["edges"][f"{source}->{target}"]
        assert edge == {"score": sign * value, "in_graph": value > 0}

    for layer in range(cfg["n_layers"]):
        attention = [f"a{layer}.h{head}" for head in heads]
        for source in earlier:
            for target in [f"{name}<{kind}>" for name in attention for kind in "qkv"]:
                check(source, target)
        for source in earlier + ([] if cfg["parallel_attn_mlp"] else attention):
            check(source, f"m{layer}")
        earlier += [*attention, f"m{layer}"]
    for source in earlier:
        check(source, "logits")
    assert count == len(stored["edges"]) == graph.n_edges
    assert stored["nodes"].keys() == {*earlier, "logits"}
    assert cfg["d_model"] == 16


def ours(name: str) -> str:
    """Our name of an EAP-IG node, written here again."""
    if name in ("input", "logits"):
        return {"input": "embed"}.get(name, name)
    if name[0] == "m":
        return f"mlp.{name[1:]}"
    layer, _, head = name[1:].partition(".")
    head, _, kind = head.partition("<")
    return f"attn.{layer}.{head}" + (f".{kind[0]}" if kind else "")


@pytest.mark.skipif("EAP_IG_PYTHON" not in os.environ, reason="EAP_IG_PYTHON names no Python that has EAP-IG")
@pytest.mark.parametrize("parallel", [False, True])
def test_eap_igs_own_loader_reads_the_file(tmp_path: Path, parallel: bool) -> None:
    """EAP-IG needs a TransformerLens below 4, so it stands in another environment than the tests."""
    scores = scores_of(build_graph(3, 2, "head", parallel=parallel), 5)
    written, back = tmp_path / "importances.json", tmp_path / "back.json"
    scores.to_eap_ig(written, d_model=8, in_graph=scores.values[0] > 0)
    program = (
        "import sys; from eap.graph import Graph; graph = Graph.from_json(sys.argv[1]); graph.to_json(sys.argv[2]); "
        "print(len(graph.edges)); graph.apply_topn(9, False, prune=False); print(graph.count_included_edges())"
    )
    command = [os.environ["EAP_IG_PYTHON"], "-c", program, str(written), str(back)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.split()
    assert printed == [str(scores.graph.n_edges), "9"]
    theirs = EdgeScores.from_eap_ig(back)
    assert torch.equal(theirs.values, scores.values)
    assert theirs.how == HowScored(metric="eap_ig_loss", corrupted=True)
    ours, again = json.loads(written.read_text()), json.loads(back.read_text())
    assert {name: each["in_graph"] for name, each in again["edges"].items()} == {
        name: each["in_graph"] for name, each in ours["edges"].items()
    }
    assert {name: each["in_graph"] for name, each in again["nodes"].items()} == {
        name: each["in_graph"] for name, each in ours["nodes"].items()
    }


def test_gpt2_small_has_as_many_edges_as_eap_ig_publishes(tmp_path: Path) -> None:
    scores = scores_of(build_graph(12, 12, "head"), 1)
    scores.to_eap_ig(tmp_path / "importances.json", d_model=768)
    assert len(json.loads((tmp_path / "importances.json").read_text())["edges"]) == 32_491
    assert torch.equal(EdgeScores.from_eap_ig(tmp_path / "importances.json").values, scores.values)


def test_a_metric_of_ones_own_needs_its_direction(tmp_path: Path) -> None:
    scores = scores_of(build_graph(1, 1, "head"), 3, metric="my_reward")
    with pytest.raises(RLCircuitsError, match=r"higher_is_better is not given, .* metric my_reward"):
        scores.to_eap_ig(tmp_path / "a.json")
    with pytest.raises(RLCircuitsError, match="but logprob is better where it is higher"):
        scores_of(build_graph(1, 1, "head"), 3, metric="logprob").to_eap_ig(tmp_path / "a.json", higher_is_better=False)
    scores.to_eap_ig(tmp_path / "a.json", higher_is_better=True)
    edge = json.loads((tmp_path / "a.json").read_text())["edges"]["input->logits"]
    assert edge["score"] == -float(scores.values[0, 0, -1])
    assert torch.equal(EdgeScores.from_eap_ig(tmp_path / "a.json").values, scores.values)


@pytest.mark.parametrize("granularity", ["sublayer", "kv-head"])
def test_graphs_that_eap_ig_does_not_have(tmp_path: Path, granularity: str) -> None:
    graph = build_graph(2, 4, granularity, n_kv_heads=2)
    with pytest.raises(RLCircuitsError, match="granularity 'head'"):
        scores_of(graph, 1).to_eap_ig(tmp_path / "a.json")


def damaged(change: str) -> dict[str, Any]:
    """A document with one thing wrong."""
    edges = {name: {"score": 0.5, "in_graph": False} for name in (
        "input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->m0", "a0.h0->m0",
        "input->logits", "a0.h0->logits", "m0->logits",
    )}  # fmt: skip
    cfg: dict[str, Any] = {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": False, "d_model": 4}
    document: dict[str, Any] = {"cfg": cfg, "nodes": {}, "edges": edges}
    if change == "no cfg":
        del document["cfg"]
    elif change == "layers":
        cfg["n_layers"] = 10**9
    elif change == "no heads":
        cfg["n_heads"] = 0
    elif change == "an edge missing":
        del edges["m0->logits"]
    elif change == "an edge renamed":
        edges["m1->logits"] = edges.pop("m0->logits")
    elif change == "no score":
        del edges["m0->logits"]["score"]
    elif change == "not finite":
        edges["m0->logits"]["score"] = float("nan")
    elif change == "too large":
        edges["m0->logits"]["score"] = 10**400
    elif change == "too large for float32":
        edges["m0->logits"]["score"] = 1e39
    elif change == "in_graph":
        edges["m0->logits"]["in_graph"] = "yes"  # type: ignore[assignment]
    elif change == "our part":
        document["rlcircuits"] = {"sign": 2, "how": {}, "loss": 0, "metric_value": 0, "backend": "matmul"}
    elif change == "our keys":
        document["rlcircuits"] = {"sign": 1}
    return document


@pytest.mark.parametrize(("change", "words"), [
    ("no cfg", "'cfg' is missing"),
    ("layers", "has 8 edges; 1000000000 layers of 1 heads have"),
    ("no heads", "cfg 'n_heads': must be at least 1, not 0"),
    ("an edge missing", "has 7 edges; 1 layers of 1 heads have 8"),
    ("an edge renamed", "has no edge 'm0->logits'"),
    ("no score", "'m0->logits' has the score None; a finite float32"),
    ("not finite", "'m0->logits' has the score nan"),
    ("too large", "'m0->logits' has the score 1000"),
    ("too large for float32", "'m0->logits' has the score 1e+39"),
    ("in_graph", "has in_graph 'yes'; true or false"),
    ("our part", "sign is 2; 1 or -1"),
    ("our keys", "has no 'how'"),
])  # fmt: skip
def test_a_damaged_file_is_one_error(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "importances.json"
    path.write_text(json.dumps(damaged(change)))
    with pytest.raises(RLCircuitsError) as error:
        EdgeScores.from_eap_ig(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_an_undamaged_file_of_eap_ig_is_read(tmp_path: Path) -> None:
    path = tmp_path / "importances.json"
    path.write_text(json.dumps(damaged("nothing")))
    scores = EdgeScores.from_eap_ig(path)
    assert scores.values.sum() == 0.5 * 8
    assert scores.how.metric == "eap_ig_loss"
    assert bool(scores.loss.isnan().all())
    scores.to_eap_ig(path)
    assert torch.equal(EdgeScores.from_eap_ig(path).values, scores.values)


def test_pickles_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="is a pickle"):
        EdgeScores.from_eap_ig(tmp_path / "importances.pt")
    with pytest.raises(RLCircuitsError, match="cannot be read"):
        EdgeScores.from_eap_ig(tmp_path / "importances.json")


@given(graph=graphs)
def test_names_are_one_to_one(graph: EdgeGraph) -> None:
    for names in (graph.writers, graph.readers):
        assert len({eap_ig_name(name) for name in names}) == len(names)
    n_layers = sum(name.startswith("mlp") for name in graph.writers)
    assert len({writer_hook(name) for name in graph.writers}) == len(graph.writers)
    assert len({reader_hook(name, n_layers) for name in graph.readers}) == len(graph.readers)


@pytest.mark.parametrize("name", ["mixer.0", "attn.0", "attn.0.kv1.k", "attn", "mlp.x", ""])
def test_a_node_that_eap_ig_does_not_have(name: str) -> None:
    with pytest.raises(RLCircuitsError):
        eap_ig_name(name)


@pytest.mark.parametrize("name", ["mlp.0.e5", "mlp.12.shared"])
def test_an_expert_is_a_node_that_other_libraries_do_not_have(name: str) -> None:
    for of_other in (eap_ig_name, writer_hook):
        with pytest.raises(RLCircuitsError, match=f"{name} is a part of a mixture of experts, which has no name in"):
            of_other(name)
