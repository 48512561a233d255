"""Variants: counts that were normalised, logged, scaled, corrected or estimated."""

import itertools

import numpy as np
from scipy import sparse

from tests.inputs.formats import highly_variable
from tests.inputs.variant import changed

SCALE, ESTIMATES = "normalisation", "estimates and corrections"
RNG = np.random.default_rng


def sums(counts):
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def divided(counts, by, factor):
    return sparse.csr_matrix(sparse.diags_array(factor / by) @ counts.astype(np.float64))


def log1p(target=1e4, base=np.e, kind=np.float32):
    """Counts per `target`, or per the median cell, and log1p to a base."""

    def change(cells):
        per = np.median(sums(cells.X)) if target == "median" else target
        linear = divided(cells.X, sums(cells.X), per)
        linear.data = np.log1p(linear.data) / (np.log(base) if base else 1)
        cells.X = linear.astype(kind)

    return change


def linear(target):
    def change(cells):
        cells.X = divided(cells.X, sums(cells.X), target).astype(np.float32)

    return change


def each(function):
    """Change each stored value."""

    def change(cells):
        cells.X.data = function(cells.X.data.astype(np.float64)).astype(np.float32)

    return change


def then(*changes):
    """Do one change after another."""

    def change(cells):
        for one in changes:
            other = one(cells)
            cells = cells if other is None else other
        return cells

    return change


def varying(n=2000):
    return lambda cells: cells[:, highly_variable(cells, n)].copy()


def scran(base):
    """Size factors that are not the sums: the sum after it differs from cell to cell."""

    def change(cells):
        total = sums(cells.X)
        factors = total / total.mean() * RNG(0).lognormal(0, 0.15, len(total))
        other = divided(cells.X, factors, 1.0)
        other.data = np.log1p(other.data) / np.log(base)
        cells.X = other.astype(np.float32)

    return change


def mixed(cells):
    """Half of the cells per 10,000, half per the median."""
    per = np.where(np.arange(cells.n_obs) % 2, 1e4, np.median(sums(cells.X)))
    cells.X = divided(cells.X, sums(cells.X), per)
    cells.X.data = np.log1p(cells.X.data)


def with_sums(cells):
    cells.obs["total"] = sums(cells.X)


def dense(function):
    def change(cells):
        cells.X = function(cells.X.toarray().astype(np.float64)).astype(np.float32)

    return change


def zscore(values):
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)


def pearson(values):
    mu = values.sum(axis=1, keepdims=True) * values.sum(axis=0) / values.sum()
    return (values - mu) / np.sqrt(mu + mu**2 / 100 + 1e-9)


def ratios(values):
    logs = np.log1p(values)
    return logs - logs.mean(axis=1, keepdims=True)


def without_ambient(cells):
    """SoupX: a share of each count is taken off, by gene."""
    ambient = np.asarray(cells.X.sum(axis=0)).ravel() / cells.X.sum()
    off = cells.X.data - 0.02 * ambient[cells.X.indices] * np.repeat(
        sums(cells.X), np.diff(cells.X.indptr)
    )
    cells.X.data = np.maximum(off, 0).astype(np.float32)


def rounded_ambient(cells):
    without_ambient(cells)
    cells.X.data = np.round(cells.X.data)


def some_fractions(cells):
    """RSEM, Salmon: reads of a few genes are divided among them."""
    chosen = RNG(1).random(cells.X.nnz) < 0.1
    cells.X.data[chosen] += RNG(2).random(chosen.sum()).astype(np.float32) * 0.5


def there_and_back(cells):
    values = cells.X.astype(np.float64)
    values.data = np.expm1(np.log1p(values.data))
    cells.X = values


def thinned(share):
    """Keep each count with this probability."""

    def change(cells):
        counts = cells.X.data.astype(np.int64)
        cells.X.data = RNG(5).binomial(counts, share).astype(np.float32)
        cells.X.eliminate_zeros()

    return change


def holed(value):
    def change(cells):
        cells.X.data[::1000] = value

    return change


