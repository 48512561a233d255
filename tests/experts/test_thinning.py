"""Copies of cells with fewer counts."""

import numpy as np
import pytest
from scipy import sparse

from scbert.experts.thinning import LEAST_SHARE, thinned
from scbert.tokens.tokenize import LEVELS, levels_of_expression, normalize

N_GENES = 3000


def expression_of(counts, library):
    """As the experts get it: log2(1 + counts per 10,000) in steps of a sixteenth."""
    counts = sparse.csr_matrix(counts, dtype=np.float32)
    found = normalize(counts, np.full(counts.shape[0], library), 1e4)
    return (levels_of_expression(found) / LEVELS).astype(np.float32)


def test_a_copy_keeps_a_share_of_the_counts_and_what_is_kept_stands_for_more():
    """Of single counts all that are kept are equal, and tell the share; a fifth have two."""
    counts = np.ones((200, N_GENES))
    counts[:, ::5] = 2
    copies = thinned(expression_of(counts, 4000.0), seed=0)
    shares = []
    for copy in copies:
        per_10_000 = 2 ** (copy.data + 0.5 / LEVELS) - 1  # the middle of a step
        share = 2.5 / per_10_000.min()  # one count is 2.5 per 10,000, of all counts
        kept = per_10_000.sum() / (2.5 / share)
        # The draw has a spread of 30 counts at most, and steps of 4 % are felt twice.
        assert kept == pytest.approx(share * counts[0].sum(), rel=0.08, abs=90)
        shares.append(share)
    assert LEAST_SHARE * 0.9 < min(shares) < 0.12
    assert 0.9 < max(shares) < 1.1
    assert np.median(shares) == pytest.approx(LEAST_SHARE**0.5, rel=0.2)  # uniform in the logarithm


def test_copies_are_tokens_of_the_same_genes_and_follow_from_the_seed():
    rng = np.random.default_rng(0)
    given = expression_of(rng.poisson(0.5, (50, N_GENES)), 4000.0)
    before = given.copy()
    copies = thinned(given, seed=1)
    assert (given != before).nnz == 0
    assert copies.shape == given.shape
    assert copies.dtype == np.float32
    assert copies.data.min() >= 1
    assert (copies.data * LEVELS % 1 == 0).all()
    assert set(zip(*copies.nonzero(), strict=True)) <= set(zip(*given.nonzero(), strict=True))
    assert (copies != thinned(given, seed=1)).nnz == 0
    assert (copies != thinned(given, seed=2)).nnz > 0


def test_a_cell_without_tokens_has_a_copy_without():
    given = expression_of(np.array([[0, 0, 0], [4, 0, 9]]), 2000.0)
    copies = thinned(given, seed=0)
    assert np.diff(copies.indptr)[0] == 0
    assert thinned(given[:0], seed=0).shape == (0, 3)
