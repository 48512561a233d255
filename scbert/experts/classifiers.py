"""Classifiers with one setting for all data, for the experts and the baselines alike.

None is tuned: each type weighs the same, which helps rare types more than any penalty that a
handful of validation cells could choose (docs/decisions/experts.md).
"""

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from scbert.experts.out_of_fold import one_cell_each

N_GENES = 2000  # that differ most between the types
N_COMPONENTS = 50  # of them, for the discriminant
FEW_CELLS = 3  # of a type: Ledoit & Wolf's shrinkage of so few is none, and the covariance is noise
MAX_ITERATIONS = 10_000  # an end, not a setting: all solvers stop by their tolerance long before


def logistic_regression() -> LogisticRegression:
    """Return it multinomial, with an L2 penalty, balanced; for genes divided by their largest."""
    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=MAX_ITERATIONS)


def support_vectors(seed: int) -> LinearSVC:
    """Return one linear machine per type, balanced; for genes divided by their largest value."""
    return LinearSVC(
        C=0.1, class_weight="balanced", dual="auto", max_iter=MAX_ITERATIONS, random_state=seed
    )


def discriminant(label: np.ndarray) -> LinearDiscriminantAnalysis | GaussianNB:
    """Return it with equal shares of the types; Ledoit & Wolf 2004 shrink its covariance.

    Where half of the types have no more than FEW_CELLS cells, the covariance is spherical: the
    nearest mean gives the type. Where each type has a single cell its variance is that of all cells
    along the first component. That is too much, so its answers are rather too unsure.

    Parameters
    ----------
    label
        Types of the cells that it is to learn from.
    """
    number_C = np.unique(label, return_counts=True)[1]
    equal = np.full(len(number_C), 1 / len(number_C))
    if one_cell_each(label):
        return GaussianNB(priors=equal, var_smoothing=1.0)
    shrinkage = 1.0 if np.median(number_C) <= FEW_CELLS else "auto"
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=equal)
