"""How novel the cells of a batch look to a model that has not seen the batch.

Another donor or laboratory lies further from the training cells than their own validation cells do:
by these, most known cells of a new study would be called unknown.
"""

import numpy as np

from scbert.calibration.novelty import CellOutputs, LabelledOutputs, fit_novelty, novelty
from scbert.calibration.novelty_threshold import KnownCells
from scbert.experts.out_of_fold import each_fold, leaves_batches_out, make_folds
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
    if not leaves_batches_out(batch, FEWEST_BATCHES):
        return None
    scores = np.full(len(rows), np.nan)
    for others, left in each_fold(make_folds(label, batch, seed, FEWEST_BATCHES)):
        present, number = np.unique(label[others], return_inverse=True)
        asked = left[np.isin(label[left], present)]
        if len(asked):
            scores[asked] = _scores(store, rows[others], number, rows[asked], seed)
    judged = np.isfinite(scores)
    return KnownCells(scores[judged], label[judged]) if judged.any() else None


def _scores(
    store: TokenStore, others: np.ndarray, label: np.ndarray, asked: np.ndarray, seed: int
) -> np.ndarray:
    """Score the rows `asked` by the rows `others`, whose types are 0 to C - 1."""
    components = fit_components(store, others, None, seed)
    nothing = np.zeros((len(label), label.max() + 1))  # logits, which this score does not look at
    learned = LabelledOutputs(nothing, components.positions(store, others), label)
    cells = CellOutputs(nothing[:0], components.positions(store, asked))
    return novelty(cells, fit_novelty(learned, 1.0, SCORE))
