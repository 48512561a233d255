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
from sklearn.metrics import f1_score
from tqdm import tqdm

from scbert.calibration.fitted import CommitteeScores, EncoderAdds, Gain, Judged, JudgedExpert
from scbert.experts.chance import by_chance, macro_f1
from scbert.experts.classifiers import one_cell_each
from scbert.experts.combiner import Share, calibrated, combine, fit_shares
from scbert.experts.fit import fit_experts
from scbert.experts.linear import LinearExpert, expression_of
from scbert.experts.logit_adjustment import fit_logit_adjustment, rarity
from scbert.experts.out_of_fold import leaves_batches_out, make_folds, out_of_fold
from scbert.tokens.store import TokenStore
from scbert.training.committee import ENCODER, Committee

SURE = 1.96  # standard errors; 95 of 100
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


@dataclass(frozen=True)
class Learned:
    """A committee, and what it said of cells that it had not learned from.

    `judged` are numbers of reference cells, none where none could be held out; `logits` (judged, C)
    are those of the committee, `each` those of every expert; `without` are the shares that the
    others would have without the encoder, None where there is none or it is alone; `weighed` are
    those of all, before the encoder had to show that it is worth its time. `adjustment`: see
    `fit_logit_adjustment`; 0 of a network with a head of its own.
    """

    committee: Committee
    judged: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    each: Mapping[str, np.ndarray]
    weighed: Mapping[str, Share]
    without: Mapping[str, Share] | None
    adjustment: Mapping[str, float]
    folds_by: str

    def summary(self) -> CommitteeScores:
        """Return what calibration.json and the card state."""
        label, answer = self.label, self.logits.argmax(axis=1)
        together, known = _scores(self.logits, label), len(label) > 0
        return {
            "experts": {name: self._judged(name) for name in self.committee.shares},
            "out_of_fold": {
                "cells": len(self.judged),
                "folds_by": self.folds_by,
                "macro_f1": together["macro_f1"],
                "by_chance": by_chance(answer, label, self.logits.shape[1]) if known else None,
                "accuracy": float((answer == label).mean()) if known else None,
                "log_loss": together["log_loss"],
                "f1_of_type": together["f1_of_type"],
                "encoder_adds": self._encoder_adds(),
            },
        }

    def _judged(self, name: str) -> JudgedExpert:
        share = self.committee.shares[name]
        return {
            "weight": share.weight,
            "temperature": share.temperature,
            "logit_adjustment": self.adjustment[name] / share.temperature,
            **_scores(calibrated(self.each[name], share.temperature), self.label),
        }

    def _encoder_adds(self) -> EncoderAdds | None:
        if self.without is None:
            return None
        shares, label = self.committee.shares, self.label
        with_it = combine(self.each, self.weighed)
        without = combine(self.each, self.without)
        return {
            "kept": shares[ENCODER].weight > 0,
            "macro_f1": _macro_f1(with_it, label) - _macro_f1(without, label),
            "log_loss_gain": _gain(without, with_it, label),
            "weights_without": {name: share.weight for name, share in self.without.items()},
        }


