"""The pairs file that `rlcircuits init` writes: every option is in it, and at its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rlcircuits.release.option import SECTIONS
from rlcircuits.release.options import options_in
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.settings import Settings
from rlcircuits.release.sign_rules import SignRules
from rlcircuits.release.template import pairs_file_template


def test_the_file_as_it_is_written_changes_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "release.toml"
    file.write_text(pairs_file_template("release.toml", {"after": 'odd"name'}), encoding="utf-8")
    loaded = load_pairs_file(write_pair(file))
    assert loaded.make_settings() == Settings()
    (pair,) = loaded.pairs
    assert (pair.name, pair.algorithm, pair.questions.name) == ("release", "grpo", "gsm8k")
    assert pair.after == str(tmp_path / 'odd"name')


def write_pair(file: Path) -> Path:
    """Make the folders that the template's pair names."""
    for name in ("checkpoints/sft", 'odd"name'):
        (file.parent / name).mkdir(parents=True)
    return file


def test_every_option_is_there_and_may_be_set() -> None:
    text = pairs_file_template("release.toml", {})
    lines = r"^# (?=\[\[questions|\[circuits|\[signs|(?!circuits)[\w.]+ = )"
    found = tomllib.loads(re.sub(lines, "", text, flags=re.M))
    rules = SignRules.model_validate(found["signs"])
    assert set(found["signs"]) == set(SignRules.model_fields)
    assert (rules.gate, rules.beta) == (SignRules().gate, SignRules().beta)
    tables = {
        "settings": found["settings"],
        "settings.sampling": found["settings"]["sampling"],
        "settings.prompting": found["settings"]["prompting"],
        "circuits": found["circuits"],
        "pair": found["pair"][0],
        "questions": found["questions"][0],
    }
    for section in SECTIONS:
        for option in options_in(section):
            value = option.default if option.example is None else option.example
            assert tables[section][option.name] == value


def test_no_line_is_too_long() -> None:
    text = pairs_file_template("release.toml", {})
    assert max(map(len, text.splitlines())) <= 120
