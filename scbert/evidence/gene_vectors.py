"""Measures of what gene vectors know, beside random vectors and an SVD of the same pairs.

Sources: the within-pathway ratio and the labelled pairs are those of Du et al. 2019, BMC Genomics
20(S1):82, Results. Two things differ from their code. A set with fewer than two known genes is left
out, where theirs divides by zero, and every gene counts, where theirs loses the last of each line.
And the ratio has a companion that does not break where unrelated genes have a cosine near zero: how
often a set is more alike than genes drawn at random that are expressed in as many cells.

All intervals are over sets or over labelled pairs; differences are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from scbert.config import Gene2vecQuality
from scbert.evidence.bootstrap import each_resample, interval
from scbert.evidence.vector_quality import Measure, VectorScores
from scbert.genes.gene2vec import unit_vectors

Vectors = Mapping[str, Sequence[np.ndarray]]  # method -> one array (genes, dim) for each seed
HELD_OUT_GENES = 0.33  # share that the classifier of pairs does not learn from
DRAWS = 20  # sets of random genes beside each gene set
NEIGHBOURS = 50  # a random gene is that close, in ranks by number of cells, to the one it replaces
UNRELATED = 200_000  # random pairs of genes: the similarity of genes that have nothing in common
TRAINING_PAIRS = 20_000  # of the classifier; more change the third digit


def judge_gene_sets(
    vectors: Vectors, sets: Sequence[np.ndarray], n_cells: np.ndarray, settings: Gene2vecQuality
) -> Measure:
    """Say whether genes of one set are more alike than others.

    Parameters
    ----------
    vectors
        For each method one or more arrays, shape (genes, dim).
    sets
        Genes of each set, as rows of the vectors, at least two.
    n_cells
        Shape (genes,): cells that express a gene.

    Returns
    -------
    The AUC is the share of random sets, of the same size and expressed in about as many cells, that
    a set is more alike than; the ratio is that of Du et al.
    """
    rng = np.random.default_rng(settings.seed)
    member = _membership(sets, len(n_cells))
    drawn = [_membership(_alike_in_cells(sets, n_cells, rng), len(n_cells)) for _ in range(DRAWS)]
    unrelated = rng.integers(0, len(n_cells), (UNRELATED, 2))
    unrelated = unrelated[unrelated[:, 0] != unrelated[:, 1]]
    wins: dict[str, np.ndarray] = {}
    ratios: dict[str, float | None] = {}
    for method, arrays in vectors.items():
        units = [unit_vectors(array) for array in arrays]
        own = np.stack([_mean_cosine(unit, member) for unit in units])
        others = np.stack([[_mean_cosine(unit, one) for one in drawn] for unit in units])
        better = (own[:, None] > others) + 0.5 * (own[:, None] == others)
        wins[method] = better.mean(axis=(0, 1))
        ratios[method] = _ratio(own, np.stack([_cosine(unit, unrelated) for unit in units]))
    resampled = _resample(
        lambda chosen: {m: w[chosen].mean() for m, w in wins.items()}, len(sets), settings
    )
    whole = {method: float(win.mean()) for method, win in wins.items()}
    return _measure(len(sets), whole, resampled, settings, ratios)


def judge_pairs(
    vectors: Vectors, pairs: np.ndarray, shares: np.ndarray, settings: Gene2vecQuality
) -> Measure:
    """Say whether the cosine tells pairs of genes that share a function from others.

    Parameters
    ----------
    pairs
        Shape (pairs, 2), rows of the vectors.
    shares
        Shape (pairs,), bool.
    """
    scores = {
        method: [_cosine(unit_vectors(array), pairs) for array in arrays]
        for method, arrays in vectors.items()
    }
    return _judge_scores(scores, shares, settings)


def judge_classifier(
    vectors: Vectors,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    settings: Gene2vecQuality,
) -> Measure:
    """Say how well a classifier on two gene vectors predicts whether the genes share a function.

    A logistic regression on the products and the absolute differences of the two unit vectors. The
    split is by genes: test pairs hold only genes that no training pair has seen, else a classifier
    could learn which genes have many partners, which random vectors allow as well.

    Parameters
    ----------
    parts
        "train", "valid" and "test", as published: pairs, shape (pairs, 2), and whether each shares
        a function. Pairs of "train" and of "valid" without held-out genes are for training and for
        the choice of the penalty; pairs of two held-out genes, of all parts, are for testing.
    """
    rng = np.random.default_rng(settings.seed)
    n_genes = len(next(iter(vectors.values()))[0])
    held_out = rng.random(n_genes) < HELD_OUT_GENES
    seen = {part: ~held_out[pairs].any(axis=1) for part, (pairs, _) in parts.items()}
    train, valid = (
        (parts[part][0][seen[part]], parts[part][1][seen[part]]) for part in ("train", "valid")
    )
    chosen = np.sort(rng.permutation(len(train[0]))[:TRAINING_PAIRS])
    train = (train[0][chosen], train[1][chosen])
    everything = [np.concatenate([part[kind] for part in parts.values()]) for kind in (0, 1)]
    both = held_out[everything[0]].all(axis=1)
    test = (everything[0][both], everything[1][both])
    for name, (_, labels) in (("training", train), ("validation", valid), ("test", test)):
        if len(np.unique(labels)) < 2:
            return Measure(0, reason=f"the {name} pairs are all of one kind or none")
    scores = {
        method: [
            _classify(unit_vectors(array), train, valid, test[0], settings) for array in arrays
        ]
        for method, arrays in vectors.items()
    }
    return replace(_judge_scores(scores, test[1], settings), n_train=len(chosen))


def _classify(
    unit: np.ndarray,
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    test: np.ndarray,
    settings: Gene2vecQuality,
) -> np.ndarray:
    """Return the score of each test pair, with the penalty that ranks validation pairs best."""
    scaler = StandardScaler().fit(_features(unit, train[0]))
    x_train, x_valid = (scaler.transform(_features(unit, part[0])) for part in (train, valid))
    models = [
        LogisticRegression(C=c, max_iter=200, tol=1e-3).fit(x_train, train[1])
        for c in settings.c_grid
    ]
    best = max(models, key=lambda model: auc(model.decision_function(x_valid), valid[1]))
    return best.decision_function(scaler.transform(_features(unit, test)))


def _features(unit: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    first, second = (unit[pairs[:, side]].astype(np.float32) for side in (0, 1))
    return np.hstack([first * second, np.abs(first - second)])


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve; ties count half."""
    ranks = rankdata(scores)
    n_positive = int(positive.sum())
    above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (len(scores) - n_positive)))


