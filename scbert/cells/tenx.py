"""Counts as 10x Genomics' Cell Ranger writes them into a folder around matrix.mtx.

Only features of type 'Gene Expression' are kept: antibodies and guides are not genes.
"""

import gzip
import logging
from io import BufferedIOBase
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mminfo, mmread

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
