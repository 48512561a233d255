from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import maxabs_scale

from scbert.cells.tokens import bin_expression
from scbert.config import load_config
from scbert.evidence.baselines import LabelledCells, fit_baseline

CONFIG = load_config(yaml.safe_load(Path("config/config.yaml").read_text()))
SETTINGS = CONFIG.compare
N_BINS = CONFIG.binning.n_bins
TYPES = np.array(["B cell", "NK cell", "T cell"])
TUNED = [method for method in SETTINGS.methods if method not in {"majority", "random"}]


def labelled_cells(n_cells, seed, n_genes=60):
    """Three types, each with ten marker genes; 40 % of the cells are B cells."""
    rng = np.random.default_rng(seed)
    code = rng.choice(3, size=n_cells, p=[0.4, 0.3, 0.3])
    rates = np.full((3, n_genes), 0.5)
    for cell_type in range(3):
        rates[cell_type, 10 * cell_type : 10 * cell_type + 10] = 2.0
    expression = np.log2(1 + rng.poisson(rates[code])).astype(np.float32)
    return LabelledCells(sparse.csr_matrix(expression), TYPES[code])


TRAIN, VALIDATION, TEST = (
    labelled_cells(120, 0),
    labelled_cells(40, 1),
    labelled_cells(60, 2),
)
LEARNED_FROM = LabelledCells(
    sparse.vstack([TRAIN.expression, VALIDATION.expression]).tocsr(),
    np.concatenate([TRAIN.cell_types, VALIDATION.cell_types]),
)


def fit(method, settings=SETTINGS, train=TRAIN, validation=VALIDATION):
    return fit_baseline(method, train, validation, settings, N_BINS)


def test_majority_predicts_the_most_frequent_training_type():
    """One of two validation cells is right: F1 is 2 * 1 / (1 + 2) for T cells, 0 for B cells."""
    train = LabelledCells(TRAIN.expression[:3], np.array(["T cell", "B cell", "T cell"]))
    validation = LabelledCells(VALIDATION.expression[:2], np.array(["T cell", "B cell"]))
    baseline = fit("majority", train=train, validation=validation)
    assert set(baseline.predict(TEST.expression)) == {"T cell"}
    assert baseline.validation_macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert (baseline.kind, baseline.title) == ("control", "Most frequent type")


def test_random_draws_types_at_the_shares_it_learned_from():
    """3,000 draws: a share is known to 0.01, so 0.04 is four standard errors."""
    many = sparse.csr_matrix((3000, 60), dtype=np.float32)
    predicted = fit("random").predict(many)
    for cell_type in TYPES:
        share = (LEARNED_FROM.cell_types == cell_type).mean()
        assert (predicted == cell_type).mean() == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("method", TUNED)
def test_tuned_baselines_find_the_markers(method):
    baseline = fit(method)
    assert (baseline.predict(TEST.expression) == TEST.cell_types).mean() > 0.85
    assert baseline.kind == "baseline"


@pytest.mark.parametrize("method", SETTINGS.methods)
def test_baselines_report_the_validation_score_of_what_was_fitted_without_these_cells(method):
    baseline = fit(method)
    without = clone(baseline.estimator).fit(TRAIN.expression, TRAIN.cell_types)
    predicted = without.predict(VALIDATION.expression)
    expected = f1_score(VALIDATION.cell_types, predicted, average="macro", zero_division=0)
    assert baseline.validation_macro_f1 == pytest.approx(expected)


@pytest.mark.parametrize("method", SETTINGS.methods)
def test_baselines_give_the_same_bits_for_the_same_seed_and_leave_cells_alone(method):
    kept = TRAIN.expression.copy()
    first, again = fit(method), fit(method)
    assert first.setting == again.setting
    assert (first.predict(TEST.expression) == again.predict(TEST.expression)).all()
    assert (TRAIN.expression != kept).nnz == 0


@pytest.mark.parametrize("method", TUNED)
def test_tuned_baselines_do_not_care_in_which_order_test_cells_come(method):
    baseline = fit(method)
    order = np.random.default_rng(0).permutation(60)
    predicted = baseline.predict(TEST.expression)
    assert (baseline.predict(TEST.expression[order]) == predicted[order]).all()


def test_logistic_regression_is_that_of_scikit_learn_on_training_and_validation_cells():
    baseline = fit("logistic_regression", SETTINGS.model_copy(update={"c_grid": (0.1,)}))
    scaled = maxabs_scale(LEARNED_FROM.expression)
    reference = LogisticRegression(C=0.1).fit(scaled, LEARNED_FROM.cell_types)
    largest = LEARNED_FROM.expression.max(axis=0).toarray()
    expected = reference.predict(TEST.expression.toarray() / largest)
    assert (baseline.predict(TEST.expression) == expected).all()
    assert "C = 0.1, chosen from 0.1 by macro F1" in baseline.setting


