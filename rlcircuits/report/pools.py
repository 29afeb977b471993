"""Pool the effects of a release's pairs that share the key ``pool``: reported beside the verdict, and no part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.pooling import MIN_CLUSTERS, ClusterBy, PooledEffect, pool_effect
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.release.run_record import load_run
from rlcircuits.report.variants import first_variants

_HEADERS = ("metric", "pooled change", "95 % interval", "by bootstrap", "pairs differ by")


@dataclass(frozen=True)
class Pool:
    """The pooled effects of the pairs that share one name of a pool."""

    name: str
    pairs: tuple[str, ...]
    """The pairs whose metrics were measured."""
    unmeasured: int
    """Number of the other pairs."""
    effects: Mapping[str, PooledEffect]
    """By metric."""
    problems: Mapping[str, str]
    """By metric, why it could not be pooled."""

    def __repr__(self) -> str:
        return short_repr(self, self.name, format_count(len(self.pairs), "pair"))

    @property
    def lines(self) -> list[str]:
        """Return the pool as a headed table for a terminal."""
        of = f" of {len(self.pairs) + self.unmeasured}" if self.unmeasured else ""
        head = f"pool {self.name}: pooled over {len(self.pairs)}{of} pairs (reported, no verdict)"
        effects = list(self.effects.values())
        if effects:
            first = effects[0]
            head += (
                f"; {format_count(first.clusters, first.cluster_by)}, "
                f"{format_count(first.question_sets, 'question set')}"
            )
        rows = [
            [
                effect.metric,
                _percent(effect.estimate),
                _interval(effect.interval),
                _interval(effect.bootstrap_interval),
                "" if effect.between_pair_sd is None else _percent(effect.between_pair_sd).removeprefix("+"),
            ]
            for effect in effects
        ]
        table = [tabulate(rows, _HEADERS, disable_numparse=True)] if rows else []
        problems = [f"{metric} cannot be pooled: {problem}" for metric, problem in self.problems.items()]
        return [head, *table, *_notes(effects), *problems]


def make_pools(comparisons: Sequence[Comparison], pools: Mapping[str, Sequence[str]]) -> list[Pool]:
    """Pool the pairs that were measured.

    The interval speaks about other bases if the pool has enough of them, else about other trainings from its bases.

    Args:
        comparisons: what was measured.
        pools: by the pool's name, the names of its pairs.

    Returns:
        The pools with at least one pair whose metrics were measured.
    """
    made = []
    for name, pairs in pools.items():
        found = [comparison for comparison in comparisons if comparison.name in pairs and comparison.is_measured]
        if not found:
            continue
        enough_bases = len({comparison.before for comparison in found}) >= MIN_CLUSTERS
        cluster_by: ClusterBy = "base" if enough_bases else "training"
        effects, problems = {}, {}
        for metric in GATE_METRICS:
            try:
                effects[metric] = pool_effect(found, metric, cluster_by=cluster_by)
            except RLCircuitsError as error:
                problems[metric] = str(error)
        made.append(Pool(name, tuple(each.name for each in found), len(pairs) - len(found), effects, problems))
    return made


def stored_pools(comparisons: Sequence[Comparison], folders: Sequence[Path]) -> list[Pool]:
    """Pool the stored pairs whose records of the run name a pool, each pair by its first variant.

    Args:
        comparisons: what was measured.
        folders: the folder of results of each, in their order. One without a record has no pool.
    """
    names: dict[str, list[str]] = {}
    for comparison, folder in zip(comparisons, folders, strict=True):
        with suppress(RLCircuitsError):
            pool = load_run(folder).pool
            if pool is not None:
                names.setdefault(pool, []).append(comparison.name)
    return make_pools(first_variants(comparisons), names)


def _notes(effects: Sequence[PooledEffect]) -> list[str]:
    """Return each note once, with its metrics unless it is on all of them."""
    found: dict[str, list[str]] = {}
    for effect in effects:
        for note in effect.note.split("; ") if effect.note else ():
            found.setdefault(note, []).append(effect.metric)
    return [
        f"note: {note}" if len(metrics) == len(effects) else f"note on {', '.join(metrics)}: {note}"
        for note, metrics in found.items()
    ]


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "none" if interval is None else f"[{_percent(interval[0])}, {_percent(interval[1])}]"
