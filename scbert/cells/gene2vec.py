"""gene2vec: vectors of genes such that genes expressed together lie together.

Source: Du et al. 2019, BMC Genomics 20(S1):82. Each pair of co-expressed genes is a sentence of two
words for a skip-gram model. Du et al. took pairs from bulk arrays with a correlation of 0.9 and
more; here they come from the cells of the corpus itself, within each sample, so that no difference
between samples looks like co-expression.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from scbert.config import Gene2vec

BLOCK = 512  # genes at a time: memory grows with 512 x genes, not with genes x genes


def coexpressed_pairs(expression: sparse.csr_matrix, settings: Gene2vec) -> np.ndarray:
    """Return the strongest co-expressed pairs of one sample.

    Parameters
    ----------
    expression
        Shape (cells, genes), log-normalised.
    settings
        Only genes in `min_cells` cells are looked at; of each, up to `max_partners` genes with a
        Pearson correlation over cells of at least `min_correlation` are taken.

    Returns
    -------
    Shape (pairs, 2): columns of `expression`, the lower first, each pair once, sorted.
    """
    n_cells = expression.shape[0]
    genes = np.flatnonzero(expression.getnnz(axis=0) >= settings.min_cells)
    x = sparse.csc_matrix(expression[:, genes], dtype=np.float64)
    mean = np.asarray(x.mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(np.asarray(x.power(2).mean(axis=0)).ravel() - mean**2, 1e-12))
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(genes), BLOCK):
        block = slice(start, start + BLOCK)
        covariance = (x[:, block].T @ x).toarray() / n_cells - np.outer(mean[block], mean)
        correlation = covariance / np.outer(deviation[block], deviation)
        own = np.arange(start, start + len(correlation))
        correlation[np.arange(len(own)), own] = -np.inf
        found.append(_strongest(correlation, own, settings))
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return genes[pairs]


def _strongest(correlation: np.ndarray, own: np.ndarray, settings: Gene2vec) -> np.ndarray:
    """Return (gene, partner) for the strongest partners of each row."""
    k = min(settings.max_partners, correlation.shape[1])
    partner = np.argpartition(-correlation, k - 1, axis=1)[:, :k]
    strong = np.take_along_axis(correlation, partner, axis=1) >= settings.min_correlation
    row, column = np.nonzero(strong)
    return np.stack([own[row], partner[row, column]], axis=1)


class _ShuffledPairs:
    """Pairs as sentences, in another order at each pass; the orders follow from the seed."""

    def __init__(self, pairs: np.ndarray, seed: int) -> None:
        self.pairs = pairs
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[list[str]]:
        for first, second in self.pairs[self.rng.permutation(len(self.pairs))].tolist():
            yield [str(first), str(second)]


def train_vectors(
    pairs: np.ndarray, n_genes: int, settings: Gene2vec
) -> tuple[np.ndarray, np.ndarray]:
    """Train skip-gram vectors.

    Parameters
    ----------
    pairs
        Shape (pairs, 2), genes as numbers below `n_genes`. A pair that stands there more often
        weighs more.

    Returns
    -------
    Vectors, shape (genes, dim), float32, and whether a gene met a pair, shape (genes,). A gene that
    met none gets a random vector of the same mean square, so that it can still be told from others.

    Raises
    ------
    ValueError
        If there are no pairs.
    """
    if len(pairs) == 0:
        raise ValueError(
            f"no two genes are correlated by {settings.min_correlation} or more in any sample of "
            "the corpus. Lower gene2vec.min_correlation or gene2vec.min_cells, or add cells."
        )
    from gensim.models import Word2Vec  # noqa: PLC0415  pretraining reads vectors without gensim

    model = Word2Vec(
        sentences=_ShuffledPairs(pairs, settings.seed),
        vector_size=settings.dim,
        window=settings.window,
        negative=settings.negative,
        epochs=settings.epochs,
        alpha=settings.learning_rate,
        sg=1,
        min_count=1,
        sample=0,  # gensim drops frequent words by default: here, the genes with most partners
        seed=settings.seed,
        workers=1,  # more would make the result depend on timing
    )
    met = np.zeros(n_genes, dtype=bool)
    met[np.unique(pairs)] = True
    trained = np.stack([model.wv[str(gene)] for gene in np.flatnonzero(met)])
    spread = np.sqrt(np.mean(trained**2))
    vectors = np.random.default_rng(settings.seed).normal(0, spread, (n_genes, settings.dim))
    vectors[met] = trained
    return vectors.astype(np.float32), met


def nearest_genes(vectors: np.ndarray, gene: int, candidates: np.ndarray, n: int) -> np.ndarray:
    """Return the `n` candidates with the highest cosine similarity to a gene, best first."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similarity = unit[candidates] @ unit[gene]
    similarity[candidates == gene] = -np.inf
    return candidates[np.argsort(-similarity, kind="stable")[:n]]
