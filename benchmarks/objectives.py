"""Objectives of pretraining beside the paper's masked bins, on one budget, judged downstream.

Run: python benchmarks/objectives.py RESULTS TRAIN.h5ad TEST.h5ad --label KEY --out FOLDER
RESULTS is the folder `results` of `make bench-pretraining`. TRAIN and TEST hold counts and labels
of other cells than the pool's. A run that is in FOLDER is not done again; --seeds and --variants
choose the runs.

none: no pretraining. bins: the paper's. residual, cell: see objective_variants. thinned: bins, each
cell keeps a random share of its molecules. frozen: logistic regression on the mean gene vector of
the encoder, few labelled cells, many draws of them. finetuned: the convolution head, all weights.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from objective_downstream import (
    DEVICE,
    Downstream,
    mean_vectors,
    read_downstream,
    row_names,
    score_finetuned,
    score_frozen,
)
from objective_variants import (
    CellDecoder,
    Counts,
    ResidualModel,
    read_counts,
    stack,
    thinned_batches,
    tokens_of,
)
from scipy import stats
from torch import Tensor, nn

from scbert.cells.expression import normalize
from scbert.cells.genes import read_vocabulary
from scbert.cells.store import TokenStore, open_store
from scbert.config import Config, load_config
from scbert.evidence.bin_predictors import gene_part
from scbert.files import write_json
from scbert.network.masking import NOT_A_TARGET, mask_tokens
from scbert.network.model import MaskedExpressionModel
from scbert.steps.gene2vec import read_vectors
from scbert.steps.pretrain import masked_loss
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.held_out import HeldOut
from scbert.training.hold_out import hold_out
from scbert.training.loop import fit, make_accelerator
from scbert.training.new_models import new_pretraining_model
from scbert.training.reference_predictors import bins_of_genes
from scbert.training.task import Task

VARIANTS = ("none", "bins", "residual", "cell", "thinned")
LOWEST_SHARE = 0.3  # of a cell's molecules, in variant thinned
GENES, DIM = 300, 32  # the most variable genes of the pool; width of the network


@dataclass(frozen=True)
class Corpus:
    """The pool: tokens, counts in the same order, gene vectors, and which cells are held out."""

    store: TokenStore
    counts: Counts
    vectors_VD: Tensor
    genes: pd.DataFrame
    training: np.ndarray
    held_out: np.ndarray


def settings(epochs: int) -> Config:
    """Return the embedded configuration with the sizes of this benchmark."""
    root = Path(__file__).parents[1]
    values = yaml.safe_load((root / "config/config.yaml").read_text())
    values["gene2vec"]["dim"] = DIM
    values["network"] |= {"dim": DIM, "heads": 2}
    values["pretrain"] |= {"validation_by": "cell", "validation_fraction": 0.03}
    values["pretrain"]["optimizer"] |= {
        "epochs": epochs,
        "tokens_per_batch": 4096,
        "learning_rate": 2e-3,
    }
    values["finetune"]["optimizer"] |= {"epochs": 5}
    return load_config(values)


def read_corpus(results: Path, config: Config, n_cells: int) -> Corpus:
    """Read the pool; of its genes the most variable, of its training cells `n_cells` are used."""
    store, genes = open_store(results / "tokens/pool"), read_vocabulary(results / "vocabulary.tsv")
    names = [source["sample"] for source in store.meta["sources"]]
    counts = stack([read_counts(results / f"counts/{name}.h5ad", genes) for name in names])
    binned = partial(
        tokens_of, target_sum=config.normalization.target_sum, n_bins=config.binning.n_bins
    )
    if not np.array_equal(binned(counts).bin, store.bin):
        raise SystemExit(f"{results}: the counts do not give the tokens of the store")
    used = most_variable(counts, config.normalization.target_sum)
    counts = replace(counts, matrix=counts.matrix[:, used])
    vectors = read_vectors(results / "gene2vec", genes).astype(np.float64)[used]
    left, size, _ = np.linalg.svd(vectors, full_matrices=False)
    vectors_VD = torch.from_numpy((left * size)[:, :DIM]).float()
    training, held_out = hold_out(binned(counts), config.pretrain)
    chosen = np.sort(np.random.default_rng(0).permutation(training)[:n_cells])
    return Corpus(binned(counts), counts, vectors_VD, genes.iloc[used], chosen, held_out)


def most_variable(counts: Counts, target_sum: float) -> np.ndarray:
    """Return the genes whose expression varies most over the cells, ascending."""
    expression = normalize(counts.matrix, counts.library, target_sum)
    mean = np.asarray(expression.mean(axis=0)).ravel()
    variance = np.asarray(expression.power(2).mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:GENES])


def pretrain(
    variant: str, seed: int, corpus: Corpus, config: Config
) -> tuple[MaskedExpressionModel, dict]:
    """Pretrain one variant; return the model and what its validation found."""
    n_bins, optimizer = config.binning.n_bins, config.pretrain.optimizer
    plain = new_pretraining_model(config.network, n_bins, corpus.vectors_VD, seed)
    cells = CellBatches(corpus.store, "expressed_genes", n_bins, optimizer.tokens_per_batch)
    held_out = HeldOut(cells, corpus.held_out, corpus.training, config.pretrain)
    model: MaskedExpressionModel = plain
    make: Callable[[np.ndarray], MiniBatch] = cells.make
    if variant == "residual":
        counts_GT = bins_of_genes(corpus.store, corpus.training, n_bins)
        model = ResidualModel(plain, gene_part(counts_GT))
    if variant == "cell":
        model = CellDecoder(plain, seed)
    if variant == "thinned":
        target_sum = config.normalization.target_sum
        make = thinned_batches(cells, corpus.counts, LOWEST_SHARE, target_sum, seed)
    tokens = 0

    def loss(
        model: nn.Module, batch: MiniBatch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        nonlocal tokens
        tokens += int(batch.real_BG.sum())
        options = (config.pretrain.mask_prob, config.pretrain.replace_prob, generator)
        hidden_BG, targets_BG = mask_tokens(batch.tokens_BG, n_bins, *options)
        if isinstance(model, CellDecoder):
            n_targets = (targets_BG != NOT_A_TARGET).sum()
            return model.loss(batch, hidden_BG, targets_BG, generator), n_targets
        return masked_loss(model, batch, hidden_BG, targets_BG)

    plan = partial(cells.epoch, corpus.training, seed)
    task = Task(model, plan, make, loss, partial(held_out.score, model, DEVICE), row_names)
    if variant != "none":
        with tempfile.TemporaryDirectory() as folder:
            fit(task, optimizer, seed, make_accelerator(optimizer), Path(folder) / "checkpoint")
    return model, {"tokens": tokens, **held_out.result(model, DEVICE)}


def run(variant: str, seed: int, corpus: Corpus, data: Downstream, config: Config) -> dict:
    """Pretrain one variant and judge it."""
    started = time.process_time()
    model, validation = pretrain(variant, seed, corpus, config)
    model.eval()
    trained = time.process_time()
    cells = CellBatches(data.store, "expressed_genes", config.binning.n_bins, 16_384)
    rows = np.concatenate([data.pool, *data.parts.values()])
    frozen = score_frozen(mean_vectors(model, cells, rows), data)
    return {
        "variant": variant,
        "seed": seed,
        "cpu_seconds": trained - started,
        "validation": validation,
        "frozen": frozen,
        "finetuned": score_finetuned(model, data, config, seed),
        "cpu_seconds_downstream": time.process_time() - trained,
    }


def write_run(
    path: Path, variant: str, seed: int, corpus: Corpus, data: Downstream, config: Config
) -> None:
    """Do one run and keep what it found."""
    torch.set_num_threads(1)
    write_json(path, run(variant, seed, corpus, data, config))


def main() -> None:
    """Do the runs that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--cells", type=int, default=4700, help="of the pool, to train on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="runs at once, a thread each")
    options = parser.parse_args()
    config = settings(options.epochs)
    corpus = read_corpus(options.results, config, options.cells)
    data = read_downstream(options.train, options.test, options.label, corpus.genes, config)
    options.out.mkdir(parents=True, exist_ok=True)
    missing = [
        (options.out / f"{variant}.{seed}.json", variant, seed)
        for seed in options.seeds
        for variant in options.variants
        if not (options.out / f"{variant}.{seed}.json").exists()
    ]
    one = partial(write_run, corpus=corpus, data=data, config=config)
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        pool.starmap(one, missing, chunksize=1)
    for path in sorted(options.out.glob("*.json")):
        print(summary(json.loads(path.read_text())))
    print_differences(options.out)


