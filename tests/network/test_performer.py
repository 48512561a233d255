import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from scbert.config import Network
from scbert.network import performer
from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.performer import (
    MaskedSelfAttention,
    Performer,
    build_encoder,
    redraw_projections,
)

KINDS = pytest.mark.parametrize("kind", ["performer", "exact"])


@pytest.fixture
def settings(config):
    return config.network


def build(settings, seed=0, weights=0):
    torch.manual_seed(weights)
    return build_encoder(settings, seed).eval()


def change(settings, **values):
    return Network.model_validate(settings.model_dump() | values)


def cells(dim, n_cells=3, n_genes=6):
    generator = torch.Generator().manual_seed(0)
    x_BGD = torch.randn(n_cells, n_genes, dim, generator=generator)
    real_BG = torch.arange(n_genes) < torch.tensor([6, 4, 2])[:, None]
    return x_BGD, real_BG


def projections(encoder):
    return [m.projection_ME for m in encoder.modules() if isinstance(m, PerformerAttention)]


def test_the_encoder_is_performer_pytorchs_and_the_attention_ours(settings):
    encoder = build(settings)
    assert type(encoder) is Performer
    layers = [attention.fn for attention, _ in encoder.net.layers]
    assert [type(layer) for layer in layers] == [MaskedSelfAttention] * settings.depth
    assert all(type(layer.fast_attention) is PerformerAttention for layer in layers)
    exact = build(change(settings, attention="exact"))
    assert {type(a.fn.fast_attention) for a, _ in exact.net.layers} == {ExactAttention}


@KINDS
def test_queries_and_keys_are_scaled_as_the_settings_say(settings, kind):
    encoders = [build(change(settings, attention=kind, qk_rms=rms)) for rms in (None, 0.5)]
    x_BGD, real_BG = cells(settings.dim)
    as_they_come, scaled = (encoder(x_BGD, mask=real_BG) for encoder in encoders)
    assert {a.fn.fast_attention.qk_rms for a, _ in encoders[1].net.layers} == {0.5}
    assert not torch.equal(as_they_come, scaled)
    states = [encoder.state_dict() for encoder in encoders]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_encoder_without_padding_is_performer_pytorchs_own(settings):
    """Same weights, same projections, its own attention: only rounding differs."""
    encoder = build(settings)
    original = Performer(
        dim=settings.dim,
        depth=settings.depth,
        heads=settings.heads,
        dim_head=settings.dim_head,
        nb_features=settings.n_features,
        ff_mult=settings.ff_mult,
        auto_check_redraw=False,
        qkv_bias=False,
    ).eval()
    ours = encoder.state_dict()
    shared = {
        key: ours[key.replace("projection_matrix", "projection_ME")]
        for key in original.state_dict()
        if not key.startswith("proj_updater")
    }
    assert len(shared) == len(ours)
    assert not original.load_state_dict(shared, strict=False).unexpected_keys
    x_BGD, _ = cells(settings.dim)
    everything = torch.ones(x_BGD.shape[:2], dtype=torch.bool)
    torch.testing.assert_close(encoder(x_BGD, mask=everything), original(x_BGD), atol=2e-5, rtol=0)


@KINDS
def test_masked_genes_change_nothing(settings, kind):
    encoder = build(change(settings, attention=kind))
    x_BGD, real_BG = cells(settings.dim)
    found = encoder(x_BGD, mask=real_BG)
    other = torch.where(real_BG[..., None], x_BGD, torch.full_like(x_BGD, -30.0))
    torch.testing.assert_close(
        encoder(other, mask=real_BG)[real_BG], found[real_BG], atol=1e-6, rtol=0
    )
    seen = x_BGD.clone()
    seen[0, 5] *= -1  # a real gene does change the others
    assert (encoder(seen, mask=real_BG)[0, :5] - found[0, :5]).abs().max() > 1e-4


@KINDS
def test_a_cell_depends_neither_on_its_batch_mates_nor_on_their_order(settings, kind):
    encoder = build(change(settings, attention=kind))
    x_BGD, real_BG = cells(settings.dim)
    together = encoder(x_BGD, mask=real_BG)
    for cell, length in enumerate([6, 4, 2]):
        alone = encoder(x_BGD[cell : cell + 1, :length], mask=real_BG[cell : cell + 1, :length])
        torch.testing.assert_close(alone[0], together[cell, :length], atol=1e-6, rtol=0)
    genes = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = encoder(x_BGD[[2, 0, 1]][:, genes], mask=real_BG[[2, 0, 1]][:, genes])
    expected = together[[2, 0, 1]][:, genes]
    mask = real_BG[[2, 0, 1]][:, genes]
    torch.testing.assert_close(permuted[mask], expected[mask], atol=1e-6, rtol=0)


