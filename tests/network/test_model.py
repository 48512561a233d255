import pytest
import torch
from pydantic import ValidationError

from scbert.config import Finetune, Network
from scbert.network.masking import mask_id, padding_id
from scbert.network.model import (
    CellTypeModel,
    ConvHead,
    Encoder,
    MaskedExpressionModel,
)

N_BINS, N_GENES, N_TYPES = 5, 12, 3
PADDING = padding_id(N_BINS)


def change(settings, **values):
    return type(settings).model_validate(settings.model_dump() | values)


@pytest.fixture
def network(config):
    return config.network


@pytest.fixture
def finetuning(config):
    return config.finetune


def vectors(dim):
    return torch.randn(N_GENES, dim, generator=torch.Generator().manual_seed(0)) / 10


def build(network, finetuning, seed=0):
    torch.manual_seed(seed)
    encoder = Encoder(network, N_BINS, vectors(network.dim), seed)
    return CellTypeModel(encoder, ConvHead(network.dim, N_GENES, finetuning, N_TYPES)).eval()


def cells():
    """Cells of 5, 3 and 1 tokens; genes ascending, as in the store."""
    genes = torch.tensor([[0, 2, 3, 7, 11], [1, 2, 9, 0, 0], [4, 0, 0, 0, 0]])
    p = PADDING
    tokens = torch.tensor([[1, 5, 0, 2, 3], [4, 4, 1, p, p], [2, p, p, p, p]])
    return genes, tokens, tokens != PADDING


def test_the_encoder_adds_token_and_gene_vectors(network):
    """Without layers in between, x is the norm of token vector + gene vector."""
    encoder = Encoder(network, N_BINS, vectors(network.dim), seed=0).eval()
    encoder.performer.forward = lambda x, mask: x
    genes, tokens, real = cells()
    expected = encoder.norm(encoder.token.weight[3] + vectors(network.dim)[11])
    torch.testing.assert_close(encoder(genes, tokens, real)[0, 4], expected)


def test_bins_mask_and_padding_have_a_vector_each(network):
    encoder = Encoder(network, N_BINS, vectors(network.dim), seed=0)
    assert encoder.token.num_embeddings == N_BINS + 3 == max(mask_id(N_BINS), PADDING) + 1


