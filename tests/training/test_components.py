from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from scbert.experts.linear import LinearExpert
from scbert.tokens.store import store_in_memory
from scbert.training.components import (
    Components,
    fit_components,
    load_components,
    novelty_left_out,
    save_components,
)
from tests.samples import sample_of

N_CELLS = 120
LABEL = np.tile([0, 1, 2], N_CELLS // 3)


def store(n_cells=40, n_genes=30, measured=None, seed=0):
    """Cells of two kinds, one in each half of the genes."""
    rng = np.random.default_rng(seed)
    bins = rng.poisson(0.3, size=(n_cells, n_genes))
    bins[: n_cells // 2, : n_genes // 2] += rng.poisson(2, size=(n_cells // 2, n_genes // 2))
    measured = np.arange(n_genes) if measured is None else np.asarray(measured)
    kept = np.zeros_like(bins)
    kept[:, measured] = np.minimum(bins, 5)[:, measured]
    sample = sparse.csr_matrix(kept.astype(np.uint8))
    return store_in_memory(sample_of("s", [f"c{n}" for n in range(n_cells)], sample, measured, 0))


def bins_in(cells):
    dense = np.zeros((len(cells), cells.measured.shape[1]))
    for row in range(len(cells)):
        genes, bins = cells.tokens(row)
        dense[row, genes] = bins
    return dense


def test_positions_are_those_of_a_singular_value_decomposition():
    cells, rows = store(), np.arange(30)
    found = fit_components(cells, rows, 0).positions(cells, rows)
    dense = bins_in(cells)[rows]
    _, singular, _ = np.linalg.svd(dense - dense.mean(axis=0))
    assert found.shape == (30, 20)
    assert np.linalg.norm(found, axis=0) == pytest.approx(singular[:20], rel=1e-4)
    assert found.mean(axis=0) == pytest.approx(np.zeros(20), abs=1e-5)


def expected_given(components, dense, measured):
    """Expression, where not measured its mean given the rest, of a Gaussian of all genes."""
    axes, mean = components.axes_KV.astype(float), components.mean_V.astype(float)
    cov = axes.T @ np.diag(components.variance_K) @ axes + components.noise * np.eye(len(mean))
    within, across = cov[np.ix_(measured, measured)], cov[np.ix_(~measured, measured)]
    filled = dense.copy()
    seen = (dense - mean)[:, measured]
    filled[:, ~measured] = mean[~measured] + seen @ np.linalg.solve(within, across.T)
    return filled


def test_a_gene_that_was_not_measured_counts_as_average():
    """Silent, it would move the cell; and so would it as part of a smaller panel."""
    components = fit_components(store(), np.arange(40), 0)
    panel = store(measured=np.arange(10, 30))
    expected = (bins_in(panel) - components.mean_V)[:, 10:] @ components.axes_KV[:, 10:].T
    assert components.positions(panel, np.arange(40)) == pytest.approx(expected, abs=1e-5)


def test_an_expert_is_adapted_to_the_genes_that_were_measured():
    components, measured = fit_components(store(), np.arange(40), 0), np.arange(30) >= 10
    rng = np.random.default_rng(1)
    expert = LinearExpert(
        rng.normal(size=(3, 30)).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
        rng.normal(size=(3, 2)).astype(np.float32),
    )
    dense, vectors = bins_in(store()), rng.normal(size=(40, 2))
    filled = expected_given(components, dense, measured)
    found = components.adapted(expert, measured).logits(sparse.csr_matrix(dense), vectors)
    assert found == pytest.approx(expert.logits(sparse.csr_matrix(filled), vectors), abs=1e-3)
    assert np.abs(found - expert.logits(sparse.csr_matrix(dense * measured), vectors)).max() > 0.1


def test_an_expert_that_lacks_no_gene_is_the_same():
    components = fit_components(store(), np.arange(40), 0)
    weight = np.ones((2, 30), dtype=np.float32) * (np.arange(30) >= 10)
    expert = LinearExpert(weight, np.ones(2, np.float32), np.zeros((2, 0), np.float32))
    for measured in (np.ones(30, dtype=bool), np.arange(30) >= 5):
        found = components.adapted(expert, measured)
        assert (found.weight_CV == weight).all()
        assert (found.bias_C == expert.bias_C).all()


def test_the_share_of_the_counts_is_that_of_the_training_cells():
    cells = store()
    counts = np.exp2(bins_in(cells)) - 1
    components, measured = fit_components(cells, np.arange(40), 0), np.arange(30) >= 10
    expected = counts[:, measured].sum() / counts.sum()
    assert components.share_of_counts(measured) == pytest.approx(expected)
    assert components.share_of_counts(np.ones(30, dtype=bool)) == 1


def test_the_position_of_a_cell_does_not_depend_on_other_cells():
    cells = store()
    components = fit_components(cells, np.arange(40), 0)
    together = components.positions(cells, np.array([5, 3, 9]))
    alone = [components.positions(cells, np.array([row]))[0] for row in (5, 3, 9)]
    assert together.tolist() == np.array(alone).tolist()


def test_the_same_seed_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr("scbert.training.components.MOST_CELLS", 25)  # a draw takes part
    found = [fit_components(store(), np.arange(40), seed) for seed in (1, 1, 2)]
    assert (found[0].axes_KV == found[1].axes_KV).all()
    assert (found[0].mean_V != found[2].mean_V).any()


@pytest.mark.parametrize(("n_cells", "n_genes"), [(2, 1), (2, 30), (40, 1)])
def test_of_too_little_nothing_is_learned_and_nothing_fails(n_cells, n_genes):
    cells = store(n_cells, n_genes)
    found = fit_components(cells, np.arange(n_cells), 0).positions(cells, np.arange(n_cells))
    assert found.shape == (n_cells, 1)
    assert np.isfinite(found).all()


def test_cells_that_are_all_alike_have_the_same_position():
    bins = sparse.csr_matrix(np.full((4, 6), 2, np.uint8))
    sample = sample_of("s", list("abcd"), bins, range(6), 0)
    cells = store_in_memory(sample)
    assert not fit_components(cells, np.arange(4), 0).positions(cells, np.arange(4)).any()


def test_saved_components_are_read_again(tmp_path):
    components = fit_components(store(), np.arange(40), 0)
    save_components(tmp_path / "c.safetensors", components)
    found = load_components(tmp_path / "c.safetensors", 30)
    assert asdict(found).keys() == asdict(components).keys()
    for name, array in asdict(components).items():
        assert getattr(found, name) == pytest.approx(array, rel=1e-6)


SOUND = {
    "axes": np.ones((2, 30)),
    "mean": np.ones(30),
    "variance": np.ones(2),
    "noise": np.ones(1),
    "counts": np.ones(30),
}


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("axes", np.zeros((2, 29)), r"\(2, 29\).*has 30 genes"),
        ("axes", np.zeros(30), r"\(30,\), \(30,\), .* has 30 genes"),
        ("mean", np.zeros(3), r"\(3,\), .* has 30 genes"),
        ("variance", np.zeros(3), r"\(3,\), .* has 30 genes"),
        ("noise", np.zeros(0), r"\(0,\), .* has 30 genes"),
        ("counts", np.zeros(31), r"\(31,\)\], .* has 30 genes"),
        ("axes", np.full((2, 30), np.nan), "NaN"),
        ("variance", np.array([1.0, -1.0]), "implausible"),
        ("noise", np.array([-1.0]), "implausible"),
        ("counts", np.full(30, np.inf), "infinite"),
    ],
)
def test_components_of_another_model_are_refused(tmp_path, array, value, message):
    save_file(SOUND | {array: value}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=message):
        load_components(tmp_path / "c.safetensors", 30)


