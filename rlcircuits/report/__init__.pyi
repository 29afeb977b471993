from .json import load_comparison, save_comparison, to_json, to_json_list
from .page.write import to_html, write_page
from .plots import plot_comparison
from .terminal import detail, summary_rows, summary_table, variants_table

__all__ = [
    "detail",
    "load_comparison",
    "plot_comparison",
    "save_comparison",
    "summary_rows",
    "summary_table",
    "to_html",
    "to_json",
    "to_json_list",
    "variants_table",
    "write_page",
]
