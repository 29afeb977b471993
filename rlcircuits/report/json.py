"""Read and write comparisons: the former import path of :mod:`rlcircuits.comparison.storage`."""

from rlcircuits.comparison.storage import (
    find_comparisons,
    load_comparison,
    load_finished,
    save_comparison,
    to_json,
    to_json_list,
)

__all__ = [
    "find_comparisons",
    "load_comparison",
    "load_finished",
    "save_comparison",
    "to_json",
    "to_json_list",
]