def test_components_of_a_cell_at_the_mean_are_zero():
    none = np.zeros(30, np.float32)
    components = Components(np.ones((1, 30), np.float32), none, np.ones(1, np.float32), 1.0, none)
    cells = store(n_cells=2)
    expected = bins_in(cells).sum(axis=1, keepdims=True)
    assert components.positions(cells, np.arange(2)) == pytest.approx(expected)


def cells(shifted):
    """Three types with ten markers each; the shifted cells express all of these."""
    rng = np.random.default_rng(0)
    chance = np.full((N_CELLS, 60), 0.2)
    for number in range(3):
        chance[np.ix_(number == LABEL, range(10 * number, 10 * number + 10))] = 0.9
    chance[np.ix_(shifted, range(30))] = 0.9
    bins = (rng.random(chance.shape) < chance) * rng.integers(1, 4, chance.shape)
    names = [f"c{number}" for number in range(N_CELLS)]
    return store_in_memory(sample_of("s", names, sparse.csr_matrix(bins), np.arange(60), 0))


def scores(batch, label=LABEL, shifted=None):
    shifted = np.zeros(N_CELLS, dtype=bool) if shifted is None else shifted
    return novelty_left_out(cells(shifted), np.arange(N_CELLS), label, batch=batch, seed=0)


@pytest.mark.parametrize("batch", [None, np.repeat("one", N_CELLS)])
def test_without_two_batches_cells_are_left_out(batch):
    found = scores(batch)
    assert (found.which, len(found.scores)) == ("cells left out", N_CELLS)


@pytest.mark.parametrize("n_batches", [2, 3, 8])
def test_each_cell_is_scored_once_by_the_other_batches(n_batches):
    found = scores(np.arange(N_CELLS).astype(str) if n_batches == 8 else numbered(n_batches))
    assert len(found.scores) == N_CELLS
    assert (found.label == LABEL).all()


def numbered(n_batches):
    return (np.arange(N_CELLS) // 3 % n_batches).astype(str)


def test_batches_that_differ_raise_the_threshold():
    """Each batch is as far from the other as a new one would be from both."""
    batch = numbered(2)
    others = np.random.default_rng(0).permutation(batch)
    by_batch, at_random = (scores(of, shifted=batch == "1") for of in (batch, others))
    assert np.quantile(by_batch.scores, 0.95) > 1.1 * np.quantile(at_random.scores, 0.95)
    assert by_batch.which == "batches left out"


def test_cells_of_a_type_that_no_other_batch_has_are_left_out():
    batch = np.where(LABEL == 2, "b", numbered(2))
    found = scores(batch)
    assert 2 not in found.label
    assert set(found.label) == {0, 1}


def test_batches_without_a_common_type_say_nothing():
    assert scores(np.array(["a", "b", "c"])[LABEL]) is None
