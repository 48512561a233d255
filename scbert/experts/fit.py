"""Fitting of each expert of the tokens; none has a setting that was tuned on the cells.

Each type weighs the same: balance helps rare types more than any penalty that a handful of
validation cells could choose (docs/decisions/experts.md).

Shape letters: N cells, C cell types, V genes of the vocabulary, F genes used, K components.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from scbert.experts.blas import one_blas_thread
from scbert.experts.classifiers import (
    N_COMPONENTS,
    N_GENES,
    discriminant,
    logistic_regression,
)
from scbert.experts.linear import LinearExpert, choose_genes

Plane = tuple[np.ndarray, np.ndarray]  # weight_CF, bias_C


@dataclass(frozen=True)
class Cells:
    """Cells to learn from: expression of the chosen genes, types 0 to C - 1, cell vectors.

    `vectors_ND` has D = 0 if the encoder was not asked.
    """

    x_NF: sparse.csr_matrix
    label: np.ndarray
    vectors_ND: np.ndarray
    seed: int

    @cached_property
    def components(self) -> PCA:
        """Principal components of the expression."""
        most = min(N_COMPONENTS, *self.x_NF.shape, len(self.label) - 1)
        solver = "covariance_eigh" if self.x_NF.shape[1] <= len(self.label) else "auto"
        return PCA(most, svd_solver=solver, random_state=self.seed).fit(self.x_NF.toarray())

    @cached_property
    def points_NK(self) -> np.ndarray:
        """Where the cells lie among the components."""
        return self.components.transform(self.x_NF.toarray())

    def over_genes(self, plane_CK: np.ndarray, bias_C: np.ndarray) -> Plane:
        """Return what is linear in the components as linear in the expression."""
        plane_CF = plane_CK @ self.components.components_
        return plane_CF, bias_C - plane_CF @ self.components.mean_


@one_blas_thread
def fit_experts(
    names: Sequence[str],
    expression_NV: sparse.csr_matrix,
    label: np.ndarray,
    vectors_ND: np.ndarray,
    seed: int,
) -> dict[str, LinearExpert]:
    """Fit experts on cells, with the 2,000 genes that tell their types apart best.

    Parameters
    ----------
    names
        Of EXPERTS.
    label
        The type of each cell, 0 to C - 1, each there at least once.
    vectors_ND
        What the encoder makes of the cells, for the expert of that name; D = 0: it was not asked.

    Raises
    ------
    ValueError
        If there are fewer than two types, or no gene that differs between cells.
    """
    n_types = int(label.max()) + 1
    if n_types < 2:
        raise ValueError(
            f"the {len(label)} training cells have {n_types} cell type(s), but a classifier needs "
            "at least two to tell apart. Check the labels of the dataset."
        )
    used = np.flatnonzero(choose_genes(expression_NV, label, N_GENES))
    if not len(used):
        raise ValueError(
            f"no gene differs between the {len(label)} training cells, so nothing tells their "
            "types apart. Check the counts and that their genes are human."
        )
    cells = Cells(expression_NV[:, used].tocsr().astype(np.float64), label, vectors_ND, seed)
    found = {}
    for name in names:
        plane_CF, bias_C, plane_CD = EXPERTS[name](cells)
        weight_CV = np.zeros((n_types, expression_NV.shape[1]), dtype=np.float32)
        weight_CV[:, used] = plane_CF
        found[name] = LinearExpert(
            weight_CV, bias_C.astype(np.float32), plane_CD.astype(np.float32)
        )
    return found


def _logistic_regression(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit it multinomial, with an L2 penalty, balanced; each gene divided by its largest value."""
    return _fit_logistic_regression(cells, MaxAbsScaler().fit(cells.x_NF).scale_)


def _scaled_logistic_regression(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit the same on genes of about the same spread, where weak genes count as strong ones do.

    A gene is divided by its standard deviation, to which the usual one is added (Tusher et al.
    2001, the exchangeability factor s0), so that a gene seen in few cells is not blown up.
    """
    variance_F = StandardScaler(with_mean=False).fit(cells.x_NF).var_
    return _fit_logistic_regression(cells, np.sqrt(variance_F + np.median(variance_F)))


def _fit_logistic_regression(
    cells: Cells, scale_F: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scaled_NF = cells.x_NF @ sparse.diags_array(1 / scale_F)
    model = logistic_regression().fit(scaled_NF, cells.label)
    plane_CF, bias_C = of_all_types(model.coef_, model.intercept_)
    return plane_CF / scale_F, bias_C, _no_vectors(bias_C)


def _discriminant(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit it on principal components; its covariance is shrunk, and types weigh the same.

    Ledoit & Wolf 2004 choose the shrinkage; of one cell per type see `discriminant`.
    """
    plane_CK, bias_C = _fit_discriminant(cells.points_NK, cells.label)
    plane_CF, bias_C = cells.over_genes(plane_CK, bias_C)
    return plane_CF, bias_C, _no_vectors(bias_C)


def _encoder(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit that discriminant on the principal components and the encoder's cell vector together.

    The vector is brought to the scale of the components, for the shrinkage sees both alike.
    """
    spread_D, spread_K = cells.vectors_ND.std(axis=0).mean(), cells.points_NK.std(axis=0).mean()
    factor = spread_K / spread_D if spread_D > 0 else 1.0
    centre_D = cells.vectors_ND.mean(axis=0)
    both = np.concatenate([cells.points_NK, (cells.vectors_ND - centre_D) * factor], axis=1)
    plane, bias_C = _fit_discriminant(both, cells.label)
    n_components = cells.points_NK.shape[1]
    plane_CD = plane[:, n_components:] * factor
    plane_CF, bias_C = cells.over_genes(plane[:, :n_components], bias_C)
    return plane_CF, bias_C - plane_CD @ centre_D, plane_CD


def _fit_discriminant(points_NK: np.ndarray, label: np.ndarray) -> Plane:
    model = discriminant(label)
    with warnings.catch_warnings():  # a type of one cell has no spread to add: it is still a mean
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        model.fit(points_NK, label)
    if isinstance(model, GaussianNB):  # of one variance, so that it is linear
        plane_CK = model.theta_ / model.var_
        return plane_CK, -(model.theta_ * plane_CK).sum(axis=1) / 2
    return of_all_types(model.coef_, model.intercept_)


def of_all_types(plane_CF: np.ndarray, bias_C: np.ndarray) -> Plane:
    """Return a row for each type: of two types scikit-learn gives only the second's log odds."""
    if len(bias_C) > 1:
        return plane_CF, bias_C
    return np.concatenate([-plane_CF, plane_CF]) / 2, np.concatenate([-bias_C, bias_C]) / 2


def _no_vectors(bias_C: np.ndarray) -> np.ndarray:
    return np.zeros((len(bias_C), 0))


EXPERTS: dict[str, Callable[[Cells], tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
    "logistic_regression": _logistic_regression,
    "scaled_logistic_regression": _scaled_logistic_regression,
    "discriminant": _discriminant,
    "encoder": _encoder,
}
