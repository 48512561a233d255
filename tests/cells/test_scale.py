"""guess_scale must be right or refuse: a wrong answer would show weeks later, as bad scores."""

import importlib.util
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scbert.cells.read import read_cells
from scbert.cells.recover import recover_counts
from scbert.cells.scale import Scale, guess_scale

BASES = {"e": np.e, "2": 2.0, "10": 10.0}
PBMC68K = (
    Path(importlib.util.find_spec("scanpy").origin).parent / "datasets/10x_pbmc68k_reduced.h5ad"
)


@pytest.fixture(scope="module")
def shared_file():
    root = Path(os.environ.get("SCBERT_SHARED_DATA", "../shared/data"))

    def find(name):
        if not (root / name).is_file():
            pytest.skip(f"{root / name} is absent")
        return root / name

    return find


def csr(values):
    return sparse.csr_matrix(np.asarray(values, dtype=np.float32))


def draw_counts(n_cells=120, n_genes=300, depth=1500, seed=0):
    """Counts of cells between half and twice as deep as `depth`."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(n_genes, 0.3))
    depths = rng.integers(depth // 2, 2 * depth, n_cells)
    return rng.multinomial(depths, share).astype(np.float64)


def log1p(values, base=np.e):
    return np.log1p(values) / np.log(base)


def per_cell(counts, total):
    return counts / counts.sum(axis=1, keepdims=True) * total


def test_guess_scale_of_counts_that_a_person_can_check():
    assert guess_scale(csr([[1, 0, 2], [0, 5, 0]]), "X") == Scale("counts", np.e, None)


@pytest.mark.parametrize("base", BASES)
def test_guess_scale_finds_base_and_sum(base):
    x = csr(log1p(per_cell(draw_counts(), 1e4), BASES[base]))
    scale = guess_scale(x, "X")
    assert scale == Scale("log1p", BASES[base], 10_000)
    assert str(scale) == f"log1p to base {base} of 10,000 counts per cell"


@pytest.mark.parametrize("base", BASES)
def test_guess_scale_of_a_subset_of_the_genes_knows_no_sum(base):
    x = csr(log1p(per_cell(draw_counts(), 1e4), BASES[base])[:, :80])
    scale = guess_scale(x, "X")
    assert scale == Scale("log1p", BASES[base], None)
    assert "an unknown number of counts per cell" in str(scale)


@pytest.mark.parametrize("total", [1, 2368, 1e6])
@pytest.mark.parametrize("base", BASES.values())
def test_guess_scale_and_back_for_other_sums(total, base):
    """Shares, the median depth of the cells, and counts per million."""
    counts = draw_counts()
    x = csr(log1p(per_cell(counts, total), base))
    scale = guess_scale(x, "X")
    assert scale.base == base
    assert scale.target_sum == pytest.approx(total, rel=1e-5)
    for library in (None, counts.sum(axis=1)):
        found, sizes = recover_counts(x, scale, library, 1e4)
        assert (found.toarray() == counts).all()
        assert sizes == pytest.approx(counts.sum(axis=1), rel=1e-4)


@pytest.mark.parametrize("base", BASES.values())
@pytest.mark.parametrize("depth", [6, 1_000_000])
def test_guess_scale_of_very_shallow_and_very_deep_cells(base, depth):
    """In deep cells log1p is nearly linear, so that other bases look right as well."""
    counts = draw_counts(depth=depth)
    x = csr(log1p(per_cell(counts, 1e4), base))
    assert guess_scale(x, "X") == Scale("log1p", base, 10_000)
    assert (recover_counts(x, guess_scale(x, "X"), None, 1e4)[0].data >= 1).all()


def test_guess_scale_takes_ones_and_truth_values_for_counts():
    expressed = draw_counts() > 0
    assert guess_scale(csr(expressed), "X").kind == "counts"
    assert guess_scale(sparse.csr_matrix(expressed), "X").kind == "counts"


@pytest.mark.parametrize("base", BASES.values())
def test_guess_scale_of_ones_that_were_normalised(base):
    ones = (draw_counts() > 0).astype(float)
    x = csr(log1p(per_cell(ones, 1e4), base))
    assert guess_scale(x, "X") == Scale("log1p", base, 10_000)
    assert (recover_counts(x, guess_scale(x, "X"), None, 1e4)[0].toarray() == ones).all()


@pytest.mark.parametrize("base", BASES.values())
def test_guess_scale_refuses_cells_of_one_gene(base):
    """log1p(10,000) in every cell: any base gives the same sum in every cell."""
    x = csr(log1p(np.eye(30) * 1e4, base))
    with pytest.raises(ValueError, match=r"cannot be told \(not logged, base 2, base e, base 10"):
        guess_scale(x, "X")


def test_guess_scale_of_tpm_is_log1p_but_not_taken_back_to_counts():
    """A count is another step in each gene, for genes differ in length."""
    counts = draw_counts()
    lengths = np.random.default_rng(1).uniform(0.3, 8, counts.shape[1])
    x = csr(log1p(per_cell(counts / lengths, 1e6)))
    scale = guess_scale(x, "X")
    assert scale == Scale("log1p", np.e, 1_000_000)
    for library in (None, counts.sum(axis=1)):
        with pytest.raises(ValueError, match="do not come back as whole counts"):
            recover_counts(x, scale, library, 1e4)


def test_recover_counts_refuses_tpm_whose_values_are_all_far_above_the_smallest():
    """Large multiples are always near an integer: that is no evidence."""
    rng = np.random.default_rng(0)
    x = rng.uniform(2, 9, (40, 60))
    x[:, 0] = 1e-3
    with pytest.raises(ValueError, match="do not come back as whole counts: 0 of 0 below 20"):
        recover_counts(csr(log1p(per_cell(x, 1e6))), Scale("log1p", np.e, 1e6), None, 1e4)


@pytest.mark.parametrize("total", [1, 40, 100, 1e4])
def test_guess_scale_refuses_what_was_normalised_but_not_logged(total):
    with pytest.raises(ValueError, match=r"normalised but not logged.*Give raw counts"):
        guess_scale(csr(per_cell(draw_counts(), total)), "X of query.h5ad")


@pytest.mark.parametrize(
    ("base", "inverse"), [("e", r"np\.expm1"), ("2", r"2 \*\* x - 1"), ("10", r"10 \*\* x - 1")]
)
def test_guess_scale_refuses_the_logarithm_of_raw_counts(base, inverse):
    """Taken as normalised, every cell would have a library of 10,000."""
    refused = rf"not divided by the counts of their cell.*Undo the logarithm \({inverse}\)"
    with pytest.raises(ValueError, match=refused):
        guess_scale(csr(log1p(draw_counts(), BASES[base])), "X")


def spoil(counts, rate, by):
    """Change a share of the expressed values by a fraction."""
    spoilt = counts.copy()
    drawn = np.random.default_rng(2).random(counts.shape) < rate
    spoilt[drawn & (counts > 0)] += by
    return spoilt


@pytest.mark.parametrize(
    "x",
    [
        draw_counts(depth=30) * (1 + 1e-6),
        spoil(draw_counts(depth=30), 0.03, -0.37),
        spoil(draw_counts(depth=30), 0.002, 0.5),
        draw_counts(depth=30) / 2,
    ],
    ids=["a millionth off", "3 % fractions", "0.2 % fractions", "halves"],
)
def test_guess_scale_refuses_counts_that_are_not_integers(x):
    """2^n - 1 is an integer as well: these must not pass for log1p to base 2."""
    with pytest.raises(ValueError, match="Give raw counts"):
        guess_scale(csr(x), "X")


@pytest.mark.parametrize("said", ["auto", "counts", "expected_counts"])
def test_guess_scale_accepts_counts_by_each_name(said):
    assert guess_scale(csr(draw_counts()), "X", said) == Scale("counts", np.e, None)


def test_guess_scale_refuses_what_is_not_what_was_said():
    with pytest.raises(ValueError, match=r"X of q is said to hold log1p, but it holds raw counts"):
        guess_scale(csr(draw_counts()), "X of q", "log1p")
    with pytest.raises(ValueError, match="said to be 'tpm', but it is one of auto, counts, expec"):
        guess_scale(csr(draw_counts()), "X", "tpm")


def expected_counts(depth=1500):
    """A tenth of the counts got a share of a read, as RSEM gives to genes that it fits both."""
    counts = draw_counts(depth=depth)
    return spoil(counts, 0.1, 0.37)


@pytest.mark.parametrize("depth", [60, 1500])
def test_guess_scale_takes_expected_counts_only_if_they_are_called_so(depth):
    x = csr(expected_counts(depth))
    with pytest.raises(ValueError, match="say that the scale is expected_counts"):
        guess_scale(x, "X")
    with pytest.raises(ValueError, match="Give raw counts"):
        guess_scale(x, "X", "counts")
    scale = guess_scale(x, "X", "expected_counts")
    assert scale == Scale("expected_counts", np.e, None)
    assert str(scale) == "expected counts"


def test_guess_scale_takes_corrected_molecules_for_expected_counts():
    """Of 4^4 barcodes k were seen: -256 ln(1 - k / 256) molecules (Gruen et al. 2014)."""
    seen = np.minimum(draw_counts(), 200)
    assert guess_scale(csr(-256 * np.log1p(-seen / 256)), "X", "expected_counts").kind != "counts"


def test_guess_scale_refuses_expected_counts_that_were_logged_or_normalised():
    counts = expected_counts()
    with pytest.raises(ValueError, match=r"end at .* near an integer, as after a logarithm"):
        guess_scale(csr(log1p(per_cell(counts, 1e4))), "X", "expected_counts")
    with pytest.raises(ValueError, match=r"add up to the same number, 10,000, in each cell"):
        guess_scale(csr(per_cell(counts, 1e4)), "X", "expected_counts")


@pytest.mark.parametrize(
    "change",
    [
        np.sqrt,
        np.arcsinh,
        lambda counts: log1p(per_cell(counts, 1e4)) / (1e-9 + np.std(counts, axis=0)),
    ],
    ids=["square root", "arcsinh", "scaled without centring"],
)
def test_guess_scale_refuses_other_transformations(change):
    with pytest.raises(ValueError, match=r"neither counts .* nor log1p of counts"):
        guess_scale(csr(change(draw_counts())), "X")


def test_guess_scale_refuses_a_mixture_however_small():
    """One cell of counts among normalised ones, and normalised cells among counts."""
    counts = draw_counts(n_cells=600, depth=60)
    logged = log1p(per_cell(draw_counts(n_cells=600), 1e4))
    for mixed in (np.vstack([counts[:1], logged]), np.vstack([counts, logged[:1]])):
        with pytest.raises(ValueError, match="neither counts"):
            guess_scale(csr(mixed), "X")


def test_guess_scale_of_counts_looks_at_every_cell():
    counts = draw_counts(n_cells=1000, depth=60)
    counts[2] = log1p(counts[2])
    with pytest.raises(ValueError, match="Give raw counts"):
        guess_scale(csr(counts), "X")


def test_recover_counts_refuses_a_mixture_that_the_sample_of_cells_missed():
    counts = draw_counts(n_cells=1000)
    logged = log1p(per_cell(counts, 1e4))
    logged[2] = draw_counts(n_cells=1, depth=300)[0].clip(max=5)
    scale = guess_scale(csr(logged), "X")
    with pytest.raises(ValueError, match=r"\(1 cells are wrong as a whole\)"):
        recover_counts(csr(logged), scale, None, 1e4)


def test_guess_scale_refuses_mixed_bases():
    x = per_cell(draw_counts(), 1e4)
    with pytest.raises(ValueError, match="neither counts"):
        guess_scale(csr(np.vstack([log1p(x[:60]), log1p(x[60:], 2)])), "X")


def test_guess_scale_refuses_nan_infinity_negative_and_empty():
    with pytest.raises(ValueError, match=r"X of q.h5ad holds 2 values that are NaN or infinite"):
        guess_scale(csr([[1, np.nan], [np.inf, 2]]), "X of q.h5ad")
    with pytest.raises(
        ValueError, match=r"negative values \(lowest -2.5\).*no other matrix: give one"
    ):
        guess_scale(csr([[1, -2.5]]), "X")
    for zeros in (np.zeros((3, 2)), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="holds only zeros"):
            guess_scale(csr(zeros), "X")


def test_guess_scale_ignores_stored_zeros_and_empty_cells_and_leaves_its_input():
    x = log1p(per_cell(draw_counts(), 1e4))
    x[5] = 0
    plain = csr(x)
    stored = sparse.csr_matrix(
        (
            np.asarray(x, dtype=np.float32).ravel(),
            np.tile(np.arange(300), 120),
            np.arange(121) * 300,
        )
    )
    before = stored.data.copy()
    assert guess_scale(stored, "X") == guess_scale(plain, "X") == Scale("log1p", np.e, 10_000)
    found, sizes = recover_counts(stored, guess_scale(stored, "X"), None, 1e4)
    expected, expected_sizes = recover_counts(plain, guess_scale(plain, "X"), None, 1e4)
    assert (found != expected).nnz == 0
    assert found.nnz == expected.nnz
    assert sizes.tolist() == expected_sizes.tolist()
    assert sizes[5] == 0
    assert (stored.data == before).all()


@pytest.fixture(scope="module")
def pbmc68k():
    return read_cells(PBMC68K)


def test_counts_of_pbmc68k_come_back_exactly(pbmc68k):
    """765 of its genes; with n_counts and without, the two ways agree in every count."""
    x = sparse.csr_matrix(pbmc68k.raw.X)
    scale = guess_scale(x, "raw.X")
    assert scale == Scale("log1p", np.e, None)
    n_counts = pbmc68k.obs.n_counts.to_numpy(dtype=np.float64)
    unrounded = np.expm1(x.toarray().astype(np.float64)) * n_counts[:, None] / 1e4
    assert np.abs(unrounded - np.round(unrounded)).max() < 0.2  # no count is near a half
    by_library, sizes = recover_counts(x, scale, n_counts, 1e4)
    assert (by_library.toarray() == np.round(unrounded)).all()
    assert sizes.tolist() == n_counts.tolist()
    by_step, sizes = recover_counts(x, scale, None, 1e4)
    assert (by_step != by_library).nnz == 0
    assert sizes == pytest.approx(n_counts, rel=3e-3)  # n_counts is of another selection of genes


def test_the_scaled_matrix_of_pbmc68k_is_refused(pbmc68k):
    with pytest.raises(ValueError, match="negative values"):
        guess_scale(sparse.csr_matrix(pbmc68k.X), "X")


@pytest.mark.parametrize(
    "name", ["pbmc3k_labelled", "kang_ctrl12261x1287_labelled", "zheng68k_165_labelled"]
)
def test_real_counts_are_counts_and_come_back_from_log1p(shared_file, name):
    x = sparse.csr_matrix(ad.read_h5ad(shared_file(f"{name}.h5ad")).X)[:400].astype(np.float64)
    assert guess_scale(x, name).kind == "counts"
    for base in BASES.values():
        sums = np.asarray(x.sum(axis=1)).ravel()
        logged = sparse.csr_matrix(sparse.diags_array(1e4 / sums) @ x)
        logged.data = log1p(logged.data, base)
        scale = guess_scale(logged.astype(np.float32), name)
        assert scale == Scale("log1p", base, 10_000)
        found, _ = recover_counts(logged.astype(np.float32), scale, sums, 1e4)
        assert (found != x).nnz == 0


def test_real_data_of_mixed_scale_are_refused(shared_file):
    """Some laboratories of panc8 gave counts, others RSEM's estimates or corrected molecules."""
    x = sparse.csr_matrix(ad.read_h5ad(shared_file("panc8_small500_labelled.h5ad")).X)
    with pytest.raises(ValueError, match="Give raw counts"):
        guess_scale(x, "panc8")
    assert guess_scale(x, "panc8", "expected_counts").kind == "expected_counts"  # all of them


