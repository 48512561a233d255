"""Genes behind a cell type: integrated gradients of its logit over the tokens.

Unlike attention, which says where a layer looks, the values of a cell add up to the difference
between its logit and that of a cell in which no expression is known.
Source: Sundararajan et al. 2017, Axiomatic attribution for deep networks; captum 0.9.0.

Shape letters: B cells, G genes, D width of a gene.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from scbert.network.model import CellTypeModel, MeanOfGenes


def integrated_gradients(  # noqa: PLR0913  a cell is three tensors
    model: CellTypeModel | MeanOfGenes,
    genes_BG: Tensor,
    tokens_BG: Tensor,
    real_BG: Tensor,
    cell_type: int,
    *,
    baseline: Literal["mask", "silent"],
    steps: int,
) -> Tensor:
    """Return what the expression of each gene adds to the logit of a cell type.

    Parameters
    ----------
    cell_type
        Number of the type among the model's labels.
    baseline
        What each token is compared with, gene for gene: mask, "not known", which pretraining has
        taught the network; or silent, bin 0, which a model of expressed genes has never seen.
    steps
        Points on the way from the baseline; a cell costs as many forward and backward passes. More
        come closer to adding up exactly.

    Returns
    -------
    Shape (B, G), in units of the logit; padding has 0. Each cell's values add up to its logit less
    that of its baseline, up to the error of `steps`.

    Raises
    ------
    ValueError
        If the model has no such cell type, or captum is not installed.
    """
    gradients = _captum_method(model)
    with torch.no_grad():
        logits_BC, _ = model(genes_BG, tokens_BG, real_BG)
    _require_type(cell_type, logits_BC.shape[1])
    mask = model.encoder.token.num_embeddings - 2  # the last one is padding
    baseline_BG = torch.where(real_BG, mask if baseline == "mask" else 0, tokens_BG)
    attribution_BGD = gradients.attribute(
        tokens_BG,
        baselines=baseline_BG,
        target=cell_type,
        additional_forward_args=(genes_BG, real_BG),
        n_steps=steps,
        internal_batch_size=len(tokens_BG),  # one point at a time: memory of a training step
    )
    return attribution_BGD.sum(dim=-1).detach()


def _require_type(cell_type: int, n_types: int) -> None:
    if not 0 <= cell_type < n_types:
        raise ValueError(
            f"cell type {cell_type} was asked for, but the model knows 0 to {n_types - 1}. Give "
            "the number of one of its labels."
        )


def _captum_method(model: CellTypeModel | MeanOfGenes) -> Any:
    try:
        from captum.attr import LayerIntegratedGradients  # noqa: PLC0415  optional, takes seconds
    except ImportError as error:
        raise ValueError(
            "integrated gradients need captum, which is not installed. Do, in the folder of "
            "the repository: pip install '.[explain]'."
        ) from error

    def logits_BC(tokens_BG: Tensor, genes_BG: Tensor, real_BG: Tensor) -> Tensor:
        return model(genes_BG, tokens_BG, real_BG)[0]

    return LayerIntegratedGradients(logits_BC, model.encoder.token)
