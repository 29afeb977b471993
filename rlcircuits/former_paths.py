"""Modules under the import paths they had before each moved to its room: they work, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER_PATHS = {
    "checkpoint": "checkpoints.checkpoint",
    "controls": "checkpoints.noise",
    "effects": "comparison.effects",
    "engines": "answers.engines.registry",
    "errors": "common.errors",
    "expectations": "comparison.verdict",
    "pairing": "comparison.pairing",
    "pairs": "release.pairs_file",
    "pipeline": "release.run",
    "prompting": "answers.prompting",
    "recorded": "answers.recorded",
    "scores_store": "attribution.cache",
    "sequences": "graph.sequences",
    "settings": "release.settings",
    "source": "checkpoints.source",
}
"""Today's path of each module that moved, both below ``rlcircuits``."""


class FormerPaths:
    """Finds the modules of :data:`FORMER_PATHS`. Each passes every name on to the module that took its place."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module that moved, or None for any other."""
        package, _, module = name.rpartition(".")
        if package != __package__ or module not in FORMER_PATHS:
            return None
        return ModuleSpec(name, FormerPaths())  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Let an empty module take its names from the one that took its place."""
        today = f"{__package__}.{FORMER_PATHS[module.__name__.rpartition('.')[2]]}"
        warnings.warn(f"{module.__name__} is now {today}", DeprecationWarning, stacklevel=2)
        found = importlib.import_module(today)
        module.__doc__ = found.__doc__
        module.__getattr__ = lambda name: getattr(found, name)  # type: ignore[method-assign]


def install() -> None:
    """Let Python look for modules under their former paths, after it looked everywhere else."""
    if FormerPaths not in sys.meta_path:
        sys.meta_path.append(FormerPaths)
