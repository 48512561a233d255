"""Does the pretrained encoder help where few cells are labelled? The frozen encoder's case.

Run: python benchmarks/few_cells.py DATA [--out docs/results/few_cells.md]

k cells of each type are drawn five times; experts learn from them: the discriminant on principal
components; the same with the cell vectors of the encoder of benchmarks, of one of that size with
random weights, and of the package's encoder, where it has not seen the study. They name up to 1,000
other cells. The rule that decides: docs/decisions/experts.md.
"""

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from scipy import sparse, stats
from sklearn.metrics import f1_score

from scbert.cells.quality import cell_sums
from scbert.cells.read import gene_names
from scbert.config import Network, Normalization
from scbert.experts.fit import fit_experts
from scbert.experts.linear import most_variable_genes
from scbert.genes.matching import match_genes
from scbert.network.model import MeanOfGenes, new_encoder
from scbert.shipped import BENCHMARK_ENCODER, ENCODER, model_folder
from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import LEVELS, Sample, expression_of_counts, levels_of_expression
from scbert.training.batches import CellBatches, layout_of
from scbert.training.bundle import load_pretrained
from scbert.training.committee import outputs
from scbert.training.saved_model import PretrainedModel

DATA_SETS = {  # file and types; whether the package's encoder has not seen the study
    "pbmc3k": ("pbmc3k_labelled", "cell_type", True),
    "baron_human1": ("corpora/baron_human1", "cell_type", False),
    "kidney_immune": ("corpora/kidney_immune_1000", "cell_type", False),
    "geact": ("corpora/geact_fetal_7organs", "cell_type_coarse", False),
    "panc8 without inDrop": ("panc8_small500_labelled", "cell_type", True),
    "kang": ("kang_ctrl12261x1287_labelled", "cell_type", True),
}
CELLS_PER_TYPE = (2, 5, 10, 20)
DRAWS, MOST_TESTED, SEED = 5, 1000, 2021
N_GENES, TOKENS_PER_BATCH = 500, 65_536
HEAD = """# Few labelled cells: what the frozen encoder adds

    python benchmarks/few_cells.py DATA

Written by that command; do not edit. Macro F1 on up to 1,000 other cells, mean of five draws of k
cells per type; types with fewer than k + 5 cells are left out. A difference is to the discriminant
on principal components that learned from the same cells, with its 95 % interval over the draws
(Student). Pretrained: the encoder of benchmarks (11,456 cells), which has seen none of these
studies. Shipped: that of the package (26,839 cells), on three studies that it has not seen, either;
the inDrop cells of panc8 are Baron's, of which its gene vectors were made. An encoder sees the 500
genes that vary most among all cells of the data set; no label chose them. With one cell per type
nothing says how cells of a type differ, so k starts at 2. Not run here: an encoder that is trained
on the k cells.

"""
KINDS = {"pretrained": BENCHMARK_ENCODER, "random": BENCHMARK_ENCODER, "shipped": ENCODER}
COLUMNS = "| data | k | types | components alone |" + "|".join(
    f" + {kind} encoder | difference " for kind in KINDS
)
RULER = "|---|---:|---:|---:|" + "---:|---|" * len(KINDS)


def main(options: argparse.Namespace) -> None:
    """Draw, learn, name, and write the page."""
    encoders = {name: load_pretrained(model_folder(name)) for name in KINDS.values()}
    lines = []
    for name, (file, key, unseen) in DATA_SETS.items():
        cells = cells_of(options.data / f"{file}.h5ad", key)
        levels = {used: tokens(cells, encoder) for used, encoder in encoders.items()}
        vectors = {
            kind: vectors_of(levels[used], encoders[used], kind)
            for kind, used in KINDS.items()
            if unseen or used != ENCODER
        }
        cell_type = cells.obs[key].to_numpy(dtype=str)
        for k in CELLS_PER_TYPE:
            found, n_types = draws(levels[BENCHMARK_ENCODER], cell_type, vectors, k)
            alone = found["alone"]
            row = [name, str(k), str(n_types), f"{alone.mean():.3f}"]
            for kind in KINDS:
                row += beside(found[kind], alone) if kind in found else ["", ""]
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    options.out.write_text("\n".join([HEAD + COLUMNS + "|", RULER, *lines, ""]))


