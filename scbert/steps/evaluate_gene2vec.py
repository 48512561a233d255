"""Step evaluate_gene2vec: gene vectors beside an SVD of the same pairs and random vectors."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.config import Gene2vec, Gene2vecQuality
from scbert.evidence.gene_vectors import judge_classifier, judge_gene_sets, judge_pairs
from scbert.evidence.vector_quality import Measure, NamedMeasure, VectorQuality
from scbert.files import read_json, write_json
from scbert.genes.coexpression import read_pairs
from scbert.genes.gene2vec import neighbours, train_vectors
from scbert.genes.gene_sets import read_gene_sets, read_labelled_pairs
from scbert.genes.matching import read_vocabulary
from scbert.genes.vector_files import read_vectors
from scbert.provenance import provenance
from scbert.tables import read_table

log = logging.getLogger(__name__)
PARTS = ("train", "valid", "test")


def evaluate_gene2vec(
    gene2vec: Path,
    pairs: list[Path],
    vocabulary: Path,
    gene_sets: list[Path],
    labelled_pairs: list[Path],
    quality: Path,
    settings: Gene2vecQuality,
) -> None:
    """Measure what gene vectors know, and write it as JSON.

    Parameters
    ----------
    gene2vec
        The folder of train_gene2vec.
    pairs
        What the vectors were trained on; the SVD is of the same. Empty for imported vectors.
    gene_sets
        GMT files.
    labelled_pairs
        The pairs and the labels of GGIPNN's parts train, valid and test, in this order, or nothing.
    """
    genes = read_vocabulary(vocabulary)
    vectors, compared = _methods(gene2vec, pairs, genes, settings)
    symbols = genes.symbol[compared].tolist()
    n_cells = pd.to_numeric(genes.n_cells[compared]).to_numpy()
    shown = {
        name: neighbours(arrays[0], compared, genes.symbol.tolist())
        for name, arrays in vectors.items()
        if name != "random"
    }
    vectors = {name: [one[compared] for one in arrays] for name, arrays in vectors.items()}
    measures = judge_all(
        vectors,
        symbols=symbols,
        n_cells=n_cells,
        gene_sets=gene_sets,
        labelled_pairs=labelled_pairs,
        settings=settings,
    )
    found = VectorQuality(len(symbols), measures, shown, settings.model_dump(mode="json"))
    write_json(quality, found.content() | {"provenance": provenance()})
    log.info("%s: %d measures on %d genes", quality, len(measures), len(symbols))


def judge_all(
    vectors: Mapping[str, Sequence[np.ndarray]],
    symbols: Sequence[str],
    n_cells: np.ndarray,
    gene_sets: Sequence[Path],
    labelled_pairs: Sequence[Path],
    settings: Gene2vecQuality,
) -> list[NamedMeasure]:
    """Take every measure that there are files for; the first method is compared with the others."""
    rows = {symbol: row for row, symbol in enumerate(symbols)}
    measures = []
    for path in gene_sets:
        known = read_gene_sets(path, settings.max_genes_per_set).values()
        sets = [np.array([rows[gene] for gene in one if gene in rows]) for one in known]
        sets = [one for one in sets if len(one) >= 2]
        found = (
            judge_gene_sets(vectors, sets, n_cells, settings)
            if sets
            else Measure(0, reason="no set has two of the genes compared")
        )
        measures.append(NamedMeasure("gene_sets", path.name.removesuffix(".gmt"), found))
    if labelled_pairs:
        parts = _known_pairs(labelled_pairs, rows)
        test, shares = parts["test"]
        alone = (
            judge_pairs(vectors, test, shares, settings)
            if len(np.unique(shares)) == 2
            else Measure(0, reason="the test pairs of the genes compared are of one kind or none")
        )
        trained = judge_classifier(vectors, parts, settings)
        measures.append(NamedMeasure("pairs", "labelled pairs, cosine", alone))
        measures.append(NamedMeasure("classifier", "labelled pairs, classifier", trained))
    return measures


def _known_pairs(
    files: Sequence[Path], rows: Mapping[str, int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each part, pairs of known genes as rows, and whether each shares a function."""
    parts = {}
    for number, part in enumerate(PARTS):
        pairs, shares = read_labelled_pairs(files[2 * number], files[2 * number + 1])
        known = np.array([a in rows and b in rows for a, b in pairs], dtype=bool)
        placed = [(rows[a], rows[b]) for (a, b), both in zip(pairs, known, strict=True) if both]
        parts[part] = np.array(placed, dtype=np.int64).reshape(-1, 2), shares[known]
    return parts


def _methods(
    gene2vec: Path, pairs: list[Path], genes: pd.DataFrame, settings: Gene2vecQuality
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Return ours, the SVD and random vectors, and the genes that all of them know."""
    ours = read_vectors(gene2vec, genes)
    known = read_table(gene2vec / "genes.tsv", "symbol", "learnt").learnt.to_numpy() == "yes"
    settings_then = read_json(gene2vec / "meta.json")["settings"]  # perhaps with keys removed since
    made = Gene2vec.model_validate({key: settings_then[key] for key in Gene2vec.model_fields})
    vectors = {"gene2vec": [ours]}
    if made.source == "train":
        pooled = np.concatenate(list(read_pairs(pairs, len(genes)).values()))
        other = "svd" if made.method == "skipgram" else "skipgram"
        factorised, met = train_vectors(
            pooled, len(genes), made.model_copy(update={"method": other})
        )
        vectors[other] = [factorised]
        known &= met
    rng = np.random.default_rng(settings.seed)
    shape = ours.shape
    vectors["random"] = [rng.normal(size=shape) for _ in range(settings.random_vectors)]
    return vectors, known
