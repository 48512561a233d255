"""scANVI (Xu et al., Mol Syst Biol 2021): scVI on counts, then labels; it never sees the query."""

import argparse
from pathlib import Path

import anndata as ad
import pandas as pd
import scanpy as sc
import scvi
from scvi.model import SCANVI, SCVI

GENES = 2_000
UNLABELLED = "no label"  # scANVI wants a name for cells without one; there are none here


def main(options: argparse.Namespace) -> None:
    """Learn from one file of cells and name those of another."""
    scvi.settings.seed = options.seed
    scvi.settings.num_threads = options.threads
    learned, query = (ad.read_h5ad(file) for file in (options.learned, options.query))
    genes = variable_genes(learned)
    learned, query = learned[:, genes].copy(), query[:, genes].copy()
    SCVI.setup_anndata(learned, labels_key="cell_type")
    whole = SCVI(learned, n_layers=2, n_latent=30, gene_likelihood="nb")
    whole.train(enable_progress_bar=False)
    model = SCANVI.from_scvi_model(whole, unlabeled_category=UNLABELLED)
    model.train(max_epochs=20, n_samples_per_label=100, enable_progress_bar=False)
    query.obs["cell_type"] = pd.Categorical([UNLABELLED] * query.n_obs)
    found = model.predict(query, soft=True)
    answers = found.add_prefix("p:")
    answers.insert(0, "label", found.idxmax(axis=1).astype(str))
    answers.index.name = "cell"
    answers.to_csv(options.answers, sep="\t", float_format="%.6g")


def variable_genes(cells: ad.AnnData) -> pd.Index:
    """Return the genes that vary most over the cells to learn from."""
    normalized = cells.copy()
    sc.pp.normalize_total(normalized, target_sum=1e4)
    sc.pp.log1p(normalized)
    sc.pp.highly_variable_genes(normalized, n_top_genes=min(GENES, cells.n_vars))
    return cells.var_names[normalized.var["highly_variable"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("learned", "query", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    main(parser.parse_args())
