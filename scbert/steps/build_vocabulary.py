"""Step build_vocabulary: which genes the model knows."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from scbert.cells.read import gene_names
from scbert.config import Vocabulary
from scbert.files import sha256_of
from scbert.genes.matching import vocabulary_sha256
from scbert.genes.symbols import read_gene_table
from scbert.genes.vocabulary import choose_vocabulary, count_genes, listed_genes
from scbert.tables import write_table

log = logging.getLogger(__name__)


def build_vocabulary(
    counts: list[Path],
    gene_table: Path,
    gene_list: list[Path],
    vocabulary: Path,
    settings: Vocabulary,
) -> None:
    """Choose the genes that the model knows, from the cells of the corpus or by a list.

    Parameters
    ----------
    gene_list
        A file with one symbol or Ensembl id per line, or none. If it is given it decides alone, and
        genes that no sample has stay.

    Raises
    ------
    ValueError
        If a file cannot be used, or no gene is left; nothing is written then.
    """
    table = read_gene_table(gene_table)
    log.info("%s: %d genes, SHA-256 %s", gene_table, len(table), sha256_of(gene_table))
    if gene_list:
        genes = _take_list(gene_list[0], counts, table)
    else:
        counted = count_genes(_samples(counts), table)
        genes = choose_vocabulary(
            counted,
            gene_types=settings.gene_types,
            min_cells=settings.min_cells,
            min_samples=settings.min_samples,
            max_genes=settings.max_genes,
        )
        log.info("the corpus has %d genes, %d known to HGNC", *_known(counted))
    write_table(vocabulary, genes)
    log.info("%d genes, %d of them with an Ensembl id", len(genes), (genes.gene_id != "").sum())
    log.info("SHA-256 of the symbols, in order: %s", vocabulary_sha256(genes))


def _take_list(path: Path, counts: Sequence[Path], table: pd.DataFrame) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    genes, match = listed_genes(names, table)
    if match.matched == 0:
        raise ValueError(
            f"HGNC knows none of the {len(names)} genes of {path} ({', '.join(names[:3])}, ...). "
            "Give one human gene symbol or Ensembl id per line (vocabulary.genes)."
        )
    log.info(
        "%s has %d genes: %d approved symbols or ids, %d other names, %d not recognised (%s). "
        "The list decides; gene_types, min_cells, min_samples and max_genes are not used.",
        *(path, len(names), match.by_id + match.by_symbol, match.by_alias),
        *(len(match.unmatched), ", ".join(match.unmatched[:10])),
    )
    counted = count_genes(_samples(counts), genes).set_index("symbol")[["n_cells", "n_samples"]]
    seen = counted.reindex(genes.symbol, fill_value=0).reset_index(drop=True)
    return genes.join(seen)


def _known(counted: pd.DataFrame) -> tuple[int, int]:
    return len(counted), int((counted.gene_type != "").sum())


def _samples(counts: Sequence[Path]) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield the genes of each sample and how many cells express each; no matrix is read.

    Raises
    ------
    ValueError
        If a file does not say it.
    """
    for path in counts:
        with h5py.File(path) as file:
            genes = read_elem(file["var"])
        if "n_cells" not in genes:
            raise ValueError(
                f"var of {path} has no column n_cells (cells that express the gene): it was "
                "written by an older version. Run read_counts again."
            )
        yield gene_names(genes), genes.n_cells.to_numpy(dtype=np.int64)
