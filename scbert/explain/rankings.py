"""From what each gene adds in each cell to what marks each cell type.

Source of the scores across types: Yang et al. 2022, Methods and Fig. 4: column sums of the mean
attention matrix, z-scored across cell types, the 50 highest of a type sent to Enrichr.

Shape letters: N cells, C cell types, V genes of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

TITLES = {
    "gradients": "integrated gradients, by z-score",
    "gradients_mean": "integrated gradients, by mean",
    "attention": "attention sums, by z-score",
    "expression": "mean bin, less that of the other types (control: no model)",
    "logistic_regression": "weights of logistic regression (control: another model)",
}
CONTROLS = ("expression", "logistic_regression")  # the others ask the model that is explained
BY_Z = ("gradients", "attention")


@dataclass(frozen=True)
class Ranking:
    """The genes of each type by one method.

    `score`, `z` and `rank` have shape (C, V); rank 1 is the best, 0 a gene that is not ranked.
    """

    method: str
    score: np.ndarray
    z: np.ndarray
    rank: np.ndarray

    def top(self, type_number: int, n: int) -> np.ndarray:
        """Return the n best genes of a type, the best first."""
        rank = self.rank[type_number]
        ranked = np.flatnonzero(rank)
        return ranked[np.argsort(rank[ranked], kind="stable")][:n]


def type_means(values_NV: np.ndarray, code_N: np.ndarray, n_types: int) -> np.ndarray:
    """Return the mean over the cells of each type, shape (C, V).

    Raises
    ------
    ValueError
        If a type has no cell.
    """
    cells_C = np.bincount(code_N, minlength=n_types)
    if not cells_C.all():
        raise ValueError(
            f"type {np.flatnonzero(cells_C == 0)[0]} of {n_types} has no cell, so it has no mean. "
            "Leave out types without cells."
        )
    return np.stack([values_NV[code_N == code].mean(axis=0) for code in range(n_types)])


def means_where_given(
    values_NV: np.ndarray, given_NV: np.ndarray, code_N: np.ndarray, n_types: int, neutral: float
) -> np.ndarray:
    """Return the mean over those cells of each type that have a value, shape (C, V).

    Parameters
    ----------
    given_NV
        Where there is a value: attention is for tokens only. Counting other cells as 0 would rank
        genes by how many cells express them, whatever the attention.
    neutral
        What stands where no cell of the type has a value.
    """
    mean_CV = np.full((n_types, values_NV.shape[1]), neutral, dtype=np.float64)
    for code in range(n_types):
        own = code_N == code
        n_V = given_NV[own].sum(axis=0)
        total_V = np.where(given_NV[own], values_NV[own], 0).sum(axis=0, dtype=np.float64)
        np.divide(total_V, n_V, out=mean_CV[code], where=n_V > 0)
    return mean_CV


def z_across_types(score_CV: np.ndarray) -> np.ndarray:
    """Return how far the score of a gene in a type is from its mean over the types, in deviations.

    The deviation is that of the types at hand (population, not sample), so that with C types no z
    exceeds sqrt(C - 1). A gene with the same score in each type has 0.
    """
    centred_CV = score_CV - score_CV.mean(axis=0)
    deviation_V = score_CV.std(axis=0)
    z_CV = np.zeros_like(centred_CV, dtype=np.float64)
    return np.divide(centred_CV, deviation_V, out=z_CV, where=deviation_V > 1e-12)


def rank_genes(by_CV: np.ndarray, considered_CV: np.ndarray) -> np.ndarray:
    """Return ranks within each type, the highest first; of equals, the first by number.

    Parameters
    ----------
    considered_CV
        Which genes may be ranked in which type; the others get 0.
    """
    rank_CV = np.zeros(by_CV.shape, dtype=np.int64)
    for number, (by_V, considered_V) in enumerate(zip(by_CV, considered_CV, strict=True)):
        genes = np.flatnonzero(considered_V)
        order = genes[np.argsort(-by_V[genes], kind="stable")]
        rank_CV[number, order] = np.arange(1, len(order) + 1)
    return rank_CV


def considered_genes(
    expression_NV: np.ndarray, code_N: np.ndarray, n_types: int, min_expressed: float
) -> np.ndarray:
    """Return which genes may mark which type, bool (C, V).

    Those that at least this share of the type's cells express in bin 1 or higher: a gene of a
    single cell is no mark of a type.
    """
    return type_means(expression_NV > 0, code_N, n_types) >= min_expressed


def rank_types(method: str, score_CV: np.ndarray, considered_CV: np.ndarray) -> Ranking:
    """Rank the genes of each type by one method.

    Parameters
    ----------
    method
        One of `TITLES`. Those of `BY_Z` are ranked by z-score; the others by the score, of which
        expression takes the mean of the other types off first.
    score_CV
        Mean of the cells of each type, or weights.
    """
    score_CV = score_CV.astype(np.float64)
    if method == "expression":
        score_CV = score_CV - _mean_of_others(score_CV)
    z_CV = z_across_types(score_CV)
    return Ranking(
        method, score_CV, z_CV, rank_genes(z_CV if method in BY_Z else score_CV, considered_CV)
    )


def _mean_of_others(score_CV: np.ndarray) -> np.ndarray:
    return (score_CV.sum(axis=0) - score_CV) / max(1, len(score_CV) - 1)


def table_of_genes(
    rankings: Sequence[Ranking], types: Sequence[str], symbols: np.ndarray
) -> pd.DataFrame:
    """Return a row for each type and each gene that is ranked in it: scores, z and ranks."""
    tables = []
    for number, name in enumerate(types):
        genes = np.flatnonzero(np.any([one.rank[number] > 0 for one in rankings], axis=0))
        table = pd.DataFrame({"cell_type": name, "gene": symbols[genes]})
        for one in rankings:
            table[f"{one.method}_score"] = one.score[number, genes]
            table[f"{one.method}_z"] = one.z[number, genes]
            table[f"{one.method}_rank"] = one.rank[number, genes]
        tables.append(table.sort_values(f"{rankings[0].method}_rank", kind="stable"))
    return pd.concat(tables, ignore_index=True)
