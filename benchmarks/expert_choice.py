"""The choice of experts out of fold: the second table of docs/decisions/experts.md.

Run: python benchmarks/expert_choice.py DATA --seeds 12 13 14 15 (an hour on one core). Only cells
that the first fold of the benchmark's seed 2021 is learned from take part, divided again.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse
from sklearn.metrics import f1_score
from sklearn.preprocessing import MaxAbsScaler

from scbert.benchmark.protocols import BenchmarkTask, LabelledSet, make_tasks
from scbert.calibration.confidence import fit_temperature
from scbert.config import Protocols
from scbert.experts.classifiers import support_vectors
from scbert.experts.combiner import calibrated, combine, fit_shares
from scbert.experts.fit import EXPERTS, Cells, fit_experts, of_all_types
from scbert.experts.linear import LinearExpert
from scbert.experts.logit_adjustment import fit_logit_adjustment, rarity
from scbert.experts.out_of_fold import make_folds, out_of_fold
from scbert.tokens.tokenize import LEVELS, normalize

SEED = 2021
STUDIES = {
    "kidney_immune": ("corpora/kidney_immune_1000.h5ad", "cell_type", "batch"),
    "baron_human1": ("corpora/baron_human1.h5ad", "cell_type", ""),
    "geact": ("corpora/geact_fetal_7organs.h5ad", "cell_type_coarse", "batch"),
    "pbmc3k": ("pbmc3k_labelled.h5ad", "cell_type", ""),
    "kang": ("kang_ctrl12261x1287_labelled.h5ad", "cell_type", "batch"),
}
PROTOCOLS = ("class_imbalance", "few_labels", "within_dataset", "across_batches", "label_noise")
SVM, LINEAR, SCALED, DISCRIMINANT = (
    "support_vectors",
    "logistic_regression",
    "scaled_logistic_regression",
    "discriminant",
)
SETS = {
    "support vector machine": (LINEAR, SVM, DISCRIMINANT),
    "the same on scaled genes": (LINEAR, SCALED, DISCRIMINANT),
    "both": (LINEAR, SCALED, SVM, DISCRIMINANT),
    "nothing": (LINEAR, DISCRIMINANT),
    "scaled genes and the discriminant alone": (SCALED, DISCRIMINANT),
}
MOST_CELLS = 3_000  # to learn from, and to ask about
MARGIN = 2.0  # logits per unit of a support vector machine's margin


def main() -> None:
    """Print the table: macro F1 and loss in nats, means over studies of means over tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[12, 13, 14, 15])
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=STUDIES)
    options = parser.parse_args()
    EXPERTS[SVM] = _support_vectors
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for study in options.studies:
        cells, expression_NV = read(options.data, study)
        for seed in options.seeds:
            for task in tasks(cells, seed):
                for name, scores in judge(cells, expression_NV, task, seed).items():
                    found[name, task.protocol].setdefault(study, []).append(scores)
        print(f"{study} is done", flush=True)
    print(
        f"| beside logistic regression | {' | '.join(PROTOCOLS)} |\n|---|{'---:|' * len(PROTOCOLS)}"
    )
    for name in SETS:
        means = [_mean(list(found[name, protocol].values())) for protocol in PROTOCOLS]
        print(f"| {name} | {' | '.join(means)} |")


def read(data: Path, study: str) -> tuple[LabelledSet, sparse.csr_matrix]:
    """Return the cells that take part, and their expression as experts read it."""
    file, key, batch = STUDIES[study]
    adata = ad.read_h5ad(data / file)
    adata = adata[adata.obs[key].notna()]
    counts = sparse.csr_matrix(adata.X).astype(np.float64)
    expression_NV = normalize(counts, np.asarray(counts.sum(axis=1)).ravel(), 10_000)
    expression_NV.data = np.round(expression_NV.data * LEVELS) / LEVELS
    batches = adata.obs[batch].astype(str) if batch else np.full(adata.n_obs, "")
    cells = LabelledSet(
        np.arange(adata.n_obs), adata.obs[key].to_numpy(dtype=str), np.asarray(batches, dtype=str)
    )
    within = protocols_of(("within_dataset",))
    first = next(
        task for task in make_tasks(cells, within, SEED) if isinstance(task, BenchmarkTask)
    )
    rows = first.learned
    few = LabelledSet(np.arange(len(rows)), cells.cell_types[rows], cells.batches[rows])
    return few, expression_NV[rows]