@pytest.mark.parametrize("identity", ["frozen", "trainable"])
def test_gene_vectors_are_trained_on_only_if_wanted_and_the_given_ones_never_change(
    network, identity
):
    given = vectors(network.dim)
    kept = given.clone()
    encoder = Encoder(change(network, gene_identity=identity), N_BINS, given, seed=0)
    assert torch.equal(encoder.gene.weight, given)
    trained = [weight for weight in encoder.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    encoder(*cells()).square()[..., 0].sum().backward()
    optimizer.step()
    assert torch.equal(encoder.gene.weight, kept) == (identity == "frozen")
    assert torch.equal(given, kept)


def test_the_pretraining_model_gives_logits_of_every_bin(network):
    model = MaskedExpressionModel(
        Encoder(network, N_BINS, vectors(network.dim), seed=0), network.dim, N_BINS
    )
    assert model(*cells()).shape == (3, 5, N_BINS + 1)


def test_conv_head_puts_each_gene_in_its_place(network, finetuning):
    """Scalars 1 and 2 of genes 4 and 1: the first layer sees (0, 2, 0, 0, 1, 0, ...)."""
    head = ConvHead(2, N_GENES, finetuning, N_TYPES).eval()
    with torch.no_grad():
        head.to_scalar.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.to_scalar.bias.zero_()
    seen = []
    head.first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.tensor([[[1.0, 9.0], [2.0, 9.0], [-3.0, 9.0], [5.0, 9.0]]])
    genes = torch.tensor([[4, 1, 6, 0]])
    head(x, genes, torch.tensor([[True, True, True, False]]))
    expected = [0.0] * N_GENES
    expected[4], expected[1] = 1.0, 2.0  # gene 6 is negative before the ReLU, gene 0 is padding
    assert seen[0][0].tolist() == expected


def test_conv_head_ignores_the_weights_of_genes_that_are_no_tokens(network, finetuning):
    """Every token gives 1 or more here; padding has gene 0, which only the first cell holds."""
    model = build(network, finetuning)
    with torch.no_grad():
        model.head.to_scalar.bias.fill_(10.0)
        before, _ = model(*cells())
        model.head.first.weight[:, [5, 6, 8, 10]] = 1e6  # genes of no cell
        model.head.first.weight[:, 0] += 1e3
        after, _ = model(*cells())
    torch.testing.assert_close(after[1:], before[1:], atol=1e-6, rtol=0)
    assert (after[0] - before[0]).abs().max() > 1


def test_logits_do_not_depend_on_padding_or_batch_mates(network, finetuning):
    model = build(network, finetuning)
    genes, tokens, real = cells()
    logits, vectors_of_cells = model(genes, tokens, real)
    for cell, length in enumerate([5, 3, 1]):
        alone = (x[cell : cell + 1, :length] for x in (genes, tokens, real))
        alone_logits, alone_vectors = model(*alone)
        torch.testing.assert_close(alone_logits[0], logits[cell], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone_vectors[0], vectors_of_cells[cell], atol=1e-6, rtol=0)
    more = (torch.nn.functional.pad(genes, (0, 7)), torch.nn.functional.pad(tokens, (0, 7)))
    padded, _ = model(*more, torch.nn.functional.pad(real, (0, 7)))
    torch.testing.assert_close(padded, logits, atol=1e-6, rtol=0)


def test_logits_do_not_depend_on_the_order_of_genes_or_cells(network, finetuning):
    model = build(network, finetuning)
    genes, tokens, real = cells()
    logits, _ = model(genes, tokens, real)
    order, of_cells = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([1, 2, 0])
    permuted, _ = model(*(x[of_cells][:, order] for x in (genes, tokens, real)))
    torch.testing.assert_close(permuted, logits[of_cells], atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["performer", "exact"])
def test_a_cell_without_tokens_is_finite_and_the_same_in_every_batch(
    network, finetuning, attention
):
    """CellBatches makes it padding only: one position alone, five beside a longer cell."""
    model = build(change(network, attention=attention), finetuning)
    genes, tokens, real = cells()
    genes[2], tokens[2], real[2] = 0, PADDING, False
    logits, cell_vectors = model(genes, tokens, real)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(cell_vectors).all()
    alone, _ = model(genes[2:, :1], tokens[2:, :1], real[2:, :1])
    torch.testing.assert_close(alone[0], logits[2], atol=1e-6, rtol=0)
    logits.sum().backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    assert all(torch.isfinite(weight.grad).all() for weight in weights)


def test_inputs_are_left_alone(network, finetuning):
    given = cells()
    kept = [x.clone() for x in given]
    build(network, finetuning)(*given)
    assert all(torch.equal(x, y) for x, y in zip(given, kept, strict=True))


def test_the_head_gives_a_logit_per_type_and_its_first_layer(network, finetuning):
    logits, cell_vectors = build(network, finetuning)(*cells())
    assert logits.shape == (3, N_TYPES)
    assert cell_vectors.shape == (3, 16)


def test_the_head_takes_any_number_of_hidden_layers(network, finetuning):
    settings = change(finetuning, hidden=(8, 6, 4))
    made = ConvHead(network.dim, N_GENES, settings, N_TYPES)
    sizes = [m.out_features for m in made.modules() if isinstance(m, torch.nn.Linear)]
    assert sizes[-4:] == [8, 6, 4, N_TYPES]


def test_wrong_settings_are_refused(network, finetuning):
    with pytest.raises(ValidationError, match="'mean' or 'conv'"):
        Finetune.model_validate(finetuning.model_dump() | {"head": "hybrid"})
    with pytest.raises(ValidationError, match="multiple of heads"):
        Network.model_validate(network.model_dump() | {"dim": 15, "heads": 2})