def learn_committee(
    names: Sequence[str],
    cells: Reference,
    own: np.ndarray | None,
    seed: int,
) -> Learned:
    """Ask the experts about cells they have not learned from, weigh them, learn them from all.

    The encoder keeps a weight only if the held-out cells are likelier with it, by a hundredth of
    the loss and beyond chance: it takes nearly all of the time. Where each type has a single cell,
    no cell can be held out, and nothing is fitted that needs one: the others weigh the same.

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
    logits, judged = _held_out(linear, cells, seed)
    if own is not None:
        logits[ENCODER] = own
        judged &= np.isfinite(own).any(axis=1)
    rows = np.flatnonzero(judged)
    label, without, rarity_C = cells.label[rows], None, rarity(cells.label)
    adjustment = dict.fromkeys(names, 0.0) | {
        name: fit_logit_adjustment(logits[name][rows], label, rarity_C) for name in linear
    }
    each = {name: logits[name][rows] + adjustment[name] * rarity_C for name in names}
    shares = weighed = fit_shares(each, label)
    if ENCODER in each and len(each) > 1:
        without = fit_shares({name: each[name] for name in names if name != ENCODER}, label)
        before = combine(each, without)
        gain = _gain(before, combine(each, weighed), label)
        if gain["low"] <= WORTH * _losses(before, label).mean():
            shares = without | {ENCODER: Share(0.0, shares[ENCODER].temperature)}
    experts = (
        fit_experts(linear, cells.expression_NV, cells.label, cells.vectors_ND, seed)
        if linear
        else {}
    )
    raised = {name: one.raised(adjustment[name] * rarity_C) for name, one in experts.items()}
    return Learned(
        committee=Committee(raised, shares),
        judged=rows,
        label=label,
        logits=combine(each, shares),
        each=each,
        weighed=weighed,
        without=without,
        adjustment=adjustment,
        folds_by=cells.folds_by if own is None else "validation",
    )


def _of_single_cells(names: Sequence[str], cells: Reference, seed: int) -> Learned:
    """Learn the experts from one cell per type; no cell is left to judge them by."""
    weighed = [name for name in names if name != ENCODER] or list(names)
    shares = {name: Share((name in weighed) / len(weighed), 1.0) for name in names}
    label = cells.label
    nothing = np.zeros((0, len(label)))
    return Learned(
        committee=Committee(
            fit_experts(names, cells.expression_NV, label, cells.vectors_ND, seed), shares
        ),
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
    names: Sequence[str], cells: Reference, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the logits of each expert of cells it has not learned from, and which could be named.

    Without an expert that is fitted here, every cell could be.
    """
    if not names:
        return {}, np.ones(len(cells.label), dtype=bool)
    fold = make_folds(cells.label, cells.batch, seed)
    with tqdm(total=len(set(fold.tolist())), desc="experts", unit=" fit", disable=None) as bar:

        def fit(
            rows: np.ndarray, label: np.ndarray
        ) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
            expression_NV, vectors_ND = cells.expression_NV[rows], cells.vectors_ND[rows]
            found = fit_experts(names, expression_NV, label, vectors_ND, seed)
            bar.update()
            return {name: partial(_answer, expert, cells) for name, expert in found.items()}

        return out_of_fold(cells.label, fold, fit)


def _answer(expert: LinearExpert, cells: Reference, rows: np.ndarray) -> np.ndarray:
    return expert.logits(cells.expression_NV[rows], cells.vectors_ND[rows])


def _losses(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the negative log-probability of each cell's type, shape (cells,)."""
    return -calibrated(logits, 1.0)[np.arange(len(label)), label]


def _gain(before: np.ndarray, after: np.ndarray, label: np.ndarray) -> Gain:
    """Return by how much the loss of a cell falls, in nats, with its interval over cells."""
    fall = _losses(before, label) - _losses(after, label)
    error = float(fall.std() / np.sqrt(len(fall)))
    mean = float(fall.mean())
    return {"mean": mean, "low": mean - SURE * error, "high": mean + SURE * error}


def _scores(logits: np.ndarray, label: np.ndarray) -> Judged:
    known = len(label) > 0
    return {
        "macro_f1": _macro_f1(logits, label) if known else None,
        "log_loss": float(_losses(logits, label).mean()) if known else None,
        "f1_of_type": _f1_of_types(logits, label) if known else [None] * logits.shape[1],
    }


def _macro_f1(logits: np.ndarray, label: np.ndarray) -> float:
    return macro_f1(logits.argmax(axis=1), label, logits.shape[1])


def _f1_of_types(logits: np.ndarray, label: np.ndarray) -> list[float | None]:
    """Return the F1 of each type; None if no cell of it could be judged."""
    types = list(range(logits.shape[1]))
    found = f1_score(label, logits.argmax(axis=1), labels=types, average=None, zero_division=0)
    judged = np.isin(types, label)
    return [float(value) if known else None for value, known in zip(found, judged, strict=True)]
