"""Held-out cells of the corpus, with masks that never change, and what is asked of them.

Shape letters: B cells in a mini-batch, G genes, C held-out cells, N masked genes, T bins 1 to
n_bins.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scbert.config import Pretrain
from scbert.evidence.bin_predictors import skill
from scbert.evidence.pretraining_scores import BinScores, HeldOutScores, KeptVisible
from scbert.network.masking import NOT_A_TARGET
from scbert.training.cell_batches import CellBatches
from scbert.training.corpus import Masked, hidden_genes, masked_of_cells
from scbert.training.mini_batch import MiniBatch, Prefetched
from scbert.training.processes import (
    is_first,
    number_of_processes,
    rank,
    sum_over_processes,
    together,
    told_by_first,
)
from scbert.training.reference_predictors import (
    PREDICTORS,
    HiddenGenes,
    PredictorAnswers,
    ask_predictors,
    bins_of_genes,
    kept_answers,
    key_of,
)
from scbert.training.state import StopRequest


class ValidationLoss:
    """The held-out cells; every number is over genes that the network cannot see.

    Masks are drawn as in training, so a tenth of the targets stays visible; those are in no score,
    but in one of their own.

    Parameters
    ----------
    rows, training
        The held-out rows of the store, and those that the predictors may learn from.
    kept
        The file that keeps what the predictors answer, see `kept_answers`.
    """

    def __init__(
        self,
        cells: CellBatches,
        rows: np.ndarray,
        training: np.ndarray,
        options: Pretrain,
        kept: Path | None = None,
    ) -> None:
        self.cells, self.options = cells, options
        self.plan = cells.plan(rows, None)
        self.rows = np.concatenate(self.plan)  # in the order of the plan
        self.starts = np.cumsum([0, *map(len, self.plan)])
        self.answers = self._answers(training, kept)
        if not self.answers.asked_C.any():
            raise ValueError(
                f"none of the {len(self.rows)} held-out cells expresses a gene in bin 1 or above, "
                "so nothing can be hidden from the network. Check the counts and the vocabulary."
            )

    def masked(self, number: int) -> Masked:
        """Return a batch of the plan with its masks.

        A cell's masks follow from the seed and its row in the store: they are the same for every
        network, however its cells are put into batches.
        """
        return masked_of_cells(self.cells, self.options, self.plan[number])

    def score(self, model: nn.Module, device: torch.device, stop: StopRequest) -> dict[str, float]:
        """Return loss in nats per hidden gene, accuracy and skill, over all processes."""
        numbers = self._score(model, device, stop)
        loss, right = numbers[:, 0].sum(), numbers[:, 1].sum()
        n_asked = self.answers.asked_C.sum()
        rival = self.answers.loss_C(self.answers.best).sum()
        return {
            "validation_loss": float(loss / n_asked),
            "validation_accuracy": float(right / n_asked),
            "validation_skill": float(1 - loss / rival),
        }

    @torch.no_grad()
    def _score(self, model: nn.Module, device: torch.device, stop: StopRequest) -> np.ndarray:
        """Return for each cell loss and hits of hidden genes, then loss, hits, number of kept."""
        found = np.zeros((len(self.rows), 5))
        mine = range(len(self.plan))[rank() :: number_of_processes()]

        def make(number: int) -> tuple[Masked, MiniBatch]:
            masked = self.masked(number)
            return masked, masked.batch.bound_for(device)

        with Prefetched(make, mine) as batches:
            for number, (masked, batch) in zip(mine, batches, strict=True):
                span = slice(self.starts[number], self.starts[number + 1])
                found[span] = _score_batch(model, masked, batch.to(device))
                if stop.received:
                    break  # the loop asks the other processes and throws the numbers away
        return sum_over_processes(found)

    def result(self, model: nn.Module, device: torch.device) -> HeldOutScores:
        """Return what the report shows: the model, the predictors and the skill over the best."""
        numbers = self._score(model.eval(), device, StopRequest())
        options, answers, n_kept = self.options, self.answers, int(numbers[:, 4].sum())
        n_asked, some = int(answers.asked_C.sum()), answers.asked_C > 0
        predictors = {
            name: BinScores(
                loss=float(answers.loss_C(name).sum() / n_asked),
                accuracy=float(answers.right_C(name).sum() / n_asked),
            )
            for name in PREDICTORS
        }
        return HeldOutScores(
            cells=len(self.rows),
            held_out_by=options.validation_by,
            masked_tokens=n_asked,
            loss=float(numbers[:, 0].sum() / n_asked),
            accuracy=float(numbers[:, 1].sum() / n_asked),
            predictors=predictors,
            best_predictor=answers.best,
            skill=skill(numbers[some, 0], answers.loss_C(answers.best)[some], options),
            confidence_level=options.confidence_level,
            kept_visible=KeptVisible(
                tokens=n_kept,
                loss=float(numbers[:, 2].sum() / n_kept) if n_kept else None,
                accuracy=float(numbers[:, 3].sum() / n_kept) if n_kept else None,
            ),
        )

    def _answers(self, training: np.ndarray, kept: Path | None) -> PredictorAnswers:
        """Return what the predictors say, the same in every process: the first one asks them."""

        def ask() -> PredictorAnswers:
            counts_GT = bins_of_genes(self.cells.store, training, self.cells.n_bins)
            return ask_predictors(map(self._hidden, range(len(self.plan))), counts_GT)

        def found() -> np.ndarray:
            key = "" if kept is None else self._key(training)
            return kept_answers(kept, key, len(self.rows), ask).numbers

        numbers = told_by_first(together(found, mine=is_first()))
        assert numbers is not None, "the first process asks"
        return PredictorAnswers(numbers)

    def _hidden(self, number: int) -> HiddenGenes:
        return hidden_genes(self.masked(number), self.cells.n_bins)

    def _key(self, training: np.ndarray) -> str:
        """Return what the answers are kept under; a batch, too: how masks are drawn may change."""
        cells, masks = self.cells, {"seed", "mask_prob", "replace_prob"}
        facts = {
            "tokens": cells.store.meta,
            "sequence": cells.sequence,
            "n_bins": cells.n_bins,
            **self.options.model_dump(mode="json", include=masks),
        }
        arrays = [self.rows, self.starts, training, *self._hidden(len(self.plan) - 1).arrays()]
        return key_of(facts, arrays if cells.genes is None else [*arrays, cells.genes])


def _score_batch(model: nn.Module, masked: Masked, here: MiniBatch) -> np.ndarray:
    """Return for each cell loss and hits of hidden genes, then loss, hits, number of kept.

    `here` is the batch on the device of the model.
    """
    assert here.targets is not None
    logits_BGT = model(here.genes_BG, here.tokens_BG, here.cells)
    loss_BG = functional.cross_entropy(
        logits_BGT.flatten(0, 1).float(),
        here.targets.flatten(),
        ignore_index=NOT_A_TARGET,
        reduction="none",
    ).view_as(here.targets)
    # Only expressed genes are asked about, so bin 0 is no answer.
    hit_BG = (logits_BGT[..., 1:].argmax(dim=-1) + 1 == here.targets).float()
    loss_BG, hit_BG = torch.stack([loss_BG, hit_BG]).cpu()
    columns = []
    for some_BG in (masked.asked_BG, masked.kept_BG):
        cell_N = masked.cell_BG[some_BG].numpy()
        for value_BG in (loss_BG, hit_BG, torch.ones_like(hit_BG)):
            weights = value_BG[some_BG].double().numpy()
            columns.append(np.bincount(cell_N, weights, minlength=len(here.rows)))
    return np.stack([columns[0], columns[1], columns[3], columns[4], columns[5]], axis=1)
