"""How novel the cells of a batch look to a model that has not seen the batch.

Another donor or laboratory lies further from the training cells than their own validation cells do:
by these, most known cells of a new study would be called unknown.
"""

import numpy as np

from scbert.calibration.novelty import CellOutputs, LabelledOutputs, fit_novelty, novelty
from scbert.calibration.novelty_threshold import KnownCells
from scbert.experts.out_of_fold import make_folds
from scbert.tokens.store import TokenStore
from scbert.training.components import fit_components

FEWEST_BATCHES = 2
SCORE = "expression_distance"  # the others need the experts, which are held out elsewhere


def novelty_left_out(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, batch: np.ndarray | None, seed: int
) -> KnownCells | None:
    """Leave whole batches out in turn, and score their cells by what the others teach.

    Parameters
    ----------
    rows, label, batch
        Labelled cells of the store, their types, 0 to C - 1, and batches; None: not known.

    Returns
    -------
    The novelty scores of the cells whose type the other batches have. None if there is none, or
    there are not two batches.
    """
    if batch is None or len(set(batch)) < FEWEST_BATCHES:
        return None
    fold = make_folds(label, batch, seed, fewest_batches=FEWEST_BATCHES)
    scores = np.full(len(rows), np.nan)
    for number in np.unique(fold):
        others = fold != number
        present = np.unique(label[others])
        asked = np.flatnonzero(~others & np.isin(label, present))
        if len(present) and len(asked):
            scores[asked] = _scores(store, rows, label, others, asked, seed)
    judged = np.isfinite(scores)
    return KnownCells(scores[judged], label[judged]) if judged.any() else None


def _scores(
    store: TokenStore,
    rows: np.ndarray,
    label: np.ndarray,
    others: np.ndarray,
    asked: np.ndarray,
    seed: int,
) -> np.ndarray:
    components = fit_components(store, rows[others], None, seed)
    present, number = np.unique(label[others], return_inverse=True)
    nothing = np.zeros((len(number), len(present)))  # logits, which this score does not look at
    learned = LabelledOutputs(nothing, components.positions(store, rows[others]), number)
    cells = CellOutputs(nothing[:0], components.positions(store, rows[asked]))
    return novelty(cells, fit_novelty(learned, 1.0, SCORE))