def test_logistic_regression_binned_sees_only_bins():
    baseline = fit("logistic_regression_binned")
    bins = bin_expression(TEST.expression, N_BINS).astype(np.float32)
    assert (baseline.predict(bins) == baseline.predict(TEST.expression)).all()


def test_of_settings_with_the_same_macro_f1_the_least_loss_is_chosen():
    """Every penalty tells these cells apart; the smallest C would be barely sure of anything."""
    settings = SETTINGS.model_copy(update={"class_weights": ("none",)})
    losses = {}
    for c in settings.c_grid:
        one = fit("logistic_regression", settings.model_copy(update={"c_grid": (c,)}))
        if one.validation_macro_f1 == 1:
            without = clone(one.estimator).fit(TRAIN.expression, TRAIN.cell_types)
            probabilities = without.predict_proba(VALIDATION.expression)
            of_type = probabilities[np.arange(40), np.searchsorted(TYPES, VALIDATION.cell_types)]
            losses[c] = -np.mean(
                [np.log(of_type[VALIDATION.cell_types == t]).mean() for t in TYPES]
            )
    assert len(losses) > 1
    best = min(losses, key=losses.__getitem__)
    assert best > min(losses)
    assert f"C = {best:g}, chosen" in fit("logistic_regression", settings).setting


def test_validation_cells_of_types_that_were_not_trained_do_not_choose():
    """They cannot be named right by any candidate, but macro F1 counts them."""
    kept = TRAIN.cell_types != "NK cell"
    train = LabelledCells(TRAIN.expression[kept], TRAIN.cell_types[kept])
    assert fit("logistic_regression", train=train).validation_macro_f1 < 0.7


def test_without_probabilities_the_smallest_of_equally_good_values_is_chosen():
    """Two genes, one per type: every penalty tells the validation cells apart."""
    rows = sparse.csr_matrix(np.repeat(np.eye(2, dtype=np.float32), 5, axis=0))
    cells = LabelledCells(rows, np.repeat(["B cell", "T cell"], 5))
    settings = SETTINGS.model_copy(update={"c_grid": (10.0, 0.1, 1.0), "neighbours_grid": (3, 1)})
    assert "C = 0.1, chosen from 0.1, 1, 10" in fit("linear_svm", settings, cells, cells).setting
    neighbours = fit("nearest_neighbours", settings, cells, cells)
    assert neighbours.setting.startswith("1 neighbours by cosine distance, chosen from 1, 3 ")


def test_validation_cells_choose_the_value():
    """Two lone T cells among B cells: validation cells like them need one neighbour, not five."""
    rows = sparse.csr_matrix(np.array([[1, 0]] * 8 + [[1, 1]] * 2, dtype=np.float32))
    cells = LabelledCells(rows, np.array(["B cell"] * 8 + ["T cell"] * 2))
    settings = SETTINGS.model_copy(update={"neighbours_grid": (5, 1)})
    assert fit("nearest_neighbours", settings, cells, cells).setting.startswith("1 neighbours")


def test_validation_cells_choose_the_weights_of_types():
    """T cells are a fifth of the cells that express the gene, but all of them do."""
    gene = sparse.csr_matrix(np.array([[0, 1]] * 32 + [[1, 1]] * 10, dtype=np.float32))
    train = LabelledCells(gene, np.array(["B cell"] * 40 + ["T cell"] * 2))
    rare = LabelledCells(gene[[0, 1, -1]], np.array(["B cell", "B cell", "T cell"]))
    common = LabelledCells(gene[[0, -1, -2]], np.array(["B cell"] * 3))
    settings = SETTINGS.model_copy(update={"c_grid": (10.0,)})
    for method in ("logistic_regression", "logistic_regression_binned", "linear_svm"):
        assert "the same weight for each type, chosen" in fit(method, settings, train, rare).setting
        assert "no weights, chosen" in fit(method, settings, train, common).setting
        alone = settings.model_copy(update={"class_weights": ("balanced",)})
        assert "type; each" in fit(method, alone, train, common).setting


def test_neighbours_never_exceed_the_training_cells():
    train = LabelledCells(TRAIN.expression[:7], TRAIN.cell_types[:7])
    assert "chosen from 3, 5, 7 by" in fit("nearest_neighbours", train=train).setting


def test_fit_baseline_refuses_one_type():
    train = LabelledCells(TRAIN.expression[:3], np.array(["T cell"] * 3))
    with pytest.raises(ValueError, match=r"3 training cells have 1 cell type\(s\)"):
        fit("logistic_regression", train=train)


def test_fit_baseline_refuses_an_unknown_method():
    with pytest.raises(ValueError, match="'oracle' is not a baseline"):
        fit("oracle")
