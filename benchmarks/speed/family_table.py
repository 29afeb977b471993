"""Time every mapped family against its floor, and write the table of docs/performance.md.

    python benchmarks/speed/family_table.py            # some minutes
    python benchmarks/speed/family_table.py --missing  # only families that have no number yet
    python benchmarks/speed/family_table.py --stored   # write the table of the stored numbers again

A number is the median of rounds of what ``test_family_speed.py`` times: attribution over the floor of the same batch,
one after the other. Here it is processor time on one thread, which other work on the machine changes least. The numbers
are kept in ``benchmarks/results/family_speed.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from family_models import VOCABULARY, enlarged, families
from measure import equal_sequences, floor
from tabulate import tabulate
from test_family_speed import ANSWER, COUNT, PROMPT

from rlcircuits import Checkpoint, attribute

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ROOT / "benchmarks" / "results" / "family_speed.json"
PAGE = ROOT / "docs" / "performance.md"
FIRST, LAST = "<!-- families -->\n", "<!-- /families -->\n"
ROUNDS = 7
SIDE_BY_SIDE = 3
"""Families in a row of the table."""


def measure(family: str) -> float:
    """Return the median of rounds of attribution's processor time over the floor's."""
    model = enlarged(family)
    checkpoint = Checkpoint(model)
    sequences = equal_sequences(COUNT, PROMPT, ANSWER, VOCABULARY)

    def ours() -> None:
        attribute(checkpoint, sequences, batch_tokens=COUNT * (PROMPT + ANSWER - 1))

    def plain() -> None:
        floor(model, sequences, COUNT)

    ours()
    plain()
    return statistics.median(_seconds(ours) / _seconds(plain) for _ in range(ROUNDS))


def _seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def table(numbers: dict[str, float]) -> str:
    """Return the table of the page."""
    cells = [(f"`{family}`", f"{ratio:.2f}") for family, ratio in sorted(numbers.items())]
    height = -(-len(cells) // SIDE_BY_SIDE)
    cells += [("", "")] * (height * SIDE_BY_SIDE - len(cells))
    rows = [[text for column in range(SIDE_BY_SIDE) for text in cells[column * height + row]] for row in range(height)]
    return tabulate(rows, headers=["`model_type`", "time"] * SIDE_BY_SIDE, tablefmt="github", disable_numparse=True)


def write_page(text: str) -> None:
    """Put the table between its two lines of the page."""
    head, rest = PAGE.read_text(encoding="utf-8").split(FIRST)
    PAGE.write_text(f"{head}{FIRST}\n{text}\n\n{LAST}{rest.split(LAST)[1]}", encoding="utf-8")


def main() -> None:
    """Measure the families that are to be measured, by default every one, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--missing", action="store_true", help="measure families that have no number yet")
    which.add_argument("--stored", action="store_true", help="measure nothing")
    options = parser.parse_args()
    stored = json.loads(NUMBERS.read_text(encoding="utf-8"))
    numbers = stored if options.missing or options.stored else {}
    torch.set_num_threads(1)
    for family in families() if not options.stored else ():
        if family not in numbers:
            numbers[family] = round(measure(family), 3)
            gc.collect()  # the model before it
            print(family, numbers[family], flush=True)
            NUMBERS.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write_page(table(json.loads(NUMBERS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
