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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
import yaml
from objective_variants import (
    CellDecoder,
    Counts,
    ResidualModel,
    mean_over_genes,
    read_counts,
    stack,
    thinned_batches,
    tokens_of,
)
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.expression import normalize
from scbert.cells.genes import read_vocabulary
from scbert.cells.store import TokenStore, open_store
from scbert.config import Config, load_config
from scbert.evidence.bin_predictors import gene_part
from scbert.files import write_json
from scbert.network.masking import NOT_A_TARGET, mask_tokens
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.steps.gene2vec import read_vectors
from scbert.steps.pretrain import masked_loss
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.bundle import new_head, new_pretraining_model
from scbert.training.held_out import HeldOut, bins_of_genes, hold_out
from scbert.training.loop import Task, fit, make_accelerator
from scbert.training.predict import predict

VARIANTS = ("none", "bins", "residual", "cell", "thinned")
LOWEST_SHARE = 0.3  # of a cell's molecules, in variant thinned
GENES, DIM = 300, 32  # the most variable genes of the pool; width of the network
LABELLED, HELD_OUT, TEST = 30, 80, 1500  # cells: per type to learn from and held out, of TEST
DRAWS, FINETUNED_DRAWS = 20, 3  # of the labelled cells
DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Corpus:
    """The pool: tokens, counts in the same order, gene vectors, and which cells are held out."""

    store: TokenStore
    counts: Counts
    vectors_VD: Tensor
    genes: pd.DataFrame
    training: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Downstream:
    """Labelled cells: `pool` to draw training cells from, held-out ones of the same study, test."""

    store: TokenStore
    label: np.ndarray
    pool: np.ndarray
    parts: dict[str, np.ndarray]

    def draw(self, seed: int) -> np.ndarray:
        """Draw up to LABELLED training cells of each type."""
        return draw_per_type(self.label, self.pool, LABELLED, seed)


def draw_per_type(label: np.ndarray, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw half of the cells of each type, at most so many."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in np.unique(label[rows]):
        own = rng.permutation(rows[label[rows] == number])
        parts.append(own[: min(most, max(1, len(own) // 2))])
    return np.sort(np.concatenate(parts))


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


def read_downstream(
    train: Path, test: Path, label: str, genes: pd.DataFrame, config: Config
) -> Downstream:
    """Read both labelled files; only types that TRAIN has are asked for."""
    both = stack([read_counts(path, genes) for path in (train, test)])
    names = [anndata.read_h5ad(path, backed="r").obs[label].astype(str) for path in (train, test)]
    types, own = np.unique(names[0], return_inverse=True)
    number = {name: index for index, name in enumerate(types)}
    every = np.concatenate([own, [number.get(name, -1) for name in names[1]]])
    mine, others = np.arange(len(own)), np.arange(len(own), len(every))
    held_out = draw_per_type(every, mine, HELD_OUT, 0)
    others = np.random.default_rng(0).permutation(others[every[others] >= 0])[:TEST]
    store = tokens_of(both, config.normalization.target_sum, config.binning.n_bins)
    pool = draw_per_type(every, np.setdiff1d(mine, held_out), 4 * LABELLED, 1)
    return Downstream(store, every, pool, {"held_out": held_out, "test": np.sort(others)})


def pretrain(variant: str, seed: int, corpus: Corpus, config: Config) -> tuple[nn.Module, dict]:
    """Pretrain one variant; return the model and what its validation found."""
    n_bins, optimizer = config.binning.n_bins, config.pretrain.optimizer
    plain = new_pretraining_model(config.network, n_bins, corpus.vectors_VD, seed)
    cells = CellBatches(corpus.store, "expressed_genes", n_bins, optimizer.tokens_per_batch)
    held_out = HeldOut(cells, corpus.held_out, corpus.training, config.pretrain)
    model, make = plain, cells.make
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


def row_names(rows: np.ndarray) -> list[str]:
    """Name cells by their numbers."""
    return [str(row) for row in rows]


@torch.no_grad()
def mean_vectors(model: nn.Module, cells: CellBatches, rows: np.ndarray) -> np.ndarray:
    """Return the mean gene vector of each cell, shape (cells of the store, D)."""
    found = np.zeros((len(cells.store), DIM), dtype=np.float32)
    for batch in cells.each(rows):
        x_BGD = model.encoder(batch.genes_BG, batch.tokens_BG, batch.real_BG)
        found[batch.rows] = mean_over_genes(x_BGD, batch.real_BG).numpy()
    return found


def score_frozen(features: object, data: Downstream) -> dict[str, list[float]]:
    """Return macro F1 of logistic regression for each draw of the training cells."""
    scores: dict[str, list[float]] = {part: [] for part in data.parts}
    for draw in range(DRAWS):
        rows = data.draw(draw)
        model = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=3000))
        model.fit(features[rows], data.label[rows])
        for part, asked in data.parts.items():
            scores[part].append(macro_f1(data.label[asked], model.predict(features[asked])))
    return scores


def macro_f1(label: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean F1 of the types that occur."""
    return float(
        f1_score(label, predicted, average="macro", labels=np.unique(label), zero_division=0)
    )


def score_finetuned(
    model: MaskedExpressionModel, data: Downstream, config: Config, seed: int
) -> dict[str, list[float]]:
    """Fine-tune all weights with the convolution head, for a few draws of the training cells."""
    scores: dict[str, list[float]] = {part: [] for part in data.parts}
    options, n_types = config.finetune, int(data.label.max()) + 1
    learned = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    for draw in range(FINETUNED_DRAWS * seed, FINETUNED_DRAWS * (seed + 1)):
        model.encoder.load_state_dict(learned)
        head = new_head(options, DIM, data.store.measured.shape[1], n_types, draw)
        classifier = CellTypeModel(model.encoder, head)
        train_classifier(classifier, data, config, draw)
        cells = CellBatches(data.store, "expressed_genes", config.binning.n_bins, 16_384)
        for part, asked in data.parts.items():
            logits, _ = predict(classifier, cells, asked, DEVICE)
            scores[part].append(macro_f1(data.label[asked], logits.argmax(axis=1)))
    return scores


def train_classifier(
    classifier: CellTypeModel, data: Downstream, config: Config, seed: int
) -> None:
    """Train on the cells of one draw, the last epoch is taken."""
    optimizer = config.finetune.optimizer
    cells = CellBatches(
        data.store, "expressed_genes", config.binning.n_bins, optimizer.tokens_per_batch
    )

    def loss(model: nn.Module, batch: MiniBatch, _: torch.Generator) -> tuple[Tensor, Tensor]:
        logits_BC, _ = model(batch.genes_BG, batch.tokens_BG, batch.real_BG)
        label_B = torch.from_numpy(data.label[batch.rows])
        return functional.cross_entropy(logits_BC, label_B, reduction="sum"), torch.tensor(
            len(batch.rows)
        )

    plan = partial(cells.epoch, data.draw(seed), seed)
    task = Task(classifier, plan, cells.make, loss, lambda _: {}, row_names)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, optimizer, seed, make_accelerator(optimizer), Path(folder) / "checkpoint")


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
