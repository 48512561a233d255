"""Experts that were learned, and what held-out cells say of them: alone, together, the encoder.

Scores are of cells that an expert has not learned from; over no cell they are None.

Shape letters: C cell types.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from scbert.calibration.fitted import (
    CommitteeScores,
    EncoderAdds,
    Gain,
    Judged,
    JudgedExpert,
    OutOfFold,
)
from scbert.experts.chance import by_chance, macro_f1
from scbert.experts.combiner import Share, calibrated, combine
from scbert.training.committee import ENCODER, Committee

SURE = 1.96  # standard errors; 95 of 100


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
        shares = self.committee.shares
        return {
            "experts": {name: self._alone(name, share) for name, share in shares.items()},
            "out_of_fold": self._together(),
        }

    def _alone(self, name: str, share: Share) -> JudgedExpert:
        return {
            "weight": share.weight,
            "temperature": share.temperature,
            "logit_adjustment": self.adjustment[name] / share.temperature,
            **_scores(calibrated(self.each[name], share.temperature), self.label),
        }

    def _together(self) -> OutOfFold:
        label, answer = self.label, self.logits.argmax(axis=1)
        scores, known = _scores(self.logits, label), len(label) > 0
        return {
            "cells": len(self.judged),
            "folds_by": self.folds_by,
            "macro_f1": scores["macro_f1"],
            "by_chance": by_chance(answer, label, self.logits.shape[1]) if known else None,
            "accuracy": float((answer == label).mean()) if known else None,
            "log_loss": scores["log_loss"],
            "f1_of_type": scores["f1_of_type"],
            "encoder_adds": self._encoder_adds(),
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
            "log_loss_gain": gain_of(without, with_it, label),
            "weights_without": {name: share.weight for name, share in self.without.items()},
        }


def losses(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the negative log-probability of each cell's type, shape (cells,)."""
    return -calibrated(logits, 1.0)[np.arange(len(label)), label]


def gain_of(before: np.ndarray, after: np.ndarray, label: np.ndarray) -> Gain:
    """Return by how much the loss of a cell falls, in nats, with its interval over cells."""
    fall = losses(before, label) - losses(after, label)
    error = float(fall.std() / np.sqrt(len(fall)))
    mean = float(fall.mean())
    return {"mean": mean, "low": mean - SURE * error, "high": mean + SURE * error}


def _scores(logits: np.ndarray, label: np.ndarray) -> Judged:
    """Return how well cells were named; None where there was no cell."""
    known = len(label) > 0
    return {
        "macro_f1": _macro_f1(logits, label) if known else None,
        "log_loss": float(losses(logits, label).mean()) if known else None,
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
