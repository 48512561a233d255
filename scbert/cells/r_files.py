"""PanglaoDB's files of counts.

Franzen et al. 2019, Database baz046. A sample is an R file with the object `sm`, a sparse matrix of
genes x cells (dgCMatrix), whose row names are SYMBOL_ENSEMBLID.VERSION, with _PAR_Y behind it for
the copy on Y of a gene that X and Y share: one gene, whose reads are shared between the two rows.
"""

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.quality import UnusableSample
from scbert.cells.r_objects import RObject, fields, read_objects

ROW_NAME = re.compile(r"(?:(.+)[_-])?(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?")


def read_rdata(path: Path, max_gb: float) -> ad.AnnData:
    """Read the counts of a PanglaoDB sample.

    Parameters
    ----------
    max_gb
        The file may not be larger once decompressed, GB.

    Returns
    -------
    Cells x genes, CSR float32; obs by SAMPLE_BARCODE; var symbol and gene_id (without version).
    Genes that occur in several rows of one Ensembl id are added up; stored zeros are gone.

    Raises
    ------
    UnusableSample
        If the file is whole but has no `sm` (RPKM only), or a barcode twice.
    ValueError
        If it cannot be read: damaged, too large, or holding more than data.
    """
    objects = read_objects(path, int(max_gb * 1e9))
    if "sm" not in objects:
        raise UnusableSample(
            f"{path} holds {', '.join(objects) or 'nothing'}, but counts are in 'sm'. Files with "
            "RPKM only (sm2) cannot be used: exclude the sample in config/exclusions.tsv."
        )
    try:
        rows, barcodes, matrix = _matrix(objects["sm"])
    except (KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"'sm' of {path} is not a sparse matrix of genes x cells ({error!r}). "
            "Download it again."
        ) from error
    sample = path.name.split(".")[0]
    cells = pd.Index([f"{sample}_{barcode}" for barcode in barcodes], dtype=object)
    if not cells.is_unique:
        raise UnusableSample(
            f"{path} has {cells.duplicated().sum()} cells whose barcode another cell has too "
            f"({cells[cells.duplicated()][0]}), so they cannot be told apart. Exclude the sample."
        )
    counts, var = _add_up(matrix, rows)
    return ad.AnnData(counts, obs=pd.DataFrame(index=cells), var=var)


def _matrix(sm: RObject) -> tuple[list[str], list[str], sparse.csr_matrix]:
    """Return names of genes, barcodes, and cells x genes: the columns of `sm` are its rows."""
    slots = fields(sm.attributes)
    kind = slots["class"].value
    if kind != ["dgCMatrix"]:
        raise ValueError(f"it is a {kind}")
    n_genes, n_cells = (int(n) for n in slots["Dim"].value)
    row_names, barcodes = (names.value or [] for names in slots["Dimnames"].value)
    indptr, indices, values = (np.asarray(slots[name].value) for name in "pix")
    if (len(row_names), len(barcodes), len(indptr)) != (n_genes, n_cells, n_cells + 1):
        raise ValueError(f"{len(row_names)} x {len(barcodes)} names, {n_genes} x {n_cells} values")
    if indptr[0] != 0 or indptr[-1] != len(indices) or len(values) != len(indices):
        raise ValueError(f"{indptr[-1]} values are declared, {len(values)} are there")
    if (np.diff(indptr) < 0).any():
        raise ValueError("its cells overlap")
    _check_rows(indices, indptr, n_genes)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        counts = values.astype(np.float32)
    if not np.isfinite(counts).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(counts))} values are not finite numbers")
    return row_names, barcodes, sparse.csr_matrix((counts, indices, indptr), (n_cells, n_genes))


def _check_rows(indices: np.ndarray, indptr: np.ndarray, n_genes: int) -> None:
    """Refuse genes that do not exist, or that do not ascend within a cell, as Matrix has it."""
    if not len(indices):
        return
    if indices.min() < 0 or indices.max() >= n_genes:
        raise ValueError(f"gene {indices.max()} of {n_genes}")
    ascends = indices[1:] > indices[:-1]
    starts = indptr[1:-1]
    ascends[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    if not ascends.all():
        raise ValueError("the genes of a cell are out of order")


def _add_up(
    matrix: sparse.csr_matrix, row_names: list[str]
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Add up the columns that are the same gene; the genes keep the order of their first column."""
    named = [_split(name) for name in row_names]
    genes = pd.Index([gene_id or symbol for symbol, gene_id in named], dtype=object)
    var = pd.DataFrame(named, index=genes, columns=["symbol", "gene_id"], dtype=object)
    number, unique = pd.factorize(var.index)
    repeated = var.index.duplicated()
    matrix.eliminate_zeros()
    if repeated.any():
        matrix = _merge(matrix, number.astype(np.int32), repeated, len(unique))
    return matrix, var[~repeated]


def _merge(
    matrix: sparse.csr_matrix, number: np.ndarray, repeated: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """Add up columns of the same number: the few repeated ones, taken out, are added to the rest.

    So the rest stays in order; a product of matrices, or sorting, takes three times as long.
    """
    extra = np.flatnonzero(repeated[matrix.indices])
    before = np.searchsorted(extra, matrix.indptr)
    columns = number[matrix.indices]
    shape = (matrix.shape[0], n_genes)
    others = np.delete(matrix.data, extra), np.delete(columns, extra), matrix.indptr - before
    added = sparse.csr_matrix((matrix.data[extra], columns[extra], before), shape)
    added.sum_duplicates()
    return sparse.csr_matrix(sparse.csr_matrix(others, shape) + added)


def _split(row_name: str) -> tuple[str, str]:
    """Split the name of a row at the last separator before ENS... into symbol and Ensembl id."""
    found = ROW_NAME.fullmatch(row_name)
    return (found[1] or "", found[2]) if found else (row_name, "")
