"""Which novelty score finds cell types that the model has never seen: leave one type out, retrain.

For each seed, one head knows all types, and for each type a head is trained without any cell of it:
the choice of genes, split, early stopping, temperature and threshold never see it. The head is the
paper's. It sees the output of a pretrained encoder, frozen so that it is computed once for each
training, or, without --pretrained, the bins themselves: seconds for a type on one core.
Run: python benchmarks/novelty.py LABELLED.h5ad ...; --help for more.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.expression import cell_sums, normalize
from scbert.cells.genes import align, gene_names, match_genes
from scbert.cells.splits import split_cells
from scbert.cells.store import store_in_memory
from scbert.cells.tables import write_table
from scbert.cells.tokens import Sample, bin_expression
from scbert.config import Head
from scbert.evidence.confidence import fit_temperature, novelty_threshold, softmax
from scbert.evidence.held_out_types import expected_novel_detection
from scbert.evidence.novelty import SCORES, LabelledOutputs, fit_novelty, novelty
from scbert.evidence.refusal import coverage_accuracy, novelty_auroc, refusal_scores
from scbert.network.heads import ConvHead
from scbert.network.model import CellTypeModel, Encoder, MaskedExpressionModel
from scbert.training.batches import CellBatches
from scbert.training.bundle import Bundle, load_bundle
from scbert.training.new_models import new_head

NOBODY = "(none)"  # left out: the head knows all types
CANDIDATES = [*SCORES, "combined"]
RATE = 0.05  # of validation cells of known types, refused
N_BINS = 5
VARIABLE_GENES = 1500
FRACTIONS = 0.2, 0.2  # test and validation
EPOCHS, PATIENCE, BATCH, LEARNING_RATE = 40, 5, 64, 2e-3
HEAD = Head(head="conv", hidden=(64,), dropout=0.3)


def tokenize(cells: ad.AnnData, bundle: Bundle | None) -> Sample:
    """Bin the expression of all genes, or of those that the pretrained model knows."""
    counts = sparse.csr_matrix(cells.X, dtype=np.float64)
    library, measured = cell_sums(counts), np.arange(cells.n_vars)
    if bundle is not None:
        match = match_genes(gene_names(cells.var), bundle.genes)
        counts, measured = align(counts, match), match.measured
    bins = bin_expression(normalize(counts, library, 10_000), N_BINS)
    return Sample("cells", cells.obs_names.tolist(), bins, measured, 0)


def variable_genes(bins: sparse.csr_matrix) -> np.ndarray:
    """Return the genes whose bins vary most, shape (genes,)."""
    values = bins.astype(np.float64)
    variance = values.multiply(values).mean(axis=0) - np.square(values.mean(axis=0))
    return np.sort(np.argsort(-np.asarray(variance).ravel())[:VARIABLE_GENES])


@torch.no_grad()
def encode(sample: Sample, genes: np.ndarray, bundle: Bundle | None) -> list[tuple[Tensor, Tensor]]:
    """Return, for each cell, its genes, numbered among `genes`, and their vectors x_GD."""
    bins = sample.bins[:, genes].tocsr()
    if bundle is None:
        cells = (slice(*bins.indptr[row : row + 2]) for row in range(bins.shape[0]))
        return [
            (
                torch.from_numpy(bins.indices[cell].astype(np.int64)),
                torch.from_numpy(bins.data[cell].astype(np.float32) / N_BINS)[:, None],
            )
            for cell in cells
        ]
    back = sparse.csr_matrix((bins.data, genes[bins.indices], bins.indptr), shape=sample.bins.shape)
    store = store_in_memory(Sample(sample.name, sample.cells, back, sample.measured, 0))
    assert isinstance(bundle.model, MaskedExpressionModel)
    number = torch.full((len(bundle.genes),), -1)
    number[torch.from_numpy(genes)] = torch.arange(len(genes))
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for batch in CellBatches(store, "expressed_genes", N_BINS, 16_384).each(np.arange(len(store))):
        x_BGD = bundle.model.encoder(batch.genes_BG, batch.tokens_BG, batch.real_BG)
        for row, genes_G, real_G, x_GD in zip(
            batch.rows, batch.genes_BG, batch.real_BG, x_BGD, strict=True
        ):
            found[int(row)] = number[genes_G[real_G]], x_GD[real_G].clone()
    return [found[row] for row in range(len(store))]


class _Given(nn.Module):
    """An encoder whose output has been computed before."""

    x_BGD: Tensor

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor) -> Tensor:
        del genes_BG, tokens_BG, real_BG
        return self.x_BGD


class FrozenModel:
    """A head on what does not change: the output of a frozen encoder, or bins."""

    def __init__(self, encoded: list[tuple[Tensor, Tensor]], n_types: int, seed: int) -> None:
        self.encoded = encoded
        dim = encoded[0][1].shape[1]
        self.head = new_head(HEAD, dim, VARIABLE_GENES, n_types, 1, seed)
        assert isinstance(self.head, ConvHead)
        if dim == 1:  # begin with the bin itself: a negative weight would be silent for ever
            nn.init.ones_(self.head.to_scalar.weight)
            nn.init.zeros_(self.head.to_scalar.bias)
        self.encoder = _Given()
        self.model = CellTypeModel(cast(Encoder, self.encoder), self.head)

    def __call__(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return logits and cell vectors."""
        pad = nn.utils.rnn.pad_sequence
        genes_BG = pad([self.encoded[row][0] for row in rows], batch_first=True)
        x_BGD = pad([self.encoded[row][1] for row in rows], batch_first=True)
        lengths_B = torch.tensor([len(self.encoded[row][0]) for row in rows])
        real_BG = torch.arange(genes_BG.shape[1])[None] < lengths_B[:, None]
        self.encoder.x_BGD = x_BGD
        return self.model(genes_BG, torch.zeros_like(genes_BG), real_BG)

    @torch.no_grad()
    def outputs(self, rows: np.ndarray, label: np.ndarray) -> LabelledOutputs:
        """Return what the head says of cells; types it does not know have a label of -1."""
        self.head.eval()
        parts = [self(rows[start : start + 512]) for start in range(0, len(rows), 512)]
        logits, vectors = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return LabelledOutputs(logits, vectors, label[rows])

    def fit(self, label: np.ndarray, training: np.ndarray, check: np.ndarray, seed: int) -> None:
        """Train until the macro F1 of the validation cells no longer rises; keep the best."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
        best, state, since = -1.0, {}, 0
        for _ in range(EPOCHS):
            self.head.train()
            shuffled = rng.permutation(training)
            for start in range(0, len(shuffled), BATCH):
                rows = shuffled[start : start + BATCH]
                loss = functional.cross_entropy(self(rows)[0], torch.from_numpy(label[rows]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            predicted = self.outputs(check, label).logits.argmax(axis=1)
            score = f1_score(label[check], predicted, average="macro")
            since += 1
            if score > best:
                best, since = score, 0
                state = {key: value.clone() for key, value in self.head.state_dict().items()}
            if since == PATIENCE:
                break
        self.head.load_state_dict(state)


def train(
    cells: ad.AnnData, sample: Sample, bundle: Bundle | None, left_out: str, seed: int
) -> tuple[list[str], dict[str, LabelledOutputs]]:
    """Train without a type; return the known types and the outputs of each part.

    All cells of the type that is left out are test cells.
    """
    cell_type = cells.obs.cell_type.to_numpy(dtype=str)
    part = split_cells(cell_type, *FRACTIONS, np.random.default_rng(seed))
    part[cell_type == left_out] = "test"
    classes = sorted(set(cell_type) - {left_out})
    label = pd.Index(classes).get_indexer(cell_type)
    rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
    encoded = encode(sample, variable_genes(sample.bins[rows["train"]]), bundle)
    model = FrozenModel(encoded, len(classes), seed)
    model.fit(label, rows["train"], rows["validation"], seed)
    return classes, {name: model.outputs(rows[name], label) for name in rows}


def measure(parts: dict[str, LabelledOutputs], temperature: float) -> Iterator[dict]:
    """Yield, for each candidate, how well it tells novel test cells from known ones."""
    test, validation = parts["test"], parts["validation"]
    is_novel, correct = test.label < 0, test.logits.argmax(axis=1) == test.label
    for name in CANDIDATES:
        fitted = fit_novelty(parts["train"], validation, temperature, name)
        score = novelty(test.logits, test.vectors, fitted)
        known = novelty(validation.logits, validation.vectors, fitted)
        refused = score > novelty_threshold(known, RATE)
        yield {"score": name} | _measures(score, refused, is_novel, correct)
    plain = 1 - softmax(test.logits, 1.0).max(axis=1)
    yield {"score": "original: p < 0.5"} | _measures(plain, plain > 0.5, is_novel, correct)


def _measures(
    score: np.ndarray, refused: np.ndarray, is_novel: np.ndarray, correct: np.ndarray
) -> dict:
    return {
        "auroc": novelty_auroc(score, is_novel),
        **refusal_scores(refused, is_novel, correct),
        "area": coverage_accuracy(score, correct)["area"],
    }


def estimates(
    full: dict[str, LabelledOutputs], classes: list[str], seed: int
) -> Iterator[tuple[str, dict]]:
    """Yield what leaving a type out of the trained model's outputs says: two cheap ways."""
    refitted = {}
    for column, name in enumerate(classes):
        refitted[name] = _refit(full, column, seed)
    for score in CANDIDATES:
        for entry in expected_novel_detection(
            full["train"], full["validation"], classes, score, RATE
        ):
            yield "forget", {"score": score, **entry}
        for name, (training, validation, novel) in refitted.items():
            temperature = fit_temperature(validation.logits, validation.label)
            fitted = fit_novelty(training, validation, temperature, score)
            seen = novelty(validation.logits, validation.vectors, fitted)
            new = novelty(novel.logits, novel.vectors, fitted)
            is_novel = np.repeat([False, True], [len(seen), len(new)])
            yield (
                "refit",
                {
                    "score": score,
                    "cell_type": name,
                    "detected": float((new > novelty_threshold(seen, RATE)).mean()),
                    "auroc": novelty_auroc(np.concatenate([seen, new]), is_novel),
                },
            )


