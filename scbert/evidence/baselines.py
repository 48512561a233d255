"""What scBERT must beat: controls and tuned classical methods.

Every classifier gets what scBERT gets: it is fitted on the training cells only, its one setting
is chosen by macro F1 of the validation cells, and the test cells are never seen. After the choice
it is not fitted again with the validation cells, because scBERT is not either.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler
from sklearn.svm import LinearSVC

from scbert.cells.tokens import bin_expression
from scbert.config import Compare
from scbert.evidence.metrics import scores

TITLES = {
    "majority": "Most frequent type",
    "random": "Random type",
    "logistic_regression": "Logistic regression",
    "logistic_regression_binned": "Logistic regression on bins",
    "linear_svm": "Linear support vector machine",
    "nearest_neighbours": "Nearest neighbours",
}
CONTROLS = ("majority", "random")
MAX_ITERATIONS = 10_000  # an end, not a setting: all solvers stop by their tolerance long before


@dataclass(frozen=True)
class LabelledCells:
    """Cells with known types.

    `expression` has shape (cells, genes), in log2(1 + counts per 10 000); `cell_types` (cells,).
    """

    expression: sparse.csr_matrix
    cell_types: np.ndarray


@dataclass(frozen=True)
class Baseline:
    """A fitted method: how to name it, how it was set, and its validation score."""

    method: str
    title: str
    kind: str
    setting: str
    validation_macro_f1: float
    estimator: Any

    def predict(self, expression: sparse.csr_matrix) -> np.ndarray:
        """Return the cell type of each row of expression, shape (cells,)."""
        return self.estimator.predict(expression)


def fit_baseline(
    method: str, train: LabelledCells, validation: LabelledCells, settings: Compare, n_bins: int
) -> Baseline:
    """Fit a method on the training cells with the setting that suits the validation cells best.

    Parameters
    ----------
    method
        One of the methods that `Compare` names.
    train
        The cells to fit on.
    validation
        The cells that choose the setting by macro F1; of equals, the smallest value is taken.
    settings
        Grids and seed.
    n_bins
        Bins above bin 0, for the method that sees binned expression as scBERT does.

    Returns
    -------
    The fitted baseline.

    Raises
    ------
    ValueError
        If the training cells have only one type, or the method is unknown.
    """
    types = np.unique(train.cell_types)
    if len(types) < 2:
        raise ValueError(
            f"the {len(train.cell_types)} training cells have {len(types)} cell type(s), but a "
            "classifier needs at least two to tell apart. Check the labels of the dataset."
        )
    classes = sorted({*train.cell_types, *validation.cell_types})
    grid = _grid(method, settings, len(train.cell_types))
    best_score, best_value, best = -1.0, grid[0], None
    for value in grid:
        estimator = _estimator(method, value, settings.seed, n_bins)
        estimator.fit(train.expression, train.cell_types)
        predicted = estimator.predict(validation.expression)
        score = scores(validation.cell_types, predicted, classes)["macro_f1"]
        if score > best_score:
            best_score, best_value, best = score, value, estimator
    kind = "control" if method in CONTROLS else "baseline"
    setting = _describe(method, best_value, grid, settings.seed)
    return Baseline(method, TITLES[method], kind, setting, best_score, best)


def _grid(method: str, settings: Compare, n_train: int) -> list[float]:
    """Return the values to try, ascending; a control has nothing to choose."""
    if method in CONTROLS:
        return [0]
    if method == "nearest_neighbours":
        return sorted({min(n_neighbours, n_train) for n_neighbours in settings.neighbours_grid})
    return sorted(set(settings.c_grid))


def _estimator(method: str, value: float, seed: int, n_bins: int) -> Any:
    match method:
        case "majority":
            return DummyClassifier(strategy="most_frequent")
        case "random":
            return DummyClassifier(strategy="stratified", random_state=seed)
        case "logistic_regression":
            return make_pipeline(MaxAbsScaler(), _logistic_regression(value))
        case "logistic_regression_binned":
            binning = FunctionTransformer(bin_expression, kw_args={"n_bins": n_bins})
            return make_pipeline(binning, MaxAbsScaler(), _logistic_regression(value))
        case "linear_svm":
            machine = LinearSVC(C=value, dual="auto", max_iter=MAX_ITERATIONS, random_state=seed)
            return make_pipeline(MaxAbsScaler(), machine)
        case "nearest_neighbours":
            return KNeighborsClassifier(n_neighbors=int(value), metric="cosine")
    raise ValueError(f"'{method}' is not a baseline. Known are: {', '.join(TITLES)}.")


def _logistic_regression(inverse_penalty: float) -> LogisticRegression:
    """Multinomial, with an L2 penalty."""
    return LogisticRegression(C=inverse_penalty, max_iter=MAX_ITERATIONS)


def _describe(method: str, value: float, grid: list[float], seed: int) -> str:
    if method == "majority":
        return "The most frequent type of the training cells, for every cell."
    if method == "random":
        return f"Types drawn at their shares of the training cells; seed {seed}."
    tried = ", ".join(f"{candidate:g}" for candidate in grid)
    choice = f"chosen from {tried} by macro F1 of the validation cells"
    if method == "nearest_neighbours":
        return f"{value:g} neighbours by cosine distance, {choice}."
    penalty = f"L2 penalty with C = {value:g}, {choice}; each gene divided by its largest value."
    return f"Bins as scBERT sees them. {penalty}" if method.endswith("_binned") else penalty
