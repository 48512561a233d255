"""Files .h5 of Cell Ranger, of version 2, 3 or later, read a part of the cells at a time.

Their matrix is features x cells, stored by cell: that is cells x features as CSR. Version 2 has a
group for each genome instead of `matrix`, and no types of features.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from scbert.cells.hdf5 import list_in, read_ends, read_names, refuse_links
from scbert.cells.parts import Parts
from scbert.cells.tenx import GENE, which_are_genes


def is_10x_h5(path: Path) -> bool:
    """Whether it is a file that is read as one of Cell Ranger."""
    return path.suffix == ".h5" and path.is_file()


def read_10x_h5(path: Path) -> ad.AnnData:
    """Read all of the file.

    Returns
    -------
    Cells x genes; var_names are Ensembl ids, var has gene_symbols.

    Raises
    ------
    ValueError
        As `open_10x_h5`.
    """
    with open_10x_h5(path) as (parts, cells, genes):
        return ad.AnnData(parts.read(0, len(cells)), obs=cells, var=genes)


@contextmanager
def open_10x_h5(path: Path) -> Iterator[tuple[Parts, pd.DataFrame, pd.DataFrame]]:
    """Open a file; of its matrix, float32, only the part that is asked for is read.

    Returns
    -------
    The matrix, cells x genes, the table of cells and that of genes, as `read_10x_h5`.

    Raises
    ------
    ValueError
        If the file is none of Cell Ranger's, is damaged, takes something from another file,
        declares more than it holds, or has no genes.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(h5py.File(path))
            refuse_links(file, str(path))
            group = file["matrix"] if "matrix" in file else _only_genome(file)
            cells = pd.DataFrame(index=read_names(list_in(group, "barcodes", "SO")))
            features, kinds = _features(group)
            ends = _ends(group, len(cells), len(features))
        except Exception as error:  # libhdf5 raises all kinds of errors
            raise ValueError(
                f"{path} cannot be read as an .h5 file of Cell Ranger ({error!r}). Give "
                "filtered_feature_bc_matrix.h5, complete, or an .h5ad file."
            ) from error
        kept = which_are_genes(kinds, path)
        shape = (len(cells), int(kept.sum()))
        data = group["data"].astype(np.float32)  # the part that is read
        yield (
            Parts(f"X of {path}", shape, data, group["indices"], ends, kept),
            *(cells, features[kept]),
        )


def _only_genome(file: h5py.File) -> h5py.Group:
    genomes = list(file)
    if len(genomes) != 1:
        raise ValueError(
            f"it has no 'matrix', and {len(genomes)} genomes ({', '.join(genomes[:3])}), but cells "
            "of one are needed"
        )
    return file[genomes[0]]


def _features(group: h5py.Group) -> tuple[pd.DataFrame, np.ndarray]:
    """Return symbols by Ensembl id, and the type of each feature."""
    if "features" in group:
        table = group["features"]
        identity = "gene_id" if "gene_id" in table else "id"  # id may be that of a probe
        names = ["name", identity, "feature_type"]
    else:
        table, names = group, ["gene_names", "genes"]
    columns = [read_names(list_in(table, name, "SO")) for name in names]
    symbols, ids = columns[:2]
    kinds = columns[2] if len(columns) == 3 else np.full(len(ids), GENE, dtype=object)
    return pd.DataFrame({"gene_symbols": symbols}, index=ids), kinds


def _ends(group: h5py.Group, n_cells: int, n_features: int) -> np.ndarray:
    """Check the sizes of the matrix; return where each cell ends."""
    declared = list_in(group, "shape", "iu")[:].tolist()
    if declared != [n_features, n_cells]:
        raise ValueError(
            f"its shape is {declared}, but there are {n_features} features and {n_cells} barcodes"
        )
    values, indices = list_in(group, "data", "iuf"), list_in(group, "indices", "iu")
    return read_ends(list_in(group, "indptr", "iu"), n_cells, len(values), len(indices))