def _refit(full: dict[str, LabelledOutputs], column: int, seed: int) -> list[LabelledOutputs]:
    """Fit a logistic regression on the cell vectors of the other types."""
    training, validation = (full[part].without_type(column) for part in ("train", "validation"))
    rows = full["validation"].label == column
    novel = full["validation"].vectors[rows]
    scale = training.vectors.std() or 1.0
    found = LogisticRegression(max_iter=500, random_state=seed)
    found.fit(training.vectors / scale, training.label)
    return [
        LabelledOutputs(found.decision_function(vectors / scale), vectors, label)
        for vectors, label in (
            (training.vectors, training.label),
            (validation.vectors, validation.label),
            (novel, np.full(len(novel), -1)),
        )
    ]


def run(
    file: Path, bundle: Bundle | None, seeds: list[int], n_cells: int
) -> Iterator[pd.DataFrame]:
    """Yield, for each seed and type left out, a line for each way and score."""
    cells = ad.read_h5ad(file)
    if n_cells < cells.n_obs:
        chosen = np.random.default_rng(0).choice(cells.n_obs, n_cells, replace=False)
        cells = cells[np.sort(chosen)].copy()
    sample = tokenize(cells, bundle)
    for seed in seeds:
        about = {"file": file.stem.split("_")[0], "seed": seed}
        for left_out in [NOBODY, *sorted(cells.obs.cell_type.unique())]:
            classes, parts = train(cells, sample, bundle, left_out, seed)
            if left_out == NOBODY:
                _tell(classes, parts["test"], about)
                found = estimates(parts, classes, seed)
                yield pd.DataFrame([about | {"way": way} | line for way, line in found])
                continue
            validation = parts["validation"]
            temperature = fit_temperature(validation.logits, validation.label)
            about |= {"way": "retrain", "cell_type": left_out}
            yield pd.DataFrame([about | line for line in measure(parts, temperature)])


