"""Counts and types of five studies of pancreas and liver, in the files of their authors.

A study is a folder with these files, under their own names, as they are or as .gz. What no program
but theirs writes is read here: everything else is for `read_cells`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.cell_table import read_cell_table, with_cell_table
from scbert.files import open_decompressed

ROWS_AT_ONCE = 1000  # of a table: a study as a whole is gigabytes in float64
SPIKE_INS = ("ERCC-", "ERCC_", "eGFP")  # not of the cell
CELL_TYPE, WELL = "Characteristics[cell type]", "Characteristics[single cell well quality]"
DONOR, GOOD = "Characteristics[individual]", "OK"


def is_study(folder: Path) -> bool:
    """Whether a folder holds the counts of one of these studies."""
    return any(_find(folder, pattern) for pattern in STUDIES)


def read_study(folder: Path) -> ad.AnnData:
    """Read the counts of a study, with what its authors say of the cells in obs.

    Genes that are there several times are summed. What is added to cells (ERCC, eGFP) is left out.

    Raises
    ------
    ValueError
        If a file is missing or damaged.
    """
    pattern, read = next((name, read) for name, read in STUDIES.items() if _find(folder, name))
    try:
        return read(_find(folder, pattern), folder)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{folder} cannot be read as the study whose files are called {pattern} ({error}). "
            "Download its files again, and leave their names as they are (docs/benchmark.md)."
        ) from error


def _read_baron(files: list[Path], folder: Path) -> ad.AnnData:
    """GSE84133: cells x genes, a file for each donor, with barcode and assigned_cluster."""
    del folder
    donors = []
    for file in files:
        found = _read(file, ",", ("barcode", "assigned_cluster"))
        obs = found.texts.assign(donor=file.name.split("_")[1])
        donors.append(ad.AnnData(found.values, obs=obs, var=_named(found.columns)))
    return ad.concat(donors, join="inner")


def _read_muraro(files: list[Path], folder: Path) -> ad.AnnData:
    """GSE85241: genes x cells, SYMBOL__chrN and DONOR-PLATE_WELL; a table of types."""
    counts = _read(files[0], "\t")
    study = _of_genes([gene.partition("__")[0] for gene in counts.rows], counts)
    study.obs["donor"] = [cell.partition("-")[0].partition(".")[0] for cell in counts.columns]
    table = read_cell_table(_only(folder, "cell_type_annotation_Cels2016.csv"))
    table = table.set_axis(["cell", "cell_type"], axis=1)  # whose heading R writes somehow
    study.obs = with_cell_table(study.obs, table, "cell_type_annotation_Cels2016.csv")
    return study


def _read_segerstolpe(files: list[Path], folder: Path) -> ad.AnnData:
    """E-MTAB-5061: genes in rows; symbol, RefSeq ids, then RPKM of all cells, then their counts.

    The first line has the cells once. What SDRF calls no good well has no type.
    """
    with open_decompressed(files[0]) as handle:
        ids = handle.readline().decode().rstrip("\r\n").split("\t")[1:]
    columns = [0, *range(2 + len(ids), 2 + 2 * len(ids))]
    counts = replace(_read(files[0], "\t", columns=columns), columns=ids)
    study = _of_genes(counts.rows, counts)
    table = read_cell_table(_only(folder, "E-MTAB-5061.sdrf.txt"))
    table.loc[table[WELL] != GOOD, CELL_TYPE] = ""
    key = "Extract Name" if "Extract Name" in table else "Source Name"
    study.obs = with_cell_table(
        study.obs, table[[key, CELL_TYPE, DONOR]], "the columns of E-MTAB-5061.sdrf.txt"
    )
    return study


def _read_xin(files: list[Path], folder: Path) -> ad.AnnData:
    """GSE81608: RPKM, genes x cells, genes by NCBI's ids; a table of symbols and one of cells."""
    rpkm = _read(files[0], "\t")
    table = read_cell_table(_only(folder, "human_gene_annotation.csv"))
    symbols = dict(zip(table["gene.id"], table["symbol"], strict=True))
    study = _of_genes([symbols.get(gene, "") for gene in rpkm.rows], rpkm)
    cells = read_cell_table(_only(folder, "human_islet_cell_identity.txt"))
    study.obs = with_cell_table(study.obs, cells, "human_islet_cell_identity.txt")
    return study


