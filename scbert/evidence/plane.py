"""Vectors laid out in a plane by UMAP (McInnes et al. 2018): to be looked at and not measured."""

import warnings
from typing import Any

import numpy as np

N_NEIGHBOURS = 15  # umap-learn's own number; with fewer cells there is no neighbourhood


def plane_coordinates(embedding: np.ndarray, seed: int) -> np.ndarray:
    """Lay cells out in a plane, similar ones near each other.

    Parameters
    ----------
    embedding
        Shape (cells, D).
    seed
        Of UMAP.

    Returns
    -------
    Shape (cells, 2): UMAP, or, for fewer than 15 cells and for cells that are
    all alike, where UMAP has no neighbourhoods to learn from, the first two principal components.
    """
    if len(embedding) < N_NEIGHBOURS or not np.ptp(embedding, axis=0).any():
        centred = embedding - embedding.mean(axis=0)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        points = (left * sizes)[:, :2]
        return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    return umap(embedding, seed)


def umap(vectors: np.ndarray, seed: int, **settings: Any) -> np.ndarray:
    """Return UMAP's coordinates, shape (vectors, 2), with further settings of umap-learn's UMAP."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        warnings.filterwarnings("ignore", message="n_jobs value")  # a seed needs one thread: wanted
        from umap import UMAP  # noqa: PLC0415  importing it takes seconds

        n_neighbors = min(N_NEIGHBOURS, len(vectors) - 1)
        found = UMAP(n_neighbors=n_neighbors, random_state=seed, n_jobs=1, **settings)
        return found.fit_transform(vectors)
