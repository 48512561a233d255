"""Step build_vocabulary: which genes the model knows."""

import logging
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.genes import choose_genes, complete_names, gene_names, read_gene_table
from scbert.cells.tables import write_table
from scbert.config import Vocabulary

log = logging.getLogger(__name__)


def build_vocabulary(
    counts: list[Path], gene_table: Path, vocabulary: Path, settings: Vocabulary
) -> None:
    """Choose the genes that the model knows, from the cells of the corpus."""
    table = read_gene_table(gene_table)

    def samples() -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        for path in counts:
            adata = ad.read_h5ad(path)
            yield complete_names(gene_names(adata.var), table), adata.X.getnnz(axis=0)

    genes = choose_genes(samples(), settings.min_cells, settings.max_genes)
    write_table(vocabulary, genes)
    log.info("%d genes, %d of them with an Ensembl id", len(genes), (genes.gene_id != "").sum())
