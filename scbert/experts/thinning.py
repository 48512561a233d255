"""Copies of cells as a shallower sequencing would have seen them, for experts to learn from.

Of a cell that is sequenced less each gene has a binomial draw of its counts (binomial thinning;
Neufeld et al. 2024, "Data thinning for convolution-closed distributions"). What was measured with
such copies and without is in docs/decisions/experts.md.

Shape letters: N cells, V genes.
"""

import numpy as np
from scipy import sparse

from scbert.tokens.tokenize import LEVELS, levels_of_expression

LEAST_SHARE = 0.1  # of its counts that a copy keeps: drawn for each, uniform in the logarithm


def thinned(expression_NV: sparse.csr_matrix, seed: int) -> sparse.csr_matrix:
    """Return a copy of each cell that keeps a tenth of its counts or more, as its tokens would be.

    Counts are not at hand: the smallest expression of a cell is taken for one count. Where single
    counts are no tokens, in cells of more than 10,000, that is too much: these are thinned as if
    they had about so many.

    Parameters
    ----------
    expression_NV
        As `expression_of` gives it: log2(1 + counts per 10,000) in steps of a sixteenth.
    """
    rng, tokens_N = np.random.default_rng(seed), np.diff(expression_NV.indptr)
    # A step holds all values up to the next one: its middle.
    per_10_000 = np.exp2(expression_NV.data.astype(np.float64) + 0.5 / LEVELS) - 1
    share_N = np.exp(rng.uniform(np.log(LEAST_SHARE), 0, len(tokens_N)))
    one_N = _smallest(per_10_000, expression_NV.indptr)  # count, per 10,000
    counts = np.rint(per_10_000 / np.repeat(one_N, tokens_N)).astype(np.int64)
    kept = rng.binomial(counts, np.repeat(share_N, tokens_N))
    values = np.log2(1 + kept * np.repeat(one_N / share_N, tokens_N))
    where = expression_NV.indices.copy(), expression_NV.indptr.copy()
    copies = levels_of_expression(sparse.csr_matrix((values, *where), expression_NV.shape))
    copies = copies.astype(np.float32)
    copies.data /= LEVELS
    return copies


def _smallest(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the smallest value of each row, float64; 1 of a row without any."""
    found, filled = np.ones(len(indptr) - 1), np.diff(indptr) > 0
    if filled.any():
        found[filled] = np.minimum.reduceat(values, indptr[:-1][filled])
    return found
