"""``rlcircuits signs --rollouts``: what stored rollouts say, with a pair's models the entropy after boundaries too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.answers.recorded import Side
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.sign_rules import SignRules
    from rlcircuits.vital_signs.sign import Sign

_WITHOUT_MODELS = ("rollouts", "group", "format", "json")
_OF_MODELS = (
    "boundary",
    "before",
    "after",
    "revision_before",
    "revision_after",
    "device",
    "device_map",
    "dtype",
    "trust_remote_code",
    "batch_tokens",
    "temperature",
)
"""What beside that may be given with both models."""


def rollout_signs(options: argparse.Namespace, rules: SignRules, given: Callable[[Sequence[str]], list[str]]) -> int:
    """Print what ``--rollouts`` says, and with ``--before`` and ``--after`` what both models make of its boundaries.

    Args:
        options: the options of ``rlcircuits signs``.
        rules: how signs are measured.
        given: returns the options that were given, but for those with these names.

    Raises:
        RLCircuitsError: options that do not fit, or a file that cannot be read.
    """
    from rlcircuits.report.sign_tables import rollouts_json, rollouts_table
    from rlcircuits.vital_signs.formats import unmatched_formats
    from rlcircuits.vital_signs.rollout_summary import summarize_rollouts
    from rlcircuits.vital_signs.rollouts import load_rollouts

    if options.folder is not None or options.pairs:
        raise RLCircuitsError(
            "--rollouts and a pair's results were both given; give the rollouts alone, or with --before and --after"
        )
    if bool(options.before) != bool(options.after):
        raise RLCircuitsError("--rollouts needs both --before and --after to run the models on them, or neither")
    models = bool(options.before)
    if unused := given((*_WITHOUT_MODELS, *(_OF_MODELS if models else ()))):
        nothing = "gated, plotted or answered" if models else "plotted, gated, measured or run"
        raise RLCircuitsError(
            f"{', '.join(unused)}: given with --rollouts, of which nothing is {nothing}; leave it out"
        )
    rollouts = load_rollouts(options.rollouts)
    for unmatched in unmatched_formats(rules.formats, [each.text for each in rollouts if each.text]):
        log(unmatched)
    steps = summarize_rollouts(rollouts, rules.group, rules.classify)
    signs = (_reopening(options, rules.boundary),) if models else ()
    print(rollouts_json(steps, signs) if options.json else rollouts_table(steps, signs))
    return HOLDS


def _reopening(options: argparse.Namespace, boundary: str | None) -> Sign:
    from rlcircuits.vital_signs.rollout_reopening import rollout_reopening

    return rollout_reopening(
        options.rollouts,
        _source(options, "before"),
        _source(options, "after"),
        boundary=boundary,
        temperature=1.0 if options.temperature is None else options.temperature,
        batch_tokens=options.batch_tokens,
        notify=log,
        progress=shows_progress(),
    )


def _source(options: argparse.Namespace, side: Side) -> CheckpointSource:
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.pairs_file import resolve_checkpoint

    path = resolve_checkpoint(getattr(options, side), Path(), f"--{side}")
    revision, device = getattr(options, f"revision_{side}"), None if options.device_map else options.device
    trusted = bool(options.trust_remote_code)
    return CheckpointSource(path, revision, options.dtype, device, options.device_map, trusted)
