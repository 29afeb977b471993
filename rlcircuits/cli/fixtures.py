"""The command line's ``fixtures`` part: train, check and study the shipped checkpoints, in a checkout."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from rlcircuits.cli.parts import DOES_NOT_HOLD, HOLDS, command, tell
from rlcircuits.common.errors import RLCircuitsError


def add_fixtures(commands: Any) -> None:
    """Add the ``fixtures`` command and its actions."""
    fixtures = commands.add_parser("fixtures", help="train, check or study the shipped checkpoints (in a checkout)")
    actions = fixtures.add_subparsers(title="actions", required=True, metavar="ACTION")
    train = command(
        actions, "train", _train, "train one by its committed recipe, and the base it starts from", kept_in="out"
    )
    train.add_argument("--family", required=True, metavar="F", help="such as llama-sums")
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("--algorithm", metavar="A", help="such as grpo")
    which.add_argument("--all", action="store_true", help="all of the family's that are not there yet, in order")
    train.add_argument(
        "--seed", type=int, metavar="S", help="default: the first of the family's shipped ones; with --all each of them"
    )
    train.add_argument("--out", metavar="DIR", help="default: the checkout's fixtures folder")
    train.add_argument("--force", action="store_true", help="replace another checkpoint that is in the way")
    train.add_argument("--split", default="test", help="that accuracy is measured on (default: %(default)s)")
    train.add_argument("--snapshots", metavar="DIR", help="keep a model folder every few steps")
    train.add_argument("--every", type=int, default=10, metavar="N", help="steps (default: %(default)s)")
    train.add_argument(
        "--temperature", type=float, metavar="T", help="of online RL's sampling, in place of the recipe's; with --out"
    )
    verify = command(actions, "verify", _verify, "check files, provenance and accuracy: 0 all is well, 1 it is not")
    verify.add_argument("--root", metavar="DIR", help="default: the checkout's fixtures folder")
    verify.add_argument("--no-accuracy", action="store_true", help="do not let every checkpoint answer again")
    overview = command(actions, "overview", _overview, "every pair's verdict, and whose doing the effects are")
    overview.add_argument("comparisons", metavar="DIR", help="as `pytest benchmarks/ --rlcircuits-output DIR` wrote it")
    overview.add_argument("--declare", action="store_true", help="write zoo.toml anew, with what does not hold")
    sensitivity = command(
        actions, "sensitivity", _sensitivity, "the verdicts under other choices of alpha, K, bins, ...", kept_in="work"
    )
    dynamics = command(
        actions, "dynamics", _dynamics, "train again and follow the metrics along training", kept_in="work"
    )
    dynamics.add_argument("--family", default="llama-sums", metavar="F", help="(default: %(default)s)")
    dynamics.add_argument("--seed", type=int, metavar="S", help="default: the family's first shipped one")
    for study in (sensitivity, dynamics):
        study.add_argument(
            "--work", required=True, metavar="DIR", help="kept there, and gone on from: what was done so far"
        )


def _train(options: argparse.Namespace) -> int:
    checkout = _checkout()
    recipe = _recipe(checkout)
    common = {
        "seed": options.seed,
        "out": options.out or checkout / "fixtures",
        "progress": sys.stderr.isatty(),
        "split": options.split,
        "notify": tell,
    }
    if options.all:
        single = {"--force": options.force, "--snapshots": options.snapshots, "--temperature": options.temperature}
        for flag, value in single.items():
            if value:
                raise RLCircuitsError(f"{flag} is for one checkpoint; it does not go with --all")
        print("\n".join(map(str, recipe.train_missing(options.family, **common))))
        return HOLDS
    folder = recipe.train(
        options.family,
        options.algorithm,
        force=options.force,
        snapshots=options.snapshots,
        every=options.every,
        temperature=options.temperature,
        **common,
    )
    print(folder)
    return HOLDS


def _verify(options: argparse.Namespace) -> int:
    checkout = _checkout()
    root = options.root or checkout / "fixtures"
    problems = _recipe(checkout).verify(root, accuracy=not options.no_accuracy, progress=sys.stderr.isatty())
    print("\n".join(problems) if problems else f"{root}: every checkpoint agrees with its provenance")
    return DOES_NOT_HOLD if problems else HOLDS


def _overview(options: argparse.Namespace) -> int:
    checkout = _checkout()
    print(_study(checkout).study_overview(checkout / "fixtures", Path(options.comparisons), options.declare))
    return HOLDS


def _sensitivity(options: argparse.Namespace) -> int:
    checkout = _checkout()
    print(_study(checkout).study_sensitivity(checkout / "fixtures", Path(options.work), sys.stderr.isatty()))
    return HOLDS


def _dynamics(options: argparse.Namespace) -> int:
    checkout = _checkout()
    settings = _recipe(checkout).FAMILIES.get(options.family)
    if settings is None:
        raise RLCircuitsError(f"unknown family {options.family!r}; known: {', '.join(_recipe(checkout).FAMILIES)}")
    seed = settings.seeds[0] if options.seed is None else options.seed
    picture = _study(checkout).study_dynamics(
        checkout / "fixtures", options.family, seed, Path(options.work), sys.stderr.isatty()
    )
    print(picture)
    return HOLDS


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
    return _module(checkout, "fixtures.recipe", "training", "train")


def _study(checkout: Path) -> Any:
    return _module(checkout, "fixtures.study", "a study", "train,plots")


def _module(checkout: Path, name: str, what: str, extras: str) -> Any:
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fixtures"):
            raise
        raise RLCircuitsError(f"{what} needs {error.name}: pip install 'rlcircuits[{extras}]'") from None
