"""``rlcircuits check`` of every malformed checkpoint: it ends with its findings, and finds what stops the others."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fault_check import Fault, check_sentence, run
from test_faults_checkpoints import FOLDER, faults

KIND = "checkpoint that is checked"


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_check(fault: Fault, count: Callable[[str], None]) -> None:
    command = fault.make()[0]
    outcome = run(["check", FOLDER, "--device", "cpu", "--json"])
    assert outcome.code in (0, 1), f"exit code {outcome.code}: {outcome.err}"
    assert "Traceback" not in outcome.err
    (model,) = json.loads(outcome.out)["models"]
    assert model["supported"] == (outcome.code == 0) == (not model["problems"])
    for sentence in (*model["problems"], *model["notes"]):
        check_sentence(f"rlcircuits: {sentence}", ())
    # What makes an answer impossible (a tokenizer, a chat template) leaves a checkpoint that can be scored.
    if command == "attribute" and not fault.harmless:
        assert model["problems"], "what stops attribution is not found"
    count("refused" if model["problems"] else "ran")
