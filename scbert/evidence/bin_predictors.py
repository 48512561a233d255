"""Predictors of masked bins that need no network; pretraining must do better.

cell_mode: the bins of the cell's visible genes. gene_mode: the bins of the gene in the training
cells. additive: both, as log p(bin b | cell c, gene g) = cell[c, b] + gene[g, b] - log Z[c, g]. The
gene's part is the log of its smoothed frequencies in the training cells; the cell's part is fitted
to its visible genes by maximum likelihood with a normal prior, so that it knows how deep the cell
was sequenced beyond what its genes explain. None of them sees a masked bin or another held-out
cell.

Shape letters: N masked genes, V visible genes, C cells, T bins 1 to n_bins (column 0 is bin 1),
G visible genes of a cell.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from scbert.evidence.bootstrap import Interval, Resampling, each_resample, interval

PRIOR_PRECISION = 1.0  # of the cell's part, in nats
NEWTON_STEPS = 20  # an end, not a setting: it converges in five or so
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Guess:
    """What a predictor makes of masked genes: loss_N in nats, right_N whether its guess was."""

    probability_NT: np.ndarray
    loss_N: np.ndarray
    right_N: np.ndarray


def guess_by_counts(counts_NT: np.ndarray, targets_N: np.ndarray, fallback_T: np.ndarray) -> Guess:
    """Predict by counting, over the visible genes of the same cell or the same gene elsewhere.

    The guess is the most frequent bin (of equals, the lower), its probabilities are the frequencies
    after adding one to each count.

    Parameters
    ----------
    counts_NT
        Shape (masked genes, n_bins): how often bins 1 to n_bins were seen.
    targets_N
        Shape (masked genes,), the true bins, 1 to n_bins.
    fallback_T
        Shape (n_bins,), the counts of the whole corpus; they replace a row of zeros.

    Raises
    ------
    ValueError
        If no gene is masked, or a target is not one of the bins.
    """
    column_N = _columns(targets_N, len(fallback_T))
    seen_N1 = counts_NT.sum(axis=1, keepdims=True) > 0
    filled_NT = np.where(seen_N1, counts_NT, fallback_T).astype(np.float64)
    return _guess(np.log(filled_NT + 1), column_N)


def gene_part(counts_GT: np.ndarray) -> np.ndarray:
    """Return the gene's part of the additive predictor, shape (vocabulary, n_bins).

    Parameters
    ----------
    counts_GT
        How often each gene is in each bin in the training cells. A gene's frequencies are smoothed
        by as many cells as there are bins that are like all genes, so one that was never seen is
        taken to be like all.
    """
    n_bins = counts_GT.shape[1]
    everywhere_T = counts_GT.sum(axis=0) + 1.0
    everywhere_T /= everywhere_T.sum()
    return np.log(counts_GT + n_bins * everywhere_T) - np.log(
        counts_GT.sum(axis=1, keepdims=True) + n_bins
    )


def cell_part(
    gene_VT: np.ndarray, bins_V: np.ndarray, cell_V: np.ndarray, n_cells: int
) -> np.ndarray:
    """Fit the cell's part of the additive predictor to the cell's visible genes.

    Maximises, for each cell by itself, the log likelihood of its visible bins minus
    |cell part|² / 2, by Newton's method; the problem is concave. A cell without visible genes gets
    zeros.

    Parameters
    ----------
    gene_VT
        The gene's part of each visible gene.
    bins_V, cell_V
        Its bin, 1 to n_bins, and the number of its cell, in any order.

    Returns
    -------
    Shape (cells, n_bins).
    """
    n_bins, diagonal = gene_VT.shape[1], np.arange(gene_VT.shape[1])
    columns = cell_V * n_bins + bins_V.astype(np.int64) - 1
    observed_CT = np.bincount(columns, minlength=n_cells * n_bins).reshape(n_cells, n_bins)
    order_V = np.argsort(cell_V, kind="stable")  # side by side, a cell's genes are one product
    frequency_TV = np.exp(gene_VT.T[:, order_V])
    n_genes_C = np.bincount(cell_V, minlength=n_cells)
    ends = np.cumsum([0, *n_genes_C])
    part_CT = np.zeros((n_cells, n_bins))
    for _ in range(NEWTON_STEPS):
        p_TV = frequency_TV * np.repeat(np.exp(part_CT).T, n_genes_C, axis=1)
        p_TV /= p_TV.sum(axis=0)
        cells = (p_TV[:, start:stop] for start, stop in itertools.pairwise(ends))
        both_CTT = np.stack([p_TG @ p_TG.T for p_TG in cells])
        expected_CT = both_CTT.sum(axis=2)  # the probabilities of a gene add up to one
        slope_CT = observed_CT - expected_CT - PRIOR_PRECISION * part_CT
        curve_CTT = -both_CTT
        curve_CTT[:, diagonal, diagonal] += expected_CT + PRIOR_PRECISION
        step_CT = np.linalg.solve(curve_CTT, slope_CT[:, :, None])[:, :, 0]
        # Far from the maximum a full step may overshoot: none is longer than 2 nats.
        step_CT /= np.maximum(1, np.abs(step_CT).max(axis=1, keepdims=True) / 2)
        part_CT += step_CT
        if np.abs(step_CT).max(initial=0) < TOLERANCE:
            break
    return part_CT


def guess_by_sum(gene_NT: np.ndarray, cell_NT: np.ndarray, targets_N: np.ndarray) -> Guess:
    """Predict masked genes by the additive predictor; the parts are those of gene and cell."""
    return _guess(gene_NT + cell_NT, _columns(targets_N, gene_NT.shape[1]))


def _columns(targets_N: np.ndarray, n_bins: int) -> np.ndarray:
    if len(targets_N) == 0 or targets_N.min() < 1 or targets_N.max() > n_bins:
        raise ValueError(
            f"{len(targets_N)} masked bins are given, but a score needs at least one, and all must "
            f"lie between 1 and {n_bins}. Mask expressed genes only."
        )
    return np.asarray(targets_N, dtype=np.int64) - 1  # a uint8 target would wrap around


def _guess(logits_NT: np.ndarray, column_N: np.ndarray) -> Guess:
    probability_NT = softmax(logits_NT, axis=1)
    asked_N = probability_NT[np.arange(len(column_N)), column_N]
    return Guess(probability_NT, -np.log(asked_N), logits_NT.argmax(axis=1) == column_N)


def skill(loss_C: np.ndarray, rival_C: np.ndarray, settings: Resampling) -> Interval:
    """Return 1 - loss / loss of a rival, with a bootstrap interval over cells.

    Parameters
    ----------
    loss_C, rival_C
        Shape (cells,), the sums of the losses over each cell's masked genes, in nats.
    """
    resampled = [
        1 - loss_C[cells].sum() / rival_C[cells].sum()
        for cells in each_resample(len(loss_C), settings)
    ]
    return interval(1 - loss_C.sum() / rival_C.sum(), np.array(resampled), settings)
