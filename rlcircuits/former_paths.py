"""Modules under the import paths they had before each moved to its room: they work, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FORMER_PATHS = {
    "checkpoint": ("checkpoints.checkpoint",),
    "controls": ("checkpoints.noise",),
    "effects": ("comparison.effects", "comparison.paired_statistics"),
    "engines": ("answers.engines.registry", "answers.engines.engine"),
    "errors": ("common.errors",),
    "expectations": ("comparison.verdict", "comparison.profiles"),
    "pairing": ("comparison.pairing", "comparison.funnel", "comparison.control_pairing"),
    "pairs": ("release.pair", "release.pairs_file"),
    "pipeline": ("release.run", "release.settings"),
    "prompting": ("answers.prompting",),
    "recorded": ("answers.recorded",),
    "scores_store": ("attribution.cache",),
    "sequences": ("graph.sequences",),
    "settings": ("release.settings",),
    "source": ("checkpoints.source",),
}
"""The modules, below ``rlcircuits``, that hold today what each of these held."""


class FormerPaths:
    """Finds the modules of :data:`FORMER_PATHS`. Each passes every name on to the modules that took its place."""

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
        """Let an empty module take its names from those that took its place."""
        today = [f"{__package__}.{path}" for path in FORMER_PATHS[module.__name__.rpartition(".")[2]]]
        warnings.warn(f"{module.__name__} is now {', '.join(today)}", DeprecationWarning, stacklevel=2)
        successors = [importlib.import_module(path) for path in today]

        def look_up(name: str) -> Any:
            for successor in successors:
                if hasattr(successor, name):
                    return getattr(successor, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__doc__ = successors[0].__doc__
        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Let Python look for modules under their former paths, after it looked everywhere else."""
    if FormerPaths not in sys.meta_path:
        sys.meta_path.append(FormerPaths)
