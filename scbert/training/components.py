"""Where a cell lies among the training cells by its tokens alone: principal components.

A network that was trained to tell its types apart forgets most of what a new type would be known
by; these components know of no type and forget least. Used by the novelty score, also of the cells
of a batch that was left out: another donor or laboratory lies further from the training cells than
their own validation cells do, and by these most known cells of a new study would be called unknown.

Shape letters: K components, V genes of the vocabulary, S samples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from scbert.calibration.novelty import CellOutputs, LabelledOutputs, fit_novelty, novelty
from scbert.calibration.novelty_threshold import KnownCells
from scbert.experts.linear import are_usable, expression_of
from scbert.experts.out_of_fold import each_fold, leaves_batches_out, make_folds
from scbert.tokens.store import TokenStore

N_COMPONENTS = 20  # 10 and 40 find new types as well, see docs/results/novelty.md
MOST_CELLS = 20_000  # drawn to learn the components from
CELLS_AT_ONCE = 10_000
FEWEST_BATCHES = 2
SCORE = "expression_distance"  # the others need the experts, which are held out elsewhere


@dataclass(frozen=True)
class Components:
    """position = axes x (bin - mean bin) over the genes that were measured.

    `axes_KV` and `mean_V` are float32; genes that all cells express alike have axes of 0.
    """

    axes_KV: np.ndarray
    mean_V: np.ndarray

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


def fit_components(store: TokenStore, rows: np.ndarray, seed: int) -> Components:
    """Learn the principal components of the expression of cells.

    Parameters
    ----------
    rows
        The training cells.
    seed
        Draws MOST_CELLS of the cells if there are more, and where the solver starts.
    """
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    values = expression_of(store, rows).astype(np.float64).tocsc()
    mean_V = np.asarray(values.mean(axis=0)).ravel().astype(np.float32)
    varies = (values.max(axis=0) != values.min(axis=0)).toarray().ravel()
    # ARPACK finds fewer than the matrix has rows or columns.
    most = min(N_COMPONENTS, len(rows) - 1, varies.sum() - 1)
    # Axes of 0 are of what nothing can be learned from.
    axes_KV = np.zeros((max(most, 1), values.shape[1]), dtype=np.float32)
    if most > 0:
        # The solver that centres sparse cells without making them dense.
        pca = PCA(most, svd_solver="arpack", random_state=seed).fit(values[:, varies])
        axes_KV[:, varies] = pca.components_
    return Components(axes_KV, mean_V)


def save_components(path: Path, components: Components) -> None:
    """Write the components as safetensors."""
    arrays = {"axes": components.axes_KV, "mean": components.mean_V}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load_components(path: Path, n_genes: int) -> Components:
    """Read components.

    Raises
    ------
    KeyError, ValueError
        If an array is missing or of another shape, or not finite.
    """
    found = load_file(path)
    axes, mean = found["axes"], found["mean"]
    if (axes.ndim, axes.shape[-1], mean.shape) != (2, n_genes, (n_genes,)):
        raise ValueError(
            f"{path} has components of shape {axes.shape} and a mean of shape {mean.shape}, but "
            f"the model has {n_genes} genes. Copy the folder again from where it was made."
        )
    if not (are_usable(axes) and are_usable(mean)):
        raise ValueError(
            f"{path} holds numbers that are not finite or absurd. Train the model again."
        )
    return Components(axes, mean)


def novelty_left_out(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, batch: np.ndarray | None, seed: int
) -> KnownCells | None:
    """Leave whole batches out in turn, and score their cells by what the others teach.

    Parameters
    ----------
    rows, label, batch
        Labelled cells of the store, their types, 0 to C - 1, and batches; None: not known.

    Returns
    -------
    The novelty scores of the cells whose type the other batches have. None if there is none, or
    there are not two batches.
    """
    if not leaves_batches_out(batch, FEWEST_BATCHES):
        return None
    scores = np.full(len(rows), np.nan)
    for others, left in each_fold(make_folds(label, batch, seed, FEWEST_BATCHES)):
        present, number = np.unique(label[others], return_inverse=True)
        asked = left[np.isin(label[left], present)]
        if len(asked):
            scores[asked] = _scores(store, rows[others], number, rows[asked], seed)
    judged = np.isfinite(scores)
    return KnownCells(scores[judged], label[judged]) if judged.any() else None


def _scores(
    store: TokenStore, others: np.ndarray, label: np.ndarray, asked: np.ndarray, seed: int
) -> np.ndarray:
    """Score the rows `asked` by the rows `others`, whose types are 0 to C - 1."""
    components = fit_components(store, others, seed)
    nothing = np.zeros((len(label), label.max() + 1))  # logits, which this score does not look at
    learned = LabelledOutputs(nothing, components.positions(store, others), label)
    cells = CellOutputs(nothing[:0], components.positions(store, asked))
    return novelty(cells, fit_novelty(learned, 1.0, SCORE))