def _read_macparland(files: list[Path], folder: Path) -> ad.AnnData:
    """GSE115469: normalised expression, genes x cells; a table of cells."""
    expression = _read(files[0], ",")
    study = _of_genes(expression.rows, expression)
    name = "GSE115469_CellClusterType.txt"
    study.obs = with_cell_table(study.obs, read_cell_table(_only(folder, name)), name)
    return study


STUDIES: Mapping[str, Callable[[list[Path], Path], ad.AnnData]] = {
    "*_human*_umifm_counts.csv": _read_baron,  # the folder may hold files of mice
    "GSE85241_cellsystems_dataset_4donors_updated.csv": _read_muraro,
    "pancreas_refseq_rpkms_counts_3514sc.txt": _read_segerstolpe,
    "GSE81608_human_islets_rpkm.txt": _read_xin,
    "GSE115469_Data.csv": _read_macparland,
}


@dataclass(frozen=True)
class _Numbers:
    """A table of numbers, CSR float32 (rows, columns), and its columns of text, by row."""

    rows: list[str]
    columns: list[str]
    values: sparse.csr_matrix
    texts: pd.DataFrame


def _find(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a name, packed or not; of one that is there as both the unpacked."""
    packed = {path.name.removesuffix(".gz"): path for path in folder.glob(f"{pattern}.gz")}
    plain = {path.name: path for path in folder.glob(pattern)}
    return [path for _, path in sorted((packed | plain).items())]


def _only(folder: Path, name: str) -> Path:
    found = _find(folder, name)
    if not found:
        raise ValueError(f"{name} is missing, and is needed beside the counts")
    return found[0]


def _read(
    file: Path, separator: str, texts: Sequence[str] = (), columns: Sequence[int] = ()
) -> _Numbers:
    """Read a table of numbers, a part of its rows at a time.

    Parameters
    ----------
    texts
        Columns that hold text.
    columns
        Places of the columns to read, of a table whose first line does not name them all; the first
        has the names of the rows. Empty: all columns, which the first line names.
    """
    rows, heading, numbers, told = list[str](), list[str](), [], []
    with pd.read_csv(
        file,
        sep=separator,
        header=None if columns else 0,
        skiprows=1 if columns else 0,
        usecols=list(columns) or None,
        index_col=0,
        keep_default_na=False,  # a gene may be called NA
        dtype=dict.fromkeys(texts, str),
        chunksize=ROWS_AT_ONCE,
        low_memory=False,
    ) as parts:
        for part in parts:
            values = part.drop(columns=list(texts))
            rows, heading = [*rows, *map(str, part.index)], list(map(str, values.columns))
            numbers.append(sparse.csr_matrix(values.to_numpy(dtype=np.float32)))
            told.append(part[list(texts)].set_axis(part.index.astype(str)))
    return _Numbers(rows, heading, sparse.vstack(numbers, format="csr"), pd.concat(told))


def _of_genes(genes: Sequence[str], table: _Numbers) -> ad.AnnData:
    """Return cells x genes; rows without a gene are left out, those of the same one summed.

    Parameters
    ----------
    genes
        Of each row of the table; empty: not known.
    """
    kept = np.flatnonzero([bool(gene) and not gene.startswith(SPIKE_INS) for gene in genes])
    number, names = pd.factorize(np.array(genes, dtype=object)[kept])
    sums = sparse.csr_matrix(
        (np.ones(len(kept), dtype=np.float32), (number, np.arange(len(kept)))),
        shape=(len(names), len(kept)),
    )
    values = sparse.csr_matrix((sums @ table.values[kept]).T)
    return ad.AnnData(values, obs=_named(table.columns), var=_named(names))


def _named(names: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index(list(names)).astype(object))
