"""What fine-tuning trains: which weights, and small additions to weights that stay as they are.

An addition is a parametrization of torch: whoever reads `weight` sees the sum, and `merge` writes
the sum into the weight, so that a saved model knows nothing of it. peft's LoRA wraps the layer
instead, and attention here reads `to_q.weight` and its likes without calling the layers: it would
see the frozen weights alone, without an error.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scbert.config import Finetune
from scbert.network.model import CellTypeModel, Encoder


class Residual(nn.Module):
    """Weight -> weight + rate x residual, of the same shape, starting at zero.

    AdamW moves each number by about the learning rate, so the weight moves by `rate` times that;
    its decay pulls the residual to zero, and so the weight to where it was.
    """

    def __init__(self, weight: Tensor, rate: float) -> None:
        super().__init__()
        self.residual = nn.Parameter(torch.zeros_like(weight))
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        """Return the sum."""
        return weight + self.rate * self.residual


class LowRank(nn.Module):
    """Weight -> weight + alpha / rank x up @ down, starting at zero (LoRA: Hu et al. 2022)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.down = nn.Parameter(torch.empty(rank, n_in))
        self.up = nn.Parameter(torch.zeros(n_out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as the authors and peft do
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the sum."""
        return weight + self.scale * self.up @ self.down


def choose_trained(model: CellTypeModel, options: Finetune) -> None:
    """Freeze what is not to be trained, and put additions where they are asked for.

    Raises
    ------
    ValueError
        If the encoder has fewer layers than the options name.
    """
    encoder = model.encoder
    genes_were_trained = encoder.gene.weight.requires_grad
    encoder.requires_grad_(requires_grad=options.train == "all")
    for part in _trained_parts(encoder, options):
        part.requires_grad_(requires_grad=True)
    if options.train == "lora":
        for layer in _linear_layers(encoder):
            addition = LowRank(layer.weight, options.lora.rank, options.lora.alpha)
            parametrize.register_parametrization(layer, "weight", addition)
    _choose_gene_identity(encoder, options, genes_were_trained)


def _trained_parts(encoder: Encoder, options: Finetune) -> list[nn.Module]:
    layers = encoder.performer.net.layers
    needed = {"last": options.last_layers, "original": 2}.get(options.train, 0)
    if needed > len(layers):
        raise ValueError(
            f"finetune.train is {options.train}, which needs {needed} layers, but the encoder has "
            f"{len(layers)}. Choose another finetune.train or a smaller finetune.last_layers."
        )
    match options.train:
        case "last":
            return [*layers[-options.last_layers :], encoder.norm]
        case "original":  # its finetune.py: the last but one, the last stays frozen
            return [layers[-2], encoder.norm]
    return []


def _linear_layers(encoder: Encoder) -> list[nn.Linear]:
    """Return queries, keys, values, output and feed-forward of every layer."""
    found = encoder.performer.net.layers.modules()
    return [module for module in found if isinstance(module, nn.Linear)]


def _choose_gene_identity(encoder: Encoder, options: Finetune, were_trained: bool) -> None:
    kept = were_trained and options.train == "all"
    trained = {"keep": kept, "trainable": True}.get(options.gene_identity, False)
    encoder.gene.requires_grad_(requires_grad=trained)
    if options.gene_identity == "residual":
        addition = Residual(encoder.gene.weight, rate=1.0)
        parametrize.register_parametrization(encoder.gene, "weight", addition)


def merge(model: nn.Module) -> None:
    """Write every addition into its weight."""
    for module in list(model.modules()):
        added = getattr(module, "parametrizations", None)
        if isinstance(added, nn.ModuleDict):
            for name in list(added):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
