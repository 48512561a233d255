"""Step train_gene2vec: pairs of the corpus -> one vector per gene of the vocabulary."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.config import Gene2vec
from scbert.evidence.plane import umap
from scbert.files import publish, sha256_of, write_json
from scbert.genes.coexpression import read_pairs
from scbert.genes.gene2vec import fill_missing, neighbours, train_vectors
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.genes.vector_files import (
    ImportedFile,
    VectorOrigin,
    VectorsMeta,
    read_text_vectors,
    write_text_vectors,
)
from scbert.provenance import provenance
from scbert.tables import write_table

log = logging.getLogger(__name__)
LARGEST_MAP = 4000  # genes; more would not be told apart on a page and take minutes to lay out
SMALLEST_MAP = 4  # genes; UMAP fails on fewer


def train_gene2vec(
    pairs: list[Path],
    vocabulary: Path,
    imported: list[Path],
    gene2vec: Path,
    settings: Gene2vec,
) -> None:
    """Train gene vectors, or import them, and write them with a map for people.

    Parameters
    ----------
    pairs
        A .npy file from find_pairs for each sample of the corpus.
    imported
        The file of vectors if `settings.source` is import, else nothing.
    gene2vec
        The folder to write: vectors.npy (vocabulary, dim) float32, vectors.tsv (a symbol and its
        values in each line), genes.tsv (symbol, and whether its vector was learnt), map.tsv (two
        coordinates for the most widely expressed genes that have a learnt vector) and meta.json.
    """
    genes = read_vocabulary(vocabulary)
    if settings.source == "import":
        vectors, met, origin = _import(imported[0], genes, settings)
    else:
        vectors, met, origin = _train(pairs, len(genes), settings)
    log.info("%d of %d genes have a vector; the others a random one", met.sum(), len(genes))
    layout, no_map = _map(vectors, met, genes, settings.seed)
    with publish(gene2vec) as unfinished:
        unfinished.mkdir()
        np.save(unfinished / "vectors.npy", vectors)
        write_text_vectors(unfinished / "vectors.tsv", genes.symbol.tolist(), vectors)
        learnt = np.where(met, "yes", "no")
        table = pd.DataFrame({"symbol": genes.symbol, "learnt": learnt})
        write_table(unfinished / "genes.tsv", table)
        write_table(unfinished / "map.tsv", layout)
        meta: VectorsMeta = {
            "genes": len(genes),
            "genes_with_pairs": int(met.sum()),
            **origin,
            "dim": settings.dim,
            "epochs": settings.epochs,
            "seed": settings.seed,
            "settings": settings.model_dump(mode="json"),
            "vocabulary_sha256": vocabulary_sha256(genes),
            "vectors_sha256": sha256_of(unfinished / "vectors.npy"),
            "no_map": no_map,
            "nearest": neighbours(vectors, met, genes.symbol.tolist()),
            "provenance": provenance(),
        }
        write_json(unfinished / "meta.json", meta)


def _train(
    files: list[Path], n_genes: int, settings: Gene2vec
) -> tuple[np.ndarray, np.ndarray, VectorOrigin]:
    samples = read_pairs(files, n_genes)
    pooled = np.concatenate([np.empty((0, 2), dtype=np.uint16), *samples.values()])
    log.info("%d pairs of %d samples", len(pooled), len(samples))
    vectors, met = train_vectors(pooled, n_genes, settings)
    counted = {name: len(pairs) for name, pairs in samples.items()}
    return vectors, met, {"pairs": len(pooled), "pairs_per_sample": counted, "imported": None}


def _import(
    file: Path, genes: pd.DataFrame, settings: Gene2vec
) -> tuple[np.ndarray, np.ndarray, VectorOrigin]:
    found, met, n_genes = read_text_vectors(file, genes.symbol.tolist(), settings.dim)
    log.info("%s: vectors of %d genes, %d of them known", file, n_genes, met.sum())
    origin: ImportedFile = {"file": file.name, "sha256": sha256_of(file), "genes": n_genes}
    vectors = fill_missing(found, met, settings.seed)
    return vectors, met, {"pairs": 0, "pairs_per_sample": {}, "imported": origin}


def _map(
    vectors: np.ndarray, met: np.ndarray, genes: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, str | None]:
    """Lay the vectors of the most widely expressed genes out in two dimensions: UMAP on cosine.

    Returns the map and, if there is none, the reason.
    """
    trained_genes = np.flatnonzero(met)
    n_cells = pd.to_numeric(genes.n_cells).to_numpy()
    shown = np.sort(trained_genes[np.argsort(-n_cells[met], kind="stable")[:LARGEST_MAP]])
    layout, no_map = np.empty((len(shown), 2)), None
    if len(shown) < SMALLEST_MAP:
        no_map = f"{len(shown)} genes have a learnt vector, too few for a map"
        log.warning("no map: %s", no_map)
        shown, layout = shown[:0], layout[:0]
    else:
        layout = umap(vectors[shown], seed, metric="cosine", init="pca")
    table = {
        "symbol": genes.symbol[shown],
        "x": layout[:, 0].round(4),
        "y": layout[:, 1].round(4),
        "n_cells": n_cells[shown],
    }
    return pd.DataFrame(table), no_map
