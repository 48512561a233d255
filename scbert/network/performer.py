"""The encoder: performer-pytorch's Performer, with attention that knows padding.

performer-pytorch 1.1.4 masks values only, so padding still counts in the denominator, and redraws
its projections on every rank for itself. Layers, norms and feed-forward are its own; attention is
ours, and the feed-forward layer works on a part of the genes at a time.
"""

import warnings
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scbert.config import Network
from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.packing import Packing

TOKENS_PER_CHUNK = 1024  # of the feed-forward layer, on a CPU


with warnings.catch_warnings():  # it asks distutils for torch's version, which is deprecated
    warnings.filterwarnings("ignore", "distutils Version classes are deprecated")
    from performer_pytorch import Performer
    from performer_pytorch.performer_pytorch import PreLayerNorm, SelfAttention


class MaskedSelfAttention(SelfAttention):
    """Self-attention that tells the attention itself where the cells and their genes are."""

    def forward(self, x: Tensor, mask: Tensor | Packing, **_: object) -> Tensor:
        """Attend over the genes of each cell.

        x (B, G, D); mask (B, G), true for real genes, or where packed cells lie in a row of genes.
        """
        weight_ND = torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])
        attended = self.fast_attention.of_genes(x, weight_ND, mask, self.heads)
        return self.dropout(self.to_out(attended))


class ChunkedFeedForward(PreLayerNorm):
    """Norm and feed-forward layer; on a CPU, some genes at a time.

    What lies between the layers is four times as wide as a gene. On a CPU a chunk of it stays in
    the cache, is forgotten in training, and computed again in the backward pass. A GPU wants few
    large kernels.
    """

    has_dropout: bool

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Return what is added to x (B, G, D)."""
        layers = super().forward
        if x.device.type != "cpu" or x.shape[:2].numel() <= TOKENS_PER_CHUNK:
            return layers(x)
        if torch.is_grad_enabled():
            layers = partial(
                checkpoint, layers, use_reentrant=False, preserve_rng_state=self.has_dropout
            )
        rows = x.flatten(0, 1)
        return torch.cat([layers(some) for some in rows.split(TOKENS_PER_CHUNK)]).view_as(x)


def build_encoder(settings: Network, seed: int) -> Performer:
    """Build the encoder; projections follow from the seed, one per layer."""
    encoder = Performer(
        dim=settings.dim,
        depth=settings.depth,
        heads=settings.heads,
        dim_head=settings.dim_head,
        nb_features=settings.n_features,
        ff_mult=settings.ff_mult,
        ff_dropout=settings.dropout,
        attn_dropout=settings.dropout,
        auto_check_redraw=False,
        qkv_bias=False,
    )
    for layer, (attention, feed_forward) in enumerate(encoder.net.layers):
        # Changed in place: weights keep performer-pytorch's names and first values.
        attention.fn.__class__ = MaskedSelfAttention
        feed_forward.__class__ = ChunkedFeedForward
        feed_forward.has_dropout = settings.dropout > 0
        attention.fn.fast_attention = _attention(settings, seed + layer)
    del encoder.proj_updater  # redraws are ours, and it holds every weight under a second name
    return encoder


def _attention(settings: Network, seed: int) -> torch.nn.Module:
    if settings.attention == "exact":
        return ExactAttention(settings.qk_rms)
    return PerformerAttention(
        settings.dim_head, settings.n_features, settings.stabilizer, seed, settings.qk_rms
    )


def compile_layers(encoder: Performer) -> None:
    """Let each layer's attention and feed-forward be compiled when they first run.

    All layers share what is compiled for one. It takes a minute on a GPU, once for each shape, so
    it pays where every batch has the same: packed cells, a constant number of tokens.
    """
    for attention, feed_forward in encoder.net.layers:
        attention.compile(dynamic=False)
        feed_forward.compile(dynamic=False)


def redraw_projections(encoder: Performer, seed: int) -> None:
    """Draw new random features in every layer; the same on every rank that calls with this seed."""
    generator = torch.Generator().manual_seed(seed)
    for module in encoder.modules():
        if isinstance(module, PerformerAttention):
            module.redraw(generator)
