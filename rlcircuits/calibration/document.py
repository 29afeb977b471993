"""The page that a calibration writes: every table, with the commands that print it."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.calibration.run_record import Run
from rlcircuits.calibration.tables import (
    cost_words,
    damaged_words,
    harmless_words,
    noise_answers_table,
    null_table,
    passing_table,
    power_table,
    repeatability_table,
    repeatability_words,
    sabotage_table,
)
from rlcircuits.calibration.tasks import NULL_ANSWERS

_HEAD = """\
# Calibration

How often the gate is wrong: false alarms, repeatability, power and sabotage, measured by running it. The
[rule](verdict.md#how-the-rule-was-fixed) was fixed before these runs. This page is written by

```bash
{command}
```

The command takes hours, goes on where it stopped, and replaces the file that `--page` names. Each run samples with a
seed of its own, from 1000 on. Runs of one pair with other sampling seeds are not other pairs, and the pairs of one
base share it, so an interval over runs is narrower than one over trainings would be.
"""

_NULLS = """\
## False alarms

Two nulls: a checkpoint against itself, sampled with two seeds and judged as online RL without a noise control, with at
most {most} answers to each question; and before with noise that matches the update, judged with the other draws as its
control. Intervals are Clopper-Pearson, 95 %.

{table}
"""

_REPEATABILITY = """\
## Repeatability

Each pair, the same questions, another sampling seed in each run, the file's settings. The seeds, from 2000 on, are
not those of runs with another number of answers.

{table}

{words}
"""

_POWER = """\
## Power

n is the number of answers to each question, K the number of compared questions (a random sample of those that pass
the protocol; accuracy and the noise control are those of all questions, so that a small K looks steadier than it is).

{table}

{cost}
"""

_NOISE_ANSWERS = """\
## Noise draws on before's answers

`noise_answers = "before"` saves the generation of each draw's answers. The same runs, judged both ways:

{table}
"""

_SABOTAGE = """\
## Sabotage

Checkpoints that a gate must not take for online RL (*untrained*, *supervised*), trained checkpoints that were
*damaged*, *harmless* changes of them, and checkpoints *along the update* of the trained one
(`rlcircuits.checkpoints.sabotage`). All are declared as online RL. Only as much is measured as decides whether a
variant holds: the metrics where accuracy does not fail it, the noise control where it holds without. So
*inconclusive* and *does not hold* are told apart without a control.

{table}

{damaged} {harmless}

Variants that hold in any run although they are untrained, supervised or damaged:

{passing}
"""


def calibration_page(runs: Sequence[Run], command: str) -> str:
    """Return the page in Markdown; a part that was not run is left out.

    Args:
        runs: all runs.
        command: the command that makes them.
    """
    parts = {run.part for run in runs}
    sections = [_HEAD.format(command=command)]
    if "nulls" in parts:
        sections.append(_NULLS.format(table=null_table(runs), most=NULL_ANSWERS))
    if "repeatability" in parts:
        sections.append(_REPEATABILITY.format(table=repeatability_table(runs), words=repeatability_words(runs)))
    if parts & {"repeatability", "answers"}:
        sections.append(_POWER.format(table=power_table(runs), cost=cost_words(runs)))
    if "noise-answers" in parts:
        sections.append(_NOISE_ANSWERS.format(table=noise_answers_table(runs)))
    if "sabotage" in parts:
        words = {"damaged": damaged_words(runs), "harmless": harmless_words(runs)}
        sections.append(_SABOTAGE.format(table=sabotage_table(runs), passing=passing_table(runs), **words))
    return "\n".join(sections)
