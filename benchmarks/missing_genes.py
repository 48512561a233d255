"""Labels of files that lack most of a model's genes: docs/results/missing_genes.md.

Run: python benchmarks/missing_genes.py DATA (writes the table to the terminal). A fifth of the
cells of each study is asked about, with raw counts of some genes alone, by a model of the others.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
import yaml
from sklearn.metrics import f1_score

import scbert
from scbert.experts.out_of_fold import make_folds
from scbert.training.bundle import load_finetuned
from scbert.training.saved_model import FinetunedModel

SEED = 2021
STUDIES = {
    "pbmc3k": ("pbmc3k_labelled.h5ad", "cell_type"),
    "kidney_immune": ("corpora/kidney_immune_1000.h5ad", "cell_type"),
    "baron_human1": ("corpora/baron_human1.h5ad", "cell_type"),
    "geact": ("corpora/geact_fetal_7organs.h5ad", "cell_type_coarse"),
}
EXPERTS = ("logistic_regression", "scaled_logistic_regression", "discriminant")
FEWEST_CELLS = 10  # of a type
HEADS = ("study", "genes of the file", "of the model's", "macro F1", "log loss", "called unknown")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print(f"| {' | '.join(HEADS)} |\n|---|---|{'---:|' * 4}")
    for study, (file, key) in STUDIES.items():
        cells = ad.read_h5ad(data / file)
        cells.obs["cell_type"] = cells.obs[key].astype(str).where(cells.obs[key].notna())
        counts = cells.obs.cell_type.value_counts()
        cells = cells[cells.obs.cell_type.isin(counts.index[counts >= FEWEST_CELLS])].copy()
        fold = make_folds(np.unique(cells.obs.cell_type, return_inverse=True)[1], None, SEED)
        with tempfile.TemporaryDirectory() as folder:
            model = learn(cells[fold > 0].copy(), Path(folder))
            asked = cells[fold == 0].copy()
            used = model.genes.symbol[model.learned]
            for name, genes in panels(asked):
                scores = score(asked[:, genes].copy(), model)
                share = np.isin(used, asked.var_names[genes]).mean()
                print(f"| {study} | {name} | {share:.0%} | {' | '.join(scores)} |", flush=True)


def learn(cells: ad.AnnData, folder: Path) -> FinetunedModel:
    """Learn a model without the encoder."""
    cells.write_h5ad(folder / "cells.h5ad")
    (folder / "config.yaml").write_text(yaml.safe_dump({"finetune": {"experts": list(EXPERTS)}}))
    scbert.finetune(
        folder / "cells.h5ad",
        folder / "model",
        label_key="cell_type",
        config=folder / "config.yaml",
        test=False,
    )
    return load_finetuned(folder / "model")


def panels(cells: ad.AnnData) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names of panels, and which genes they have."""
    yield "all", np.ones(cells.n_vars, dtype=bool)
    logs = sc.pp.log1p(sc.pp.normalize_total(cells, target_sum=1e4, copy=True), copy=True)
    for n_genes in (2000, 1000):
        sc.pp.highly_variable_genes(logs, n_top_genes=n_genes)
        yield f"{n_genes:,} variable", logs.var.highly_variable.to_numpy()
    for share in (0.8, 0.3, 0.1):
        drawn = np.random.default_rng(SEED).random(cells.n_vars) < share
        yield f"{share:.0%} at random", drawn


def score(cells: ad.AnnData, model: FinetunedModel) -> list[str]:
    """Return the macro F1, the loss in nats and the share that is called unknown."""
    found, true = scbert.annotate(cells, model), cells.obs.cell_type.to_numpy(dtype=str)
    chances = found.obsm["scbert_probabilities"]
    right = chances.to_numpy()[np.arange(len(true)), chances.columns.get_indexer(true)]
    f1 = f1_score(true, found.obs.scbert_label.astype(str), labels=np.unique(true), average="macro")
    loss = -np.log(np.maximum(right, 1e-15)).mean()
    return [f"{f1:.3f}", f"{loss:.2f}", f"{found.obs.scbert_is_unknown.mean():.0%}"]


if __name__ == "__main__":
    main()
