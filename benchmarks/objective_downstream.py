"""What pretraining variants are judged by: cell types from few labelled cells, in another study.

For benchmarks/objectives.py. Shape letters: B cells in a mini-batch, C cell types, D width.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from objective_variants import mean_over_genes, read_counts, stack, tokens_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.store import TokenStore
from scbert.config import Config
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.devices import make_accelerator
from scbert.training.loop import fit
from scbert.training.new_models import new_head
from scbert.training.predict import predict
from scbert.training.task import Task

LABELLED, HELD_OUT, TEST = 30, 80, 1500  # cells: per type to learn from and held out, of TEST
DRAWS, FINETUNED_DRAWS = 20, 3  # of the labelled cells
DEVICE = torch.device("cpu")


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


def row_names(rows: np.ndarray) -> list[str]:
    """Name cells by their numbers."""
    return [str(row) for row in rows]


@torch.no_grad()
def mean_vectors(model: MaskedExpressionModel, cells: CellBatches, rows: np.ndarray) -> np.ndarray:
    """Return the mean gene vector of each cell, shape (cells of the store, D)."""
    found = np.zeros((len(cells.store), model.to_bins.in_features), dtype=np.float32)
    for batch in cells.each(rows):
        x_BGD = model.encoder(batch.genes_BG, batch.tokens_BG, batch.real_BG)
        found[batch.rows] = mean_over_genes(x_BGD, batch.real_BG).numpy()
    return found


def score_frozen(features: np.ndarray, data: Downstream) -> dict[str, list[float]]:
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
    width = model.to_bins.in_features
    learned = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    for draw in range(FINETUNED_DRAWS * seed, FINETUNED_DRAWS * (seed + 1)):
        model.encoder.load_state_dict(learned)
        sizes = (data.store.measured.shape[1], n_types, config.binning.n_bins)
        head = new_head(options, width, *sizes, draw)
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
        accelerator = make_accelerator(DEVICE, optimizer.precision)
        fit(task, optimizer, seed, accelerator, Path(folder) / "checkpoint")
