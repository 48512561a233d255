"""From a file of cells to a matrix of counts, and what can be wrong on the way."""

import re
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from scbert.cells.choose import Candidate, Chosen, choose_matrix
from scbert.cells.count_table import read_count_table
from scbert.cells.hdf5 import MissingFilter, SlashInName, refuse_slashes, require_filters
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import parts_in_memory
from scbert.cells.other_formats import other_format
from scbert.cells.plain_text import make_plain
from scbert.cells.stores import is_zarr, open_anndata
from scbert.cells.studies import is_study, read_study
from scbert.cells.tenx import is_10x_h5, read_10x_folder, read_10x_h5
from scbert.files import publish

UNIQUE_CELLS = "adata.obs_names_make_unique()"
UNIQUE_GENES = "use Ensembl ids as var_names, or sum those columns"
ID_COLUMNS = ("gene_id", "gene_ids", "ensembl_id", "feature_id")
SYMBOL_COLUMNS = ("symbol", "feature_name", "gene_symbols", "gene_name")
ENSEMBL_ID = re.compile(r"^(ENS[A-Z]*G\d{11})(\.\d+)?(_PAR_Y)?$")


def read_cells(path: Path) -> ad.AnnData:
    """Read all of a file of cells: .h5ad, .h5mu, 10x .h5, .csv, .tsv, or a folder.

    A folder holds zarr, what Cell Ranger writes, or one of the studies of `read_study`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is none of these.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Check the path, or run the step that makes it."
        )
    if path.is_dir():
        cells = _read_folder(path)
        make_plain(cells)
        return cells
    if path.suffix not in READERS:
        raise other_format(path)
    cells = READERS[path.suffix](path)
    make_plain(cells)
    return cells


def _read_folder(path: Path) -> ad.AnnData:
    if is_zarr(path):
        return _read_store(path)
    return read_study(path) if is_study(path) else read_10x_folder(path)


def _read_h5ad(path: Path) -> ad.AnnData:
    try:
        with h5py.File(path) as file:
            require_filters(file, str(path))
            refuse_slashes(file, str(path))
        with warnings.catch_warnings():  # files of older versions are read all the same
            warnings.filterwarnings("ignore", category=ad.OldFormatWarning)
            warnings.filterwarnings("ignore", message="Moving element from")
            return ad.read_h5ad(path)
    except (MissingFilter, SlashInName):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an AnnData file ({error}). Cells are needed as a complete "
            ".h5ad file: write or download it again."
        ) from error


def write_cells(path: Path, adata: ad.AnnData) -> None:
    """Write an .h5ad file, which appears when it is complete."""
    with publish(path) as unfinished:
        adata.write_h5ad(unfinished)


def _read_h5(path: Path) -> ad.AnnData:
    return read_10x_h5(path) if is_10x_h5(path) else _read_h5ad(path)


def _read_store(path: Path) -> ad.AnnData:
    """Read the AnnData of a folder of zarr, or the modality rna of a MuData."""
    with open_anndata(path, str(path)) as store:
        try:
            found = read_elem(store)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as AnnData ({error}). Write or download it again."
            ) from error
    if not isinstance(found, ad.AnnData):
        raise ValueError(
            f"{path} holds no AnnData as anndata writes it since version 0.8. Read it with the "
            "program that made it, and write it with a newer anndata."
        )
    return found


READERS = {
    ".csv": read_count_table,
    ".h5": _read_h5,
    ".h5ad": _read_h5ad,
    ".h5mu": _read_store,
    ".tsv": read_count_table,
}


def require_unique(what: str, index: pd.Index, remedy: str, name: str) -> None:
    """Refuse names that occur more than once."""
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"{name} has {len(repeated)} {what} that occur more than once "
            f"({', '.join(repeated[:3])}). They must be unique, or cells and genes would be mixed "
            f"up. Do: {remedy}."
        )


def matrix_of(adata: ad.AnnData, reading: HowToRead, name: str) -> Chosen:
    """Choose a matrix of the AnnData; it is not copied.

    Raises
    ------
    ValueError
        If it does not exist, is damaged, or its genes repeat.
    """
    present = {f"layers/{key}": (adata.layers[key], adata.var) for key in adata.layers}
    if adata.raw is not None:
        present["raw.X"] = (adata.raw.X, adata.raw.var)
    if adata.X is not None:
        present["X"] = (adata.X, adata.var)
    candidates = [
        Candidate(key, genes, partial(parts_in_memory, values, f"{key} of {name}"))
        for key, (values, genes) in present.items()
    ]
    chosen = choose_matrix(candidates, reading, name)
    require_unique("gene names", chosen.genes.index, UNIQUE_GENES, f"{chosen.found} of {name}")
    return chosen


def library_sizes(obs: pd.DataFrame, key: str, name: str) -> np.ndarray | None:
    """Return all counts of each cell from a column of obs, (cells,); None for an empty key."""
    if not key:
        return None
    sizes = pd.to_numeric(require_column(obs, key, name), errors="coerce").to_numpy(
        dtype=np.float64
    )
    usable = (sizes > 0) & np.isfinite(sizes)
    if not usable.all():
        raise ValueError(
            f"obs['{key}'] of {name} is not a positive number in {np.sum(~usable)} cells, but it "
            "must hold all counts of each cell. Correct the column, or give another one."
        )
    return sizes


def require_column(obs: pd.DataFrame, key: str, name: str) -> pd.Series:
    """Return a column of obs, see `require_known`."""
    require_known(key, list(obs.columns), name)
    return obs[key]


def require_known(key: str, columns: list[str], name: str) -> None:
    """Refuse the name of a column of obs that does not exist.

    Raises
    ------
    ValueError
        If it does not exist, with those that do.
    """
    if key not in columns:
        raise ValueError(
            f"{name} has no column obs['{key}']; it has {', '.join(map(str, columns)) or 'none'}. "
            "Name the right column."
        )


def gene_names(genes: pd.DataFrame) -> pd.DataFrame:
    """Return the symbol and the Ensembl id (without version) of each gene; empty where unknown.

    Parameters
    ----------
    genes
        `var` of an AnnData: the index holds symbols or Ensembl ids, and columns such as gene_ids or
        feature_name the other.

    Raises
    ------
    ValueError
        If there are two columns of such a name.
    """
    index = pd.Series(genes.index.astype(str), index=genes.index)
    ids = _first_column(genes, ID_COLUMNS)
    symbols = _first_column(genes, SYMBOL_COLUMNS)
    by_index = index.str.extract(ENSEMBL_ID)[0].fillna("")
    ids = by_index if ids is None else ids.str.extract(ENSEMBL_ID)[0].fillna(by_index)
    of_index = index.where(by_index == "", "")
    symbols = of_index if symbols is None else symbols.where(symbols != "", of_index)
    return pd.DataFrame({"symbol": symbols.to_numpy(), "gene_id": ids.to_numpy()})


def _first_column(genes: pd.DataFrame, names: Iterable[str]) -> pd.Series | None:
    found = next((name for name in names if name in genes.columns), None)
    if found is None:
        return None
    if isinstance(genes[found], pd.DataFrame):
        raise ValueError(
            f"var has {genes[found].shape[1]} columns '{found}', so which names the genes is not "
            "known. Keep one of each name: adata.var = "
            "adata.var.loc[:, ~adata.var.columns.duplicated()]."
        )
    values = genes[found].astype(object)
    return values.where(values.notna(), "").astype(str)
