import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.network.masking import padding_id
from scbert.tokens.store import TokenStore, store_in_memory
from scbert.tokens.tokenize import LEVELS
from scbert.training.cell_batches import CellBatches
from tests.samples import sample_of

N_BINS = 5
PADDING = padding_id(N_BINS)


def store_of(rows, measured=None):
    """Each row: the bins of a cell over the vocabulary."""
    bins = sparse.csr_matrix(np.array(rows, dtype=np.uint8))
    genes = np.arange(bins.shape[1]) if measured is None else np.array(measured, dtype=int)
    return store_in_memory(sample_of("toy", [f"cell{n}" for n in range(len(rows))], bins, genes, 0))


def store_of_lengths(lengths):
    """Cells with these numbers of tokens."""
    lengths = np.asarray(lengths)
    return TokenStore(
        gene=np.concatenate([np.arange(length) for length in lengths]).astype(np.uint16),
        level=np.full(lengths.sum(), LEVELS, dtype=np.uint8),
        n_bins=N_BINS,
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        sample=np.zeros(len(lengths), dtype=np.int64),
        measured=np.ones((1, max(1, lengths.max())), dtype=bool),
        names=[str(n) for n in range(len(lengths))],
        meta={},
    )


def batches_of(store, sequence="expressed_genes", budget=16):
    return CellBatches(store, sequence, N_BINS, budget)


THREE_CELLS = [[0, 1, 0, 5, 0], [2, 0, 0, 0, 0], [3, 3, 1, 0, 4]]


def test_make_pads_expressed_genes_to_the_longest_cell():
    batch = batches_of(store_of(THREE_CELLS)).make(np.array([1, 0]))
    assert batch.rows.tolist() == [1, 0]
    assert batch.genes_BG.tolist() == [[0, 0], [1, 3]]
    assert batch.tokens_BG.tolist() == [[2, PADDING], [1, 5]]
    assert batch.real_BG.tolist() == [[True, False], [True, True]]
    assert batch.genes_BG.dtype == batch.tokens_BG.dtype == torch.int64


def test_make_gives_all_measured_genes_with_silent_ones_as_bin_0():
    """Gene 2 was not measured: it is no token, whereas a silent gene is one."""
    cells = [[0, 1, 0, 5, 0], [2, 0, 0, 0, 0]]
    store = store_of(cells, measured=[0, 1, 3, 4])
    batch = batches_of(store, "all_genes").make(np.array([0, 1]))
    assert batch.genes_BG.tolist() == [[0, 1, 3, 4]] * 2
    assert batch.tokens_BG.tolist() == [[0, 1, 5, 0], [2, 0, 0, 0]]
    assert batch.real_BG.all()
    assert batches_of(store, "all_genes").lengths().tolist() == [4, 4]
    assert batches_of(store).lengths().tolist() == [2, 1]


def test_make_takes_the_measured_genes_of_each_cells_own_sample():
    store = TokenStore(
        gene=np.array([1, 0], dtype=np.uint16),
        level=np.array([3, 2], dtype=np.uint8) * np.uint8(LEVELS),
        n_bins=N_BINS,
        indptr=np.array([0, 1, 2]),
        sample=np.array([0, 1]),
        measured=np.array([[True, True, False], [True, False, False]]),
        names=["one", "two"],
        meta={},
    )
    batch = batches_of(store, "all_genes").make(np.array([0, 1]))
    assert batch.genes_BG.tolist() == [[0, 1], [0, 0]]
    assert batch.tokens_BG.tolist() == [[0, 3], [2, PADDING]]


def test_make_gives_the_sequence_of_the_original_in_paper():
    """Gene 2 was not measured and counts as silent, and a token that is no gene comes last."""
    cells = [[0, 1, 0, 5, 0], [2, 0, 0, 0, 0]]
    batches = batches_of(store_of(cells, measured=[0, 1, 3, 4]), "paper")
    batch = batches.make(np.array([0, 1]))
    assert batch.genes_BG.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert batch.tokens_BG.tolist() == [[0, 1, 0, 5, 0, 0], [2, 0, 0, 0, 0, 0]]
    assert batch.real_BG.all()
    assert batches.lengths().tolist() == [6, 6]


@pytest.mark.parametrize("sequence", ["expressed_genes", "all_genes"])
def test_a_cell_without_tokens_is_one_position_of_padding(sequence):
    measured = [] if sequence == "all_genes" else None
    cells = batches_of(store_of([[0, 0, 0], [0, 0, 0]], measured), sequence)
    for rows in ([0], [0, 1]):
        batch = cells.make(np.array(rows))
        assert batch.tokens_BG.tolist() == [[PADDING]] * len(rows)
        assert not batch.real_BG.any()


def test_cells_without_tokens_count_against_the_budget():
    """100 of them, one position each, and at most 16 positions per batch."""
    cells = batches_of(store_of(np.zeros((100, 3))))
    for rng in (None, np.random.default_rng(0)):
        plan = cells.plan(np.arange(100), rng)
        assert max(len(rows) for rows in plan) == 16
        assert sorted(np.concatenate(plan)) == list(range(100))


def test_plan_without_rng_goes_from_short_to_long():
    """Budget 16: 4 + 4 + 4 positions of length 4, then 9 and, longer than the budget, 20."""
    cells = batches_of(store_of_lengths([4, 20, 3, 9, 4]))
    plan = cells.plan(np.arange(5), None)
    assert [rows.tolist() for rows in plan] == [[2, 0, 4], [3], [1]]


