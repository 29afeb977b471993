"""Write what a planned run costs on several workers."""

from __future__ import annotations

from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_bill import make_bill
from rlcircuits.release.plan_cost_table import show_duration

__all__ = ["show_bill"]


def show_bill(plan: Plan, workers: int) -> list[str]:
    """Return the lines that say what is left takes on a number of workers.

    Args:
        plan: the plan.
        workers: how many stages run at once.
    """
    title = f"On {workers:,} worker{'' if workers == 1 else 's'}:"
    if not plan.left:
        return [f"{title} nothing is left to do."]
    bill = make_bill(plan, workers)
    if bill is None:
        return [
            f"{title} unknown until the store of --output has a throughput; the first answers and scores of any pair "
            "write it."
        ]
    needs = [
        f"{1e-9 * size:,.2f} GB of {what}"
        for size, what in ((bill.weight_bytes, "weights"), (bill.cache_bytes, "cache while answering"))
        if size is not None
    ]
    memory = f"Each needs {' and '.join(needs)}" if needs else "How much memory each needs is not known"
    return [
        f"{title} at most {_hours(bill.seconds)} worker-hours, done after {show_duration(bill.wall_seconds)} "
        f"({bill.speedup:.1f} times as fast as one). The longest chain of stages takes "
        f"{show_duration(bill.longest_path)}: more workers are only faster where --ray lets several share a stage.",
        f"{memory}, and for the noise control after's weights once more on the CPU. A worker is one process on the "
        "hardware that the throughput was measured on; where that has one GPU, a worker-hour is a GPU-hour. Loading "
        "models and starting workers come on top.",
    ]


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}"
