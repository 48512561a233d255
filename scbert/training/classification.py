"""The loss of a classifier of cell types, with what can be done for rare ones.

Shape letters: B cells in a mini-batch, C cell types.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scbert.config import Finetune


class TypeLoss(nn.Module):
    """Cross-entropy of logits, adjusted and weighted by how common each type is in training.

    Parameters
    ----------
    label
        The type of each training cell, 0 to C - 1, each there at least once.

    Logit adjustment adds tau x log(share of the type) to the logits while training and nothing
    later (Menon et al. 2021). Weights are n / (C n_c), or by effective numbers,
    (1 - beta) / (1 - beta^n_c) (Cui et al. 2019), with mean 1 over the training cells. The focal
    loss multiplies by (1 - probability)^gamma (Lin et al. 2017).
    """

    def __init__(self, label: np.ndarray, options: Finetune) -> None:
        super().__init__()
        n_C = np.bincount(label)
        self.adjustment_C = torch.tensor(options.logit_adjustment * np.log(n_C / n_C.sum())).float()
        self.weight_C = torch.tensor(_weights(n_C, options)).float()
        self.gamma = options.focal_gamma if options.loss == "focal" else 0.0
        self.smoothing = options.label_smoothing
        self.encoder_loss = options.encoder_loss

    def forward(self, logits_BC: Tensor, label_B: Tensor) -> Tensor:
        """Return the weighted sum over the cells."""
        adjusted_BC = logits_BC.float() + self.adjustment_C.to(logits_BC.device)
        loss_B = functional.cross_entropy(
            adjusted_BC, label_B, reduction="none", label_smoothing=self.smoothing
        )
        if self.gamma:
            of_label_B = adjusted_BC.log_softmax(-1).gather(1, label_B[:, None]).squeeze(1)
            loss_B = (-torch.expm1(of_label_B)).clamp_min(1e-6) ** self.gamma * loss_B
        return (self.weight_C.to(logits_BC.device)[label_B] * loss_B).sum()

    def weight(self, label_B: Tensor) -> Tensor:
        """Return the sum of the weights of the cells, which makes the loss of a step a mean.

        Divided by the number of cells instead, a single rare cell would look like an explosion.
        """
        return self.weight_C.to(label_B.device)[label_B].sum()

    def of_halves(self, halves: dict[str, Tensor], label_B: Tensor) -> Tensor:
        """Return the loss of a hybrid head: of the encoder's half alone, of the sum, or of both.

        The linear half fits the training cells almost perfectly, so the loss of the sum alone
        teaches the encoder nothing (docs/decisions.md).
        """
        alone = self.encoder_loss * self(halves["encoder"], label_B)
        if self.encoder_loss == 1:
            return alone
        of_sum = self(halves["expression"] + halves["encoder"], label_B)
        return (1 - self.encoder_loss) * of_sum + alone


def _weights(n_C: np.ndarray, options: Finetune) -> np.ndarray:
    match options.class_balance:
        case "balanced":
            weight_C = 1 / n_C
        case "effective":
            beta = options.effective_beta
            weight_C = (1 - beta) / (1 - beta**n_C)
        case _:
            weight_C = np.ones(len(n_C))
    return weight_C * n_C.sum() / (weight_C * n_C).sum()
