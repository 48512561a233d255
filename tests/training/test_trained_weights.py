import pytest
import torch

from scbert.network.model import CellTypeModel, ConvHead, Encoder
from scbert.training.classification import choose_trained

N_BINS, N_GENES, N_TYPES = 5, 12, 3
GENES = torch.tensor([[0, 2, 3, 7, 11], [1, 2, 9, 4, 5]])
TOKENS = torch.tensor([[1, 5, 1, 2, 3], [4, 4, 1, 2, 2]])
REAL = torch.ones_like(GENES, dtype=torch.bool)


@pytest.fixture
def build(config, toy):
    """A model in which `choose_trained` has chosen."""

    def make(identity="trainable", depth=2, **settings):
        torch.manual_seed(0)
        network = toy.change(config.network, gene_identity=identity, depth=depth)
        vectors = torch.randn(N_GENES, network.dim, generator=torch.Generator().manual_seed(0))
        encoder = Encoder(network, N_BINS, vectors, seed=0)
        options = toy.change(config.finetune, dropout=0.0, **settings)
        made = ConvHead(network.dim, N_GENES, options, N_TYPES)
        model = CellTypeModel(encoder, made)
        choose_trained(model, options)
        return model

    return make


def train_a_little(model):
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(3):
        logits, _ = model(GENES, TOKENS, REAL)
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
        optimizer.step()
        optimizer.zero_grad()


def changed(model, fresh):
    """Names of the weights and projections that differ from those before training."""
    before, after = fresh.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


def parts(names):
    """head, token, gene, norm, and the numbers of the layers."""
    return {
        name.split(".")[4] if ".layers." in name else name.removeprefix("encoder.").split(".")[0]
        for name in names
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": "all"}, {"head", "token", "gene", "norm", "0", "1"}),
        ({"train": "all", "identity": "frozen"}, {"head", "token", "norm", "0", "1"}),
        ({"train": "all", "gene_identity": "frozen"}, {"head", "token", "norm", "0", "1"}),
        ({"train": "original"}, {"head", "norm", "0"}),
        ({"train": "head"}, {"head"}),
        ({"train": "head", "gene_identity": "trainable"}, {"head", "gene"}),
    ],
)
def test_exactly_what_is_named_is_trained(build, settings, expected):
    fresh, model = build(**settings), build(**settings)
    train_a_little(model)
    names = changed(model, fresh)
    assert parts(names) == expected
    assert not [name for name in names if "projection" in name]


def test_an_encoder_of_one_layer_has_none_but_the_last(build):
    with pytest.raises(ValueError, match=r"train is original.*but the encoder has 1\. Choose"):
        build(depth=1, train="original")
