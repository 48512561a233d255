"""Principal components of tokens alone: the place of a cell among the training cells.

A network that was trained to tell its types apart forgets most of what a new type would be known
by; these components know of no type and forget least. Used by the novelty score, also of the cells
of a batch that was left out: another donor or laboratory lies further from the training cells than
their own validation cells do, and by these most known cells of a new study would be called unknown.

They also say what genes that a file lacks would be: their mean given the genes that it has, in
probabilistic principal component analysis (Tipping & Bishop 1999, J. R. Stat. Soc. B 61).

Shape letters: K components, V genes of the vocabulary, N cells, C cell types.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from scbert.calibration.fitted import ThresholdCells
from scbert.calibration.novelty import CellOutputs, LabelledOutputs, fit_novelty, novelty
from scbert.calibration.novelty_threshold import KnownCells
from scbert.experts.blas import one_blas_thread
from scbert.experts.linear import LinearExpert, are_usable, expression_of
from scbert.experts.out_of_fold import each_fold, leaves_batches_out, make_folds
from scbert.tokens.store import TokenStore

N_COMPONENTS = 20  # 10 and 40 find new types as well, see docs/results/novelty.md
MOST_CELLS = 20_000  # drawn to learn the components from
CELLS_AT_ONCE = 10_000
ARRAYS = ("axes", "mean", "variance", "noise", "counts")
FEWEST_BATCHES = 2
LEAST_NOISE = 1e-6  # in squared log2 counts per 10,000: cells that are all alike have none
SCORE = "expression_distance"  # the others need the experts, which are held out elsewhere


@dataclass(frozen=True)
class Components:
    """position = axes x (expression - mean expression), float32, and what the axes leave over.

    `axes_KV`, `mean_V`; `variance_K` along the axes; `noise`, the mean variance of a gene beyond
    them; `counts_V`, the mean counts per 10,000, too few for genes of which cells of more than
    10,000 counts have one: that is no token. Genes that all cells express alike have axes of 0.
    """

    axes_KV: np.ndarray
    mean_V: np.ndarray
    variance_K: np.ndarray
    noise: float
    counts_V: np.ndarray

    def positions(self, store: TokenStore, rows: np.ndarray) -> np.ndarray:
        """Return the positions of these cells of a store, float32, shape (cells, K).

        A gene that was not measured in a cell's sample counts as average, not as silent.
        """
        made = np.empty((len(rows), len(self.axes_KV)), dtype=np.float32)
        centre_SK = (store.measured * self.mean_V) @ self.axes_KV.T
        for start in range(0, len(rows), CELLS_AT_ONCE):
            span = slice(start, start + CELLS_AT_ONCE)
            centre = centre_SK[store.sample[rows[span]]]
            made[span] = expression_of(store, rows[span]) @ self.axes_KV.T - centre
        return made

    def adapted(self, expert: LinearExpert, measured: np.ndarray) -> LinearExpert:
        """Return an expert that gives the expected logits of cells with only some genes measured.

        The others are given their mean given these; this is linear in these, and so an expert.

        Parameters
        ----------
        measured
            Which genes were measured, bool (V,).
        """
        lacking = ~measured & expert.weight_CV.any(axis=0)
        if not lacking.any():
            return expert
        axes_KV, mean_V = self.axes_KV.astype(np.float64), self.mean_V.astype(np.float64)
        lost_CV = expert.weight_CV[:, lacking].astype(np.float64)
        seen_KV = axes_KV * measured
        through_CK = lost_CV @ axes_KV[:, lacking].T @ self._place_of(seen_KV)
        kept_CV = expert.weight_CV * measured + through_CK @ seen_KV
        bias_C = lost_CV @ mean_V[lacking] - through_CK @ (seen_KV @ mean_V)
        return replace(expert, weight_CV=kept_CV.astype(np.float32)).raised(bias_C)

    def _place_of(self, seen_KV: np.ndarray) -> np.ndarray:
        """Return what turns axes x (expression - mean) of measured genes into the cell's place.

        That is the mean of the place given these genes (Tipping & Bishop 1999), float64 (K, K).
        """
        root_K = np.sqrt(self.variance_K.astype(np.float64))
        noise_KK = max(self.noise, LEAST_NOISE) * np.eye(len(root_K))
        within_KK = noise_KK + root_K[:, None] * (seen_KV @ seen_KV.T) * root_K
        return root_K[:, None] * np.linalg.solve(within_KK, np.diag(root_K))

    def share_of_counts(self, measured: np.ndarray) -> float:
        """Return the share of the training cells' counts of known genes that these genes hold."""
        total = self.counts_V.sum(dtype=np.float64)
        return float(self.counts_V[measured].sum(dtype=np.float64) / total) if total > 0 else 1.0