def _tell(classes: list[str], test: LabelledOutputs, about: dict) -> None:
    predicted = test.logits.argmax(axis=1)
    print(
        f"{about['file']}, seed {about['seed']}, {len(classes)} types, {len(predicted)} test cells:"
        f" accuracy {accuracy_score(test.label, predicted):.3f}, macro F1"
        f" {f1_score(test.label, predicted, average='macro'):.3f}",
        flush=True,
    )


def interval(values: pd.Series, rng: np.random.Generator) -> str:
    """Write the mean over types and seeds with its 95 % bootstrap interval over types."""
    by_type = values.groupby(level="cell_type").mean().to_numpy()
    drawn = rng.choice(by_type, (2000, len(by_type))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f}-{high:.3f})"


def report(found: pd.DataFrame) -> None:
    """Print the tables of one file."""
    columns = ["auroc", "strict_novel_accuracy", "known_accuracy", "novel_detected"]
    columns += ["false_unknown", "area"]
    retrained = found[found.way == "retrain"].set_index("cell_type")
    print("\n| score | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for score, lines in retrained.groupby("score", sort=False):
        rng = np.random.default_rng(0)
        cells = [interval(lines[column].dropna(), rng) for column in columns]
        print(f"| {score} | " + " | ".join(cells) + " |")
    print("\nAUROC per type that is left out, mean over seeds\n")
    print(_markdown(retrained.reset_index().pivot_table("auroc", "cell_type", "score")))
    print("\nCheap estimates beside training again: mean; mean absolute difference per type")
    print("\n| score | way | AUROC | detected | off by, AUROC | off by, detected |")
    print("|---" * 6 + "|")
    for key, lines in found[found.way != "retrain"].groupby(["score", "way"], sort=False):
        score, way = cast(tuple[str, str], key)
        trained = retrained[retrained.score == score].groupby("cell_type")
        same = trained[["auroc", "novel_detected"]].mean()
        mine = lines.groupby("cell_type")[["auroc", "detected"]].mean().loc[same.index]
        off = np.abs(mine.to_numpy() - same.to_numpy()).mean(axis=0)
        print(
            f"| {score} | {way} | {mine.auroc.mean():.3f} (true {same.auroc.mean():.3f}) "
            f"| {mine.detected.mean():.3f} (true {same.novel_detected.mean():.3f}) "
            f"| {off[0]:.3f} | {off[1]:.3f} |"
        )


def _markdown(table: pd.DataFrame) -> str:
    head = [str(table.index.name), *map(str, table.columns)]
    rows = [
        [str(name), *(f"{x:.3f}" for x in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def main() -> None:
    """Print the tables of each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="counts with obs['cell_type']")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=int, default=3000, help="at most so many of each file")
    parser.add_argument("--pretrained", type=Path, help="folder of a pretrained model")
    parser.add_argument("--lines", type=Path, help="keep every line of the last file here (.tsv)")
    options = parser.parse_args()
    bundle = load_bundle(options.pretrained) if options.pretrained else None
    for file in options.files:
        found: list[pd.DataFrame] = []
        for lines in run(file, bundle, options.seeds, options.cells):
            found.append(lines)
            if options.lines:
                write_table(options.lines, pd.concat(found))
        report(pd.concat(found))


if __name__ == "__main__":
    main()
