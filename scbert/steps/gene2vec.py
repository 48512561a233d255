"""Step train_gene2vec: expression of the corpus -> one vector per gene of the vocabulary."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.gene2vec import coexpressed_pairs, nearest_genes, train_vectors
from scbert.cells.genes import read_vocabulary, vocabulary_sha256
from scbert.cells.tables import write_table
from scbert.config import Gene2vec
from scbert.files import publish, read_json, write_json

log = logging.getLogger(__name__)

# Genes whose neighbours a biologist can judge at a glance.
LARGEST_MAP = 4000  # genes; more would not be told apart on a page and take minutes to lay out
KNOWN_GENES = ("CD3D", "CD8A", "MS4A1", "CD79A", "NKG7", "LYZ", "CD14", "FCER1A", "RPL3", "MKI67")


def train_gene2vec(
    expressions: list[Path], vocabulary: Path, gene2vec: Path, settings: Gene2vec
) -> None:
    """Train gene vectors and write them with a map for people.

    Written into the folder `gene2vec`: vectors.npy (vocabulary, dim) float32, map.tsv (two
    coordinates per gene that met a pair) and meta.json.
    """
    genes = read_vocabulary(vocabulary)
    pooled, pairs_per_sample = [], {}
    for name, expression in _samples(expressions, len(genes)):
        pairs = coexpressed_pairs(expression, settings)
        pairs_per_sample[name] = len(pairs)
        pooled.append(pairs)
        log.info("%s: %d co-expressed pairs", name, len(pairs))
    vectors, met = train_vectors(np.concatenate(pooled), len(genes), settings)
    log.info("%d of %d genes met a pair; the others get random vectors", met.sum(), len(genes))
    with publish(gene2vec) as unfinished:
        unfinished.mkdir()
        np.save(unfinished / "vectors.npy", vectors)
        write_table(unfinished / "map.tsv", _map(vectors, met, genes, settings.seed))
        write_json(
            unfinished / "meta.json",
            {
                "genes": len(genes),
                "genes_with_pairs": int(met.sum()),
                "pairs": sum(pairs_per_sample.values()),
                "pairs_per_sample": pairs_per_sample,
                "dim": settings.dim,
                "epochs": settings.epochs,
                "seed": settings.seed,
                "vocabulary_sha256": vocabulary_sha256(genes),
                "nearest": _neighbours(vectors, met, genes.symbol.tolist()),
            },
        )


def _samples(expressions: list[Path], n_genes: int) -> Iterator[tuple[str, sparse.csr_matrix]]:
    """Yield each sample's expression, shape (cells, vocabulary)."""
    for path in expressions:
        adata = ad.read_h5ad(path)
        x = sparse.csr_matrix(adata.X)
        columns = adata.var.vocabulary_index.to_numpy()[x.indices]
        yield (
            path.stem,
            sparse.csr_matrix((x.data, columns, x.indptr), shape=(adata.n_obs, n_genes)),
        )


def _neighbours(vectors: np.ndarray, met: np.ndarray, symbols: list[str]) -> dict[str, list[str]]:
    known = [symbols.index(name) for name in KNOWN_GENES if name in symbols]
    return {
        symbols[gene]: [
            symbols[near] for near in nearest_genes(vectors, gene, np.flatnonzero(met), 8)
        ]
        for gene in known
        if met[gene]
    }


def _map(vectors: np.ndarray, met: np.ndarray, genes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Lay the vectors of the most widely expressed genes out in two dimensions: UMAP on cosine."""
    trained_genes = np.flatnonzero(met)
    n_cells = pd.to_numeric(genes.n_cells).to_numpy()
    shown = np.sort(trained_genes[np.argsort(-n_cells[met], kind="stable")[:LARGEST_MAP]])
    with warnings.catch_warnings():  # umap says that a seed makes it use one thread: wanted
        warnings.filterwarnings("ignore", message="n_jobs value")
        from umap import UMAP  # noqa: PLC0415  takes seconds to import

        n_neighbors = min(15, len(shown) - 1)
        umap = UMAP(n_neighbors, metric="cosine", random_state=seed, n_jobs=1, init="pca")
        layout = umap.fit_transform(vectors[shown])
    return pd.DataFrame(
        {
            "symbol": genes.symbol[shown],
            "x": layout[:, 0].round(4),
            "y": layout[:, 1].round(4),
            "n_cells": n_cells[shown],
        }
    )


def read_vectors(gene2vec: Path, vocabulary: pd.DataFrame) -> np.ndarray:
    """Read gene vectors, shape (vocabulary, dim), and make sure that they belong to the vocabulary.

    Raises
    ------
    ValueError
        If they were trained for another vocabulary.
    """
    meta = read_json(gene2vec / "meta.json")
    if meta["vocabulary_sha256"] != vocabulary_sha256(vocabulary):
        raise ValueError(
            f"{gene2vec} holds vectors for another vocabulary. Train gene2vec again for this one."
        )
    return np.load(gene2vec / "vectors.npy", allow_pickle=False)
