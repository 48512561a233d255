"""A cell as the mean of its genes: what a pretrained encoder can say without a trained head.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, C cell types.
"""

from torch import Tensor, nn

from scbert.network.model import Encoder
from scbert.network.packing import Packing


class MeanOfGenes(nn.Module):
    """Gives the mean of the encoder's vectors of a cell's tokens; zeros for a cell without one.

    It is called as CellTypeModel is. Its logits are the means times `weight_CD`, what an expert
    reads in them; without one they have shape (B, 0).
    """

    def __init__(self, encoder: Encoder, weight_CD: Tensor | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.norm.normalized_shape[0]
        given_CD = encoder.norm.weight.new_zeros(0, width) if weight_CD is None else weight_CD
        self.register_buffer("weight_CD", given_CD)

    weight_CD: Tensor

    def forward(
        self,
        genes_BG: Tensor,
        tokens_BG: Tensor,
        real_BG: Tensor,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the means, shape (B, D)."""
        real_BG1 = real_BG[..., None]
        cells = real_BG if packing is None else packing
        x_BGD = self.encoder(genes_BG, tokens_BG, cells) * real_BG1
        mean_BD = x_BGD.sum(dim=1) / real_BG1.sum(dim=1).clamp(min=1)
        return mean_BD @ self.weight_CD.to(mean_BD.dtype).T, mean_BD