def protocols_of(used: Sequence[str]) -> Protocols:
    """Return these protocols, with one level each."""
    return Protocols.model_validate(
        {
            "used": tuple(used),
            "folds": 5,
            "min_cells_per_type": 10,
            "min_query_cells": 1,
            "cells_per_type": (10,),
            "shares_of_cells": (),
            "imbalance": (10,),
            "new_types": 2,
            "noise": (0.2,),
        }
    )


def tasks(cells: LabelledSet, seed: int) -> Iterator[BenchmarkTask]:
    """Yield one task of each protocol, of batches two."""
    every = [
        one
        for one in make_tasks(cells, protocols_of(PROTOCOLS), seed)
        if isinstance(one, BenchmarkTask)
    ]
    batches = sorted({task.fold for task in every if task.protocol == "across_batches"})
    chosen = {batches[(seed + step) % len(batches)] for step in (0, 2)} if batches else set()
    for task in every:
        if task.protocol == "across_batches" and task.fold not in chosen:
            continue
        if task.protocol == "within_dataset" and task.fold != "0":
            continue
        yield task


def judge(
    cells: LabelledSet, expression_NV: sparse.csr_matrix, task: BenchmarkTask, seed: int
) -> dict[str, tuple[float, float]]:
    """Return the macro F1 and the loss of each set of experts in a task."""
    few = np.sort(np.random.default_rng(0).permutation(len(task.learned))[:MOST_CELLS])
    rows, (types, label) = task.learned[few], np.unique(task.taught[few], return_inverse=True)
    query = task.query[np.isin(cells.cell_types[task.query], types)][:MOST_CELLS]
    true = np.searchsorted(types, cells.cell_types[query])
    names = tuple({name for some in SETS.values() for name in some})
    learned = expression_NV[rows]
    known = len(set(cells.batches[rows])) > 1

    def fit(some: np.ndarray, of: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        found = fit_experts(names, learned[some], of, np.zeros((len(some), 0)), seed)
        return {name: partial(_answer, expert, learned) for name, expert in found.items()}

    folds = make_folds(label, cells.batches[rows] if known else None, seed)
    held_out, judged = out_of_fold(label, folds, fit)
    whole = fit_experts(names, learned, label, np.zeros((len(rows), 0)), seed)
    rare_C, right = rarity(label), label[judged]
    by = {
        name: fit_logit_adjustment(held_out[name][judged], right, rare_C) * rare_C for name in names
    }
    before = {name: held_out[name][judged] + by[name] for name in names}
    asked = {name: _answer(whole[name], expression_NV, query) + by[name] for name in names}
    return {name: _scores(before, asked, some, right, true) for name, some in SETS.items()}


def _scores(
    before: dict[str, np.ndarray],
    asked: dict[str, np.ndarray],
    some: tuple[str, ...],
    right: np.ndarray,
    true: np.ndarray,
) -> tuple[float, float]:
    held_out = {name: before[name] for name in some}
    shares = fit_shares(held_out, right)
    temperature = fit_temperature(combine(held_out, shares), right)
    log_p_NC = calibrated(combine({name: asked[name] for name in some}, shares), temperature)
    f1 = f1_score(true, log_p_NC.argmax(axis=1), average="macro")
    return float(f1), float(-log_p_NC[np.arange(len(true)), true].mean())


def _answer(expert: LinearExpert, expression_NV: sparse.csr_matrix, rows: np.ndarray) -> np.ndarray:
    return expert.logits(expression_NV[rows], np.zeros((len(rows), 0)))


def _support_vectors(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scaler = MaxAbsScaler().fit(cells.x_NF)
    model = support_vectors(cells.seed).fit(scaler.transform(cells.x_NF), cells.label)
    plane_CF, bias_C = of_all_types(model.coef_, model.intercept_)
    return MARGIN * plane_CF / scaler.scale_, MARGIN * bias_C, np.zeros((len(bias_C), 0))


def _mean(of_studies: list[list[tuple[float, float]]]) -> str:
    if not of_studies:
        return ""
    f1, loss = np.mean([np.mean(scores, axis=0) for scores in of_studies], axis=0)
    return f"{f1:.3f}, {loss:.3f}"


if __name__ == "__main__":
    main()
