"""The command line's ``fixtures`` part: train and check the shipped checkpoints, in a checkout."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from rlcircuits.cli_parts import DOES_NOT_HOLD, HOLDS, command
from rlcircuits.errors import RLCircuitsError


def add_fixtures(commands: Any) -> None:
    """Add the ``fixtures`` command and its actions."""
    fixtures = commands.add_parser("fixtures", help="train or check the shipped checkpoints (in a checkout)")
    actions = fixtures.add_subparsers(title="actions", required=True, metavar="ACTION")
    train = command(actions, "train", _train, "train one by its committed recipe, and the base it starts from")
    train.add_argument("family", help="such as llama-sums")
    train.add_argument("algorithm", help="sft or grpo")
    train.add_argument("--seed", type=int, help="default: the first of the family's shipped ones")
    train.add_argument("--out", metavar="DIR", help="default: the checkout's fixtures folder")
    train.add_argument("--force", action="store_true", help="replace another checkpoint that is in the way")
    train.add_argument("--split", default="test", help="that accuracy is measured on (default: %(default)s)")
    verify = command(actions, "verify", _verify, "check files and provenance: 0 all is well, 1 it is not")
    verify.add_argument("--root", metavar="DIR", help="default: the checkout's fixtures folder")


def _train(options: argparse.Namespace) -> int:
    checkout = _checkout()
    recipe = _recipe(checkout)
    folder = recipe.train(
        options.family,
        options.algorithm,
        seed=options.seed,
        out=options.out or checkout / "fixtures",
        progress=sys.stderr.isatty(),
        force=options.force,
        split=options.split,
    )
    print(folder)
    return HOLDS


def _verify(options: argparse.Namespace) -> int:
    checkout = _checkout()
    root = options.root or checkout / "fixtures"
    problems = _recipe(checkout).verify(root)
    print("\n".join(problems) if problems else f"{root}: every checkpoint agrees with its provenance")
    return DOES_NOT_HOLD if problems else HOLDS


def _checkout() -> Path:
    """Find the checkout that the current folder is in: the recipe is not part of the installed package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "fixtures" / "recipe" / "__init__.py").is_file():
            return folder
    raise RLCircuitsError(
        f"no fixtures/recipe in {here} or above it; run this in a checkout of the rlcircuits repository"
    )


def _recipe(checkout: Path) -> Any:
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module("fixtures.recipe")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fixtures"):
            raise
        raise RLCircuitsError(f"training needs {error.name}: pip install 'rlcircuits[train]'") from None
