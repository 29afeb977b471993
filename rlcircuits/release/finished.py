"""Recognize a pair that was already measured, by a key of everything that its comparison depends on."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rlcircuits.answers.cache import engine_in_keys
from rlcircuits.common import defaults
from rlcircuits.common.files import Notify, content_hash, file_hash
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import former_name
from rlcircuits.comparison.storage import load_finished
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.result_files import are_complete

VERSION = 6
"""Increased whenever the same inputs may give another comparison."""

_ZERO_ABLATION = 2
"""Increased whenever circuits may have another faithfulness where nothing replaces the edges outside them."""

NOT_IN_KEY = ("device", "measure_unchanged", "recompute", "trust_remote_code", "stop_early", "max_unfinished")
"""Settings that change no score. (Trusted code is part of the sources' fingerprints.)"""

_MEASURED_BEFORE = "measured before, and nothing has changed since"


def measurement_key(measurement: Measurement) -> str:
    """Return a hash of everything that the comparison depends on."""
    pair, questions = measurement.pair, measurement.questions
    before, after = measurement.sources.values()
    reference = pair.reference_source(*measurement.settings.loading)
    settings = measurement.settings.key_table()
    for name in NOT_IN_KEY:
        del settings[name]
    settings["engine"] = engine_in_keys(settings["engine"])
    return content_hash(
        {
            "version": VERSION,
            # The profile by its first name, so that comparisons of earlier versions are found. A pair without an
            # algorithm has the profile's name there too.
            "pair": [pair.name, former_name(pair.algorithm), former_name(pair.expectations.name)],
            "sources": [before.name, before.fingerprint(), after.name, after.fingerprint()],
            "set": [questions.name, questions.split, [question.key_table() for question in questions.questions]],
            "grader": questions.grader,
            "settings": settings,
            "rules": None if (rules := measurement.own_rules) is None else asdict(rules),
            "claims": [pair.claimed_accuracy, None if reference is None else reference.fingerprint()],
            "control": None if (control := measurement.control) is None else [control.name, control.fingerprint()],
            "recorded": [None if file is None else file_hash(file) for file in measurement.recorded.values()],
            # Left out of the keys of pairs that do not ask for it, which earlier versions made.
            **({} if pair.circuits is None else {"circuits": _circuits_table(pair.circuits)}),
        }
    )


def _circuits_table(rules: CircuitRules) -> dict[str, Any]:
    version = {"zero_ablation": _ZERO_ABLATION} if rules.ablation == "zero" else {}
    return {**rules.model_dump(), **version}


def finished_comparison(measurement: Measurement, folder: Path, key: str, quiet: bool = False) -> Comparison | None:
    """Return the comparison in the pair's folder if it has this key and all result files are complete, else None.

    Where noise is wanted only if it is needed, a comparison that has all of it is as good.

    Args:
        measurement: the pair.
        folder: its folder of results.
        key: see :func:`measurement_key`.
        quiet: whether to say nothing about damaged files.
    """
    comparison = load_finished(folder, key)
    if comparison is None and measurement.settings.noise_if_needed:
        all_noise = replace(measurement.settings, noise_if_needed=False)
        comparison = load_finished(folder, measurement_key(replace(measurement, settings=all_noise)))
    log = (lambda _: None) if quiet else measurement.log
    spans = measurement.settings.positions != defaults.POSITIONS
    if comparison is None or not are_complete(folder, log, scored=comparison.k > 0, spans=spans):
        return None
    measurement.log(_MEASURED_BEFORE)
    return comparison


def of_pair_just_measured(notify: Notify) -> Notify:
    """Return what passes on all lines but that a pair was measured before, for one that workers have just measured."""

    def notify_others(line: str) -> None:
        if not line.endswith(_MEASURED_BEFORE):
            notify(line)

    return notify_others
