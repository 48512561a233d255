"""Co-expressed pairs of genes, found within one sample."""

from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD

from scbert.config import Pairs

BLOCK = 512  # genes at a time: memory grows with 512 x genes, not with genes x genes
COMPONENTS = 30  # of the cells, in which similar ones are found
FLAT = 1e-3  # a gene whose norm around its mean is smaller does not vary: float32 noise


def coexpressed_pairs(expression: sparse.csr_matrix, settings: Pairs) -> np.ndarray:
    """Return the strongest co-expressed pairs of one sample.

    Parameters
    ----------
    expression
        Shape (cells, genes), log-normalised; at most 65,536 genes.
    settings
        Only genes in `min_cells` cells are looked at; of each, up to `max_partners` genes with a
        Pearson correlation over metacells of at least `min_correlation` are taken.

    Returns
    -------
    Shape (pairs, 2), uint16: columns of `expression`, the lower first, each pair once, sorted. None
    if there are fewer than `min_metacells` metacells.
    """
    nothing = np.empty((0, 2), dtype=np.uint16)
    genes = np.flatnonzero(expression.getnnz(axis=0) >= settings.min_cells)
    if len(genes) < 2 or expression.shape[0] // settings.cells_per_metacell < (
        settings.min_metacells
    ):
        return nothing
    profile_MG = metacells(expression, settings)[:, genes]
    if len(profile_MG) < settings.min_metacells:
        return nothing
    profile_MG -= profile_MG.mean(axis=0)
    norm = np.linalg.norm(profile_MG, axis=0)
    profile_MG /= np.where(norm > FLAT, norm, np.inf)  # a gene that never varies correlates by 0
    found = [
        _strongest(profile_MG, start, norm <= FLAT, settings)
        for start in range(0, len(genes), BLOCK)
    ]
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return genes[pairs].astype(np.uint16)


def metacells(expression: sparse.csr_matrix, settings: Pairs) -> np.ndarray:
    """Average similar cells.

    Parameters
    ----------
    expression
        Shape (cells, genes), log-normalised.
    settings
        There are cells / `cells_per_metacell` groups, but at most `max_metacells`: k-means on the
        first principal directions. Groups of less than a third of the mean size are left out, for
        they are as noisy as single cells. With as many groups as cells each cell is its own.

    Returns
    -------
    Shape (metacells, genes), float32.
    """
    n_cells = expression.shape[0]
    n_groups = min(n_cells // settings.cells_per_metacell, settings.max_metacells)
    if n_groups == n_cells:
        return expression.toarray().astype(np.float32)
    n_components = min(COMPONENTS, *(size - 1 for size in expression.shape))
    svd = TruncatedSVD(n_components, n_iter=3, random_state=settings.seed)
    places = svd.fit_transform(expression)
    clustering = MiniBatchKMeans(n_groups, batch_size=4096, n_init=1, random_state=settings.seed)
    group = clustering.fit_predict(places)
    size = np.bincount(group, minlength=n_groups)
    kept = size >= np.maximum(n_cells / n_groups / 3, 1)
    average = sparse.csr_matrix(
        ((1 / size[group]).astype(np.float32), (group, np.arange(n_cells))),
        shape=(n_groups, n_cells),
    )
    return (average[kept] @ expression.astype(np.float32)).toarray()


def _strongest(
    standard_MG: np.ndarray, start: int, flat: np.ndarray, settings: Pairs
) -> np.ndarray:
    """Return (gene, partner) for the strongest partners of a block of genes."""
    own = np.arange(start, min(start + BLOCK, standard_MG.shape[1]))
    correlation = standard_MG[:, own].T @ standard_MG
    correlation[np.arange(len(own)), own] = -np.inf
    correlation[flat[own]] = -np.inf
    correlation[:, flat] = -np.inf
    k = min(settings.max_partners, correlation.shape[1])
    partner = np.argpartition(correlation, -k, axis=1)[:, -k:]
    strong = np.take_along_axis(correlation, partner, axis=1) >= settings.min_correlation
    row, column = np.nonzero(strong)
    return np.stack([own[row], partner[row, column]], axis=1)


def read_pairs(files: list[Path], n_genes: int) -> dict[str, np.ndarray]:
    """Open the pairs of each sample, memory-mapped, shape (pairs, 2), uint16.

    Raises
    ------
    ValueError
        If a file is damaged or holds a gene outside the vocabulary.
    """
    found = {}
    for path in files:
        try:
            pairs = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}). Run find_pairs again.") from None
        if pairs.dtype != np.uint16 or pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(
                f"{path} holds {pairs.dtype} of shape {pairs.shape}, but pairs are uint16 of shape "
                "(pairs, 2). Run find_pairs again."
            )
        if len(pairs) and pairs.max() >= n_genes:
            raise ValueError(
                f"{path} holds gene {pairs.max()}, but the vocabulary has {n_genes} genes. Run "
                "find_pairs again for this vocabulary."
            )
        found[path.stem] = pairs
    return found
