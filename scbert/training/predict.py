"""Run a cell-type model over cells, in batches of similar length; the order of cells is kept."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from scbert.training.batches import CellBatches


@torch.no_grad()
def predict(
    model: nn.Module,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    done: Callable[[int], object] = lambda n: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (cells, types) and cell vectors (cells, width), float32, ordered as `rows`.

    `model` is called as CellTypeModel is.
    `done` is told how many cells were finished, for a progress bar.
    """
    model.eval()
    parts = []
    for batch in cells.each(rows):
        here = batch.to(device)
        logits_BC, vectors_BD = model(here.genes_BG, here.tokens_BG, here.real_BG)
        parts.append(
            (batch.rows, logits_BC.float().cpu().numpy(), vectors_BD.float().cpu().numpy())
        )
        done(len(batch.rows))
    order = np.concatenate([batch_rows for batch_rows, _, _ in parts])
    back = np.argsort(order)[np.searchsorted(np.sort(order), rows)]
    return (
        np.concatenate([logits for _, logits, _ in parts])[back],
        np.concatenate([vectors for _, _, vectors in parts])[back],
    )
