"""Where a cell lies among the training cells by its tokens alone: principal components.

A network that was trained to tell its types apart forgets most of what a new type would be known
by; these components know of no type and forget least. Used by the novelty score.

Shape letters: K components, V genes of the vocabulary, S samples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from scbert.experts.linear import are_usable, expression_of
from scbert.tokens.store import TokenStore

N_COMPONENTS = 20  # 10 and 40 find new types as well, see docs/results/novelty.md
MOST_CELLS = 20_000  # drawn to learn the components from
CELLS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Components:
    """position = axes x (bin - mean bin) over the genes that were measured.

    `axes_KV` and `mean_V` are float32; genes that may not be tokens have axes of 0.
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


def fit_components(
    store: TokenStore, rows: np.ndarray, genes: np.ndarray | None, seed: int
) -> Components:
    """Learn the principal components of the expression of cells.

    Parameters
    ----------
    rows
        The training cells.
    genes
        Which genes of the vocabulary may be used, shape (V,); None: all.
    seed
        Draws MOST_CELLS of the cells if there are more, and where the solver starts.
    """
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    n_genes = store.measured.shape[1]
    used = np.flatnonzero(np.ones(n_genes, dtype=bool) if genes is None else genes)
    values = expression_of(store, rows)[:, used].astype(np.float64).tocsc()
    mean_V = np.zeros(n_genes, dtype=np.float32)
    mean_V[used] = np.asarray(values.mean(axis=0)).ravel()
    varies = (values.max(axis=0) != values.min(axis=0)).toarray().ravel()
    # ARPACK finds fewer than the matrix has rows or columns.
    most = min(N_COMPONENTS, len(rows) - 1, varies.sum() - 1)
    axes_KV = np.zeros((max(most, 1), n_genes), dtype=np.float32)  # of 0: nothing can be learned
    if most > 0:
        # The solver that centres sparse cells without making them dense.
        pca = PCA(most, svd_solver="arpack", random_state=seed).fit(values[:, varies])
        axes_KV[:, used[varies]] = pca.components_
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
