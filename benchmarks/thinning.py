"""Thinned copies of labelled cells: what they are worth, also for cells of a quarter of the depth.

Run: python benchmarks/thinning.py FOLDER [STUDY ...] (prints the table). FOLDER is where `snakemake
benchmark` ran: only the cells that the first fold of seed 2021 is learned from are read, and are
divided again. Three experts, no encoder, equal weights; macro F1 without copies, then with.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import anndata as ad
import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from scbert.experts.fit import fit_experts
from scbert.experts.out_of_fold import leaves_batches_out, make_folds, out_of_fold
from scbert.tokens.tokenize import LEVELS, levels_of_expression, normalize

STUDIES = ("pbmc3k", "kidney_immune", "baron_human1", "panc8", "kang", "geact", "pbmc68k_reduced")
CELLS = "results/benchmark/{}/seed2021/cells/within_dataset-all-0.learned.h5ad"
NAMES = ("logistic_regression", "scaled_logistic_regression", "discriminant")
MOST, FEWEST, FEW, QUARTER = 2000, 3, 5, 0.25
HEADS = ("study", "left out", "as they are", "a quarter", f"{FEW} of each type", "... a quarter")


def main() -> None:
    """Print the table, a line for each study and way to leave cells out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("studies", nargs="*", default=STUDIES)
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|---|---|{'---:|' * 4}", flush=True)
    for study in options.studies:
        cells = ad.read_h5ad(options.folder / CELLS.format(study))
        for line in lines(cells):
            print(f"| {study} | {' | '.join(line)} |", flush=True)


def lines(cells: ad.AnnData) -> Iterator[list[str]]:
    """Yield a line for cells that are left out, and one for batches where there are three."""
    if cells.n_obs > MOST:
        rows = np.random.default_rng(0).choice(cells.n_obs, MOST, replace=False)
        cells = cells[np.sort(rows)]
    label = np.unique(cells.obs.cell_type.astype(str), return_inverse=True)[1]
    counts = sparse.csr_matrix(cells.X)
    counts = counts[:, counts.getnnz(axis=0) >= FEWEST]
    batch = cells.obs.batch.to_numpy(dtype=str) if "batch" in cells.obs else None
    yield ["cells", *both(counts, label, None), *both(counts, label, None, FEW)]
    if leaves_batches_out(batch):
        yield ["batches", *both(counts, label, batch), "", ""]


def both(
    counts: sparse.csr_matrix, label: np.ndarray, batch: np.ndarray | None, few: int = MOST
) -> list[str]:
    """Return the scores without copies and with them, as the cells are and at a quarter."""
    thin = counts.copy()
    thin.data = np.random.default_rng(0).binomial(np.rint(counts.data).astype(int), QUARTER)
    asked = [levels(counts), levels(thin)]
    found = [scores(asked, label, batch, few, copies=copies) for copies in (False, True)]
    return [f"{without:.3f}, {with_them:.3f}" for without, with_them in zip(*found, strict=True)]


def levels(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return expression as experts read it, by the counts of the genes at hand."""
    counts = counts.astype(np.float32)
    library = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1)
    found = levels_of_expression(normalize(counts, library, 1e4)).astype(np.float32)
    found.data /= LEVELS
    return found


def scores(
    asked: list[sparse.csr_matrix],
    label: np.ndarray,
    batch: np.ndarray | None,
    few: int,
    *,
    copies: bool,
) -> list[float]:
    """Return the macro F1 of cells that were left out, in each of the forms that are asked."""
    rng, learned, none = np.random.default_rng(0), asked[0], np.zeros((len(label), 0))

    def fit(rows: np.ndarray, number: np.ndarray) -> dict:
        chosen = [rng.permutation(np.flatnonzero(number == one))[:few] for one in set(number)]
        some = np.concatenate(chosen)
        experts = fit_experts(NAMES, learned[rows[some]], number[some], none[some], seed=1)
        return {
            str(place): lambda of, cells=cells: np.mean(
                [log_softmax(one.logits(cells[of], none[of]), 1) for one in experts.values()], 0
            )
            for place, cells in enumerate(asked)
        }

    with ExitStack() as patched:
        if not copies:  # each cell twice, at half its weight, and once for the discriminant
            patched.enter_context(patch("scbert.experts.fit.thinned", lambda cells, seed: cells))
            patched.enter_context(patch("scbert.experts.fit.few_of_each", lambda label: True))
        answers, judged = out_of_fold(label, make_folds(label, batch, 2021), fit)
    types = np.unique(label[judged])
    return [
        float(f1_score(label[judged], one[judged].argmax(1), average="macro", labels=types))
        for one in answers.values()
    ]


if __name__ == "__main__":
    main()
