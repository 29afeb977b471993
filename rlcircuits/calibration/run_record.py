"""One judged run of a calibration, as a line of JSON, so that an interrupted calibration goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import read_file
from rlcircuits.common.validation import describe_error
from rlcircuits.comparison.outcome import Outcome

CLAIM = "reference-accuracy"
"""The finding about the claim that a damaged checkpoint is as good as the undamaged one."""

Part = Literal["repeatability", "answers", "noise-answers", "nulls", "sabotage"]
"""What a run is part of. ``repeatability``: the default settings; ``answers``: fewer answers to a question;
``noise-answers``: noise draws scored on before's answers; ``nulls``: one checkpoint against itself; ``sabotage``:
damaged checkpoints."""


_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Run:
    """What one run of the gate said of one pair."""

    key: str
    """Hash of everything that the run depends on."""
    part: Part
    name: str
    """The pair's name, or that of a variant of the sabotage suite."""
    base: str
    """The checkpoint before training."""
    kind: str
    """The pair's algorithm, or the kind of damage."""
    tag: str
    """What the gate should say; see :data:`rlcircuits.checkpoints.sabotage.TAGS`. Empty outside the suite."""
    seed: int
    """The seed of the sampling."""
    n: int
    """Answers to each question."""
    outcome: Outcome
    findings: Annotated[Mapping[str, Outcome], Field(min_length=1)]
    """The outcome of each assertion that was looked at. Where accuracy alone decided, the metrics are missing."""
    pattern: bool
    """Whether all three metrics hold in online RL's directions."""
    before: _Share
    """Accuracy of before, as a share of all answers."""
    after: _Share
    reference: _Share | None
    """Accuracy of the undamaged checkpoint; None where nothing is claimed."""
    compared: _Count
    """Questions compared by the metrics; 0 where they were not measured."""
    seconds: float
    """Time of the run, without what the store already had."""
    by_k: Mapping[int, Outcome] = field(default_factory=dict)
    """The outcome on a random sample of so many of the compared questions, by their number."""
    noise_patterns: _Count = 0
    """Noise draws that show the pattern, each judged with the others as its control."""
    noise_draws: _Count = 0
    """Noise draws that could be judged so."""

    @property
    def without_claim(self) -> Outcome:
        """Return the outcome that the pair would have had without the claim about its accuracy."""
        found = [outcome for measure, outcome in self.findings.items() if measure != CLAIM]
        if "does not hold" in found:
            return "does not hold"
        return "inconclusive" if "inconclusive" in found or not self.compared else "holds"


_RUN: TypeAdapter[Run] = TypeAdapter(Run)


def read_runs(file: Path) -> dict[str, Run]:
    """Return the runs of a file by their keys; a last line that was cut off is left out.

    Raises:
        RLCircuitsError: another line is no run.
    """
    if not file.exists():
        return {}
    lines = read_file(file, "the runs of a calibration").splitlines(keepends=True)
    runs = {}
    for number, line in enumerate(lines, start=1):
        try:
            run = _RUN.validate_json(line)
        except ValidationError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                continue  # the process was killed while it wrote this line
            raise RLCircuitsError(
                f"{file}, line {number}{describe_error(error)}; remove the line, and the run is made again"
            ) from None
        runs[run.key] = run
    return runs


def append_run(file: Path, run: Run) -> None:
    """Add a run to the end of a file; what a killed process left of a line is removed first."""
    if file.exists() and (text := file.read_bytes()) and not text.endswith(b"\n"):
        file.write_bytes(text[: text.rfind(b"\n") + 1])
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(run)) + "\n")
