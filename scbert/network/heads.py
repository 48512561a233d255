"""What names the cell type, from the vectors that the encoder gives the genes of a cell.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, C cell types, V genes of the
vocabulary.
"""

from itertools import pairwise

from torch import Tensor, nn

from scbert.config import Head


class ConvHead(nn.Module):
    """The paper's head: one number per gene of the vocabulary, then a multilayer perceptron.

    A gene that is not a token of the cell gives zero. The cell vector is the first hidden layer.
    """

    def __init__(self, dim: int, n_genes: int, settings: Head, n_types: int) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.to_scalar = nn.Linear(dim, 1)
        first, *rest = settings.hidden
        self.first = nn.Linear(n_genes, first)
        self.classify = _layers((first, *rest), n_types, settings.dropout)

    def forward(self, x_BGD: Tensor, genes_BG: Tensor, real_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        scalar_BG = self.to_scalar(x_BGD).squeeze(-1).relu() * real_BG
        hidden = self.first(_by_gene(scalar_BG, genes_BG, self.n_genes)).relu()
        return self.classify(hidden), hidden


def _by_gene(value_BG: Tensor, genes_BG: Tensor, n_genes: int) -> Tensor:
    """Put each token's value in the place of its gene, shape (B, V); padding must have zero."""
    value_BV = value_BG.new_zeros(len(value_BG), n_genes)
    return value_BV.scatter_add(1, genes_BG, value_BG)


def _layers(sizes: tuple[int, ...], n_types: int, dropout: float) -> nn.Sequential:
    """Return a perceptron with dropout before each layer; its input is already activated."""
    modules: list[nn.Module] = []
    for size, following in pairwise(sizes):
        modules += [nn.Dropout(dropout), nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(sizes[-1], n_types))