def measures(found: dict) -> dict[str, float]:
    """Return the means of a run, by what is measured."""
    scores = {
        f"{how} {part}": float(np.mean(found[how][part]))
        for how in ("frozen", "finetuned")
        for part in found[how]
    }
    return {"skill": found["validation"]["skill"]["mean"], **scores}


def summary(found: dict) -> str:
    """Return a line of the table."""
    validation = found["validation"]
    numbers = " | ".join(f"{value:.3f}" for value in measures(found).values())
    seconds = f"{found['cpu_seconds']:.0f} + {found['cpu_seconds_downstream']:.0f}"
    return (
        f"| {found['variant']} | {found['seed']} | {validation['tokens'] / 1e6:.2f} | "
        f"{validation['loss']:.4f} | {numbers} | {seconds} |"
    )


def print_differences(out: Path) -> None:
    """Print what each variant is ahead of bins by, over the seeds that both have."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    table = pd.DataFrame(
        [{**measures(run), **{k: run[k] for k in ("variant", "seed")}} for run in runs]
    )
    table = table.set_index(["variant", "seed"])
    for variant in table.index.get_level_values(0).unique().drop("bins", errors="ignore"):
        ahead = (table.loc[variant] - table.loc["bins"]).dropna()
        n_seeds = len(ahead)
        if n_seeds < 2:
            continue
        half = stats.t.ppf(0.975, n_seeds - 1) * ahead.std(ddof=1) / np.sqrt(n_seeds)
        cells = [f"{m:+.3f} ± {h:.3f}" for m, h in zip(ahead.mean(), half, strict=True)]
        print(f"| {variant} - bins | {n_seeds} seeds | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
