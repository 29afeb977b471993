"""Stored results with something changed in them, and what a verification says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcircuits import Answers
from rlcircuits.release.verification import Check, Verification


def checks_of(verification: Verification) -> dict[str, Check]:
    return {check.part: check for check in verification.checks}


def differing(verification: Verification) -> set[str]:
    return {check.part for check in verification.checks if check.agreement == "differs"}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def set_at(document: Any, field: str, value: object) -> None:
    *way, last = (int(name) if name.isdigit() else name for name in field.split("."))
    for name in way:
        document = document[name]
    document[last] = value


def edit_answers(path: Path, change: Callable[[Any], Any]) -> None:
    answers = Answers.load(path)
    replace(answers, items=change(answers.items)).save(path)
