"""Contribution of each gene to the types of many cells, and cells with genes removed.

Shape letters: B cells, G genes of a cell, V genes of the vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scbert.network.attention_sums import attention_sums
from scbert.network.integrated_gradients import integrated_gradients
from scbert.network.masking import mask_id
from scbert.network.model import CellTypeModel, MeanOfGenes, by_gene
from scbert.tokens.store import TokenStore
from scbert.training.cell_batches import CellBatches
from scbert.training.mini_batch import MiniBatch


def attention_of_cells(
    model: CellTypeModel | MeanOfGenes, cells: CellBatches, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return the sum of each column of the attention matrix, averaged over layers and heads.

    Returns
    -------
    Shape (cells, V), ordered as `rows`: 1 is what equal attention would give; 0 where the gene is
    no token of the cell.
    """
    found = np.zeros((len(rows), cells.store.measured.shape[1]), dtype=np.float32)
    for batch, places in _batches(cells, rows, device):
        share_BNHG = attention_sums(model.encoder, batch.genes_BG, batch.tokens_BG, batch.real_BG)
        sums_BG = share_BNHG.mean(dim=(1, 2)) * batch.real_BG.sum(dim=1, keepdim=True)
        found[places] = _by_gene(sums_BG, batch, found.shape[1])
    return found


def gradients_of_cells(
    model: CellTypeModel | MeanOfGenes,
    cells: CellBatches,
    rows: np.ndarray,
    cell_types: np.ndarray,
    *,
    steps: int,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the gradients of the logit of each cell's own type, from the mask to its bins.

    Parameters
    ----------
    cell_types
        Shape (cells,): numbers of the types among the model's labels.

    Returns
    -------
    values
        Shape (cells, V), in units of the logit; 0 where the gene is not a token of the cell.
    missed
        Shape (cells,): what the values of a cell lack, or have too much, to add up to its logit
        less that of a cell in which all is masked, as a share of that difference.
    """
    values = np.zeros((len(rows), cells.store.measured.shape[1]), dtype=np.float32)
    missed = np.zeros(len(rows))
    for number in np.unique(cell_types):
        own = np.flatnonzero(cell_types == number)
        for batch, within in _batches(cells, rows[own], device):
            found_BG = integrated_gradients(
                model,
                batch.genes_BG,
                batch.tokens_BG,
                batch.real_BG,
                cell_type=int(number),
                baseline="mask",
                steps=steps,
            )
            places = own[within]
            values[places] = _by_gene(found_BG, batch, values.shape[1])
            rise = _rise_from_mask(model, batch, int(number), cells.n_bins)
            total = found_BG.sum(dim=1).cpu().double()
            missed[places] = ((total - rise).abs() / rise.abs().clamp(min=1e-6)).numpy()
    return values, missed


def store_without(
    store: TokenStore, rows: Sequence[int], removed: Sequence[np.ndarray]
) -> TokenStore:
    """Hold cells in memory in which genes are silent.

    Parameters
    ----------
    rows
        Cells of the store; one may be there often.
    removed
        For each of them, the genes of the vocabulary that it loses.
    """
    genes, levels = [], []
    for row, gone in zip(rows, removed, strict=True):
        span = slice(store.indptr[row], store.indptr[row + 1])
        kept = ~np.isin(store.gene[span], gone)
        genes.append(store.gene[span][kept])
        levels.append(store.level[span][kept])
    ends = np.cumsum([0, *(len(gene) for gene in genes)], dtype=np.int64)
    return TokenStore(
        gene=np.concatenate([*genes, np.zeros(0, dtype=np.uint16)]),
        level=np.concatenate([*levels, np.zeros(0, dtype=np.uint8)]),
        n_bins=store.n_bins,
        indptr=ends,
        sample=np.asarray(store.sample)[list(rows)],
        measured=store.measured,
        names=[],
        meta={},
    )


@torch.no_grad()
def _rise_from_mask(
    model: CellTypeModel | MeanOfGenes, batch: MiniBatch, cell_type: int, n_bins: int
) -> Tensor:
    masked_BG = torch.where(batch.real_BG, mask_id(n_bins), batch.tokens_BG)
    here, start = (
        model(batch.genes_BG, tokens_BG, batch.real_BG)[0][:, cell_type].cpu().double()
        for tokens_BG in (batch.tokens_BG, masked_BG)
    )
    return here - start


def _batches(cells: CellBatches, rows: np.ndarray, device: torch.device) -> list:
    """Return batches, each with the places of its cells in `rows`."""
    place = {row: number for number, row in enumerate(rows.tolist())}
    return [
        (batch.to(device), np.array([place[row] for row in batch.rows.tolist()]))
        for batch in cells.each(rows)
    ]


def _by_gene(values_BG: Tensor, batch: MiniBatch, n_genes: int) -> np.ndarray:
    """Return values of tokens as values of the vocabulary's genes, (B, V); padding counts 0."""
    # sequence paper appends a token
    wide_BV = by_gene(values_BG * batch.real_BG, batch.genes_BG, n_genes + 1)
    return wide_BV[:, :n_genes].float().cpu().numpy()
