"""Counts as 10x Genomics' Cell Ranger writes them: a folder around matrix.mtx, or an .h5 file.

Of the latter, of version 2, 3 or later, a part of the cells is read at a time.
"""

import gzip
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mminfo, mmread

from scbert.cells.hdf5 import (
    MissingFilter,
    list_in,
    read_ends,
    read_names,
    refuse_links,
    require_filters,
)
from scbert.cells.matrix import Parts

log = logging.getLogger(__name__)
GENE = "Gene Expression"


def read_10x_folder(folder: Path) -> ad.AnnData:
    """Read matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), each plain or .gz.

    scanpy reads only two of these spellings, and takes a gene named NA for a missing one.

    Returns
    -------
    Cells x genes; var_names are Ensembl ids, var has gene_symbols.

    Raises
    ------
    ValueError
        If a file is missing or damaged, or they do not fit each other.
    """
    matrix = _find(folder, "matrix.mtx")
    try:
        barcodes = _read_names(_find(folder, "barcodes.tsv"))[0].to_numpy(dtype=object)
        features = _read_names(_find(folder, "features.tsv", "genes.tsv"))
        rows, columns, *_ = mminfo(matrix)  # before memory is reserved for what it declares
        if (rows, columns) != (len(features), len(barcodes)):
            raise ValueError(
                f"{matrix.name} declares {rows} x {columns}, but there are {len(features)} "
                f"features and {len(barcodes)} barcodes"
            )
        with _Ended(matrix) as text:
            counts = sparse.csr_matrix(mmread(text, spmatrix=False).T)
    except Exception as error:
        raise ValueError(
            f"{folder} cannot be read as a folder of Cell Ranger ({error!r}). Give a complete one."
        ) from error
    genes = pd.DataFrame({"gene_symbols": features.iloc[:, min(1, features.shape[1] - 1)]})
    genes = genes.set_index(features[0].to_numpy(dtype=object))
    kinds = features[2] if features.shape[1] > 2 else pd.Series(GENE, index=features.index)
    kept = which_are_genes(kinds.to_numpy(), folder)
    matrix = sparse.csr_matrix(counts, dtype=np.float32)[:, kept]
    return ad.AnnData(matrix, obs=pd.DataFrame(index=barcodes), var=genes[kept])


class _Ended(BufferedIOBase):
    """A text that ends its last line: of one that does not, mmread reads beyond the memory."""

    def __init__(self, path: Path) -> None:
        packed = path.suffix == ".gz"
        self.text = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115  see close
        self.ended = False

    def read(self, size: int | None = -1, /) -> bytes:
        some = self.text.read(size)
        if not some and not self.ended:
            self.ended, some = True, b"\n"
        return some

    def close(self) -> None:
        self.text.close()
        super().close()


def _find(folder: Path, *names: str) -> Path:
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise ValueError(
            f"{folder} has no {' or '.join(names)} (nor .gz), as a folder of Cell Ranger has: "
            "matrix.mtx, barcodes.tsv and features.tsv. Give that folder."
        )
    return found


def _read_names(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


def which_are_genes(kinds: np.ndarray, path: Path) -> np.ndarray:
    """Return which features, by their types (features,), are genes, and log what the others are.

    Raises
    ------
    ValueError
        If none is.
    """
    kept = kinds == GENE
    if not kept.all():
        others = pd.Series(kinds[~kept]).value_counts()
        said = ", ".join(f"{n} of {kind}" for kind, n in others.items())
        log.info("%s: %d features are genes; left out are %s", path, kept.sum(), said)
    if not kept.any():
        raise ValueError(
            f"{path} has no features of type '{GENE}', but cells are named by their genes. Give a "
            "file with gene expression."
        )
    return kept


def is_10x_h5(path: Path) -> bool:
    """Whether it is a file that is read as one of Cell Ranger: an .h5 that holds no AnnData."""
    if path.suffix != ".h5" or not path.is_file():
        return False
    try:
        with h5py.File(path) as file:
            return not {"obs", "var"} <= set(file)
    except (OSError, RuntimeError):
        return True  # its error says what is wrong


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
            require_filters(file, str(path))
            group = file["matrix"] if "matrix" in file else _only_genome(file)
            cells = pd.DataFrame(index=read_names(list_in(group, "barcodes", "SO")))
            features, kinds = _features(group)
            ends = _ends(group, len(cells), len(features))
        except MissingFilter:
            raise
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
    """Return the matrix of a file without 'matrix'; CellBender writes other groups beside it."""
    there = [key for key in file if isinstance(file[key], h5py.Group)]
    genomes = [key for key in there if "barcodes" in file[key]] or there
    if not genomes:
        raise ValueError(
            f"none of what it holds ({', '.join(list(file)[:5]) or 'nothing'}) is a matrix with "
            "barcodes"
        )
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
