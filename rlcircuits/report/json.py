"""The functions that read and write comparisons, under the path they had before they moved to comparison/storage."""

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
