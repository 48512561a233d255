"""Which cells of the corpus are held out: a share of each sample, or whole studies."""

import re

import numpy as np

from scbert.config import Pretrain
from scbert.tokens.store import TokenStore

STUDY = re.compile(r"(SRA\d+)_")  # PanglaoDB's samples are named by study and sample


def choose_validation_cells(store: TokenStore, options: Pretrain) -> tuple[np.ndarray, np.ndarray]:
    """Divide the cells into training rows and held-out ones to score, both ascending.

    By cell, a share of the cells of each sample is held out; by sample, whole studies are: samples
    of one study share donors and batches, so cells of the one tell about the other. A sample whose
    name does not begin with an SRA accession is a study of its own. Studies are looked at in random
    order, and each that fits what is left of the share is held out; if none fits, the smallest is.
    Of more held-out cells than `validation_cells`, so many are drawn; the others are not used.

    Raises
    ------
    ValueError
        If no cell is left to train on, or there are fewer than two studies to choose from.
    """
    rng = np.random.default_rng(options.seed)
    if options.validation_by == "sample":
        chosen = _draw_studies(store, options.validation_fraction, rng)
    else:
        chosen = _draw_cells(store.sample, options.validation_fraction, rng)
    if len(chosen) == len(store):
        raise ValueError(
            f"all {len(store)} cell(s) of the corpus are held out for validation, at least one of "
            "each sample, and none is left to train on. Add cells to the corpus."
        )
    trained_on = np.ones(len(store), dtype=bool)
    trained_on[chosen] = False
    if len(chosen) > options.validation_cells:
        chosen = np.sort(rng.choice(chosen, options.validation_cells, replace=False))
    rows = np.arange(len(store), dtype=np.int32)  # an epoch holds them once more, shuffled
    return rows[trained_on], chosen


def studies_of(store: TokenStore) -> list[str]:
    """Return the study of each sample of the store."""
    names = [source["sample"] for source in store.meta["sources"]]
    return [found[1] if (found := STUDY.match(name)) else name for name in names]


def _draw_cells(sample: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    held_out = []
    for number in np.unique(sample):
        rows = rng.permutation(np.flatnonzero(sample == number))
        held_out.append(rows[: max(1, round(len(rows) * fraction))])
    return np.sort(np.concatenate(held_out))


def _draw_studies(store: TokenStore, fraction: float, rng: np.random.Generator) -> np.ndarray:
    names, code = np.unique(studies_of(store), return_inverse=True)
    sizes = np.bincount(code[store.sample], minlength=len(names))
    present = np.flatnonzero(sizes)  # of a sample, quality control may have left no cell
    if len(present) < 2:
        raise ValueError(
            f"the corpus has {len(present)} study ({names[present[0]]}), but to hold one out two "
            "are needed. Add samples of other studies, or set pretrain.validation_by to cell."
        )
    left = fraction * len(store)
    held_out = []
    for number in rng.permutation(present):
        if sizes[number] <= left:
            held_out.append(number)
            left -= sizes[number]
    chosen = held_out or [present[sizes[present].argmin()]]
    return np.flatnonzero(np.isin(code, chosen)[store.sample])
