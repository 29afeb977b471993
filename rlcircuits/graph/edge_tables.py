"""Tables of edges for pandas, which is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph

if TYPE_CHECKING:
    import pandas as pd


def import_pandas() -> Any:
    """Return the module pandas. Raises RLCircuitsError if it is not installed."""
    try:
        import pandas as pd
    except ImportError:
        raise RLCircuitsError(
            "to_pandas needs pandas, which is not installed: pip install 'rlcircuits[tables]'"
        ) from None
    return pd


def edge_table(graph: EdgeGraph, places: NDArray[np.int64], **columns: NDArray[Any]) -> pd.DataFrame:
    """Return a table with one row for each of some edges: ``writer``, ``reader``, and other columns.

    Args:
        graph: the graph of the edges.
        places: the row and column in the graph of each edge, int64 [edges, 2].
        columns: a value for each edge, by the column's name.

    Raises:
        RLCircuitsError: pandas is not installed.
    """
    frame = import_pandas().DataFrame
    writers, readers = (np.array(names, dtype=object) for names in (graph.writers, graph.readers))
    found: pd.DataFrame = frame({"writer": writers[places[:, 0]], "reader": readers[places[:, 1]], **columns})
    return found
