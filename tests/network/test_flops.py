import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scbert.network.flops import FORWARD, THROUGH, TRAINING, Passes, passes_of, step_flop
from scbert.network.model import new_encoder

N_CELLS, N_GENES = 3, 40


def counted(encoder, *, backward):
    """What torch counts in products, attention spelled out: its fused kernel on CPUs is unknown."""
    genes = torch.arange(N_GENES).expand(N_CELLS, N_GENES)
    given = (genes, torch.ones_like(genes), torch.ones_like(genes, dtype=torch.bool))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = encoder(*given)
        if backward:
            found.sum().backward()
    return counter.get_total_flops()


def encoder_of(network):
    return new_encoder(network, 5, torch.zeros(N_GENES, network.dim), seed=0)


def needed(network, passes):
    return step_flop(network, np.full(N_CELLS, N_GENES), passes)


def test_exact_attention_needs_what_torch_counts(toy, config):
    """An odd width of the heads, so that no two products are alike."""
    network = toy.change(config.network, attention="exact", dim_head=5, ff_mult=3)
    encoder = encoder_of(network)
    assert needed(network, FORWARD) == counted(encoder, backward=False)
    assert needed(network, TRAINING) == counted(encoder, backward=True)


def test_random_features_need_what_torch_counts_in_a_forward_pass(toy, config):
    network = toy.change(config.network, attention="performer", dim_head=5, n_features=11)
    assert needed(network, FORWARD) == counted(encoder_of(network), backward=False)


def test_random_features_are_computed_again_and_that_is_not_needed(toy, config):
    """Queries, keys, values and their exponents, once more in the backward pass.

    The ones beside the values need no gradient, but were counted as if they did.
    """
    network = toy.change(config.network, attention="performer", dim_head=5, n_features=11)
    width = network.heads * network.dim_head
    again = 3 * network.dim * width + (2 * width - network.heads) * network.n_features
    more = network.depth * 2 * again * N_CELLS * N_GENES
    assert needed(network, TRAINING) + more == counted(encoder_of(network), backward=True)


def test_long_cells_need_the_square_of_their_length_with_exact_attention_only(toy, config):
    lengths = np.array([100, 300], dtype=np.int32)
    for attention, square in (("exact", True), ("performer", False)):
        network = toy.change(config.network, attention=attention)
        apart = sum(step_flop(network, lengths[[number]]) for number in (0, 1))
        equal = step_flop(network, np.array([200, 200]))
        assert step_flop(network, lengths) == pytest.approx(apart)
        assert (apart > 1.01 * equal) == square
    huge = np.full(2, 2**20, dtype=np.int32)  # whose squares are no int32
    assert step_flop(toy.change(config.network, attention="exact"), huge) > 1e12


def test_passes_are_those_of_what_is_trained(toy, config):
    """Of four layers: all, none, the third alone, and none but the vectors of bins."""
    encoder = encoder_of(toy.change(config.network, depth=4))
    assert passes_of(encoder) == TRAINING
    encoder.requires_grad_(requires_grad=False)
    assert passes_of(encoder) == FORWARD
    encoder.performer.net.layers[2].requires_grad_(requires_grad=True)
    assert passes_of(encoder) == Passes((1 + 1 + 3 + 2) / 4, (1 + 1 + 3 + 3) / 4)
    encoder.requires_grad_(requires_grad=False)
    encoder.token.requires_grad_(requires_grad=True)
    assert passes_of(encoder) == THROUGH


def test_passes_through_frozen_layers_are_what_torch_counts(toy, config):
    network = toy.change(config.network, attention="exact")
    encoder = encoder_of(network)
    encoder.performer.requires_grad_(requires_grad=False)
    assert needed(network, passes_of(encoder)) == counted(encoder, backward=True)
