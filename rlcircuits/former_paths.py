"""Modules under the import paths they had before each moved to its room: they work, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER_PATHS = {
    "checkpoint": ("checkpoints.checkpoint", "capture.stream_check"),
    "controls": ("checkpoints.noise",),
    "effects": ("comparison.effects", "comparison.paired_statistics"),
    "engines": ("answers.engines.registry", "answers.engines.engine"),
    "engines.huggingface": ("answers.engines.huggingface",),
    "engines.vllm": ("answers.engines.vllm",),
    "errors": ("common.errors",),
    "expectations": ("comparison.verdict", "comparison.profiles"),
    "pairing": ("comparison.pairing", "comparison.funnel", "comparison.control_pairing"),
    "pairs": ("release.pair", "release.pairs_file"),
    "pipeline": ("release.run", "release.settings"),
    "plugin": ("pytest_plugin",),
    "prompting": ("answers.prompting",),
    "recorded": ("answers.recorded",),
    "scores_store": ("attribution.cache",),
    "sequences": ("graph.sequences",),
    "settings": ("release.settings",),
    "source": ("checkpoints.source",),
}
"""The modules, below ``rlcircuits``, that hold today what each of these held."""


class FormerPaths:
    """Finds the modules of :data:`FORMER_PATHS`. Each has the names of the modules that took its place."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module that moved, or None for any other."""
        if _below_package(name) not in FORMER_PATHS:
            return None
        was_package = any(former.startswith(f"{_below_package(name)}.") for former in FORMER_PATHS)
        return ModuleSpec(name, FormerPaths(), is_package=was_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an empty module."""

    def get_code(self, name: str) -> None:
        """Return no code: ``python -m`` then says so, since a module that moved cannot be run."""

    def exec_module(self, module: ModuleType) -> None:
        """Give an empty module the names of those that took its place."""
        today = [f"{__package__}.{path}" for path in FORMER_PATHS[_below_package(module.__name__)]]
        warnings.warn(f"{module.__name__} is now {', '.join(today)}", DeprecationWarning, stacklevel=2)
        for path in reversed(today):
            names = vars(importlib.import_module(path))
            vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})


def install() -> None:
    """Let Python look for modules under their former paths, after it looked everywhere else."""
    if FormerPaths not in sys.meta_path:
        sys.meta_path.append(FormerPaths)


def _below_package(name: str) -> str:
    return name.removeprefix(f"{__package__}.")
