"""Answers of experts to cells that they have not learned from.

Where there are three batches or more, whole ones are left out, as a new study is later: a method
that only knows its own laboratories must not look best.

Shape letters: N cells, C cell types.
"""

from collections.abc import Callable, Iterator
from typing import TypeGuard

import numpy as np

from scbert.cells.folds import deal_cells

N_FOLDS = 5
FEWEST_BATCHES = 3
Fitted = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], dict[str, Fitted]]


def one_cell_each(label: np.ndarray) -> bool:
    """Whether each type has a single cell, so that nothing says how cells of one type differ."""
    return len(np.unique(label)) == len(label)


def fewer_than_two_each(label: np.ndarray) -> bool:
    """Whether there are fewer cells than two of each type: how cells of one differ is known of few.

    A gene that one type of two cells lacks would then seem to tell all types apart.
    """
    return len(label) < 2 * len(np.unique(label))


def leaves_batches_out(
    batch: np.ndarray | None, fewest: int = FEWEST_BATCHES
) -> TypeGuard[np.ndarray]:
    """Say whether whole batches are left out, or cells of each type."""
    return batch is not None and len(set(batch)) >= fewest


def make_folds(
    label: np.ndarray, batch: np.ndarray | None, seed: int, fewest_batches: int = FEWEST_BATCHES
) -> np.ndarray:
    """Return the fold of each cell, 0 to 4 at most, shape (N,).

    Parameters
    ----------
    label
        Its type.
    batch
        Its donor, laboratory or study; None if that is not known. Of `fewest_batches` or more whole
        ones make a fold, of more than five several together, so that folds are of like size; of
        fewer, the cells of each type are dealt out.
    """
    if leaves_batches_out(batch, fewest_batches):
        names, sizes = np.unique(batch, return_counts=True)
        filled = np.zeros(min(N_FOLDS, len(names)))
        fold_of = {}
        for number in np.argsort(-sizes, kind="stable"):
            emptiest = int(filled.argmin())
            fold_of[names[number]] = emptiest
            filled[emptiest] += sizes[number]
        return np.array([fold_of[name] for name in batch])
    return deal_cells(label, N_FOLDS, np.random.default_rng(seed))


def out_of_fold(
    label: np.ndarray, fold: np.ndarray, fit: Fit
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fit on all folds but one, ask about that one, in turn.

    Parameters
    ----------
    label
        The type of each cell, 0 to C - 1, each there at least once.
    fit
        Is given the cells to learn from and their types, numbered without gaps, and returns for
        each expert what gives logits, shape (cells, types), of the cells that it is asked about.

    Returns
    -------
    logits
        Of each expert, shape (N, C), minus infinity where the other folds lack the type.
    judged
        Shape (N,): whether the other folds have the cell's own type, so that it could be named.

    Raises
    ------
    ValueError
        If no cell's type is in two folds.
    """
    n_types = int(label.max()) + 1
    found: dict[str, np.ndarray] = {}
    judged = np.zeros(len(label), dtype=bool)
    for rows, asked in each_fold(fold):
        present, number = np.unique(label[rows], return_inverse=True)
        if len(present) < 2:
            continue
        for name, logits_of in fit(rows, number).items():
            made = found.setdefault(name, np.full((len(label), n_types), -np.inf, np.float32))
            made[np.ix_(asked, present)] = logits_of(asked)
        judged[asked] = np.isin(label[asked], present)
    if not judged.any():
        raise ValueError(
            "no cell type has training cells in two batches, so nothing says how far to trust a "
            "label in another batch. Give no batch_key, or more batches of the same types."
        )
    return found, judged


def each_fold(fold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the cells of all folds but one, and those of that one, in turn."""
    for number in np.unique(fold):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)