def cells_of(file: Path, key: str) -> ad.AnnData:
    """Return the labelled cells of a study."""
    cells = ad.read_h5ad(file)
    named = ~cells.obs[key].astype(str).isin(["", "nan"])
    if "panc8" in file.name:
        named &= ~cells.obs.batch.astype(str).str.contains("indrop")
    return cells[named.to_numpy()].copy()


def beside(scores: np.ndarray, alone: np.ndarray) -> list[str]:
    """Return the mean over draws, and the difference with its interval."""
    mean, half = interval(scores - alone)
    return [f"{scores.mean():.3f}", f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"]


def tokens(cells: ad.AnnData, bundle: PretrainedModel) -> sparse.csr_matrix:
    """Return the levels of cells over the encoder's vocabulary, (cells, V)."""
    counts = sparse.csr_matrix(cells.X, dtype=np.float64)
    library = np.maximum(cell_sums(counts), 1)
    genes = match_genes(gene_names(cells.var), bundle.genes)
    normalization = Normalization.model_validate(bundle.config["normalization"])
    return levels_of_expression(expression_of_counts(counts, library, genes, normalization))


@torch.no_grad()
def vectors_of(levels: sparse.csr_matrix, bundle: PretrainedModel, kind: str) -> np.ndarray:
    """Return the cell vectors of an encoder, (cells, D)."""
    config, encoder = bundle.config, bundle.network.encoder
    if kind == "random":
        size = encoder.gene.weight.shape
        drawn = torch.randn(size, generator=torch.Generator().manual_seed(SEED))
        given = drawn * encoder.gene.weight.std()
        encoder = new_encoder(
            Network.model_validate(config["network"]), config["n_bins"], given, SEED
        )
    used = most_variable_genes(levels.astype(np.float32), N_GENES)
    names = [str(number) for number in range(levels.shape[0])]
    sample = Sample("cells", names, levels, config["n_bins"], np.arange(levels.shape[1]), 0)
    mode = (config["sequence"], config["n_bins"], TOKENS_PER_BATCH, used)
    cells = CellBatches(store_in_memory(sample), *mode, layout_of(config["network"]))
    rows = np.arange(levels.shape[0])
    return outputs(MeanOfGenes(encoder), cells, rows, torch.device("cpu")).vectors


def draws(
    levels: sparse.csr_matrix, cell_type: np.ndarray, vectors: dict[str, np.ndarray], k: int
) -> tuple[dict[str, np.ndarray], int]:
    """Return macro F1 of each expert, (draws,), and the number of types."""
    names, sizes = np.unique(cell_type, return_counts=True)
    names = names[sizes >= k + 5]
    code = {name: number for number, name in enumerate(names)}
    expression = levels.astype(np.float32) / LEVELS
    found: dict[str, list[float]] = {kind: [] for kind in ("alone", *vectors)}
    for draw in range(DRAWS):
        rng = np.random.default_rng(SEED + draw)
        learned, rest = [], []
        for name in names:
            own = rng.permutation(np.flatnonzero(cell_type == name))
            learned += own[:k].tolist()
            rest += own[k:].tolist()
        tested = rng.permutation(rest)[:MOST_TESTED]
        label = np.array([code[cell_type[row]] for row in learned])
        true = [code[cell_type[row]] for row in tested]
        for kind, scores in found.items():
            own = vectors[kind] if kind != "alone" else np.zeros((len(cell_type), 0))
            name = "discriminant" if kind == "alone" else "encoder"
            expert = fit_experts([name], expression[learned], label, own[learned], SEED)[name]
            called = expert.logits(expression[tested], own[tested]).argmax(axis=1)
            scores.append(float(f1_score(true, called, average="macro", zero_division=0)))
    return {kind: np.array(values) for kind, values in found.items()}, len(names)


def interval(difference: np.ndarray) -> tuple[float, float]:
    """Return the mean over draws and half its 95 % interval."""
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean()), float(stats.t.ppf(0.975, len(difference) - 1) * error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/few_cells.md"))
    main(parser.parse_args())
