"""scBERT as its users run it: `scbert finetune` and annotate.

Only the encoder is another one: that of the package has seen cells on which the benchmark tests.

With --random-encoder its weights and gene vectors are drawn: what pretraining is compared with.
With --random-genes its weights are those of pretraining and the gene vectors alone are drawn: what
gene2vec is compared with.
"""

import argparse
import tempfile
from pathlib import Path

import anndata as ad
import pandas as pd
import torch

from scbert.config import Network
from scbert.network.model import MaskedExpressionModel, gene_table, new_pretraining_model
from scbert.shipped import BENCHMARK_ENCODER, model_folder
from scbert.steps.annotate_file import annotate  # scbert.annotate and scbert.finetune, by the
from scbert.steps.finetune_file import finetune_file  # names that rule run_benchmark_method follows
from scbert.training.bundle import load_pretrained, save_model
from scbert.training.saved_model import PretrainedModel


def main(options: argparse.Namespace) -> None:
    """Learn from one file of cells and name those of another."""
    torch.set_num_threads(options.threads)
    batches = ad.read_h5ad(options.learned, backed="r").obs["batch"].nunique()
    with tempfile.TemporaryDirectory(dir=options.answers.parent) as folder:
        model, encoder = Path(folder) / "model", model_folder(BENCHMARK_ENCODER)
        if options.random_encoder or options.random_genes:
            change = random_encoder if options.random_encoder else random_genes
            encoder = change(Path(folder) / "encoder", options.seed)
        finetune_file(
            options.learned,
            model,
            pretrained=encoder,
            label_key="cell_type",
            batch_key="batch" if batches > 1 else "",
            config=options.config and Path(__file__).parent / options.config,
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


def random_encoder(folder: Path, seed: int) -> Path:
    """Write an encoder like it, with weights and gene vectors that are drawn."""
    package = load_pretrained(model_folder(BENCHMARK_ENCODER))
    network = new_pretraining_model(
        Network.model_validate(package.config["network"]),
        package.config["n_bins"],
        gene_table(drawn_vectors(package, seed), package.config["sequence"]),
        seed,
    )
    return saved(folder, package, network)


def random_genes(folder: Path, seed: int) -> Path:
    """Write the encoder with gene vectors that are drawn, and all else as it was pretrained."""
    package = load_pretrained(model_folder(BENCHMARK_ENCODER))
    with torch.no_grad():
        package.network.encoder.gene.weight[: len(package.genes)] = drawn_vectors(package, seed)
    return saved(folder, package, package.network)


def drawn_vectors(package: PretrainedModel, seed: int) -> torch.Tensor:
    """Draw a vector for each gene, spread as those of the encoder are; shape (genes, width)."""
    vectors = package.network.encoder.gene.weight[: len(package.genes)].detach()
    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    return drawn * vectors.std()


def saved(folder: Path, package: PretrainedModel, network: MaskedExpressionModel) -> Path:
    """Write a network as a model like that of the package."""
    config = {name: value for name, value in package.config.items() if name != "format"}
    save_model(folder, network, config, package.genes)
    return folder


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
    parser.add_argument("--config", help="file beside this one: what differs from the default")
    drawn = parser.add_mutually_exclusive_group()
    drawn.add_argument("--random-encoder", action="store_true")
    drawn.add_argument("--random-genes", action="store_true")
    main(parser.parse_args())