@settings(deadline=None, max_examples=80)  # the first example waits for torch to start
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=80),
    budget=st.integers(1, 200),
    seed=st.none() | st.integers(0, 100),
)
def test_plan_takes_every_row_once_and_keeps_the_budget(lengths, budget, seed):
    cells = batches_of(store_of_lengths(lengths), budget=budget)
    rows = np.flatnonzero(np.arange(len(lengths)) % 3 != 1)
    kept = rows.copy()
    rng = None if seed is None else np.random.default_rng(seed)
    plan = cells.plan(rows, rng)
    assert np.sort(np.concatenate(plan)).tolist() == rows.tolist()
    for batch in plan:
        made = cells.make(batch)
        assert made.tokens_BG.numel() <= budget or len(batch) == 1
        assert made.real_BG.sum(dim=1).tolist() == np.array(lengths)[batch].tolist()
    assert (rows == kept).all()


def realistic_lengths(n_cells, spread=0.6, seed=0):
    """Expressed genes per cell: log-normal around 900, as in PanglaoDB, from 20 to 9,000."""
    drawn = np.random.default_rng(seed).lognormal(np.log(900), spread, n_cells)
    return np.clip(drawn, 20, 9000).astype(int)


@pytest.mark.parametrize("spread", [0.6, 1.0])
@pytest.mark.parametrize("n_cells", [300, 3000])
@pytest.mark.parametrize("budget", [8192, 65536])
@pytest.mark.parametrize("seed", [0, None])
def test_padding_is_less_than_10_percent(n_cells, budget, spread, seed):
    """Shuffled batches without sorting by length would be more than half padding.

    300 cells under a budget of 65,536 tokens are few batches of many lengths: 18 % if only the
    budget ended a batch.
    """
    lengths = realistic_lengths(n_cells, spread)
    cells = batches_of(store_of_lengths(lengths), budget=budget)
    rng = None if seed is None else np.random.default_rng(seed)
    plan = cells.plan(np.arange(n_cells), rng)
    positions = sum(len(rows) * lengths[rows].max() for rows in plan)
    assert 1 - lengths.sum() / positions < 0.10


def test_a_batch_ends_before_a_cell_that_would_pad_all_others():
    """Eight cells of 10 tokens and one of 20: 80 of 180 positions would be padding.

    Seven cells are too few for a batch of their own.
    """
    cells = batches_of(store_of_lengths([10] * 8 + [20]), budget=1000)
    assert [len(rows) for rows in cells.plan(np.arange(9), None)] == [8, 1]
    fewer = batches_of(store_of_lengths([10] * 7 + [20]), budget=1000)
    assert [len(rows) for rows in fewer.plan(np.arange(8), None)] == [8]


def test_the_same_seed_gives_the_same_plan_and_epochs_differ():
    cells = batches_of(store_of_lengths(realistic_lengths(200)), budget=8192)
    first, again, other = (
        [rows.tolist() for rows in cells.plan(np.arange(200), np.random.default_rng([2021, epoch]))]
        for epoch in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_each_yields_the_batches_of_the_plan():
    cells = batches_of(store_of(THREE_CELLS), budget=4)
    found = [batch.rows.tolist() for batch in cells.each(np.arange(3))]
    assert found == [[1, 0], [2]]


def test_to_moves_tensors_and_keeps_rows():
    batch = batches_of(store_of(THREE_CELLS)).make(np.array([0, 2]))
    moved = batch.to(torch.device("meta"))
    assert {moved.genes_BG.device.type, moved.real_BG.device.type} == {"meta"}
    assert moved.rows is batch.rows
    assert batch.tokens_BG.device.type == "cpu"


@pytest.mark.parametrize(
    ("sequence", "genes", "tokens"),
    [
        ("expressed_genes", [[0, 0], [0, 0], [0, 4]], [[PADDING] * 2, [2, PADDING], [3, 4]]),
        ("all_genes", [[0, 2, 4]] * 3, [[0, 0, 0], [2, 0, 0], [3, 1, 4]]),
        ("paper", [[0, 2, 4, 5]] * 3, [[0, 0, 0, 0], [2, 0, 0, 0], [3, 1, 4, 0]]),
    ],
)
def test_only_the_given_genes_are_tokens(sequence, genes, tokens):
    """The appended token of sequence `paper` is no gene and stays."""
    used = np.array([True, False, sequence != "expressed_genes", False, True])
    cells = CellBatches(store_of(THREE_CELLS), sequence, N_BINS, 100, used)
    batch = cells.make(np.arange(3))
    assert batch.genes_BG.tolist() == genes
    assert batch.tokens_BG.tolist() == tokens
    assert cells.lengths().tolist() == [int((row != PADDING).sum()) for row in batch.tokens_BG]


def test_lengths_are_those_of_the_used_genes_for_many_cells(monkeypatch):
    """Cells are counted a few at a time; cells without tokens lie at the edges."""
    monkeypatch.setattr("scbert.training.cell_batches.CELLS_AT_ONCE", 2)
    rows = [[0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]]
    used = np.array([True, False, True])
    cells = CellBatches(store_of(rows), "expressed_genes", N_BINS, 100, used)
    assert cells.lengths().tolist() == [0, 1, 1, 0, 2]