def _judge_scores(
    scores: Mapping[str, Sequence[np.ndarray]], shares: np.ndarray, settings: Gene2vecQuality
) -> Measure:
    def of(chosen: np.ndarray) -> dict[str, float]:
        return {
            method: float(np.mean([auc(one[chosen], shares[chosen]) for one in each]))
            for method, each in scores.items()
        }

    resampled = _resample(of, len(shares), settings)
    return _measure(len(shares), of(np.arange(len(shares))), resampled, settings)


def _resample(
    measure: Callable[[np.ndarray], dict[str, float]], n: int, settings: Gene2vecQuality
) -> dict[str, np.ndarray]:
    draws = [measure(chosen) for chosen in each_resample(n, settings)]
    return {method: np.array([draw[method] for draw in draws]) for method in draws[0]}


def _measure(
    n: int,
    whole: dict[str, float],
    resampled: dict[str, np.ndarray],
    settings: Gene2vecQuality,
    ratios: Mapping[str, float | None] | None = None,
) -> Measure:
    """Join means, intervals and the differences of the first method to each other one."""
    ours, *others = whole
    return Measure(
        n,
        methods={
            method: VectorScores(
                interval(mean, resampled[method], settings),
                None if ratios is None else ratios[method],
            )
            for method, mean in whole.items()
        },
        differences={
            other: interval(
                whole[ours] - whole[other], resampled[ours] - resampled[other], settings
            )
            for other in others
        },
    )


def _cosine(unit: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.einsum("pd,pd->p", unit[pairs[:, 0]], unit[pairs[:, 1]])


def _membership(sets: Sequence[np.ndarray], n_genes: int) -> sparse.csr_matrix:
    """Return which genes a set holds, shape (sets, genes), each gene once."""
    row = np.repeat(np.arange(len(sets)), [len(genes) for genes in sets])
    member = sparse.csr_matrix(
        (np.ones(len(row), dtype=np.float32), (row, np.concatenate(sets))),
        shape=(len(sets), n_genes),
    )
    member.sum_duplicates()
    member.data[:] = 1
    return member


def _mean_cosine(unit: np.ndarray, member: sparse.csr_matrix) -> np.ndarray:
    """Return the mean cosine of all pairs of a set: (|sum of unit vectors|^2 - n) / (n (n - 1))."""
    n = member.getnnz(axis=1)
    total = np.linalg.norm(member @ unit, axis=1) ** 2
    return (total - n) / np.maximum(n * (n - 1), 1)


def _alike_in_cells(
    sets: Sequence[np.ndarray], n_cells: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Replace each gene by one that is expressed in about as many cells."""
    by_cells = np.argsort(n_cells, kind="stable")
    rank = np.empty_like(by_cells)
    rank[by_cells] = np.arange(len(by_cells))
    drawn = []
    for genes in sets:
        low = np.clip(rank[genes] - NEIGHBOURS, 0, max(len(by_cells) - 2 * NEIGHBOURS - 1, 0))
        high = np.minimum(low + 2 * NEIGHBOURS + 1, len(by_cells))
        drawn.append(by_cells[_distinct(low, high, rng)])
    return drawn


def _distinct(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one rank from each window; what is drawn twice is drawn again, ten times at most."""
    ranks = rng.integers(low, high)
    for _ in range(10):
        _, first = np.unique(ranks, return_index=True)
        again = np.setdiff1d(np.arange(len(ranks)), first)
        if not len(again):
            break
        ranks[again] = rng.integers(low[again], high[again])
    return ranks


def _ratio(within_SN: np.ndarray, unrelated_SP: np.ndarray) -> float | None:
    """Return the ratio of mean cosines; None where unrelated genes have none clearly above 0."""
    base = unrelated_SP.mean()
    noise = unrelated_SP.std() / np.sqrt(unrelated_SP.size)
    return float(within_SN.mean() / base) if base > max(5 * noise, 1e-3) else None
