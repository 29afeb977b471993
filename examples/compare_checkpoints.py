"""Compare a checkpoint before training with one after it, and read the verdict.

    python examples/compare_checkpoints.py

To be done in seconds this asks few questions. A release asks more of them: see docs/gate-your-release.md.
"""

from __future__ import annotations

from pathlib import Path

import rlcircuits

FAMILY = Path(__file__).resolve().parent.parent / "fixtures" / "llama-sums" / "seed-7"


def main() -> None:
    """Measure one pair, print its table, and say which assertion fails, if one does."""
    pair = rlcircuits.Pair(
        name="sums",
        before=str(FAMILY / "sft"),
        after=str(FAMILY / "grpo"),
        algorithm="grpo",
        questions="arithmetic",
    )
    settings = rlcircuits.Settings(question_count=200, batch_size=800, noise_draws=1)
    comparison = rlcircuits.run_pair(pair, settings, notify=print)

    print()
    print(rlcircuits.summary_table([comparison]))

    verdict = rlcircuits.judge(comparison)
    print(f"\nverdict: {verdict.words}")
    for measure, finding in verdict.all_findings.items():
        print(f"  {measure}: {finding.words}")
    for measure in verdict.failed:
        print(f"\n{verdict.all_findings[measure].message}")


if __name__ == "__main__":
    main()
