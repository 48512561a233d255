"""Genes: which column of a file is which gene of the vocabulary.

A gene is recognised by its Ensembl id, then by its approved symbol, then by a previous symbol or
alias that means no other gene.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.genes.overlap import MatchSummary
from scbert.genes.symbols import SEPARATOR, is_mouse_style
from scbert.tables import read_table

MOUSE_ID = "ENSMUSG"


def read_vocabulary(path: Path) -> pd.DataFrame:
    """Read a vocabulary: the row number is the index of the gene.

    Raises
    ------
    ValueError
        If a column is missing or a symbol is there twice.
    """
    vocabulary = read_table(path, "symbol", "gene_id")
    twice = vocabulary.symbol[vocabulary.symbol.duplicated()]
    if len(twice):
        raise ValueError(
            f"{path} has the symbol '{twice.iloc[0]}' twice, but each gene of a vocabulary has one "
            "number. Build the vocabulary again, or take an unchanged copy of the model."
        )
    return vocabulary


def vocabulary_sha256(vocabulary: pd.DataFrame) -> str:
    """Return the SHA-256 of the symbols, in order, joined by newlines."""
    return hashlib.sha256("\n".join(vocabulary.symbol).encode()).hexdigest()


@dataclass(frozen=True)
class GeneMatch:
    """Which gene of the vocabulary each gene of a file is.

    `index` has shape (genes of the file,); -1 where the vocabulary does not know the gene.
    `ambiguous` are those unmatched names that may mean a gene of the vocabulary or another. Of the
    `paired` genes the vocabulary knows both the id and the symbol; in `contradicting` ones they are
    of two genes, and the id was taken.
    """

    index: np.ndarray
    by_id: int
    by_symbol: int
    by_alias: int
    unmatched: list[str]
    ambiguous: list[str]
    vocabulary_size: int
    paired: int
    contradicting: list[str]

    @property
    def matched(self) -> int:
        """Genes of the file that the vocabulary knows."""
        return self.by_id + self.by_symbol + self.by_alias

    @property
    def measured(self) -> np.ndarray:
        """Return the genes of the vocabulary that the file measured, ascending."""
        return np.unique(self.index[self.index >= 0])

    @property
    def measured_row(self) -> np.ndarray:
        """Return which genes of the vocabulary the file measured, bool (vocabulary,)."""
        row = np.zeros(self.vocabulary_size, dtype=bool)
        row[self.measured] = True
        return row

    def share_of_counts(self, matrix: sparse.csr_matrix) -> float | None:
        """Return the share of the counts that fall on known genes; None if there are no counts.

        Parameters
        ----------
        matrix
            Counts, shape (cells, genes of the file).
        """
        per_gene = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
        total = per_gene.sum()
        return float(per_gene[self.index >= 0].sum() / total) if total else None

    def summary(self) -> MatchSummary:
        """Return the numbers for logs and reports."""
        return {
            "genes_in_file": len(self.index),
            "matched": self.matched,
            "matched_by_id": self.by_id,
            "matched_by_symbol": self.by_symbol,
            "matched_by_alias": self.by_alias,
            "unmatched": len(self.unmatched),
            "unmatched_examples": self.unmatched[:10],
            "ambiguous": len(self.ambiguous),
            "ambiguous_examples": self.ambiguous[:10],
            "with_id_and_symbol": self.paired,
            "contradicting": len(self.contradicting),
            "contradicting_examples": self.contradicting[:10],
            "vocabulary": self.vocabulary_size,
            "missing": self.vocabulary_size - len(self.measured),
            "share_of_vocabulary": len(self.measured) / self.vocabulary_size,
        }


class KnownGenes:
    """The names of the genes of a vocabulary, looked up again and again.

    Parameters
    ----------
    vocabulary
        Columns symbol and gene_id, and, as `read_gene_table` makes them, aliases and ambiguous; a
        vocabulary without these two knows no other names.
    """

    def __init__(self, vocabulary: pd.DataFrame) -> None:
        rows = pd.Series(range(len(vocabulary)), dtype=float)  # as missing ones are NaN
        self.size = len(vocabulary)
        self.ids = rows.set_axis(vocabulary.gene_id)
        self.ids = self.ids[(self.ids.index != "") & ~self.ids.index.duplicated()]
        self.symbols = rows.set_axis(vocabulary.symbol)
        self.ambiguous = _other_names(vocabulary, "ambiguous").index
        aliases = _other_names(vocabulary, "aliases")
        self.aliases = _with_other_spellings(self.symbols, aliases, self.ambiguous)

    def match(self, names: pd.DataFrame) -> GeneMatch:
        """Recognise the genes of a file, see `match_genes`."""
        has_no_id = names.gene_id == ""
        by_id = names.gene_id.map(self.ids)
        human = has_no_id | names.gene_id.str.startswith("ENSG")
        of_symbol = names.symbol.map(self.symbols)
        by_symbol = of_symbol.where(by_id.isna() & human)
        found = by_id.fillna(by_symbol)
        by_alias = names.symbol.map(self.aliases).where(found.isna() & has_no_id)
        by_alias = by_alias.where(~by_alias.isin(found.dropna()))
        index = found.fillna(by_alias).fillna(-1).to_numpy(dtype=np.int64)
        shown = names.symbol.where(names.symbol != "", names.gene_id)
        ambiguous = names.symbol.isin(self.ambiguous) & has_no_id & (index < 0)
        paired = by_id.notna() & of_symbol.notna()
        return GeneMatch(
            index=index,
            by_id=int(by_id.notna().sum()),
            by_symbol=int(by_symbol.notna().sum()),
            by_alias=int(by_alias.notna().sum()),
            unmatched=shown[index < 0].tolist(),
            ambiguous=shown[ambiguous].tolist(),
            vocabulary_size=self.size,
            paired=int(paired.sum()),
            contradicting=self._contradicting(names, by_id, paired & (by_id != of_symbol)),
        )

    def _contradicting(self, names: pd.DataFrame, by_id: pd.Series, chosen: pd.Series) -> list[str]:
        """Say of which gene the id is of each symbol whose gene is another."""
        own = self.symbols.index[by_id[chosen].to_numpy(dtype=np.int64)]
        pairs = zip(names.symbol[chosen], own, strict=True)
        return [f"{symbol} with the id of {other}" for symbol, other in pairs]


def _other_names(vocabulary: pd.DataFrame, column: str) -> pd.Series:
    """Return the gene of each other name; of ambiguous ones, one of their genes."""
    if column not in vocabulary:
        return pd.Series(dtype=float)
    listed = enumerate(vocabulary[column])
    gene_of = {name: row for row, names in listed for name in names.split(SEPARATOR) if name}
    return pd.Series(gene_of, dtype=float)


def _with_other_spellings(symbols: pd.Series, aliases: pd.Series, ambiguous: pd.Index) -> pd.Series:
    """Add symbols as R's make.names writes them, and others: HLA.DRA, HLA_DRA, HLADRA for HLA-DRA.

    A dash between digits must be there: TRAV1-1 without it is another gene.
    """
    dashed = symbols[symbols.index.str.contains("-", regex=False)]
    other = [
        dashed.set_axis(dashed.index.str.replace("-", written, regex=False)) for written in "._"
    ]
    closed = dashed[~dashed.index.str.contains(r"\d-\d")]
    closed = closed.set_axis(closed.index.str.replace("-", "", regex=False))
    closed = closed[~closed.index.isin(ambiguous)]
    added = pd.concat([*(one[~one.index.duplicated()] for one in other), closed])
    added = added[~added.index.duplicated(keep=False)]
    return pd.concat([aliases, added[~added.index.isin([*symbols.index, *aliases.index])]])


def match_genes(names: pd.DataFrame, vocabulary: pd.DataFrame) -> GeneMatch:
    """Recognise the genes of a file.

    An Ensembl id goes first. A symbol is taken where the id is none of the vocabulary's (ids
    change), unless the id is of another species. A previous symbol or alias, or a symbol in another
    spelling (HLA.DRA, HLADRA), is taken only where the file gives no id and does not have the gene
    under its own name: else it means another gene.

    Parameters
    ----------
    names
        Columns symbol and gene_id, as `gene_names` returns them.
    vocabulary
        See `KnownGenes`.
    """
    return KnownGenes(vocabulary).match(names)


def require_match(match: GeneMatch, vocabulary: pd.DataFrame, name: str) -> None:
    """Refuse cells without any gene of the vocabulary; `name` is what the error calls them."""
    if match.matched == 0:
        raise ValueError(
            f"none of the {len(match.index)} genes of {name} ({', '.join(match.unmatched[:3])}, "
            f"...) is in the vocabulary of {len(vocabulary)} genes "
            f"({', '.join(vocabulary.symbol[:3])}, ...). {species_of(match)}Use human "
            "gene symbols or Ensembl ids as var_names."
        )


def species_of(match: GeneMatch) -> str:
    """Say of a file most of whose genes are named as a mouse's that they look so."""
    mouse = [name for name in match.unmatched if is_mouse_style(name) or name.startswith(MOUSE_ID)]
    if 2 * len(mouse) <= len(match.index):
        return ""
    return "They look like genes of a mouse: give the human genes that correspond to them. "


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
