"""Provenance: which checkpoints, questions, settings and seeds the numbers are of, and when they were measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from rlcircuits.answers.recorded import SIDES
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.run_record import RunRecord
from rlcircuits.report.engine_words import engine_words
from rlcircuits.report.page.data import Missing, PairData
from rlcircuits.report.stage_table import stage_rows
from rlcircuits.report.terminal import SCORED

__all__ = ["make_provenance", "written_by"]

_NO_RECORD = "{how} To record them, remove comparison.json and give the command again: the store has the rest."


def make_provenance(pair: PairData) -> list[tuple[str, str]]:
    """Return names and values, in the order of the list."""
    return [(name, value) for name, value in _lines(pair) if value]


def written_by() -> str:
    """Return the name and version of what writes the page."""
    try:
        return f"rlcircuits {version('rlcircuits')}"
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "rlcircuits"


def _lines(pair: PairData) -> Iterator[tuple[str, str]]:
    comparison = pair.comparison
    yield "before", comparison.before
    yield "after", comparison.after
    if isinstance(pair.fingerprints, Missing):
        yield "fingerprints of the weights", pair.fingerprints.how
    else:
        for side in SIDES:
            yield f"fingerprint of {side}'s weights", pair.fingerprints.get(side, "not in the run's store")
    yield "algorithm, profile", f"{comparison.algorithm or 'none stated'}, held against {comparison.profile}"
    yield "questions", f"{comparison.questions} ({comparison.split}), {comparison.accuracy.asked:,} asked"
    yield "engine", engine_words(comparison)
    yield "sampling", _settings(comparison.sampling)
    yield "seed of the answers", str(comparison.sampling.get("seed", ""))
    yield "prompting", _settings(comparison.prompting or {})
    yield "scored", _scored(comparison)
    yield (
        "pairing",
        f"alpha {comparison.alpha:g}, balance {comparison.balance:g}, reference length {comparison.ref:.1f}",
    )
    if comparison.requested is not None:
        k = "all that pass" if comparison.requested.k is None else f"{comparison.requested.k:,}"
        yield "asked for", f"k: {k}; noise draws: {comparison.requested.noise_draws}"
    if comparison.supervised is not None:
        yield "supervised control", comparison.supervised.checkpoint
    yield "code of the checkpoints' own", "allowed to run (trust_remote_code)" if comparison.trust_remote_code else ""
    yield "measured", "" if pair.measured is None else f"{pair.measured:%Y-%m-%d %H:%M} UTC (date of comparison.json)"
    yield from _of_run(pair.run)
    yield "page written by", written_by()


def _of_run(run: RunRecord | Missing) -> Iterator[tuple[str, str]]:
    if isinstance(run, Missing):
        yield "command, versions, settings", _NO_RECORD.format(how=run.how)
        return
    yield "command", shlex.join(run.command)
    yield "started, took", f"{run.started:%Y-%m-%d %H:%M} UTC, {run.seconds:,.0f} s"
    if run.stages:
        shares = [f"{name} {share}" for name, _, share, _ in stage_rows(run.stages)[:-1]]
        yield "where the time went", ", ".join(shares)
    yield "versions", ", ".join(f"{name} {number}" for name, number in run.versions.items())
    nested = ("prompting", "sampling")  # shown above
    yield "settings", _settings({name: value for name, value in run.settings.items() if name not in nested})


def _scored(comparison: Comparison) -> str:
    if not comparison.is_measured:
        return "nothing"
    return f"the first {comparison.t_cut} tokens of {SCORED[comparison.score_on]}; {comparison.granularity} graph"


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items() if value is not None)