def test_recover_counts_refuses_a_library_that_was_not_divided_by():
    counts = draw_counts()
    x = csr(log1p(per_cell(counts, 1e4)))
    with pytest.raises(ValueError, match=r"120 cells are wrong.*column of obs that holds the libr"):
        recover_counts(x, guess_scale(x, "X"), (counts > 0).sum(axis=1).astype(float), 1e4)


def test_recover_counts_refuses_a_sum_that_cannot_be():
    """A subset of the genes in counts per million; 10,000 were assumed."""
    counts = draw_counts()
    x = csr(log1p(per_cell(counts, 1e6))[:, :80])
    for library in (None, counts.sum(axis=1)):
        with pytest.raises(
            ValueError, match=r"add up to \d+,\d+, but .*normalization\.target_sum is 10,000"
        ):
            recover_counts(x, guess_scale(x, "X"), library, 1e4)


def test_recover_counts_refuses_counts_none_of_which_is_one():
    """So few genes that 20,000 per cell do not show in their sum: each count would be two."""
    counts = draw_counts(n_genes=500)
    x = csr(log1p(per_cell(counts, 2e4))[:, :100])
    assert guess_scale(x, "X") == Scale("log1p", np.e, None)
    with pytest.raises(ValueError, match=r"the smallest of a cell is 2\. They were taken as log1p"):
        recover_counts(x, guess_scale(x, "X"), counts.sum(axis=1), 1e4)
