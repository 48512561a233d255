"""What scBERT must beat: controls and tuned classical methods.

Every classifier gets what scBERT gets: its settings are chosen by macro F1 of the validation cells
among those fitted on the training cells, and the test cells are never seen. Where these are few
and easy, many settings share the highest macro F1: then the one with the least loss is taken, each
type weighing the same, or, of a method that gives no probabilities, the smallest. After the choice
a classifier is fitted again on training and validation cells, as the experts of scBERT are. Linear
methods may weigh each type equally, as scBERT may: rare types gain by it, so a comparison without
would not be fair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler
from sklearn.svm import LinearSVC

from scbert.cells.tokens import bin_expression
from scbert.config import Compare
from scbert.evidence.confidence import balanced_loss
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
LEAST = 1e-12  # probability; of neighbours it can be 0
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
        The cells that choose the setting, see above.
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
    candidates = _fit_candidates(method, train, settings, n_bins)
    setting, score = _choose(candidates, validation)
    kind = "control" if method in CONTROLS else "baseline"
    again = clone(candidates[setting]).fit(
        sparse.vstack([train.expression, validation.expression]).tocsr(),
        np.concatenate([train.cell_types, validation.cell_types]),
    )
    return Baseline(method, TITLES[method], kind, setting, score, again)


def _fit_candidates(
    method: str, train: LabelledCells, settings: Compare, n_bins: int
) -> dict[str, Any]:
    """Fit a method with each setting of its grid; return the estimators by setting."""
    types = np.unique(train.cell_types)
    if len(types) < 2:
        raise ValueError(
            f"the {len(train.cell_types)} training cells have {len(types)} cell type(s), but a "
            "classifier needs at least two to tell apart. Check the labels of the dataset."
        )
    grid = _grid(method, settings, len(train.cell_types))
    return {
        _describe(method, candidate, grid, settings.seed): _estimator(
            method, candidate, settings.seed, n_bins
        ).fit(train.expression, train.cell_types)
        for candidate in grid
    }


def _choose(candidates: Mapping[str, Any], validation: LabelledCells) -> tuple[str, float]:
    """Return the setting that suits the validation cells best, and its macro F1 on them."""
    score = {name: _macro_f1(one, validation) for name, one in candidates.items()}
    highest = max(score.values())
    best = [name for name, value in score.items() if value == highest]
    if len(best) > 1 and hasattr(candidates[best[0]], "predict_proba"):
        return min(best, key=lambda name: _balanced_loss(candidates[name], validation)), highest
    return best[0], highest


def _macro_f1(estimator: Any, cells: LabelledCells) -> float:
    """Return the macro F1 of what an estimator says of cells."""
    classes = sorted({*estimator.classes_, *cells.cell_types})
    return scores(cells.cell_types, estimator.predict(cells.expression), classes)["macro_f1"]


def _balanced_loss(estimator: Any, cells: LabelledCells) -> float:
    """Leave out cells of types that were not trained: they tell no candidate from another."""
    known = np.isin(cells.cell_types, estimator.classes_)
    if not known.any():
        return 0.0
    probabilities = np.maximum(estimator.predict_proba(cells.expression[known]), LEAST)
    numbers = np.searchsorted(estimator.classes_, cells.cell_types[known])
    return balanced_loss(np.log(probabilities), numbers)


class _Candidate(NamedTuple):
    """A setting to try: the penalty or the number of neighbours, and the weights of the types."""

    value: float = 0
    weights: str = "none"  # balanced: each type weighs the same


def _grid(method: str, settings: Compare, n_train: int) -> list[_Candidate]:
    """Return the settings to try, the first ones preferred; a control has nothing to choose."""
    if method in CONTROLS:
        return [_Candidate()]
    if method == "nearest_neighbours":
        sizes = {min(n_neighbours, n_train) for n_neighbours in settings.neighbours_grid}
        return [_Candidate(size) for size in sorted(sizes)]
    weights = sorted(set(settings.class_weights), reverse=True)  # none before balanced
    return [_Candidate(value, w) for value in sorted(set(settings.c_grid)) for w in weights]


def _estimator(method: str, candidate: _Candidate, seed: int, n_bins: int) -> Any:
    value = candidate.value
    weights = "balanced" if candidate.weights == "balanced" else None
    match method:
        case "majority":
            return DummyClassifier(strategy="most_frequent")
        case "random":
            return DummyClassifier(strategy="stratified", random_state=seed)
        case "logistic_regression":
            return make_pipeline(MaxAbsScaler(), _logistic_regression(value, weights))
        case "logistic_regression_binned":
            binning = FunctionTransformer(bin_expression, kw_args={"n_bins": n_bins})
            return make_pipeline(binning, MaxAbsScaler(), _logistic_regression(value, weights))
        case "linear_svm":
            machine = LinearSVC(
                C=value,
                class_weight=weights,
                dual="auto",
                max_iter=MAX_ITERATIONS,
                random_state=seed,
            )
            return make_pipeline(MaxAbsScaler(), machine)
        case "nearest_neighbours":
            return KNeighborsClassifier(n_neighbors=int(value), metric="cosine")
    raise ValueError(f"'{method}' is not a baseline. Known are: {', '.join(TITLES)}.")


def _logistic_regression(inverse_penalty: float, weights: str | None) -> LogisticRegression:
    """Multinomial, with an L2 penalty."""
    return LogisticRegression(C=inverse_penalty, class_weight=weights, max_iter=MAX_ITERATIONS)


def _describe(method: str, chosen: _Candidate, grid: list[_Candidate], seed: int) -> str:
    if method == "majority":
        return "The most frequent type of the training cells, for every cell."
    if method == "random":
        return f"Types drawn at their shares of the training cells; seed {seed}."
    tried = ", ".join(f"{value:g}" for value in sorted({each.value for each in grid}))
    choice = f"chosen from {tried} by macro F1 of the validation cells"
    if method == "nearest_neighbours":
        return f"{chosen.value:g} neighbours by cosine distance, {choice}."
    weights = "the same weight for each type" if chosen.weights == "balanced" else "no weights"
    if len({each.weights for each in grid}) > 1:
        weights += ", chosen likewise"
    penalty = (
        f"L2 penalty with C = {chosen.value:g}, {choice}; {weights}; "
        "each gene divided by its largest value."
    )
    return f"Bins as scBERT sees them. {penalty}" if method.endswith("_binned") else penalty
