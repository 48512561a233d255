"""The kernel of FAVOR+: two passes over chunks of genes, and a backward pass that computes again.

The first pass adds up phi(k) [v, 1] over the genes of a cell, with a running stabiliser: when a
chunk has a higher maximum, the sums so far are scaled down. The floor EPSILON of the features does
not scale, so its part, EPSILON times the sum of [v, 1], is added at the end. The second pass
divides phi(q) · sums by its last column. Features, and queries, keys and values where `weight_ND`
makes them, exist for one chunk at a time, in forward and backward pass alike.
Source: Choromanski et al. 2021, section 2; epsilon and stabilisers as in performer-pytorch 1.1.4,
where, as here, stabilisers are constants of the gradient.

Shape letters: B cells, H heads, G genes, C genes of a chunk, E width of a head, F at least E + 1
(the values, the denominator, and what fills up to a multiple of eight on a GPU, whose tensor cores
want that), M random features, D width of a gene, N = 3 H E.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scbert.network.random_features import (
    EPSILON,
    exp_of_keys,
    exp_of_more_keys,
    exp_of_queries,
    exponents,
    gradient_before_rms,
    product,
    with_rms,
)

FEATURES_ON_CPU = 2**20  # numbers in a chunk's features, 4 MiB: they stay in the cache
FEATURES_ELSEWHERE = 2**26  # 256 MiB: a GPU wants few large kernels
ALIGNED = 8  # columns that a GPU multiplies at once
QUERY, KEY_AND_VALUE = slice(0, 1), slice(1, 3)


@dataclass(frozen=True)
class Shape:
    """How a row of x holds queries, keys and values, and how much of it is worked on at a time.

    `per_cell`: the stabiliser of keys is the maximum over all heads, not over each of them.
    `qk_rms`: the root mean square that each query and key is scaled to; None: none.
    """

    heads: int
    per_cell: bool
    tokens_per_chunk: int
    qk_rms: float | None

    def cells(self, x_BGD: Tensor) -> Iterator[slice]:
        """Divide the batch into groups of cells: many short ones, or one of any length."""
        yield from _slices(x_BGD.shape[0], max(1, self.tokens_per_chunk // max(1, x_BGD.shape[1])))

    def genes(self, x_BGD: Tensor) -> Iterator[slice]:
        """Divide the genes of a group of cells into chunks."""
        yield from _slices(x_BGD.shape[1], self.tokens_per_chunk)


def tokens_per_chunk(n_heads: int, n_features: int, device: torch.device) -> int:
    """Return how many tokens are worked on at a time; it changes speed and memory only."""
    budget = FEATURES_ON_CPU if device.type == "cpu" else FEATURES_ELSEWHERE
    return max(1, budget // (n_heads * n_features))


def _slices(length: int, most: int) -> Iterator[slice]:
    """Divide a range into as few slices of nearly the same size as can be."""
    size = -(-length // max(1, -(-length // most)))
    yield from (slice(start, min(start + size, length)) for start in range(0, length, max(1, size)))


@dataclass(frozen=True)
class _Cells:
    """A group of cells: x_BGD holds queries, keys and values, or `weight_ND` makes them of it."""

    x_BGD: Tensor
    weight_ND: Tensor | None
    down_EM: Tensor
    real_BG: Tensor
    shape: Shape

    def group(self, cells: slice) -> "_Cells":
        return replace(self, x_BGD=self.x_BGD[cells], real_BG=self.real_BG[cells])

    def heads(self, genes: slice, part: slice) -> Tensor:
        """Return queries, or keys and values, of a chunk, unscaled: shape (1 or 2, B, H, C, E)."""
        x_BCD = self.x_BGD[:, genes]
        rows = self.rows(part)
        if self.weight_ND is None:
            x_BCN = x_BCD[..., rows]
        else:
            x_BCN = functional.linear(x_BCD, self.weight_ND[rows])
        x_BCPHE = x_BCN.unflatten(-1, (part.stop - part.start, self.shape.heads, -1))
        # product() joins cells and heads: of a tensor with gaps each product would make a copy.
        return x_BCPHE.permute(2, 0, 3, 1, 4).to(self.down_EM.dtype).contiguous()

    def scaled(self, x_BHCE: Tensor) -> Tensor:
        """Return queries or keys as they are compared."""
        return with_rms(x_BHCE, self.shape.qk_rms)

    def rows(self, part: slice) -> slice:
        """Return which of the N columns are queries, or keys and values."""
        width = self.shape.heads * self.down_EM.shape[0]
        return slice(part.start * width, part.stop * width)

    def keys_and_values(self, genes: slice) -> tuple[Tensor, Tensor]:
        """Return k_BHCE, unscaled, and [v, 1] of shape (B, H, C, F), zero for padding."""
        k_BHCE, v_BHCE = self.heads(genes, KEY_AND_VALUE)
        v_BHCF = functional.pad(functional.pad(v_BHCE, (0, 1), value=1.0), (0, self.spare()))
        return k_BHCE, v_BHCF.masked_fill_(~self.real_BG[:, None, genes, None], 0.0)

    def spare(self) -> int:
        """Return the number of columns of zeros beside values and denominator."""
        width = self.down_EM.shape[0]
        return 0 if self.down_EM.device.type == "cpu" else -(width + 1) % ALIGNED

    def memory(self) -> Tensor:
        """Return room for the features of a chunk."""
        most = max(genes.stop - genes.start for genes in self.shape.genes(self.x_BGD))
        rows = len(self.x_BGD) * self.shape.heads * most
        return self.down_EM.new_empty(rows * self.down_EM.shape[1])

    def sum_keys(self) -> tuple[Tensor, Tensor]:
        """Return the sum of phi(k) [v, 1], shape (B, H, M, F), and the stabiliser (B, H, 1, 1)."""
        width, n_features = self.down_EM.shape
        n_cells, n_heads = len(self.x_BGD), self.shape.heads
        n_columns = width + 1 + self.spare()
        sums_BHMF = self.down_EM.new_zeros(n_cells, n_heads, n_features, n_columns)
        floor_BH1F = sums_BHMF.new_zeros(n_cells, n_heads, 1, n_columns)
        # Not -inf: in a cell without genes exp(-inf - -inf) would be NaN.
        lowest = torch.finfo(sums_BHMF.dtype).min
        highest_BH11 = sums_BHMF.new_full((n_cells, n_heads, 1, 1), lowest)
        memory = self.memory()
        for genes in self.shape.genes(self.x_BGD):
            k_BHCE, v_BHCF = self.keys_and_values(genes)
            real_BC = self.real_BG[:, genes]
            found = exponents(self.scaled(k_BHCE), self.down_EM, memory)
            phi_BHCM, highest_BH11, shrink_BH11 = exp_of_more_keys(
                found, real_BC, highest_BH11, per_cell=self.shape.per_cell
            )
            sums_BHMF.mul_(shrink_BH11).add_(phi_BHCM.mT @ v_BHCF)
            floor_BH1F.add_(v_BHCF.sum(dim=2, keepdim=True))
        sums_BHMF.add_(floor_BH1F * EPSILON)
        no_gene_B11 = ~self.real_BG.any(dim=1)[:, None, None]
        sums_BHMF[..., width].add_(no_gene_B11)  # 0 / 1 instead of 0 / 0
        return sums_BHMF, highest_BH11

    def attend(self, sums_BHMF: Tensor, out_BGHE: Tensor, norm_BHG1: Tensor) -> None:
        """Fill in what each gene gets, and the denominators."""
        floor_BH1F = sums_BHMF.sum(dim=2, keepdim=True) * EPSILON
        memory, width = self.memory(), self.down_EM.shape[0]
        for genes in self.shape.genes(self.x_BGD):
            q_BHCE = self.scaled(self.heads(genes, QUERY)[0])
            phi_BHCM = exp_of_queries(q_BHCE, self.down_EM, memory)
            both_BHCF = (phi_BHCM @ sums_BHMF).add_(floor_BH1F)
            norm_BHC1 = both_BHCF[..., width : width + 1]
            norm_BHG1[:, :, genes] = norm_BHC1
            out_BGHE[:, genes] = (both_BHCF[..., :width] / norm_BHC1).transpose(1, 2)


@dataclass(frozen=True)
class _Gradients:
    """The gradients of a group of cells, added up chunk by chunk."""

    cells: _Cells
    dx_BGD: Tensor
    dweight_ND: Tensor | None

    def queries(
        self, grad_BGHE: Tensor, out_BGHE: Tensor, norm_BHG1: Tensor, sums_BHMF: Tensor
    ) -> Tensor:
        """Add the gradients by way of the queries; return that of the sums, shape (B, H, M, F)."""
        dsums_BHMF = torch.zeros_like(sums_BHMF)
        memory, more = self.cells.memory(), self.cells.memory()
        for genes in self.cells.shape.genes(self.dx_BGD):
            grad_BHCE = grad_BGHE[:, genes].transpose(1, 2)
            divided_BHCE = grad_BHCE / norm_BHG1[:, :, genes]
            # Of a quotient a / n: da is grad / n, dn is -grad · (a / n) / n.
            dnorm_BHC = torch.linalg.vecdot(divided_BHCE, out_BGHE[:, genes].transpose(1, 2))
            dboth_BHCF = torch.cat([divided_BHCE, -dnorm_BHC[..., None]], dim=-1)
            dboth_BHCF = functional.pad(dboth_BHCF, (0, self.cells.spare()))
            q_BHCE = self.cells.heads(genes, QUERY)[0]
            scaled_q_BHCE = self.cells.scaled(q_BHCE)
            phi_BHCM = exp_of_queries(scaled_q_BHCE, self.cells.down_EM, memory)
            dsums_BHMF.add_(phi_BHCM.mT @ dboth_BHCF)
            dsums_BHMF.add_(dboth_BHCF.sum(dim=2, keepdim=True) * EPSILON)
            ddash_BHCM = product(dboth_BHCF, sums_BHMF.mT, more).mul_(phi_BHCM)
            dq_BHCE = self._of_dash(ddash_BHCM, q_BHCE, scaled_q_BHCE)
            self._add(genes, QUERY, dq_BHCE[None])
        return dsums_BHMF

    def keys(self, dsums_BHMF: Tensor, highest_BH11: Tensor) -> None:
        """Add the gradients by way of keys and values."""
        of_values_BHME = dsums_BHMF[..., : self.cells.down_EM.shape[0]].contiguous()
        floor_BH1E = of_values_BHME.sum(dim=2, keepdim=True) * EPSILON
        memory, more = self.cells.memory(), self.cells.memory()
        for genes in self.cells.shape.genes(self.dx_BGD):
            k_BHCE, v_BHCF = self.cells.keys_and_values(genes)
            real_BC = self.cells.real_BG[:, genes]
            scaled_k_BHCE = self.cells.scaled(k_BHCE)
            dash, half_norm = exponents(scaled_k_BHCE, self.cells.down_EM, memory)
            phi_BHCM = exp_of_keys(dash, half_norm, real_BC, highest_BH11)
            dv_BHCE = (phi_BHCM @ of_values_BHME).add_(floor_BH1E)
            dv_BHCE.masked_fill_(~real_BC[:, None, :, None], 0.0)
            ddash_BHCM = product(v_BHCF, dsums_BHMF.mT, more).mul_(phi_BHCM)
            dk_BHCE = self._of_dash(ddash_BHCM, k_BHCE, scaled_k_BHCE)
            self._add(genes, KEY_AND_VALUE, torch.stack([dk_BHCE, dv_BHCE]))

    def _of_dash(self, ddash_BHCM: Tensor, x_BHCE: Tensor, scaled_BHCE: Tensor) -> Tensor:
        """Return the gradient of queries or keys: through w·x', -|x'|²/2, and the scaling."""
        width = x_BHCE.shape[-1]
        through_norm_BHC1 = ddash_BHCM.sum(dim=-1, keepdim=True) * width**-0.5
        grad_BHCE = ddash_BHCM @ self.cells.down_EM.T
        grad_BHCE.addcmul_(through_norm_BHC1, scaled_BHCE, value=-1)
        return gradient_before_rms(grad_BHCE, scaled_BHCE, x_BHCE, self.cells.shape.qk_rms)

    def _add(self, genes: slice, part: slice, dheads_PBHCE: Tensor) -> None:
        """Add the gradient of queries, or of keys and values, to those of x and the weights."""
        rows, weight_ND = self.cells.rows(part), self.cells.weight_ND
        dx_BCN = dheads_PBHCE.permute(1, 3, 0, 2, 4).flatten(2).to(self.cells.x_BGD.dtype)
        if weight_ND is None:
            self.dx_BGD[:, genes, rows] = dx_BCN
            return
        self.dx_BGD[:, genes] += dx_BCN @ weight_ND[rows]
        if self.dweight_ND is not None:
            x_BCD = self.cells.x_BGD[:, genes]
            self.dweight_ND[rows] += dx_BCN.flatten(0, 1).mT @ x_BCD.flatten(0, 1)


def _down(projection_ME: Tensor, dtype: torch.dtype) -> Tensor:
    # Queries and keys get E^(-1/4) each, and so their product the usual E^(-1/2).
    return (projection_ME.to(dtype).T * projection_ME.shape[1] ** -0.25).contiguous()


class Favor(torch.autograd.Function):
    """FAVOR+ of x_BGD @ weight_ND.T; returns out_BGHE in float32, or float64 for float64."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BGD: Tensor,
        weight_ND: Tensor | None,
        projection_ME: Tensor,
        real_BG: Tensor,
        shape: Shape,
    ) -> Tensor:
        """Attend, and keep what is small: x, the result, sums and denominators."""
        with torch.autocast(x_BGD.device.type, enabled=False):  # exponentials need float32
            wide = torch.promote_types(x_BGD.dtype, torch.float32)
            cells = _Cells(x_BGD, weight_ND, _down(projection_ME, wide), real_BG, shape)
            n_cells, n_genes, _ = x_BGD.shape
            width = projection_ME.shape[1]
            out_BGHE = x_BGD.new_empty(n_cells, n_genes, shape.heads, width, dtype=wide)
            norm_BHG1 = out_BGHE.new_empty(n_cells, shape.heads, n_genes, 1)
            kept = []
            for some in shape.cells(x_BGD):
                group = cells.group(some)
                kept.append(group.sum_keys())
                group.attend(kept[-1][0], out_BGHE[some], norm_BHG1[some])
            ctx.save_for_backward(
                x_BGD, weight_ND, projection_ME, real_BG, out_BGHE, norm_BHG1, *sum(kept, ())
            )
        ctx.shape = shape
        return out_BGHE

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BGHE: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight; features are computed again."""
        x_BGD, weight_ND, projection_ME, real_BG, out_BGHE, norm_BHG1, *kept = ctx.saved_tensors
        shape, wide = ctx.shape, out_BGHE.dtype
        with torch.autocast(x_BGD.device.type, enabled=False):
            cells = _Cells(x_BGD, weight_ND, _down(projection_ME, wide), real_BG, shape)
            # The chunks' parts are added up in float32: bf16 would round each sum to 8 bits.
            dx_BGD = torch.zeros_like(x_BGD, dtype=wide)
            wanted = weight_ND is not None and ctx.needs_input_grad[1]
            dweight_ND = torch.zeros_like(weight_ND, dtype=wide) if wanted else None
            for number, some in enumerate(shape.cells(x_BGD)):
                sums_BHMF, highest_BH11 = kept[2 * number : 2 * number + 2]
                gradients = _Gradients(cells.group(some), dx_BGD[some], dweight_ND)
                dsums_BHMF = gradients.queries(
                    grad_BGHE[some], out_BGHE[some], norm_BHG1[some], sums_BHMF
                )
                gradients.keys(dsums_BHMF, highest_BH11)
            dx_BGD = dx_BGD.to(x_BGD.dtype)
            dweight_ND = None if dweight_ND is None else dweight_ND.to(weight_ND.dtype)
        return dx_BGD, dweight_ND, None, None, None
