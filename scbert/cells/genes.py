"""Genes: which ones the model knows, and which column of a file is which of them.

A gene is recognised by its Ensembl id, where the file has ids, and otherwise by its symbol.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.tables import read_table

ID_COLUMNS = ("gene_id", "gene_ids", "ensembl_id", "feature_id")
SYMBOL_COLUMNS = ("symbol", "feature_name", "gene_symbols", "gene_name")
ENSEMBL_ID = re.compile(r"^(ENS[A-Z]*G\d{11})(\.\d+)?(_PAR_Y)?$")
VOCABULARY_COLUMNS = ("symbol", "gene_id", "n_cells", "n_samples")


def gene_names(genes: pd.DataFrame) -> pd.DataFrame:
    """Return the symbol and the Ensembl id (without version) of each gene; empty where unknown.

    Parameters
    ----------
    genes
        `var` of an AnnData: the index holds symbols or Ensembl ids, and columns such as gene_ids or
        feature_name the other.
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
    values = genes[found].astype(object)
    return values.where(values.notna(), "").astype(str)


def read_gene_table(path: Path) -> pd.DataFrame:
    """Read a CSV of Ensembl id and symbol, and keep what is unambiguous both ways."""
    table = pd.read_csv(path, header=None, dtype=str, usecols=[0, 1], names=["gene_id", "symbol"])
    table = table[table.gene_id.str.match(ENSEMBL_ID, na=False)].dropna().drop_duplicates()
    once = ~table.gene_id.duplicated(keep=False) & ~table.symbol.duplicated(keep=False)
    return table[once].reset_index(drop=True)


def complete_names(names: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Add the Ensembl id of symbols and the symbol of Ensembl ids, where the table knows them."""
    ids = names.symbol.map(table.set_index("symbol").gene_id).fillna("")
    symbols = names.gene_id.map(table.set_index("gene_id").symbol).fillna("")
    completed = pd.DataFrame(
        {
            "symbol": names.symbol.where(names.symbol != "", symbols),
            "gene_id": names.gene_id.where(names.gene_id != "", ids),
        }
    )
    completed["symbol"] = completed.symbol.where(completed.symbol != "", completed.gene_id)
    return completed


def choose_genes(
    samples: Iterable[tuple[pd.DataFrame, np.ndarray]], min_cells: int, max_genes: int
) -> pd.DataFrame:
    """Choose the genes that the model knows.

    Parameters
    ----------
    samples
        For each sample its genes (from `complete_names`) and how many of its cells express each.
    min_cells
        Cells, over all samples, that must express a gene.
    max_genes
        If more are left, those that most cells express are kept (ties: the first by symbol).

    Returns
    -------
    Columns symbol, gene_id, n_cells, n_samples; sorted by symbol, as ASCII.

    Raises
    ------
    ValueError
        If no gene is left.
    """
    counted = [_count_genes(names, n_cells) for names, n_cells in samples]
    genes = (
        pd.concat(counted)
        .groupby("identity", sort=False)
        .agg({"symbol": "first", "gene_id": "first", "n_cells": "sum", "n_samples": "sum"})
    )
    genes = genes[(genes.n_cells >= min_cells) & (genes.symbol != "")]
    if genes.empty:
        raise ValueError(
            f"no gene is expressed in {min_cells} cells of the corpus. Lower "
            "vocabulary.min_cells or add cells."
        )
    genes = genes.sort_values(["n_cells", "symbol", "gene_id"], ascending=[False, True, True])
    genes = genes.drop_duplicates("symbol").head(max_genes)
    return genes.sort_values("symbol").reset_index(drop=True)[list(VOCABULARY_COLUMNS)]


def _count_genes(names: pd.DataFrame, n_cells: np.ndarray) -> pd.DataFrame:
    """Count the cells of one sample for each gene; of several columns, the fullest counts."""
    genes = names.assign(n_cells=n_cells, n_samples=(n_cells > 0).astype(int))
    genes["identity"] = genes.gene_id.where(genes.gene_id != "", genes.symbol)
    return genes.sort_values("n_cells", ascending=False, kind="stable").drop_duplicates("identity")


def read_vocabulary(path: Path) -> pd.DataFrame:
    """Read a vocabulary: the row number is the index of the gene."""
    return read_table(path, "symbol", "gene_id")


def vocabulary_sha256(vocabulary: pd.DataFrame) -> str:
    """Return the SHA-256 of the symbols, in order, joined by newlines."""
    return hashlib.sha256("\n".join(vocabulary.symbol).encode()).hexdigest()


@dataclass(frozen=True)
class GeneMatch:
    """Which gene of the vocabulary each gene of a file is.

    `index` has shape (genes of the file,); -1 where the vocabulary does not know the gene.
    """

    index: np.ndarray
    by_id: int
    by_symbol: int
    unmatched: list[str]
    vocabulary_size: int

    @property
    def matched(self) -> int:
        """Genes of the file that the vocabulary knows."""
        return self.by_id + self.by_symbol

    @property
    def measured(self) -> np.ndarray:
        """Return the genes of the vocabulary that the file measured, ascending."""
        return np.unique(self.index[self.index >= 0])

    def summary(self) -> dict:
        """Return the numbers for logs and reports."""
        return {
            "genes_in_file": len(self.index),
            "matched": self.matched,
            "matched_by_id": self.by_id,
            "matched_by_symbol": self.by_symbol,
            "unmatched": len(self.unmatched),
            "unmatched_examples": self.unmatched[:10],
            "vocabulary": self.vocabulary_size,
            "share_of_vocabulary": len(self.measured) / self.vocabulary_size,
        }


def match_genes(names: pd.DataFrame, vocabulary: pd.DataFrame) -> GeneMatch:
    """Recognise the genes of a file: by Ensembl id first, then by symbol."""
    known_ids = {gene: row for row, gene in enumerate(vocabulary.gene_id) if gene}
    known_symbols = {symbol: row for row, symbol in enumerate(vocabulary.symbol)}
    by_id = names.gene_id.map(known_ids)
    by_symbol = names.symbol.map(known_symbols).where(by_id.isna())
    index = by_id.fillna(by_symbol).fillna(-1).to_numpy(dtype=np.int64)
    shown = names.symbol.where(names.symbol != "", names.gene_id)
    return GeneMatch(
        index=index,
        by_id=int(by_id.notna().sum()),
        by_symbol=int(by_symbol.notna().sum()),
        unmatched=shown[index < 0].tolist(),
        vocabulary_size=len(vocabulary),
    )


def align(matrix: sparse.csr_matrix, match: GeneMatch) -> sparse.csr_matrix:
    """Put the columns into the order of the vocabulary, shape (cells, vocabulary).

    Columns that are the same gene are added up, so the matrix must be linear (counts), not log.
    """
    gene = match.index.astype(np.int32)[matrix.indices]
    known = np.flatnonzero(gene >= 0)
    ends = np.searchsorted(known, matrix.indptr)
    shape = (matrix.shape[0], match.vocabulary_size)
    aligned = sparse.csr_matrix((matrix.data[known], gene[known], ends), shape)
    aligned.sum_duplicates()  # sorts too; of genes nearly in order, twice as fast as a product
    return aligned
