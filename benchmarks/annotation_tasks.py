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

from scbert.cells.counts import select_matrix
from scbert.cells.folds import fold_parts, split_folds
from scbert.cells.recover import recover_counts
from scbert.cells.scale import EXPECTED_COUNTS, guess_scale

N_FOLDS = 5


@dataclass(frozen=True)
class Task:
    """Labelled cells, the folds that test them, and what logistic regression reached before.

    `cells` may be of two files with different genes: then `fold` tells them apart. `fold` and
    `cell_type` have shape (cells,). `reference` is accuracy and macro F1, given in the issue:
    MaxAbs, L2, C = 1, log2 CP10K. `skipped` says which batches are left out, and why; `add_genes`,
    whether the encoder gets the genes that it does not know.
    """

    files: list[ad.AnnData]
    cell_type: np.ndarray
    batch: np.ndarray
    fold: np.ndarray
    tests: list[str]
    reference: tuple[float, float]
    skipped: dict[str, str]
    scale: str = "auto"
    add_genes: bool = False


def _task(
    files: list[ad.AnnData],
    key: str,
    fold: np.ndarray | None,
    reference: tuple[float, float],
    skipped: dict[str, str] | None = None,
) -> Task:
    cell_type = np.concatenate([file.obs[key].to_numpy(dtype=str) for file in files])
    batch = np.concatenate([file.obs.batch.to_numpy(dtype=str) for file in files])
    tests = sorted(set(fold)) if fold is not None else sorted(set(files[-1].obs.batch))
    fold = batch if fold is None else fold
    return Task(files, cell_type, batch, fold, tests, reference, skipped or {})


def _pbmc3k(data: Path, seed: int) -> Task:
    cells = ad.read_h5ad(data / "pbmc3k_labelled.h5ad")
    types = cells.obs.cell_type.to_numpy(dtype=str)
    fold = split_folds(types, N_FOLDS, np.random.default_rng(seed)).astype(str)
    return _task([cells], "cell_type", fold, (0.900, 0.894))


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
    return _task([cells], "bulk_labels", fold.astype(str), (0.834, 0.672))


def _pbmc3k_to_pbmc8k(data: Path, seed: int) -> Task:
    del seed  # nothing is drawn
    both = [ad.read_h5ad(data / f"{name}_labelled.h5ad") for name in ("pbmc3k", "pbmc8k")]
    common = set.intersection(*(set(file.obs.cell_type_common) for file in both))
    files = [file[file.obs.cell_type_common.isin(common)].copy() for file in both]
    return _task(files, "cell_type_common", None, (0.971, 0.827))


def _kang(data: Path, seed: int) -> Task:
    del seed
    cells = ad.read_h5ad(data / "kang_ctrl12261x1287_labelled.h5ad")
    return _task([cells], "cell_type", cells.obs.batch.to_numpy(dtype=str), (0.938, 0.824))


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
    batch = kept.obs.batch.to_numpy(dtype=str)
    task = _task([kept], "cell_type", batch, (0.954, 0.930), skipped)
    return replace(task, scale=EXPECTED_COUNTS, add_genes=True)  # an encoder of blood has no INS


TASKS: dict[str, Callable[[Path, int], Task]] = {
    "pbmc68k_reduced": _pbmc68k_reduced,
    "pbmc3k": _pbmc3k,
    "pbmc3k_to_pbmc8k": _pbmc3k_to_pbmc8k,
    "kang": _kang,
    "panc8": _panc8,
}


def parts_of(
    task: Task, fold: str, validation_fraction: float, validation_by: str, seed: int
) -> np.ndarray:
    """Return train, validation or test for each cell, shape (cells,).

    Validation takes whole batches if it is asked to and two are left for training.
    """
    others = set(task.batch[task.fold != fold])
    batch = task.batch if validation_by == "batch" and len(others) > 2 else None
    rng = np.random.default_rng(seed)
    return fold_parts(task.fold, fold, task.cell_type, batch, validation_fraction, rng)


def fewer(part: np.ndarray, cell_type: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Return which cells stay if training and validation together keep `most`, shape (cells,).

    A share of each type and part stays, two cells at least.
    """
    keep = np.ones(len(part), dtype=bool)
    rest = np.flatnonzero(part != "test")
    if most is None or len(rest) <= most:
        return keep
    rng, share = np.random.default_rng(seed), most / len(rest)
    for name in np.unique(cell_type[rest]):
        for one in ("train", "validation"):
            cells = rng.permutation(rest[(cell_type[rest] == name) & (part[rest] == one)])
            keep[cells[max(2, round(len(cells) * share)) :]] = False
    return keep


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
