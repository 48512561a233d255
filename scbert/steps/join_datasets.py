"""Rule join_datasets: counts of several datasets -> one file of cells, each with its dataset."""

import logging
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.read import write_cells

log = logging.getLogger("scbert")
KEPT = ["cell_type", "batch", "library_size"]


def join_datasets(counts: list[Path], joined: Path) -> None:
    """Put the cells of several datasets into one file, with the genes that all of them have.

    Written: an AnnData with X (cells, genes) as in the files; obs cell_type, batch (empty: not
    known), library_size (all counts of the cell, also of genes that others lack) and dataset, the
    name of its file; var_names are symbols. Cells are called DATASET:CELL.

    Parameters
    ----------
    counts
        Files of rule read_counts.

    Raises
    ------
    ValueError
        If they have no gene in common.
    """
    parts = {file.stem: _named_by_symbol(ad.read_h5ad(file), file.stem) for file in counts}
    whole = ad.concat(parts, join="inner", label="dataset")
    if not whole.n_vars:
        genes = "; ".join(f"{name}: {', '.join(x.var_names[:3])}" for name, x in parts.items())
        raise ValueError(
            f"{', '.join(map(str, counts))} have no gene in common ({genes}), so their cells "
            "cannot be in one dataset. Give files whose genes are named alike, by symbols."
        )
    whole.obs = whole.obs.astype({"dataset": str})
    write_cells(joined, whole)
    log.info("%s: %d cells, %d genes of all %d", joined, *whole.shape, len(parts))


def _named_by_symbol(cells: ad.AnnData, name: str) -> ad.AnnData:
    """Return cells with what all datasets have; genes of the same symbol are left out."""
    symbols = cells.var["symbol"].where(cells.var["symbol"] != "", cells.var_names.to_series())
    once = ~symbols.duplicated(keep=False).to_numpy()
    obs = cells.obs.reindex(columns=KEPT).set_axis(name + ":" + cells.obs_names)
    obs["batch"] = obs["batch"].astype(object).where(obs["batch"].notna(), "").astype(str)
    obs["cell_type"] = obs["cell_type"].astype(str)
    var = pd.DataFrame(index=pd.Index(symbols[once].to_numpy(dtype=str)))
    return ad.AnnData(cells.X[:, once], obs=obs, var=var)
