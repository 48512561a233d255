"""The labelled data of benchmarks/annotation.py: who is trained on, who is tested.

The files are those of the folder given to it; X holds counts, and obs cell_type, cell_type_common
(names that pbmc3k and pbmc8k share) and batch.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from scbert.cells.folds import fold_parts, split_folds
from scbert.cells.read import select_matrix
from scbert.cells.recover import recover_counts
from scbert.cells.scale import EXPECTED_COUNTS, guess_scale

N_FOLDS = 5


@dataclass(frozen=True)
class Task:
    """Labelled cells, and the folds that test them.

    `files` may be two with different genes: then `fold` tells them apart. `fold` and `cell_type`
    have shape (cells,). `skipped` says which batches are left out, and why; `by_batch`, whether a
    fold is a batch, such as a donor.
    """

    files: list[ad.AnnData]
    cell_type: np.ndarray
    batch: np.ndarray
    fold: np.ndarray
    tests: list[str]
    skipped: dict[str, str]
    scale: str = "auto"
    by_batch: bool = False


def _task(
    files: list[ad.AnnData],
    key: str,
    fold: np.ndarray | None = None,
    skipped: dict[str, str] | None = None,
) -> Task:
    cell_type = np.concatenate([file.obs[key].to_numpy(dtype=str) for file in files])
    batch = np.concatenate([file.obs.batch.to_numpy(dtype=str) for file in files])
    tests = sorted(set(fold)) if fold is not None else sorted(set(files[-1].obs.batch))
    by_batch = fold is None and len(files) == 1
    fold = batch if fold is None else fold
    return Task(files, cell_type, batch, fold, tests, skipped or {}, by_batch=by_batch)


def _pbmc3k(data: Path, seed: int) -> Task:
    cells = ad.read_h5ad(data / "pbmc3k_labelled.h5ad")
    types = cells.obs.cell_type.to_numpy(dtype=str)
    fold = split_folds(types, N_FOLDS, np.random.default_rng(seed)).astype(str)
    return _task([cells], "cell_type", fold)


def _pbmc68k_reduced(data: Path, seed: int) -> Task:
    """Scanpy's own file: log-normalised, taken back to counts as the demo does."""
    del data
    file = Path(importlib.util.find_spec("scanpy").origin)  # type: ignore[union-attr,arg-type]
    read = ad.read_h5ad(file.parent / "datasets/10x_pbmc68k_reduced.h5ad")
    matrix, genes, name = select_matrix(read, "raw.X", "pbmc68k_reduced")
    library = read.obs.n_counts.to_numpy(dtype=np.float64)
    counts, _ = recover_counts(matrix, guess_scale(matrix, name), library, 10_000)
    obs = read.obs[["bulk_labels"]].assign(batch="pbmc68k_reduced")
    cells = ad.AnnData(counts, obs=obs, var=genes)
    fold = split_folds(obs.bulk_labels.to_numpy(dtype=str), N_FOLDS, np.random.default_rng(seed))
    return _task([cells], "bulk_labels", fold.astype(str))


def _pbmc3k_to_pbmc8k(data: Path, seed: int) -> Task:
    del seed  # nothing is drawn
    both = [ad.read_h5ad(data / f"{name}_labelled.h5ad") for name in ("pbmc3k", "pbmc8k")]
    common = set.intersection(*(set(file.obs.cell_type_common) for file in both))
    files = [file[file.obs.cell_type_common.isin(common)].copy() for file in both]
    return _task(files, "cell_type_common")


def _kang(data: Path, seed: int) -> Task:
    del seed
    cells = ad.read_h5ad(data / "kang_ctrl12261x1287_labelled.h5ad")
    return _task([cells], "cell_type")


def _panc8(data: Path, seed: int) -> Task:
    """Five laboratories, of which three give estimates of counts: RSEM, corrected molecules."""
    del seed
    cells = ad.read_h5ad(data / "panc8_small500_labelled.h5ad")
    skipped = {}
    for name in sorted(set(cells.obs.batch)):
        try:
            guess_scale(sparse.csr_matrix(cells[cells.obs.batch == name].X), name, EXPECTED_COUNTS)
        except ValueError as error:
            skipped[name] = str(error)
    kept = cells[~cells.obs.batch.isin(skipped)].copy()
    return replace(_task([kept], "cell_type", None, skipped), scale=EXPECTED_COUNTS)


def _folds_of(file: str, key: str, fewest: int) -> Callable[[Path, int], Task]:
    """Return five folds of the cells of a file's types with so many cells or more."""

    def make(data: Path, seed: int) -> Task:
        cells = _of_types(ad.read_h5ad(data / "corpora" / file), key, fewest)
        fold = split_folds(cells.obs[key].to_numpy(dtype=str), N_FOLDS, np.random.default_rng(seed))
        return _task([cells], key, fold.astype(str))

    return make


def _kidney_immune(data: Path, seed: int) -> Task:
    """Leave out in turn each donor with 40 cells and more."""
    del seed
    cells = _of_types(ad.read_h5ad(data / "corpora/kidney_immune_1000.h5ad"), "cell_type", 3)
    task, sizes = _task([cells], "cell_type"), cells.obs.batch.value_counts()
    return replace(task, tests=[name for name in task.tests if sizes[name] >= 40])


def _of_types(cells: ad.AnnData, key: str, fewest: int) -> ad.AnnData:
    named = cells.obs[key].astype(str)
    kept = named.map(named.value_counts()).ge(fewest) & ~named.isin(["", "nan"])
    return cells[kept.to_numpy()].copy()


TASKS: dict[str, Callable[[Path, int], Task]] = {
    "pbmc68k_reduced": _pbmc68k_reduced,
    "pbmc3k": _pbmc3k,
    "pbmc3k_to_pbmc8k": _pbmc3k_to_pbmc8k,
    "kang": _kang,
    "panc8": _panc8,
    "baron_human1": _folds_of("baron_human1.h5ad", "cell_type", 3),
    "kidney_immune": _kidney_immune,
    "geact": _folds_of("geact_fetal_7organs.h5ad", "cell_type_coarse", 10),
}


def parts_of(
    task: Task, fold: str, validation_fraction: float, validation_by: str, seed: int
) -> np.ndarray:
    """Return train, validation or test for each cell, shape (cells,).

    Validation takes whole batches if it is asked to and two are left for training.
    """
    others = set(task.batch[task.fold != fold])
    whole = task.by_batch and validation_by == "batch" and len(others) > 2
    batch = task.batch if whole else None
    rng = np.random.default_rng(seed)
    return fold_parts(task.fold, fold, task.cell_type, batch, validation_fraction, rng)


def select(task: Task, chosen: np.ndarray) -> ad.AnnData:
    """Return these cells, all of one file, with cell_type and batch alone in obs."""
    ends = np.cumsum([0, *(file.n_obs for file in task.files)])
    for file, start, stop in zip(task.files, ends[:-1], ends[1:], strict=True):
        rows = np.flatnonzero(chosen[start:stop])
        if len(rows):
            assert chosen.sum() == len(rows), "cells of two files have different genes"
            found = ad.AnnData(
                sparse.csr_matrix(file.X[rows]), obs=file.obs.iloc[rows][[]].copy(), var=file.var
            )
            found.obs["cell_type"] = task.cell_type[start:stop][rows]
            found.obs["batch"] = task.batch[start:stop][rows]
            return found
    raise ValueError("no cell is chosen")
