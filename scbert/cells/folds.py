"""Splits as the settings say: one holdout, or one of several folds, each with other test cells."""

import logging

import numpy as np
import pandas as pd

from scbert.cells.splits import frequent_types, split_batches, split_types
from scbert.config import Split

log = logging.getLogger(__name__)

NO_FOLD = -1  # of cells that are always for training


def divide(cell_type: np.ndarray, batch: np.ndarray | None, settings: Split) -> np.ndarray:
    """Divide cells into train, validation and test; the same cells and settings, the same parts.

    Parameters
    ----------
    cell_type
        Shape (cells,).
    batch
        Shape (cells,): the donor, laboratory or study of each cell, which are then never both in
        the test and outside it; None if that is not known.

    Returns
    -------
    Shape (cells,): train, validation or test.

    Raises
    ------
    ValueError
        If there are too few cells or batches, or no such fold.
    """
    rng = np.random.default_rng(settings.seed)
    test, validation = settings.test_fraction, settings.validation_fraction
    kept_whole = batch if settings.validation_by == "batch" else None
    if settings.method != "holdout":
        fold = name_folds(cell_type, batch, settings)
        return fold_parts(fold, str(settings.fold), cell_type, kept_whole, validation, rng)
    if batch is None:
        return split_types(cell_type, test, validation, rng)
    part = split_batches(batch, test, validation, rng)
    if kept_whole is not None:
        return part
    return fold_parts(part, "test", cell_type, None, validation, rng)


def divide_without_test(
    cell_type: np.ndarray, batch: np.ndarray | None, settings: Split
) -> np.ndarray:
    """Divide all cells into train and validation, for a model that other cells will judge.

    Parameters
    ----------
    cell_type, batch
        As for `divide`. Of the settings, those of validation count.

    Returns
    -------
    Shape (cells,): train or validation. Where each type has a single cell, all are for training.

    Raises
    ------
    ValueError
        If there are too few batches.
    """
    if settings.method != "holdout":
        log.warning("split.method %s is not used: no cell is held out as a test", settings.method)
    rng = np.random.default_rng(settings.seed)
    kept_whole = batch if settings.validation_by == "batch" else None
    part = np.full(len(cell_type), "train", dtype=object)
    _choose_validation(part, cell_type, kept_whole, settings.validation_fraction, rng)
    if kept_whole is not None and not (part == "validation").any():
        raise ValueError(
            f"{len(set(kept_whole))} batch(es) cannot be divided into training and validation, "
            "which need one each at least. Add cells of other batches, leave batch_key empty, or "
            "set split.validation_by to cell."
        )
    return part


def name_folds(cell_type: np.ndarray, batch: np.ndarray | None, settings: Split) -> np.ndarray:
    """Return the name of the fold that tests each cell, shape (cells,): a number, or its batch.

    Raises
    ------
    ValueError
        If there are too few cells or batches for the folds.
    """
    rng = np.random.default_rng(settings.seed)
    if settings.method == "k_fold":
        number = (
            split_folds(cell_type, settings.n_folds, rng)
            if batch is None
            else split_batch_folds(batch, settings.n_folds, rng)
        )
        return number.astype(str)
    if batch is None:
        raise ValueError(
            "split.method is leave_one_out, but the cells have no batches that could be left out. "
            "Name the column of obs with donors or laboratories (batch_key), or choose holdout or "
            "k_fold."
        )
    return batch.astype(str)


def split_folds(cell_type: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the cells of each type out to folds, numbered from 0.

    Returns
    -------
    Shape (cells,). The folds of a type differ by one cell at most, and so do the folds of all.
    Cells of a type with fewer than three are in no fold, `NO_FOLD`: beside a test cell, training
    and validation need one each.

    Raises
    ------
    ValueError
        If fewer cells than folds can be dealt out.
    """
    dealt = np.isin(cell_type, frequent_types(cell_type))
    if dealt.sum() < n_folds:
        raise ValueError(
            f"{dealt.sum()} cells of types with three cells or more are too few for {n_folds} "
            "folds: each needs one. Lower split.n_folds, add cells, or merge types."
        )
    fold = np.full(len(cell_type), NO_FOLD)
    fold[dealt] = deal_cells(cell_type[dealt], n_folds, rng)
    return fold


def deal_cells(cell_type: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the cells of each type out to folds, as far as they go; shape (cells,)."""
    names = np.unique(cell_type)
    dealt = [rng.permutation(np.flatnonzero(cell_type == name)) for name in names]
    fold = np.empty(len(cell_type), dtype=np.int64)
    fold[np.concatenate(dealt)] = np.arange(len(cell_type)) % n_folds
    return fold


def split_batch_folds(batch: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal whole batches out to folds, numbered from 0; shape (cells,).

    Raises
    ------
    ValueError
        If there are fewer batches than folds, or fewer than three.
    """
    names = rng.permutation(np.unique(batch))
    if len(names) < max(3, n_folds):
        raise ValueError(
            f"there are {len(names)} batch(es), but {n_folds} folds of whole batches need "
            f"{max(3, n_folds)}. Lower split.n_folds, or leave batch_key empty to divide cells."
        )
    number = pd.Series(np.arange(len(names)) % n_folds, index=names)
    return number[batch].to_numpy()


def fold_parts(
    fold: np.ndarray,
    test_fold: str,
    cell_type: np.ndarray,
    batch: np.ndarray | None,
    validation_fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Make one fold the test and choose validation from the others.

    Parameters
    ----------
    fold
        Shape (cells,), names of folds.
    test_fold
        One of them.
    cell_type, batch
        Shape (cells,). Validation takes a share of the cells of each type or, if `batch` is given,
        of the batches; at least one, and never the last one.

    Returns
    -------
    Shape (cells,): train, validation or test.

    Raises
    ------
    ValueError
        If there is no such fold, or it leaves too little for training and validation.
    """
    names = np.unique(fold[fold != str(NO_FOLD)])
    if test_fold not in names:
        raise ValueError(
            f"split.fold is '{test_fold}', but the folds are {', '.join(map(str, names))}. Name "
            "one of them."
        )
    part = np.where(fold == test_fold, "test", "train").astype(object)
    _choose_validation(part, cell_type, batch, validation_fraction, rng)
    if not (part == "validation").any():
        raise ValueError(
            f"beside fold '{test_fold}' nothing is left for both training and validation: "
            f"{np.sum(fold != test_fold)} cells, {len(names) - 1} folds. Add cells, or set "
            "split.validation_by to cell."
        )
    return part


def _choose_validation(
    part: np.ndarray,
    cell_type: np.ndarray,
    batch: np.ndarray | None,
    fraction: float,
    rng: np.random.Generator,
) -> None:
    """Make a share of the cells of each type, or of the batches, outside the test validation."""
    rest = np.flatnonzero(part != "test")
    if batch is None:
        groups = [rest[cell_type[rest] == name] for name in np.unique(cell_type[rest])]
        for cells in groups:
            part[_some(rng.permutation(cells), fraction)] = "validation"
    else:
        batches = rng.permutation(np.unique(batch[rest]))
        part[rest[np.isin(batch[rest], _some(batches, fraction))]] = "validation"


def _some(items: np.ndarray, fraction: float) -> np.ndarray:
    return items[: min(max(1, round(len(items) * fraction)), len(items) - 1)]