@one_blas_thread
def fit_components(store: TokenStore, rows: np.ndarray, seed: int) -> Components:
    """Learn the principal components of the expression of cells.

    Parameters
    ----------
    rows
        The training cells.
    seed
        Draws MOST_CELLS of the cells if there are more, and where the solver starts.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  a second, which annotate need not wait

    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    values = expression_of(store, rows).astype(np.float64).tocsc()
    mean_V = np.asarray(values.mean(axis=0)).ravel().astype(np.float32)
    counts = values.copy()
    counts.data = np.exp2(counts.data) - 1
    counts_V = np.asarray(counts.mean(axis=0)).ravel().astype(np.float32)
    varies = (values.max(axis=0) != values.min(axis=0)).toarray().ravel()
    # ARPACK finds fewer than the matrix has rows or columns.
    most = min(N_COMPONENTS, len(rows) - 1, varies.sum() - 1)
    # Axes of 0 are of what nothing can be learned from.
    axes_KV = np.zeros((max(most, 1), values.shape[1]), dtype=np.float32)
    variance_K, noise = np.zeros(len(axes_KV), dtype=np.float32), 0.0
    if most > 0:
        # The solver that centres sparse cells without making them dense.
        pca = PCA(most, svd_solver="arpack", random_state=seed).fit(values[:, varies])
        axes_KV[:, varies], variance_K = pca.components_, pca.explained_variance_.astype(np.float32)
        beyond = pca.explained_variance_.sum() * (1 / pca.explained_variance_ratio_.sum() - 1)
        noise = max(float(beyond / varies.sum()), 0.0)
    return Components(
        axes_KV=axes_KV, mean_V=mean_V, variance_K=variance_K, noise=noise, counts_V=counts_V
    )


def save_components(path: Path, components: Components) -> None:
    """Write the components as safetensors."""
    arrays = {
        "axes": components.axes_KV,
        "mean": components.mean_V,
        "variance": components.variance_K,
        "noise": np.array([components.noise], dtype=np.float32),
        "counts": components.counts_V,
    }
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load_components(path: Path, n_genes: int) -> Components:
    """Read components.

    Raises
    ------
    KeyError, ValueError
        If an array is missing or of another shape, or not finite.
    """
    found = load_file(path)
    axes, mean, variance, noise, counts = (found[name] for name in ARRAYS)
    shapes = [array.shape for array in (axes, mean, variance, noise, counts)]
    if shapes != [(len(axes), n_genes), (n_genes,), (len(axes),), (1,), (n_genes,)]:
        raise ValueError(
            f"{path} has {', '.join(ARRAYS)} of shapes {shapes}, but the model has {n_genes} "
            "genes. Copy the folder again from where it was made."
        )
    usable = all(are_usable(array) for array in (axes, mean, variance, noise, counts))
    if not (usable and min(variance.min(), noise.min(), counts.min()) >= 0):
        raise ValueError(
            f"{path} holds numbers that are NaN, infinite or implausible. Train the model again."
        )
    return Components(
        axes_KV=axes, mean_V=mean, variance_K=variance, noise=float(noise[0]), counts_V=counts
    )


def novelty_left_out(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, *, batch: np.ndarray | None, seed: int
) -> KnownCells | None:
    """Leave whole batches out in turn, or cells, and score them by what the others teach.

    Parameters
    ----------
    rows, label, batch
        Labelled cells of the store, their types, 0 to C - 1, and batches; None, or fewer than two
        of them: the cells of each type are dealt out.

    Returns
    -------
    The novelty scores of the cells whose type the others have. None if there is none.
    """
    by_batch = leaves_batches_out(batch, FEWEST_BATCHES)
    scores = np.full(len(rows), np.nan)
    for others, left in each_fold(make_folds(label, batch, seed, FEWEST_BATCHES)):
        present, number = np.unique(label[others], return_inverse=True)
        asked = left[np.isin(label[left], present)]
        if len(asked):
            scores[asked] = _scores(store, rows[others], number, asked=rows[asked], seed=seed)
    judged = np.isfinite(scores)
    which: ThresholdCells = "batches left out" if by_batch else "cells left out"
    return KnownCells(scores[judged], label[judged], which) if judged.any() else None


def _scores(
    store: TokenStore, others: np.ndarray, label: np.ndarray, *, asked: np.ndarray, seed: int
) -> np.ndarray:
    """Score the rows `asked` by the rows `others`, whose types are 0 to C - 1."""
    components = fit_components(store, others, seed)
    nothing = np.zeros((len(label), label.max() + 1))  # logits, which this score does not look at
    learned = LabelledOutputs(nothing, components.positions(store, others), label)
    cells = CellOutputs(nothing[:0], components.positions(store, asked))
    return novelty(cells, fit_novelty(learned, 1.0, SCORE))
