"""What pretraining could ask instead of the paper's masked bins, and cells thinned to less depth.

For benchmarks/objectives.py only: what did not help is not in the product (docs/decisions.md).

Shape letters: B cells in a mini-batch, G genes, D width of a gene, T bins (0 to n_bins), V genes of
the vocabulary, N genes that are asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.expression import normalize
from scbert.cells.genes import align, match_genes
from scbert.cells.store import TokenStore, store_in_memory
from scbert.cells.tokens import Sample, bin_expression
from scbert.network.masking import NOT_A_TARGET
from scbert.network.model import Encoder, MaskedExpressionModel
from scbert.training.batches import CellBatches, MiniBatch

NEVER = -10.0  # added to the logit of bin 0, which is never asked for


class ResidualModel(MaskedExpressionModel):
    """Adds to log p(bin | gene) of the training cells: only what the gene does not say is learned.

    Parameters
    ----------
    gene_VT
        log p(bin | gene) of bins 1 to n_bins, from `gene_part`.
    """

    gene_VT: Tensor

    def __init__(self, model: MaskedExpressionModel, gene_VT: np.ndarray) -> None:
        nn.Module.__init__(self)
        self.encoder, self.to_bins = model.encoder, model.to_bins
        padded = np.pad(gene_VT, ((0, 0), (1, 0)), constant_values=NEVER)
        self.register_buffer("gene_VT", torch.from_numpy(padded).float())

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor) -> Tensor:
        """Return logits_BGT."""
        return super().forward(genes_BG, tokens_BG, real_BG) + self.gene_VT[genes_BG]


class CellDecoder(MaskedExpressionModel):
    """Beside hidden bins, asks for bins of any gene, silent ones too, from the cell's mean vector.

    The mean vector has to tell what the whole cell expresses. Asked for are the targets and as many
    silent genes of each cell.
    """

    def __init__(self, model: MaskedExpressionModel, seed: int) -> None:
        nn.Module.__init__(self)
        self.encoder, self.to_bins = model.encoder, model.to_bins
        width, n_bins = self.to_bins.in_features, self.to_bins.out_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decode = nn.Sequential(
                nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, n_bins)
            )

    def loss(
        self, batch: MiniBatch, hidden_BG: Tensor, targets_BG: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the loss at the targets, and as much again at most from the cell's vector."""
        x_BGD = self.encoder(batch.genes_BG, hidden_BG, batch.real_BG)
        asked_BG = targets_BG != NOT_A_TARGET
        bins_N = targets_BG[asked_BG]
        loss = functional.cross_entropy(self.to_bins(x_BGD[asked_BG]), bins_N, reduction="sum")
        cell_BD = mean_over_genes(x_BGD, batch.real_BG)
        silent_BG = draw_silent(batch, self.encoder, asked_BG, generator)
        cells_N = torch.nonzero(asked_BG, as_tuple=True)[0]
        genes_N = torch.cat([batch.genes_BG[asked_BG], silent_BG[asked_BG]])
        both_ND = torch.cat([cell_BD[cells_N.repeat(2)], self.encoder.gene(genes_N)], dim=1)
        wanted_N = torch.cat([bins_N, torch.zeros_like(bins_N)])
        from_cell = functional.cross_entropy(self.decode(both_ND), wanted_N, reduction="sum")
        return loss + from_cell / 2


def draw_silent(
    batch: MiniBatch, encoder: Encoder, asked_BG: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw a gene that is no token of the cell for each target, others mean nothing."""
    weight_BV = torch.ones(len(batch.rows), encoder.gene.num_embeddings)
    weight_BV.scatter_(1, batch.genes_BG, 0)
    most = int(asked_BG.sum(dim=1).max())
    drawn_BN = torch.multinomial(weight_BV, most, generator=generator)
    place_BG = (asked_BG.cumsum(dim=1) - 1).clamp(min=0, max=most - 1)
    return drawn_BN.gather(1, place_BG)


def mean_over_genes(x_BGD: Tensor, real_BG: Tensor) -> Tensor:
    """Return the mean vector of the genes of each cell, shape (B, D)."""
    weight_BG1 = real_BG[..., None].to(x_BGD.dtype)
    return (x_BGD * weight_BG1).sum(dim=1) / weight_BG1.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class Counts:
    """Counts of the vocabulary's genes (cells, V), and all counts of each cell."""

    matrix: sparse.csr_matrix
    library: np.ndarray


def read_counts(path: Path, vocabulary: pd.DataFrame) -> Counts:
    """Read what the rule read_counts wrote, or any cells x genes of counts with symbols."""
    adata = anndata.read_h5ad(path)
    names = pd.DataFrame({"symbol": adata.var_names, "gene_id": ""}).astype(str)
    matrix = sparse.csr_matrix(adata.X)
    known = adata.obs.get("library_size")
    library = np.asarray(matrix.sum(axis=1)).ravel() if known is None else known.to_numpy()
    return Counts(align(matrix, match_genes(names, vocabulary)), library)


def stack(parts: list[Counts]) -> Counts:
    """Put cells one after the other."""
    matrix = sparse.vstack([part.matrix for part in parts], format="csr")
    return Counts(matrix, np.concatenate([part.library for part in parts]))


def tokens_of(counts: Counts, target_sum: float, n_bins: int) -> TokenStore:
    """Bin the cells; all genes count as measured."""
    bins = bin_expression(normalize(counts.matrix, counts.library, target_sum), n_bins)
    names = [str(number) for number in range(bins.shape[0])]
    return store_in_memory(Sample("cells", names, bins, np.arange(bins.shape[1]), 0))


def thin(counts: Counts, share: np.ndarray, rng: np.random.Generator) -> Counts:
    """Keep each molecule of a cell with the cell's probability: a cell sequenced less deeply."""
    matrix = counts.matrix
    molecules = matrix.data.astype(np.int64)
    kept = rng.binomial(molecules, np.repeat(share, np.diff(matrix.indptr)))
    thinned = sparse.csr_matrix(
        (kept.astype(np.float64), matrix.indices.copy(), matrix.indptr.copy()), matrix.shape
    )
    known = np.asarray(matrix.sum(axis=1)).ravel()
    others = rng.binomial(np.maximum(counts.library - known, 0).astype(np.int64), share)
    library = np.asarray(thinned.sum(axis=1)).ravel() + others
    thinned.eliminate_zeros()
    return Counts(thinned, library)


def thinned_batches(
    cells: CellBatches, counts: Counts, lowest: float, target_sum: float, seed: int
) -> Callable[[np.ndarray], MiniBatch]:
    """Return what makes batches of cells that keep a share of their molecules, `lowest` to 1."""

    def make(rows: np.ndarray) -> MiniBatch:
        rng = np.random.default_rng([seed, *rows[:4]])
        part = Counts(counts.matrix[rows], counts.library[rows])
        thinned = thin(part, rng.uniform(lowest, 1, len(rows)), rng)
        store = tokens_of(thinned, target_sum, cells.n_bins)
        batch = replace(cells, store=store).make(np.arange(len(rows)))
        return replace(batch, rows=rows)

    return make
