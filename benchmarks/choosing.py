"""How validation cells should choose the penalty of a linear classifier: by macro F1 or by loss.

Run: python benchmarks/choosing.py DATA [--tasks panc8 ...] [--out docs/results/choosing.md]

Every candidate of compare.c_grid and compare.class_weights is fitted on the training cells of a
fold; each rule takes one of them by the validation cells; the test cells score both choices. The
rule was chosen by these test cells: the table says why, it is no estimate of what the rule gains.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import yaml
from annotation_inputs import SPLIT_SEED
from annotation_tasks import TASKS, Task, parts_of
from scipy import sparse
from sklearn.feature_selection import f_classif

from scbert.cells.expression import cell_sums, normalize
from scbert.config import Config, default_config_file, load_config
from scbert.evidence.baselines import LabelledCells, fit_candidates, macro_f1, minus_loss
from scbert.evidence.metrics import scores
from scbert.training.linear import METHOD

METHODS = (METHOD, "linear_svm")
GENES = (None, 1000)
RULES = {"macro F1": macro_f1, "balanced loss": minus_loss}
HEAD = """# Choosing a penalty by validation cells: macro F1 or balanced loss

    python benchmarks/choosing.py DATA

Written by that command; do not edit. All folds pooled; all genes that the files
share, or those that tell the training cells' types apart best. Which of
the candidates of `compare.c_grid` and `compare.class_weights` is taken: the one with the highest
macro F1 of the validation cells, or with the lowest cross-entropy, each type weighing the same, at
the temperature that suits. The test cells below were used to choose between the two rules.

| data | method | genes | accuracy / macro F1, by macro F1 | by balanced loss |
|---|---|---:|---:|---:|
"""


def expression(task: Task) -> sparse.csr_matrix:
    """Return log2 CP10K of the genes that all files have, (cells, genes)."""
    shared = [set(file.var_names) for file in task.files]
    genes = [name for name in task.files[0].var_names if all(name in own for own in shared)]
    parts = []
    for file in task.files:
        counts = sparse.csr_matrix(file.X, dtype=np.float64)
        columns = file.var_names.get_indexer(genes)
        parts.append(normalize(counts, np.maximum(cell_sums(counts), 1), 10_000)[:, columns])
    return sparse.vstack(parts, format="csr")


def best_genes(matrix: sparse.csr_matrix, types: np.ndarray, n_genes: int | None) -> np.ndarray:
    """Return the numbers of the genes that tell the types apart best, as fine-tuning chooses."""
    if n_genes is None:
        return np.arange(matrix.shape[1])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # genes that no cell expresses have no statistic
        statistic = f_classif(matrix.tocsc(), types)[0]
    return np.argsort(-np.nan_to_num(statistic, nan=-1, posinf=np.inf), kind="stable")[:n_genes]


def chosen(
    task: Task, method: str, n_genes: int | None, config: Config
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the true types of the test cells of all folds, and what each rule's choices say."""
    matrix, split, true = expression(task), config.split, list[str]()
    said: dict[str, list[str]] = {rule: [] for rule in RULES}
    for fold in task.tests:
        part = parts_of(task, fold, split.validation_fraction, split.validation_by, SPLIT_SEED)
        training = part == "train"
        genes = best_genes(matrix[training], task.cell_type[training], n_genes)
        train, validation, test = (
            LabelledCells(matrix[part == name][:, genes], task.cell_type[part == name])
            for name in ("train", "validation", "test")
        )
        true += test.cell_types.tolist()
        fitted = [*fit_candidates(method, train, config.compare, config.binning.n_bins).values()]
        for rule, better in RULES.items():
            best = int(np.argmax([better(one, validation) for one in fitted]))
            said[rule] += fitted[best].predict(test.expression).tolist()
    return true, said


def row(name: str, task: Task, method: str, n_genes: int | None, config: Config) -> str:
    """Return a line of the table."""
    true, said = chosen(task, method, n_genes, config)
    values = [name, method, str(n_genes or "all")]
    for predicted in said.values():
        found = scores(np.array(true), np.array(predicted), sorted({*true, *predicted}))
        values += [f"{found['accuracy']:.3f} / {found['macro_f1']:.3f}"]
    line = f"| {' | '.join(values)} |\n"
    print(line, flush=True)
    return line


def main() -> None:
    """Fit, choose and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("docs/results/choosing.md"))
    options = parser.parse_args()
    config = load_config(yaml.safe_load(default_config_file().read_text()))
    lines = [
        row(name, TASKS[name](options.data, SPLIT_SEED), method, n_genes, config)
        for name in options.tasks
        for method in METHODS
        for n_genes in GENES
    ]
    options.out.write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
