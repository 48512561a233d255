"""Train, validation and test: of the cells of each type, or of whole batches."""

import anndata as ad
import numpy as np
import pandas as pd

PARTS = ("train", "validation", "test")
FEWEST = 3  # cells of a type of which some are held out: one for each part


def split_types(
    cell_type: np.ndarray,
    test_fraction: float,
    validation_fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Divide the cells of each type, so that every type of three cells or more is in every part.

    Parameters
    ----------
    cell_type
        Shape (cells,).

    Returns
    -------
    Shape (cells,): train, validation or test. Of a type with n cells, max(1, round(n * fraction))
    go to test and to validation, or fewer where that would leave none for another part. All cells
    of a type with fewer than three are for training.

    Raises
    ------
    ValueError
        If no type has three cells.
    """
    part = np.full(len(cell_type), "train", dtype=object)
    for name in frequent_types(cell_type):
        cells = rng.permutation(np.flatnonzero(cell_type == name))
        n_test, n_validation = _sizes(len(cells), test_fraction, validation_fraction)
        part[cells[:n_test]] = "test"
        part[cells[n_test : n_test + n_validation]] = "validation"
    return part


def frequent_types(cell_type: np.ndarray) -> np.ndarray:
    """Return the types of which cells can be held out, in order.

    Raises
    ------
    ValueError
        If there is none.
    """
    names, sizes = np.unique(cell_type, return_counts=True)
    if sizes.max(initial=0) < FEWEST:
        raise ValueError(
            f"no cell type has {FEWEST} cells, one each for training, validation and test: the "
            f"largest of {len(names)} has {sizes.max(initial=0)}. Add cells, merge types, or hold "
            "out no test: scbert finetune --no-test, test=False in Python."
        )
    return names[sizes >= FEWEST]


def split_batches(
    batch: np.ndarray, test_fraction: float, validation_fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Give whole batches (donors, laboratories) to each part, so that no batch is in two.

    Returns
    -------
    Shape (cells,): train, validation or test. Of n batches, max(1, round(n * fraction)) go to test
    and to validation, or fewer where that would leave none for another part.

    Raises
    ------
    ValueError
        If there are fewer than three batches.
    """
    names = rng.permutation(np.unique(batch))
    if len(names) < 3:
        raise ValueError(
            f"there are {len(names)} batch(es), but train, validation and test need one each. "
            "Leave batch_key empty to divide cells instead."
        )
    n_test, n_validation = _sizes(len(names), test_fraction, validation_fraction)
    part_of = dict.fromkeys(names, "train")
    part_of |= dict.fromkeys(names[:n_test], "test")
    part_of |= dict.fromkeys(names[n_test : n_test + n_validation], "validation")
    return pd.Series(batch).map(part_of).to_numpy()


def _sizes(n: int, test_fraction: float, validation_fraction: float) -> tuple[int, int]:
    n_test = min(max(1, round(n * test_fraction)), n - 2)
    return n_test, min(max(1, round(n * validation_fraction)), n - n_test - 1)


def unlabelled_part(adata: ad.AnnData, split: pd.DataFrame, part: str) -> ad.AnnData:
    """Return the cells of a part, their obs without cell type and batch, var with own n_cells.

    Parameters
    ----------
    adata
        Counts as the step read_counts writes them.
    split
        Columns cell and part.
    """
    part_of = split.set_index("cell").part
    chosen = adata[(part_of[adata.obs_names] == part).to_numpy()].copy()
    chosen.obs = chosen.obs[["library_size", "n_genes"]]
    chosen.var["n_cells"] = chosen.X.getnnz(axis=0)
    return chosen
