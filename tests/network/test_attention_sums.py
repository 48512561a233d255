import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.attention_sums import attention_sums, sums_of_attention
from scbert.network.inspection import look_into_layers
from scbert.network.model import new_encoder

KINDS = ["head", "cell", "exact"]


def attention_of(kind, dim_head=8, n_features=20):
    if kind == "exact":
        return ExactAttention()
    return PerformerAttention(dim_head, n_features, kind, seed=0).double()


def draw(n_cells=3, heads=2, n_genes=23, dim_head=8, scale=1.0, seed=0):
    """Queries, keys, and real genes: all, all but five, and a single one."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n_cells, heads, n_genes, dim_head)
    q, k = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    lengths = torch.tensor([n_genes, max(1, n_genes - 5), 1])[:n_cells]
    return q, k, torch.arange(n_genes) < lengths[:, None]


def matrices(attention, q, k, real):
    """The attention itself: what each gene gets if the values are one-hot; rows sum to one.

    Values are as wide as queries, so the columns come some at a time.
    """
    n_genes, width = q.shape[2:]
    one_hot = torch.eye(n_genes, n_genes + width, dtype=q.dtype).expand(*q.shape[:2], -1, -1)
    columns = one_hot[..., : -(-n_genes // width) * width].split(width, dim=-1)
    attended = [attention(q, k, some.contiguous(), real) for some in columns]
    return torch.cat(attended, dim=-1)[..., :n_genes]


def column_means(attention, q, k, real):
    rows = matrices(attention, q, k, real) * real[:, None, :, None]
    return rows.sum(dim=2) / real.sum(dim=1)[:, None, None]


def test_equal_keys_get_equal_attention():
    """Four genes with the same key: each gets a quarter from every gene."""
    q, k, real = draw(n_cells=1, n_genes=4)
    for kind in KINDS:
        sums = sums_of_attention(attention_of(kind), q, torch.ones_like(k), real)
        assert (sums - 0.25).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_sums_are_those_of_the_explicit_matrices(kind, scale, chunk):
    q, k, real = draw(scale=scale)
    attention = attention_of(kind)
    found = sums_of_attention(attention, q, k, real, chunk)
    assert (found - column_means(attention, q, k, real)).abs().max() < 1e-12
    assert (found.sum(dim=-1) - 1).abs().max() < 1e-12
    assert not found.masked_select(~real[:, None]).any()


@settings(deadline=None, max_examples=40)  # the first example waits for torch to start
@given(
    st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.integers()
)
def test_sums_hold_for_every_shape(kind, n_cells, heads, n_genes, seed):
    q, k, real = draw(n_cells, heads, n_genes, seed=seed % 1000)
    attention = attention_of(kind)
    found = sums_of_attention(attention, q, k, real, chunk=6)
    assert (found - column_means(attention, q, k, real)).abs().max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_padding_takes_no_part_even_where_it_is_huge(kind):
    q, k, real = draw()
    attention = attention_of(kind)
    expected = sums_of_attention(attention, q, k, real)
    q[~real[:, None].expand(-1, 2, -1)] = 1e3
    k[~real[:, None].expand(-1, 2, -1)] = 1e3
    assert torch.equal(sums_of_attention(attention, q, k, real), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_without_genes_has_no_attention(kind):
    q, k, real = draw()
    real[1] = False
    sums = sums_of_attention(attention_of(kind), q, k, real)
    assert not sums[1].any()
    assert (sums[[0, 2]].sum(dim=-1) - 1).abs().max() < 1e-12


def encoder_of(network, n_genes=30):
    vectors = torch.randn(n_genes, network.dim, generator=torch.Generator().manual_seed(1))
    return new_encoder(network, 5, vectors, seed=2).double().eval()


def cells_of(n_genes=30):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 6, (2, n_genes), generator=generator)
    real = torch.arange(n_genes) < torch.tensor([[n_genes], [n_genes - 8]])
    return torch.arange(n_genes).expand(2, -1), torch.where(real, tokens, 7), real


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rms", [None, 0.5])
def test_each_layer_is_looked_at_with_its_own_input(toy, config, kind, rms):
    """Against a network built layer by layer; the original took the input of the next layer."""
    options = {"attention": "exact"} if kind == "exact" else {"stabilizer": kind}
    encoder = encoder_of(toy.change(config.network, qk_rms=rms, **options))
    genes, tokens, real = cells_of()
    found = attention_sums(encoder, genes, tokens, real)
    assert found.shape == (2, 2, 2, 30)
    x = encoder.token(tokens) + encoder.gene(genes)
    late = []
    for number, (block, forward) in enumerate(encoder.performer.net.layers):
        attention = block.fn.fast_attention
        expected = column_means(attention, *queries_and_keys(block, x), real)
        assert (found[:, number] - expected).abs().max() < 1e-10
        x = x + block(x, mask=real)
        late.append(column_means(attention, *queries_and_keys(block, x), real))
        x = x + forward(x)
    assert (found - torch.stack(late, dim=1)).abs().max() > 1e-4  # so the comparison can fail


def queries_and_keys(block, x):
    normed = block.norm(x)
    return (
        project(normed).unflatten(-1, (block.fn.heads, -1)).transpose(1, 2)
        for project in (block.fn.to_q, block.fn.to_k)
    )


def test_looking_leaves_the_network_as_it_was(config):
    encoder = encoder_of(config.network)
    given = cells_of()
    before = encoder(*given)
    attention_sums(encoder, *given)
    assert torch.equal(encoder(*given), before)
    blocks = [attention.fn for attention, _ in encoder.performer.net.layers]
    assert not any(block._forward_pre_hooks for block in blocks)

    def fail(*_):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        look_into_layers(encoder, *given, fail)
    assert not any(block._forward_pre_hooks for block in blocks)


def test_a_cells_sums_do_not_depend_on_its_batch(config):
    encoder = encoder_of(config.network)
    genes, tokens, real = cells_of()
    together = attention_sums(encoder, genes, tokens, real)
    alone = attention_sums(encoder, genes[1:, :22], tokens[1:, :22], real[1:, :22])
    assert (together[1:, ..., :22] - alone).abs().max() < 1e-12
