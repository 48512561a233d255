"""gene2vec: vectors of genes such that genes expressed together lie together.

Source: Du et al. 2019, BMC Genomics 20(S1):82. Each pair of co-expressed genes is a sentence of two
words for a skip-gram model. The other method factorises the same pairs: truncated SVD of their
positive pointwise mutual information (Levy & Goldberg 2014; Levy et al. 2015, TACL 3:211).
"""

import logging
import time
from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from scbert.config import Gene2vec

log = logging.getLogger(__name__)
AT_ONCE = 100_000  # pairs turned into Python objects at a time
CONTEXT_POWER = 0.75  # Levy et al. 2015: smooths the rare, as skip-gram's negative sampling does
# Genes whose neighbours a biologist can judge at a glance.
KNOWN_GENES = ("CD3D", "CD8A", "MS4A1", "CD79A", "NKG7", "LYZ", "CD14", "FCER1A", "RPL3", "MKI67")


class ShuffledPairs:
    """Pairs as sentences, in another order at each pass; the orders follow from the seed.

    Memory is 4 bytes for each pair beside the pairs themselves.
    """

    def __init__(self, pairs: np.ndarray, n_epochs: int, seed: int) -> None:
        self.pairs, self.n_epochs, self.epoch = pairs, n_epochs, 0
        self.order = np.arange(len(pairs), dtype=np.uint32)
        self.words = [str(gene) for gene in range(int(pairs.max()) + 1)]
        self.rng = np.random.default_rng(seed)
        self.started = time.monotonic()

    def __iter__(self) -> Iterator[list[str]]:
        self.rng.shuffle(self.order)
        for start in range(0, len(self.order), AT_ONCE):
            for first, second in self.pairs[self.order[start : start + AT_ONCE]].tolist():
                yield [self.words[first], self.words[second]]
        self.epoch += 1
        spent = time.monotonic() - self.started
        left = spent / self.epoch * (self.n_epochs - self.epoch)
        log.info("epoch %d of %d; %.0f s left", self.epoch, self.n_epochs, left)


def train_vectors(
    pairs: np.ndarray, n_genes: int, settings: Gene2vec
) -> tuple[np.ndarray, np.ndarray]:
    """Train vectors of genes.

    Parameters
    ----------
    pairs
        Shape (pairs, 2), genes as numbers below `n_genes`. A pair that stands there more often
        weighs more.

    Returns
    -------
    Vectors, shape (genes, dim), float32, and whether a gene met a pair, shape (genes,). A gene
    without a pair: see `fill_missing`.

    Raises
    ------
    ValueError
        If there are no pairs.
    """
    if len(pairs) == 0:
        raise ValueError(
            "no sample of the corpus has co-expressed pairs of genes, but gene2vec learns from "
            "them. Lower pairs.min_correlation, pairs.min_cells or pairs.cells_per_metacell, or "
            "add cells."
        )
    met = np.zeros(n_genes, dtype=bool)
    met[np.unique(pairs)] = True
    train = _skipgram if settings.method == "skipgram" else _factorise
    return fill_missing(train(pairs, n_genes, settings), met, settings.seed), met


def _skipgram(pairs: np.ndarray, n_genes: int, settings: Gene2vec) -> np.ndarray:
    """Train with gensim; return word + context vectors, each with its mean taken out.

    Skip-gram gives all vectors one common direction, which says nothing about any gene (Mu &
    Viswanath 2018, "All-but-the-top"); the sum makes partners alike, not only genes that share
    partners (Levy et al. 2015). Both measured: docs/results/gene2vec.md.
    """
    from gensim.models import Word2Vec  # noqa: PLC0415  pretraining reads vectors without gensim

    model = Word2Vec(
        vector_size=settings.dim,
        window=1,  # a pair is a sentence of two words
        negative=5,  # gensim's default, as in Du et al.
        alpha=settings.learning_rate,
        sg=1,
        min_count=1,
        sample=0,  # gensim drops frequent words by default: here, the genes with most partners
        seed=settings.seed,
        workers=1,  # more would make the result depend on timing
    )
    n_pairs = np.bincount(pairs.ravel(), minlength=n_genes)
    met = np.flatnonzero(n_pairs)
    model.build_vocab_from_freq({str(gene): int(n_pairs[gene]) for gene in met})
    model.train(
        ShuffledPairs(pairs, settings.epochs, settings.seed),
        total_examples=len(pairs),
        total_words=2 * len(pairs),
        epochs=settings.epochs,
    )
    row = [model.wv.key_to_index[str(gene)] for gene in met]
    vectors = np.zeros((n_genes, settings.dim))
    for trained in (model.wv.vectors[row], model.syn1neg[row]):
        vectors[met] += trained - trained.mean(axis=0, dtype=np.float64)
    return vectors


def _factorise(pairs: np.ndarray, n_genes: int, settings: Gene2vec) -> np.ndarray:
    """Return the left singular vectors of the mutual information, times the roots of its values."""
    row, column = np.concatenate([pairs, pairs[:, ::-1]]).T.astype(np.int64)
    count = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(n_genes, n_genes))
    count.sum_duplicates()
    n_pairs = np.asarray(count.sum(axis=1)).ravel()
    context = n_pairs**CONTEXT_POWER
    cells = count.tocoo()
    information = np.log(cells.data * context.sum() / (n_pairs[cells.row] * context[cells.col]))
    matrix = sparse.csr_matrix(
        (np.maximum(information, 0), (cells.row, cells.col)), shape=(n_genes, n_genes)
    )
    rank = min(settings.dim, n_genes - 1)
    left, size, _ = svds(matrix, k=rank, rng=np.random.default_rng(settings.seed))
    return np.pad(left * np.sqrt(size), ((0, 0), (0, settings.dim - rank)))


def fill_missing(vectors: np.ndarray, met: np.ndarray, seed: int) -> np.ndarray:
    """Give genes that met nothing a random vector, of the mean square of the others, float32.

    So each can still be told from others; zeros would make all of them one gene.
    """
    spread = np.sqrt(np.mean(vectors[met] ** 2))
    filled = np.random.default_rng(seed).normal(0, spread, vectors.shape)
    filled[met] = vectors[met]
    return filled.astype(np.float32)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors, shape (genes, dim), of length 1, whose products are cosines; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest_genes(vectors: np.ndarray, gene: int, candidates: np.ndarray, n: int) -> np.ndarray:
    """Return the `n` candidates with the highest cosine similarity to a gene, best first."""
    unit = unit_vectors(vectors)
    similarity = unit[candidates] @ unit[gene]
    similarity[candidates == gene] = -np.inf
    return candidates[np.argsort(-similarity, kind="stable")[:n]]


def neighbours(vectors: np.ndarray, met: np.ndarray, symbols: list[str]) -> dict[str, list[str]]:
    """Return the eight nearest genes of well-known ones, among genes with a learnt vector."""
    known = [symbols.index(name) for name in KNOWN_GENES if name in symbols]
    return {
        symbols[gene]: [
            symbols[near] for near in nearest_genes(vectors, gene, np.flatnonzero(met), 8)
        ]
        for gene in known
        if met[gene]
    }
