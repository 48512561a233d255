"""scBERT as its users run it: `scbert finetune`, with the encoder of the package, and annotate."""

import argparse
import tempfile
from pathlib import Path

import anndata as ad
import pandas as pd
import torch

from scbert import annotate, finetune


def main(options: argparse.Namespace) -> None:
    """Learn from one file of cells and name those of another."""
    torch.set_num_threads(options.threads)
    batches = ad.read_h5ad(options.learned, backed="r").obs["batch"].nunique()
    with tempfile.TemporaryDirectory(dir=options.answers.parent) as folder:
        model = Path(folder) / "model"
        finetune(
            options.learned,
            model,
            label_key="cell_type",
            batch_key="batch" if batches > 1 else "",
            config=options.config,
            seed=options.seed,
            matrix="X",
            scale="expected_counts",  # integers are counts all the same
            library_size_key="library_size",
            test=False,
        )
        query = ad.read_h5ad(options.query)
        found = annotate(
            query, model, matrix="X", scale="expected_counts", library_size_key="library_size"
        )
    answers(found).to_csv(options.answers, sep="\t", index=False, float_format="%.6g")


def answers(found: ad.AnnData) -> pd.DataFrame:
    """Bring what annotate says into the form of the benchmark."""
    table = pd.DataFrame({"cell": found.obs_names})
    table["label"] = found.obs["scbert_label"].to_numpy(dtype=str)
    types = found.uns["scbert"]["labels"]
    for name, column in zip(types, found.obsm["scbert_probabilities"].to_numpy().T, strict=True):
        table[f"p:{name}"] = column
    table["novelty"] = found.obs["scbert_novelty_score"].to_numpy()
    for column in found.obs:
        expert = column.removeprefix("scbert_label_")
        if expert != column and not expert.startswith("ontology"):
            table[f"label:{expert}"] = found.obs[column].to_numpy(dtype=str)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("learned", "query", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--config", type=Path, help="what differs from the default configuration")
    main(parser.parse_args())
