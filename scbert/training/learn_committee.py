"""Training and weighting of a model's experts.

Each is asked about cells that it has not learned from; from these answers come its weight, its
temperature and every number that the card states. Then it is learned again from all cells.

Shape letters: N labelled cells, C cell types, D width of the cell vector, V genes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy import sparse

from scbert.experts.combiner import Share, combine, fit_shares
from scbert.experts.fit import fit_experts
from scbert.experts.linear import LinearExpert, expression_of
from scbert.experts.logit_adjustment import fit_logit_adjustment, rarity
from scbert.experts.out_of_fold import leaves_batches_out, make_folds, one_cell_each, out_of_fold
from scbert.tokens.store import TokenStore
from scbert.training.committee import ENCODER, Committee
from scbert.training.learned import Learned, gain_of, losses
from scbert.training.time_left import part_of_work

WORTH = 0.01  # of the loss; what the encoder must surely take away, for it takes 20 times the time


@dataclass(frozen=True)
class Reference:
    """Labelled cells: rows of the store, numbers of their types (N,), batches (N,) or None.

    `vectors_ND` is what the frozen encoder makes of them; D = 0 if it is not asked.
    """

    store: TokenStore
    rows: np.ndarray
    label: np.ndarray
    batch: np.ndarray | None
    vectors_ND: np.ndarray

    @cached_property
    def expression_NV(self) -> sparse.csr_matrix:
        """The expression of the cells."""
        return expression_of(self.store, self.rows)

    @property
    def folds_by(self) -> str:
        """Whether whole batches are left out, or cells."""
        return "batch" if leaves_batches_out(self.batch) else "cell"


def learn_committee(
    names: Sequence[str],
    cells: Reference,
    own: np.ndarray | None,
    seed: int,
) -> Learned:
    """Ask the experts about cells they have not learned from, weigh them, learn them from all.

    The encoder keeps a weight only if the held-out cells are likelier with it, by a hundredth of
    the loss and beyond chance. Where each type has a single cell, none can be held out, and nothing
    is fitted that needs one: the others weigh the same.

    Parameters
    ----------
    names
        Of the experts.
    own
        Logits of a network that was trained with a head of its own, (N, C), for the expert
        `encoder`; minus infinity in cells that it has learned from. None: a frozen encoder.

    Raises
    ------
    ValueError
        If no type is in two folds, or there is nothing to tell the types apart by.
    """
    if own is None and one_cell_each(cells.label):
        return _of_single_cells(names, cells, seed)
    linear = [name for name in names if own is None or name != ENCODER]
    logits, rows = _held_out(linear, cells, own, seed)
    label, rarity_C = cells.label[rows], rarity(cells.label)
    adjustment = dict.fromkeys(names, 0.0) | {
        name: fit_logit_adjustment(logits[name][rows], label, rarity_C) for name in linear
    }
    each = {name: logits[name][rows] + adjustment[name] * rarity_C for name in names}
    weights = _weigh(each, label)
    experts = _learn_from_all(linear, cells, seed) if linear else {}
    raised = {name: one.raised(adjustment[name] * rarity_C) for name, one in experts.items()}
    return Learned(
        committee=Committee(raised, weights.shares),
        judged=rows,
        label=label,
        logits=combine(each, weights.shares),
        each=each,
        weighed=weights.weighed,
        without=weights.without,
        adjustment=adjustment,
        folds_by=cells.folds_by if own is None else "validation",
    )


@dataclass(frozen=True)
class _Weights:
    """The shares that experts get; for `weighed` and `without` see `Learned`."""

    shares: Mapping[str, Share]
    weighed: Mapping[str, Share]
    without: Mapping[str, Share] | None


def _weigh(each: Mapping[str, np.ndarray], label: np.ndarray) -> _Weights:
    """Weigh the experts by held-out cells; the encoder must be worth its time."""
    weighed = fit_shares(each, label)
    if ENCODER not in each or len(each) == 1:
        return _Weights(weighed, weighed, None)
    without = fit_shares({name: of for name, of in each.items() if name != ENCODER}, label)
    before = combine(each, without)
    gain, shares = gain_of(before, combine(each, weighed), label), weighed
    if gain["low"] <= WORTH * losses(before, label).mean():
        shares = without | {ENCODER: Share(0.0, weighed[ENCODER].temperature)}
    return _Weights(shares, weighed, without)


def _learn_from_all(names: Sequence[str], cells: Reference, seed: int) -> dict[str, LinearExpert]:
    with part_of_work("experts"):
        return fit_experts(names, cells.expression_NV, cells.label, cells.vectors_ND, seed=seed)


def _of_single_cells(names: Sequence[str], cells: Reference, seed: int) -> Learned:
    """Learn the experts from one cell per type; no cell is left to judge them by."""
    weighed = [name for name in names if name != ENCODER] or list(names)
    shares = {name: Share((name in weighed) / len(weighed), 1.0) for name in names}
    label = cells.label
    nothing = np.zeros((0, len(label)))
    return Learned(
        committee=Committee(_learn_from_all(names, cells, seed), shares),
        judged=np.flatnonzero([]),
        label=label[:0],
        logits=nothing,
        each=dict.fromkeys(names, nothing),
        weighed=shares,
        without=None,
        adjustment=dict.fromkeys(names, 0.0),
        folds_by=cells.folds_by,
    )


def _held_out(
    names: Sequence[str], cells: Reference, own: np.ndarray | None, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the logits of all experts, and the cells that each says something of, unlearned."""
    logits, judged = _out_of_fold(names, cells, seed)
    if own is not None:
        logits[ENCODER] = own
        judged &= np.isfinite(own).any(axis=1)
    return logits, np.flatnonzero(judged)


def _out_of_fold(
    names: Sequence[str], cells: Reference, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the logits of each expert of cells it has not learned from, and which could be named.

    Without an expert that is fitted here, every cell could be.
    """
    if not names:
        return {}, np.ones(len(cells.label), dtype=bool)
    fold = make_folds(cells.label, cells.batch, seed)
    with part_of_work("experts, held-out cells", len(set(fold.tolist())), " fits") as done:

        def fit(
            rows: np.ndarray, label: np.ndarray
        ) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
            expression_NV, vectors_ND = cells.expression_NV[rows], cells.vectors_ND[rows]
            found = fit_experts(names, expression_NV, label, vectors_ND, seed=seed)
            done(1)
            return {name: partial(_answer, expert, cells) for name, expert in found.items()}

        return out_of_fold(cells.label, fold, fit)


def _answer(expert: LinearExpert, cells: Reference, rows: np.ndarray) -> np.ndarray:
    return expert.logits(cells.expression_NV[rows], cells.vectors_ND[rows])
