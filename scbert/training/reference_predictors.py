"""Predictors of hidden genes without a network: the measure of a network.

They are asked once, by one process, and their answers are kept beside the checkpoints: the masks of
the held-out cells never change.

Shape letters: C held-out cells, G genes of the vocabulary, N hidden genes, V visible genes, P
predictors, T bins 1 to n_bins.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from scbert.evidence.bin_predictors import (
    Guess,
    cell_part,
    gene_part,
    guess_by_counts,
    guess_by_sum,
)
from scbert.files import JsonObject, publish
from scbert.tokens.store import TokenStore

log = logging.getLogger(__name__)
PREDICTORS = ("cell_mode", "gene_mode", "additive")
FILE = "reference_predictors.npz"
FORMAT = 1  # another one if the same masks get other answers
CELLS_AT_ONCE = 1_000  # of the store; about a million tokens


@dataclass(frozen=True)
class HiddenGenes:
    """The hidden genes of some cells, numbered from 0, with their true bins; and the visible ones.

    Bins are 1 to n_bins.
    """

    n_cells: int
    cell_N: np.ndarray
    gene_N: np.ndarray
    bin_N: np.ndarray
    visible_cell_V: np.ndarray
    visible_gene_V: np.ndarray
    visible_bin_V: np.ndarray

    def arrays(self) -> list[np.ndarray]:
        """Return all that is known of the genes."""
        hidden = (self.cell_N, self.gene_N, self.bin_N)
        return [*hidden, self.visible_cell_V, self.visible_gene_V, self.visible_bin_V]


@dataclass(frozen=True)
class PredictorAnswers:
    """What the predictors made of each cell.

    `numbers` has for each cell how many genes are hidden, then the predictors' losses in nats, then
    how often they were right, summed over these genes: shape (1 + 2 P, C), float64.
    """

    numbers: np.ndarray

    @property
    def asked_C(self) -> np.ndarray:
        """Number of hidden genes."""
        return self.numbers[0]

    def loss_C(self, predictor: str) -> np.ndarray:
        """Sum of a predictor's losses."""
        return self.numbers[1 + PREDICTORS.index(predictor)]

    def right_C(self, predictor: str) -> np.ndarray:
        """How often a predictor was right."""
        return self.numbers[1 + len(PREDICTORS) + PREDICTORS.index(predictor)]

    @property
    def best(self) -> str:
        """The predictor with the lowest loss."""
        return min(PREDICTORS, key=lambda name: self.loss_C(name).sum())


def numbers_of(n_cells: int) -> tuple[int, int]:
    """Return the shape of the numbers of so many cells."""
    return 1 + 2 * len(PREDICTORS), n_cells


def ask_predictors(batches: Iterable[HiddenGenes], counts_GT: np.ndarray) -> PredictorAnswers:
    """Ask about the hidden genes of batches of cells, one after the other.

    Parameters
    ----------
    counts_GT
        See `bins_of_genes`; of training cells.
    """
    gene_GT = gene_part(counts_GT)
    return PredictorAnswers(
        np.concatenate([_ask(some, counts_GT, gene_GT) for some in batches], axis=1)
    )


def _ask(hidden: HiddenGenes, counts_GT: np.ndarray, gene_GT: np.ndarray) -> np.ndarray:
    if not len(hidden.cell_N):
        return np.zeros(numbers_of(hidden.n_cells))
    found = guesses(hidden, counts_GT, gene_GT)
    each = [None, *(guess.loss_N for guess in found), *(guess.right_N for guess in found)]
    return np.stack([np.bincount(hidden.cell_N, of_N, hidden.n_cells) for of_N in each])


def guesses(hidden: HiddenGenes, counts_GT: np.ndarray, gene_GT: np.ndarray) -> list[Guess]:
    """Return the guesses of the PREDICTORS; `gene_GT` is the gene's part of the last one."""
    n_bins = counts_GT.shape[1]
    cell_V, bins_V = hidden.visible_cell_V, hidden.visible_bin_V
    visible_CT = np.zeros((hidden.n_cells, n_bins), dtype=np.int64)
    np.add.at(visible_CT, (cell_V, bins_V - 1), 1)
    part_CT = cell_part(gene_GT[hidden.visible_gene_V], bins_V, cell_V, hidden.n_cells)
    everywhere_T, of_gene_NT = counts_GT.sum(axis=0), gene_GT[hidden.gene_N]
    return [
        guess_by_counts(visible_CT[hidden.cell_N], hidden.bin_N, everywhere_T),
        guess_by_counts(counts_GT[hidden.gene_N], hidden.bin_N, everywhere_T),
        guess_by_sum(of_gene_NT, part_CT[hidden.cell_N], hidden.bin_N),
    ]


def bins_of_genes(store: TokenStore, rows: np.ndarray, n_bins: int) -> np.ndarray:
    """Count how often each gene is in each bin 1 to n_bins, shape (vocabulary, bins)."""
    n_genes = store.measured.shape[1]
    wanted = np.zeros(len(store), dtype=bool)
    wanted[rows] = True
    counts = np.zeros(n_genes * n_bins + 1, dtype=np.int64)
    for begin in range(0, len(store), CELLS_AT_ONCE):
        chosen, ends = (
            array[begin : begin + CELLS_AT_ONCE + more]
            for array, more in ((wanted, 0), (store.indptr, 1))
        )
        code = store.gene[ends[0] : ends[-1]].astype(np.int64)
        code *= n_bins
        code += store.bins(slice(ends[0], ends[-1]))
        if not chosen.all():
            code = code[np.repeat(chosen, np.diff(ends))]
        counts += np.bincount(code, minlength=len(counts))
        store.release()
    return counts[1:].reshape(n_genes, n_bins)  # the first one is gene 0 in bin 0: never a token


def key_of(facts: JsonObject, arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of what answers depend on."""
    digest = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def kept_answers(
    path: Path | None, key: str, n_cells: int, ask: Callable[[], PredictorAnswers]
) -> PredictorAnswers:
    """Read the answers that another start of this run has kept, or ask and keep them.

    Parameters
    ----------
    path
        The file; None: none is read or written.
    key
        See `key_of`: answers that were kept under another one are not used.
    """
    found = None if path is None else _read(path, key, n_cells)
    if found is not None:
        return found
    answers = ask()
    if path is not None:
        with publish(path) as unfinished:
            np.savez(unfinished, key=np.array(key), numbers=answers.numbers)
    return answers


def _read(path: Path, key: str, n_cells: int) -> PredictorAnswers | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as kept:
            found, numbers = str(kept["key"]), kept["numbers"]
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, BadZipFile) as error:
        log.warning("%s is damaged (%s); the predictors are computed again", path, error)
        return None
    if found != key or numbers.shape != numbers_of(n_cells):
        log.info("%s is of other cells, masks or settings; the predictors are computed again", path)
        return None
    return PredictorAnswers(numbers)
