"""Rule select_benchmark_cells: counts + a task -> the two files of cells that every method gets."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.read import write_cells
from scbert.tables import read_table

GIVEN = ["batch", "library_size"]


def select_benchmark_cells(counts: list[Path], task: Path, learned: Path, query: Path) -> None:
    """Write the cells to learn from, with the types that are taught, and those to name, without.

    Written: AnnData with X (cells, genes) counts, CSR float32, in obs batch (empty: not known) and
    library_size, and of the cells to learn from cell_type.

    Parameters
    ----------
    counts
        As for `make_benchmark_tasks`.
    """
    table = read_table(task, "row", "cell", "part", "cell_type")
    table.index = pd.Index(table["row"].astype(int))
    files = [ad.read_h5ad(file) for file in counts]
    taught = table[table["part"] == "learned"]
    cells = _cells(files, taught)
    cells.obs["cell_type"] = taught["cell_type"].to_numpy(dtype=str)
    write_cells(learned, cells)
    write_cells(query, _cells(files, table[table["part"] == "query"]))


def _cells(files: list[ad.AnnData], lines: pd.DataFrame) -> ad.AnnData:
    """Return some cells of one of the files, whose rows are numbered one after the other."""
    rows, ends = lines.index.to_numpy(), np.cumsum([0, *(file.n_obs for file in files)])
    number = int(np.searchsorted(ends, rows[0], side="right")) - 1
    file, own = files[number], rows - ends[number]
    obs = file.obs.iloc[own].reindex(columns=GIVEN)
    obs["batch"] = obs["batch"].astype(object).where(obs["batch"].notna(), "").astype(str)
    return ad.AnnData(file.X[own], obs=obs, var=file.var[[]].copy())
