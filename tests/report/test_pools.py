"""Pools of a release: which pairs are pooled, what the interval speaks about, and what the table says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.run_records import write_record
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.pooling import pool_effect
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.report.pools import make_pools, stored_pools

TEMPLATE = made_up_comparison(controls=())


def pair(name: str, base: str = "base") -> Comparison:
    return replace(TEMPLATE, name=name, before=base, after=f"tuned-{name}")


THREE = [pair("a"), pair("b"), pair("c")]


def test_a_pool_has_its_own_pairs_and_one_row_a_metric() -> None:
    (pool,) = make_pools([*THREE, pair("other")], {"grpo": ["a", "b", "c"]})
    assert pool.pairs == ("a", "b", "c")
    assert "grpo" in repr(pool)
    assert pool.effects == {metric: pool_effect(THREE, metric, cluster_by="training") for metric in GATE_METRICS}
    head, table, *notes = pool.lines
    assert head == "pool grpo: pooled over 3 pairs (reported, no verdict); 3 trainings, 1 question set"
    assert [line.split()[0] for line in table.splitlines()[2:]] == list(GATE_METRICS)
    assert f"{100 * TEMPLATE.effects['intensity'].change:+.1f} %" in table
    assert "note: the bootstrap interval is too narrow with only 3 clusters" in notes


def test_a_note_that_is_not_on_every_metric_names_its_metrics() -> None:
    (pool,) = make_pools(THREE, {"grpo": ["a", "b", "c"]})
    common = "the bootstrap interval is too narrow with only 3 clusters"
    odd = replace(pool.effects["kurtosis"], note=f"odd; {common}")
    plain = {metric: replace(effect, note=common) for metric, effect in pool.effects.items()}
    noted = replace(pool, effects={**plain, "kurtosis": odd}).lines[2:]
    assert noted == [f"note: {common}", "note on kurtosis: odd"]


@pytest.mark.parametrize(
    ("bases", "cluster_by"), [(("x", "y", "z"), "base"), (("x", "x", "y"), "training"), (("x", "x", "x"), "training")]
)
def test_the_interval_speaks_about_bases_where_there_are_enough(bases: tuple[str, ...], cluster_by: str) -> None:
    pairs = [pair(name, base) for name, base in zip("abc", bases, strict=True)]
    (pool,) = make_pools(pairs, {"grpo": ["a", "b", "c"]})
    assert {effect.cluster_by for effect in pool.effects.values()} == {cluster_by}
    assert all(effect.interval is not None for effect in pool.effects.values())


def test_pairs_that_were_not_measured_are_counted() -> None:
    assert make_pools([pair("other")], {"grpo": ["a", "b"]}) == []
    (pool,) = make_pools([pair("a")], {"grpo": ["a", "b"]})
    assert pool.lines[0].startswith("pool grpo: pooled over 1 of 2 pairs (reported, no verdict); 1 training, ")
    assert "none" in pool.lines[1]


def test_a_pair_with_too_few_questions_does_not_stop_the_pool() -> None:
    too_few = replace(THREE[2], question_ids=())
    (pool,) = make_pools([*THREE[:2], too_few], {"grpo": ["a", "b", "c"]})
    (without,) = make_pools(THREE[:2], {"grpo": ["a", "b", "c"]})
    assert pool == without
    assert (pool.pairs, pool.unmeasured) == (("a", "b"), 1)
    assert make_pools([too_few], {"grpo": ["c"]}) == []


def test_a_metric_that_cannot_be_pooled_leaves_the_others() -> None:
    zero = replace(TEMPLATE.effects["kurtosis"], before_values=(0.0,) * 40, before=0.0)
    odd = replace(pair("a"), effects={**TEMPLATE.effects, "kurtosis": zero})
    (pool,) = make_pools([odd, pair("b"), pair("c")], {"grpo": ["a", "b", "c"]})
    assert list(pool.effects) == ["intensity", "complexity"]
    assert pool.lines[-1].startswith("kurtosis cannot be pooled: pool_effect: pair 'a' has a mean kurtosis before of 0")


def test_the_pools_of_a_folder_are_those_that_its_records_name(tmp_path: Path) -> None:
    folders = [write_record(tmp_path / each.name, pool) for each, pool in zip(THREE, ("rl", None, "rl"), strict=True)]
    old = pair("old")
    (tmp_path / "old").mkdir()  # a folder of an earlier version has no record
    (pool,) = stored_pools([*THREE, old], [*folders, tmp_path / "old"])
    assert (pool.name, pool.pairs) == ("rl", ("a", "c"))
    assert pool.effects == make_pools(THREE, {"rl": ["a", "c"]})[0].effects
    assert stored_pools([old], [tmp_path / "old"]) == []


def test_the_report_of_a_folder_has_its_pools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for each in THREE:
        save_comparison(each, write_record(tmp_path / each.name, "rl"))
    (pool,) = make_pools(THREE, {"rl": ["a", "b", "c"]})
    assert main(["report", str(tmp_path)]) == 0
    assert "\n".join(pool.lines) in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--markdown"]) == 0
    assert pool.lines[0] in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["release"]["pools"][0]["name"] == "rl"
