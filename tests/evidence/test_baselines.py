from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import maxabs_scale

from scbert.config import load_config
from scbert.evidence.baselines import METHODS, LabelledCells, fit_baseline

CONFIG = load_config(yaml.safe_load(Path("config/config.yaml").read_text()))
TYPES = np.array(["B cell", "NK cell", "T cell"])
LEARNED = [method for method in METHODS if method not in {"majority", "random"}]


def labelled_cells(n_cells, seed, n_genes=60):
    """Three types, each with ten marker genes; 40 % of the cells are B cells."""
    rng = np.random.default_rng(seed)
    code = rng.choice(3, size=n_cells, p=[0.4, 0.3, 0.3])
    rates = np.full((3, n_genes), 0.5)
    for cell_type in range(3):
        rates[cell_type, 10 * cell_type : 10 * cell_type + 10] = 2.0
    expression = np.log2(1 + rng.poisson(rates[code])).astype(np.float32)
    return LabelledCells(sparse.csr_matrix(expression), TYPES[code])


CELLS, TEST = labelled_cells(160, 0), labelled_cells(60, 2)


def fit(method, cells=CELLS, seed=CONFIG.compare.seed):
    return fit_baseline(method, cells, seed)


def test_all_methods_are_the_default():
    assert CONFIG.compare.methods == tuple(METHODS)


def test_majority_predicts_the_most_frequent_type():
    cells = LabelledCells(CELLS.expression[:3], np.array(["T cell", "B cell", "T cell"]))
    baseline = fit("majority", cells)
    assert set(baseline.predict(TEST.expression)) == {"T cell"}
    assert (baseline.kind, baseline.title) == ("control", "Most frequent type")


def test_random_draws_types_at_the_shares_it_learned_from():
    """3,000 draws: a share is known to 0.01, so 0.04 is four standard errors."""
    many = sparse.csr_matrix((3000, 60), dtype=np.float32)
    baseline = fit("random")
    predicted = baseline.predict(many)
    for cell_type in TYPES:
        share = (CELLS.cell_types == cell_type).mean()
        assert (predicted == cell_type).mean() == pytest.approx(share, abs=0.04)
    assert f"seed {CONFIG.compare.seed}" in baseline.setting
    assert (fit("random", seed=7).predict(many) != predicted).any()


@pytest.mark.parametrize("method", LEARNED)
def test_baselines_find_the_markers(method):
    baseline = fit(method)
    assert (baseline.predict(TEST.expression) == TEST.cell_types).mean() > 0.85
    assert baseline.kind == "baseline"


@pytest.mark.parametrize("method", METHODS)
def test_baselines_give_the_same_bits_for_the_same_seed_and_leave_cells_alone(method):
    kept = CELLS.expression.copy()
    first, again = fit(method), fit(method)
    assert (first.predict(TEST.expression) == again.predict(TEST.expression)).all()
    assert (CELLS.expression != kept).nnz == 0


@pytest.mark.parametrize("method", LEARNED)
def test_baselines_do_not_care_in_which_order_test_cells_come(method):
    baseline = fit(method)
    order = np.random.default_rng(0).permutation(60)
    predicted = baseline.predict(TEST.expression)
    assert (baseline.predict(TEST.expression[order]) == predicted[order]).all()


def test_logistic_regression_is_that_of_scikit_learn():
    baseline = fit("logistic_regression")
    scaled = maxabs_scale(CELLS.expression)
    reference = LogisticRegression(class_weight="balanced").fit(scaled, CELLS.cell_types)
    largest = CELLS.expression.max(axis=0).toarray()
    expected = reference.predict(TEST.expression.toarray() / largest)
    assert (baseline.predict(TEST.expression) == expected).all()


def test_a_rare_type_weighs_as_much_as_a_common_one():
    """T cells are a fifth of the cells that express the gene, but all of them do."""
    gene = sparse.csr_matrix(np.array([[0, 1]] * 32 + [[1, 1]] * 10, dtype=np.float32))
    cells = LabelledCells(gene, np.array(["B cell"] * 40 + ["T cell"] * 2))
    for method in ("logistic_regression", "linear_svm", "discriminant"):
        assert fit(method, cells).predict(gene[-1:]).tolist() == ["T cell"]


@pytest.mark.parametrize("method", LEARNED)
def test_seven_cells_and_genes_that_do_not_vary_are_enough(method):
    expression = sparse.csr_matrix(CELLS.expression[:7].toarray() * (np.arange(60) < 40))
    baseline = fit(method, LabelledCells(expression, CELLS.cell_types[:7]))
    assert len(baseline.predict(TEST.expression)) == 60


@pytest.mark.parametrize("method", LEARNED)
def test_one_cell_per_type_is_enough(method):
    """A gene that varies more than the others tells the types apart."""
    expression = sparse.csr_matrix(np.eye(3, 8) * 5 + np.random.default_rng(0).random((3, 8)))
    names = np.array(["B cell", "NK cell", "T cell"])
    found = fit(method, LabelledCells(expression, names)).predict(expression)
    assert len(found) == 3
    if method == "discriminant":
        assert found.tolist() == names.tolist()


def test_fit_baseline_refuses_one_type():
    cells = LabelledCells(CELLS.expression[:3], np.array(["T cell"] * 3))
    with pytest.raises(ValueError, match=r"3 training cells have 1 cell type\(s\)"):
        fit("logistic_regression", cells)


def test_fit_baseline_refuses_an_unknown_method():
    with pytest.raises(ValueError, match="'oracle' is not a baseline"):
        fit("oracle")