@KINDS
def test_a_cell_without_genes_is_finite_and_changes_no_other(settings, kind):
    encoder = build(change(settings, attention=kind))
    x_BGD, real_BG = cells(settings.dim)
    before = encoder(x_BGD, mask=real_BG)
    real_BG[1] = False
    found = encoder(x_BGD, mask=real_BG)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[[0, 2]], before[[0, 2]], atol=1e-6, rtol=0)
    found.square().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in encoder.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_feed_forward_layer_in_chunks_has_the_same_output_and_gradients(
    settings, monkeypatch, dropout
):
    """With dropout, the second computation must drop what the first did: a test of its seed.

    Where chunks draw dropout for themselves, so does the whole: only 0 compares bits with it.
    """
    encoder = build(change(settings, dropout=dropout)).train()
    x_BGD, real_BG = cells(settings.dim)
    results = []
    for tokens in (1024, 5, 5):  # 18 in all
        monkeypatch.setattr(performer, "TOKENS_PER_CHUNK", tokens)
        encoder.zero_grad()
        torch.manual_seed(0)
        x = x_BGD.clone().requires_grad_()
        out = encoder(x, mask=real_BG)
        out[real_BG].square().sum().backward()
        gradients = [weight.grad.clone() for weight in encoder.parameters()]
        results.append([out.detach(), x.grad, *gradients])
    assert all(torch.equal(one, two) for one, two in zip(*results[1:], strict=True))
    if dropout == 0:
        for one, two in zip(*results[:2], strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_dropout_is_the_same_when_the_feed_forward_layer_is_computed_again(settings, monkeypatch):
    """A finite difference: were other numbers dropped in the backward pass, it would not fit."""
    monkeypatch.setattr(performer, "TOKENS_PER_CHUNK", 5)
    encoder = build(change(settings, dropout=0.3)).train().double()
    x_BGD, real_BG = cells(settings.dim)
    direction = torch.randn(x_BGD.shape, generator=torch.Generator().manual_seed(1)).double()

    def loss(x):
        torch.manual_seed(0)
        return encoder(x, mask=real_BG)[real_BG].square().sum()

    x = x_BGD.double().requires_grad_()
    loss(x).backward()
    slope = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    assert (x.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-2)


def test_no_weight_has_two_names(settings):
    """performer-pytorch keeps the network a second time, in its updater of projections."""
    tensors = build(settings).state_dict()
    assert len({value.data_ptr() for value in tensors.values()}) == len(tensors)
    assert not [key for key in tensors if "proj_updater" in key]


def test_the_same_seed_gives_the_same_bits(settings):
    first, again, other = build(settings, 1), build(settings, 1), build(settings, 2)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert torch.equal(value, other.state_dict()[key]) == ("projection" not in key)


def test_each_layer_has_projections_of_its_own(settings):
    first, second = projections(build(settings))
    assert first.shape == (settings.n_features, settings.dim_head)
    assert not torch.equal(first, second)


def test_redraw_changes_all_layers_and_is_the_same_for_the_same_seed(settings):
    encoder, twin = build(settings), build(settings, seed=9)
    before = [matrix.clone() for matrix in projections(encoder)]
    weights = {key: value.clone() for key, value in encoder.named_parameters()}
    redraw_projections(encoder, seed=5)
    redraw_projections(twin, seed=5)
    after = projections(encoder)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(after, projections(twin), strict=True))
    assert not torch.equal(after[0], after[1])
    assert all(torch.equal(weights[key], value) for key, value in encoder.named_parameters())
    redraw_projections(encoder, seed=6)
    assert not torch.equal(after[0], projections(twin)[0])


def test_redraw_leaves_exact_attention_alone(settings):
    encoder = build(change(settings, attention="exact"))
    kept = {key: value.clone() for key, value in encoder.state_dict().items()}
    redraw_projections(encoder, seed=5)
    assert all(torch.equal(kept[key], value) for key, value in encoder.state_dict().items())


def test_dropout_acts_in_training_only(settings):
    encoder = build(change(settings, dropout=0.5))
    x_BGD, real_BG = cells(settings.dim)
    assert torch.equal(encoder(x_BGD, mask=real_BG), encoder(x_BGD, mask=real_BG))
    encoder.train()
    assert not torch.equal(encoder(x_BGD, mask=real_BG), encoder(x_BGD, mask=real_BG))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attention": "linear"}, "'performer' or 'exact'"),
        ({"stabilizer": "none"}, "'head' or 'cell'"),
        ({"n_features": 0}, "greater than or equal to 1"),
        ({"qk_rms": 0}, "greater than 0"),
        ({"dim": 18, "heads": 4}, "dim is 18, but it must be a multiple of heads"),
        ({"rotary": True}, "Extra inputs are not permitted"),
    ],
)
def test_unknown_settings_are_refused(settings, values, message):
    with pytest.raises(ValidationError, match=message):
        change(settings, **values)


@pytest.mark.slow
def test_importing_the_package_warns_of_nothing():
    """performer-pytorch asks distutils for a version; a user with -W error could not import.

    Nor does it bring PyTorch's compiler, for whose import each command would take two seconds.
    """
    code = "import sys, scbert.network.model; assert 'torch._dynamo' not in sys.modules"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