TARGETS = [1e3, 1e4, "median", 1e5, 1e6]
BASES = {"e": np.e, "2": 2.0, "10": 10.0}
EXPECTED = {"refused": "expected_counts", "fix": {"scale": "expected_counts"}}
VARIANTS = [
    *(
        changed(SCALE, f"log1p to base {base}, sum {target}", log1p(target, BASES[base]))
        for target, base in itertools.product(TARGETS, BASES)
    ),
    changed(SCALE, "log1p, float64", log1p(kind=np.float64)),
    changed(SCALE, "log1p, 3 decimals", then(log1p(), each(lambda x: np.round(x, 3)))),
    changed(
        SCALE, "log1p, 2 decimals", then(log1p(), each(lambda x: np.round(x, 2))), refused="neither"
    ),
    changed(SCALE, "log1p, 2,000 HVG", then(log1p(), varying())),
    changed(SCALE, "log1p of 1e6, 2,000 HVG", then(log1p(1e6), varying())),
    changed(SCALE, "log1p of HVG alone", then(varying(), log1p())),
    changed(
        SCALE,
        "log1p, sum of cells unknown, median HVG",
        then(log1p("median"), varying()),
    ),
    changed(SCALE, "scran, base 2", scran(2)),
    changed(SCALE, "scran, base e", scran(np.e)),
    changed(SCALE, "half per 10,000, half per median", mixed),
    changed(
        SCALE,
        "log1p, and a column of sums",
        then(with_sums, log1p()),
        options={"library_size_key": "total"},
    ),
    changed(
        SCALE,
        "HVG counts, and a column of sums",
        then(with_sums, varying()),
        options={"library_size_key": "total"},
    ),
    changed(SCALE, "log1p of raw counts", each(np.log1p), refused="not divided"),
    changed(SCALE, "log1p twice", then(log1p(), each(np.log1p)), refused="neither|cannot be told"),
    changed(SCALE, "per 10,000, not logged", linear(1e4), refused="not logged"),
    changed(SCALE, "per million, not logged", linear(1e6), refused="not logged"),
    changed(
        SCALE,
        "per 10,000, square root",
        then(linear(1e4), each(np.sqrt)),
        refused="neither|not logged|cannot be told",
    ),
    changed(
        SCALE,
        "per 10,000, arcsinh",
        then(linear(1e4), each(np.arcsinh)),
        refused="neither|not logged|cannot be told",
    ),
    changed(SCALE, "z-scores", dense(zscore), refused="negative"),
    changed(SCALE, "z-scores of log1p", then(log1p(), dense(zscore)), refused="negative"),
    changed(SCALE, "Pearson residuals", dense(pearson), refused="negative"),
    changed(SCALE, "centred log ratios", dense(ratios), refused="negative"),
    changed(
        SCALE,
        "counts said to be log1p",
        lambda c: c,
        options={"scale": "log1p"},
        refused="raw counts",
        fix={"scale": "counts"},
    ),
    changed(
        SCALE,
        "log1p said to be counts",
        log1p(),
        options={"scale": "counts"},
        refused="log1p",
        fix={"scale": "log1p"},
    ),
    changed(ESTIMATES, "ambient RNA removed (SoupX)", without_ambient, **EXPECTED),
    changed(ESTIMATES, "ambient RNA removed, rounded", rounded_ambient),
    changed(ESTIMATES, "expected counts (RSEM)", some_fractions, **EXPECTED),
    changed(
        ESTIMATES,
        "expected counts, --scale expected_counts",
        some_fractions,
        options={"scale": "expected_counts"},
    ),
    changed(ESTIMATES, "expected counts, log1p", then(some_fractions, log1p())),
    changed(ESTIMATES, "counts after log1p and expm1, float64", there_and_back),
    changed(ESTIMATES, "counts doubled", each(lambda x: 2 * x)),
    *(
        changed(ESTIMATES, f"{share:.0%} of the counts", thinned(share))
        for share in (0.5, 0.25, 0.1)
    ),
    changed(ESTIMATES, "25% of the counts, log1p", then(thinned(0.25), log1p())),
    changed(ESTIMATES, "counts of at most 255", each(lambda x: np.minimum(x, 255))),
    changed(ESTIMATES, "counts of 0 and 1", each(np.sign)),
    changed(ESTIMATES, "NaN among the counts", holed(np.nan), refused="[0-9]+ values that are NaN"),
    changed(
        ESTIMATES, "infinity among the counts", holed(np.inf), refused="[0-9]+ values that are NaN"
    ),
    changed(ESTIMATES, "a negative count", holed(-1), refused="negative"),
    changed(ESTIMATES, "only zeros", each(np.zeros_like), refused="only zeros"),
]
