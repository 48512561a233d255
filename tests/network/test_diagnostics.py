import pytest
import torch

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.diagnostics import _look_at_cell, diagnose_attention
from scbert.network.model import new_encoder
from tests.network.test_attention_sums import cells_of, draw, encoder_of, matrices


def look(attention, q, k, real):
    return _look_at_cell(attention, q[:1], k[:1], real[:1])


def test_equal_keys_are_attended_to_equally():
    q, k, real = draw(n_cells=1, n_genes=4)
    at_floor, uniform, softmax = look(
        PerformerAttention(8, 20, "head", seed=0).double(), q, torch.zeros_like(k), real
    )
    assert (at_floor == 0).all()  # exp(0 - 0 - 0) = 1
    assert uniform.max() < 1e-12
    assert softmax.max() < 1e-12


@pytest.mark.parametrize("stabilizer", ["head", "cell"])
def test_distances_are_those_of_the_explicit_matrices(stabilizer):
    q, k, real = draw(n_cells=2)
    real = real[1:]  # with padding
    attention = PerformerAttention(8, 20, stabilizer, seed=0).double()
    _, uniform, softmax = _look_at_cell(attention, q[1:], k[1:], real)
    ours = matrices(attention, q[1:], k[1:], real)
    exact = matrices(ExactAttention(), q[1:], k[1:], real)
    equal = real / real.sum()
    for found, other in ((uniform, equal), (softmax, exact)):
        expected = (ours - other).abs().sum(dim=-1).mean(dim=-1)[0] / 2
        assert (found - expected).abs().max() < 1e-12


def test_large_keys_fall_to_the_floor_and_attention_becomes_uniform():
    """The collapse of the original: a tenfold scale puts nearly all features at the floor."""
    q, k, real = draw(n_cells=1, n_genes=200, dim_head=64)
    attention = PerformerAttention(64, 266, "cell", seed=0).double()
    small = look(attention, 0.3 * q, 0.3 * k, real)
    large = look(attention, 3 * q, 3 * k, real)
    assert small[0].max() < 0.2
    assert large[0].min() > 0.99
    assert large[1].max() < 0.2
    assert large[2].min() > 0.5  # softmax attention is far from uniform there


@pytest.mark.parametrize("stabilizer", ["head", "cell"])
def test_scaled_queries_and_keys_do_not_collapse_however_large_the_weights(toy, config, stabilizer):
    """The same network, its weights of queries and keys made larger, with qk_rms and without."""
    found = []
    for rms in (None, 0.5):
        encoder = encoder_of(toy.change(config.network, stabilizer=stabilizer, qk_rms=rms))
        for attention, _ in encoder.performer.net.layers:
            attention.fn.to_q.weight.data *= 20
            attention.fn.to_k.weight.data *= 20
        found.append(diagnose_attention(encoder, *cells_of(), seed=0))
    assert all(layer.collapsed for layer in found[0])
    for fallen, layer in zip(*found, strict=True):
        assert not layer.collapsed
        assert layer.at_floor < 0.1
        assert layer.from_softmax < fallen.from_softmax / 2


def test_exact_attention_has_no_floor(toy, config):
    encoder = encoder_of(toy.change(config.network, attention="exact"))
    found = diagnose_attention(encoder, *cells_of(), seed=0)
    assert [layer.layer for layer in found] == [1, 2]
    for layer in found:
        assert layer.at_floor is None
        assert not layer.collapsed
        assert layer.from_softmax == 0
        assert 0 < layer.least_from_uniform <= layer.from_uniform < 1


def test_padding_and_the_seed_do_not_change_a_cells_numbers(config):
    """The queries are chosen among real genes; with other ones the mean is nearly the same."""
    vectors = torch.randn(30, config.network.dim, generator=torch.Generator().manual_seed(1))
    encoder = new_encoder(config.network, 5, vectors, seed=2).eval()
    genes, tokens, real = cells_of()
    padded = diagnose_attention(encoder, genes[1:], tokens[1:], real[1:], seed=0)
    short = diagnose_attention(encoder, genes[1:, :22], tokens[1:, :22], real[1:, :22], seed=0)
    other = diagnose_attention(encoder, genes[1:], tokens[1:], real[1:], seed=1)
    for layer in (0, 1):
        assert padded[layer].at_floor == pytest.approx(short[layer].at_floor, abs=1e-6)
        for found in (short, other):
            expected = pytest.approx(found[layer].from_uniform, rel=0.2)
            assert padded[layer].from_uniform == expected
        assert padded[layer].most_from_uniform >= padded[layer].from_uniform
