"""Counts as text, separated by commas (.csv) or tabs (.tsv): cells x genes, or genes x cells."""

import csv
import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.scale import whole_numbers
from scbert.shipped import ENCODER, shipped_models

log = logging.getLogger(__name__)
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SURE = 5  # rows named like human genes, where no column is: cells are not called so


def read_count_table(path: Path) -> ad.AnnData:
    """Read a table of counts; what is 1e-11 off an integer, as floats written as text, is that.

    The first column names the cells and the first line the genes, or the reverse: genes are told by
    their names.

    Raises
    ------
    ValueError
        If it is no such table, or the cells have no ids or repeated ones.
    """
    table, header = _read(path)
    genes = header[-table.shape[1] :]  # pandas renames repeated ones
    values = table.to_numpy(dtype=np.float64)
    cells = [str(cell) for cell in table.index]
    in_rows, in_columns = _known(cells), _known(genes)
    if in_rows >= SURE and not in_columns:
        log.info(
            "%s: genes x cells, for %s rows and no column have names of human genes: read "
            "transposed",
            *(path, f"{in_rows:,}"),
        )
        cells, genes, values = genes, cells, values.T
    else:
        _require_ids(path, table, header)
    _require_unique(path, cells)
    if whole_numbers(values):
        values = np.round(values)
    return ad.AnnData(
        sparse.csr_matrix(values, dtype=np.float32),
        obs=pd.DataFrame(index=pd.Index(cells, dtype=object)),
        var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
    )


def _read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the numbers, the first column as their index, and the first line."""
    separator = SEPARATORS[path.suffix]
    try:
        table = pd.read_csv(path, sep=separator, index_col=0, converters={0: str}, low_memory=False)
        if table.empty:
            raise ValueError(f"{table.shape[0]} cells and {table.shape[1]} genes")
        text = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
        if text:
            raise ValueError(f"column '{text[0]}' holds text, such as '{table[text[0]].iloc[0]}'")
        with path.open(newline="") as handle:
            return table, next(csv.reader(handle, delimiter=separator))
    except ValueError as error:
        separated = "commas" if separator == "," else "tabs"
        raise ValueError(
            f"{path} is not a table of counts ({error}). Give cells x genes, separated by "
            f"{separated}, with the cell in the first column and the genes in the first line."
        ) from error


def _known(names: Iterable[str]) -> int:
    """Return how many of the names are those of human genes."""
    return len(
        {name.split(".")[0] if name.startswith("ENSG") else name for name in names} & _genes()
    )


@cache
def _genes() -> set[str]:
    """Return symbols, Ensembl ids and older names of the genes of the package's encoder."""
    path = shipped_models()[ENCODER] / "genes.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    older = {name for names in table.aliases for name in names.split("|")}
    return {*table.symbol, *table.gene_id, *older} - {""}


def _require_ids(path: Path, table: pd.DataFrame, header: list[str]) -> None:
    """Refuse a table whose first column is a gene: its counts would pass for ids."""
    if len(header) == table.shape[1]:  # as R writes it: the first column has no name
        return
    numbers = pd.to_numeric(pd.Series(table.index), errors="coerce").notna().all()
    repeated = table.index[table.index.duplicated()]
    if numbers and (len(repeated) or header[0] in _genes()):
        copy, separator = path.with_name(f"{path.stem}_ids{path.suffix}"), SEPARATORS[path.suffix]
        raise ValueError(
            f"the first column of {path}, '{header[0]}', holds numbers "
            f"({', '.join(map(str, table.index[:3]))}), so it looks like a gene, and the cells "
            f'have no ids. Do: python -c "import pandas as pd; t = pd.read_csv({str(path)!r}, '
            f"sep={separator!r}); t.index = 'cell' + t.index.astype(str); "
            f't.to_csv({str(copy)!r}, sep={separator!r})"'
        )


def _require_unique(path: Path, cells: list[str]) -> None:
    index = pd.Index(cells)
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"{path} has {len(repeated)} cell ids that occur more than once "
            f"({', '.join(repeated[:3])}). They must be unique: give each cell another name, such "
            "as its sample and its barcode."
        )
