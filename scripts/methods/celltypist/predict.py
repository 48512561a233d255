"""CellTypist (Dominguez Conde et al., Science 2022), trained on the cells, without voting."""

import argparse
from pathlib import Path

import anndata as ad
import celltypist
import scanpy as sc


def main(options: argparse.Namespace) -> None:
    """Learn from one file of cells and name those of another."""
    learned, query = (normalized(file) for file in (options.learned, options.query))
    model = celltypist.train(
        learned,
        labels="cell_type",
        feature_selection=True,
        n_jobs=options.threads,
        check_expression=False,  # counts per 10,000 of the whole cell: genes left out are in it
    )
    found = celltypist.annotate(query, model=model, majority_voting=False)
    answers = found.probability_matrix.div(found.probability_matrix.sum(axis=1), axis=0)
    answers = answers.add_prefix("p:")
    answers.insert(0, "label", found.predicted_labels["predicted_labels"].astype(str))
    answers.index.name = "cell"
    answers.to_csv(options.answers, sep="\t", float_format="%.6g")


def normalized(file: Path) -> ad.AnnData:
    """Read cells as CellTypist wants them: log1p of counts per 10,000."""
    cells = ad.read_h5ad(file)
    library = cells.obs["library_size"].to_numpy()
    cells.X = cells.X.multiply(10_000 / library.clip(1)[:, None]).tocsr()
    sc.pp.log1p(cells)
    return cells


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("learned", "query", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True, help="not used: nothing is drawn")
    parser.add_argument("--threads", type=int, required=True)
    main(parser.parse_args())
