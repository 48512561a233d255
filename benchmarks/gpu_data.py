"""Where the carried cells lie, and toy cells that stand in for them where nothing was carried.

What benchmarks/gpu_carry.py unpacks: tokens, vocabulary.tsv and gene2vec for each variant of the
corpus (`without`: without the study of the query; `all`), gene vectors of the paper's width for one
of them, and labelled cells.
"""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.files import write_json
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.tables import write_table
from scbert.tokens.store import TokenStore, store_in_memory
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import LEVELS, Sample

VARIANTS = ("without", "all")
N_BINS = 5
TOY_GENES, TOY_CELLS, TOY_STUDIES = 400, 60, 4
TOY_TYPES, TOY_LABELLED = ("B cell", "NK cell", "T cell"), 90
LABEL = "cell_type"
REFERENCE, QUERY = "pbmc3k.h5ad", "pbmc8k_2000.h5ad"
WIDTH, PAPER_WIDTH = 128, 200


@dataclass(frozen=True)
class Corpus:
    """The inputs of pretraining."""

    tokens: Path
    vocabulary: Path
    gene2vec: Path


def corpus(data: Path, variant: str, width: int) -> Corpus:
    """Return where a variant's tokens, genes, and gene vectors of a width are."""
    folder = data / variant
    gene2vec = folder / (f"gene2vec{width}" if width == PAPER_WIDTH else "gene2vec")
    return Corpus(folder / "tokens", folder / "vocabulary.tsv", gene2vec)


def store_of(lengths: list[int], n_genes: int, seed: int = 0) -> TokenStore:
    """Return cells with so many expressed genes each, drawn from the vocabulary."""
    return store_in_memory(sample_of("toy", lengths, n_genes, seed))


def sample_of(name: str, lengths: list[int], n_genes: int, seed: int) -> Sample:
    """Return random cells; half of a cell's bins follow from the gene, so that much is learned."""
    rng = np.random.default_rng(seed)
    genes = [np.sort(rng.choice(n_genes, length, replace=False)) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    gene = np.concatenate([*genes, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    bins = np.where(rng.random(len(gene)) < 0.5, gene, rng.integers(0, N_BINS, len(gene)))
    matrix = sparse.csr_matrix(
        ((bins % N_BINS + 1).astype(np.uint8), gene, indptr), (len(lengths), n_genes)
    )
    cells = [f"{name}-{number}" for number in range(len(lengths))]
    return Sample(name, cells, matrix * np.uint8(LEVELS), N_BINS, np.arange(n_genes), 0)


def write_toy(data: Path) -> None:
    """Write toy cells as the carried ones lie."""
    symbols = [f"GENE{number:03d}" for number in range(TOY_GENES)]
    for variant in VARIANTS:
        folder = data / variant
        folder.mkdir(parents=True)
        genes = pd.DataFrame({"symbol": symbols, "gene_id": ""})
        write_table(folder / "vocabulary.tsv", genes)
        sha256 = vocabulary_sha256(read_vocabulary(folder / "vocabulary.tsv"))
        write_store(
            folder / "tokens",
            [_study(number) for number in range(TOY_STUDIES)],
            {"n_bins": N_BINS, "vocabulary_size": TOY_GENES, "vocabulary_sha256": sha256},
        )
        for place, columns in (("gene2vec", WIDTH), (f"gene2vec{PAPER_WIDTH}", PAPER_WIDTH)):
            (folder / place).mkdir()
            vectors = np.random.default_rng(0).normal(size=(TOY_GENES, columns))
            np.save(folder / place / "vectors.npy", vectors.astype(np.float32))
            write_json(folder / place / "meta.json", {"vocabulary_sha256": sha256})
    _labelled(symbols, seed=0).write_h5ad(data / REFERENCE)
    _labelled(symbols, seed=1).write_h5ad(data / QUERY)


def _study(number: int) -> SampleSource:
    lengths = np.random.default_rng(number).integers(10, 80, TOY_CELLS).tolist()
    name = f"study{number}"
    return SampleSource(name, name, lambda: sample_of(name, lengths, TOY_GENES, number))


def _labelled(symbols: list[str], seed: int) -> ad.AnnData:
    """Return counts of cells of three types in turn, each with twenty genes of its own."""
    rng = np.random.default_rng(seed)
    code = np.arange(TOY_LABELLED) % len(TOY_TYPES)
    rates = np.full((len(TOY_TYPES), TOY_GENES), 0.3)
    for number in range(len(TOY_TYPES)):
        rates[number, 20 * number : 20 * number + 20] = 4.0
    obs = pd.DataFrame(
        {LABEL: np.array(TOY_TYPES)[code]}, index=[f"cell{n}" for n in range(TOY_LABELLED)]
    )
    counts = sparse.csr_matrix(rng.poisson(rates[code]).astype(np.float32))
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=symbols))
