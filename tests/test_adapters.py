import pytest
import torch

from scbert.network.adapters import choose_trained, merge
from scbert.network.heads import ConvHead
from scbert.network.model import CellTypeModel, Encoder

N_BINS, N_GENES, N_TYPES = 5, 12, 3
GENES = torch.tensor([[0, 2, 3, 7, 11], [1, 2, 9, 4, 5]])
TOKENS = torch.tensor([[1, 5, 1, 2, 3], [4, 4, 1, 2, 2]])
REAL = torch.ones_like(GENES, dtype=torch.bool)


@pytest.fixture
def build(config, toy):
    """A model in which `choose_trained` has chosen."""

    def make(identity="trainable", **settings):
        torch.manual_seed(0)
        network = toy.change(config.network, gene_identity=identity)
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
        ({"train": "last", "last_layers": 1}, {"head", "norm", "1"}),
        ({"train": "last", "last_layers": 2}, {"head", "norm", "0", "1"}),
        ({"train": "original"}, {"head", "norm", "0"}),
        ({"train": "head"}, {"head"}),
        ({"train": "head", "gene_identity": "trainable"}, {"head", "gene"}),
        ({"train": "head", "gene_identity": "residual"}, {"head", "gene"}),
        ({"train": "lora"}, {"head", "0", "1"}),
    ],
)
def test_exactly_what_is_named_is_trained(build, settings, expected):
    fresh, model = build(**settings), build(**settings)
    train_a_little(model)
    merge(fresh)
    merge(model)
    names = changed(model, fresh)
    assert parts(names) == expected
    assert not [name for name in names if "projection" in name]


@pytest.mark.parametrize("settings", [{"train": "lora"}, {"gene_identity": "residual"}])
def test_additions_start_at_zero_and_merge_into_the_weights(build, settings):
    """After merging a model has the weights of one without additions, and gives the same logits."""
    plain, model = build(train="all"), build(**settings)
    given = (GENES, TOKENS, REAL)
    torch.testing.assert_close(model(*given)[0], plain(*given)[0])
    train_a_little(model)
    expected = model(*given)[0]
    merge(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(model(*given)[0], expected)
    assert (expected - plain(*given)[0]).abs().max() > 1e-3


def test_lora_reaches_queries_keys_values_output_and_feed_forward(build):
    """Attention reads the weights by hand, and would not see a layer that is wrapped."""
    fresh, model = build(train="lora"), build(train="lora")
    train_a_little(model)
    merge(fresh)
    merge(model)
    layers = {
        name.split("layers.")[1] for name in changed(model, fresh) if not name.startswith("head")
    }
    ends = ("0.fn.to_q", "0.fn.to_k", "0.fn.to_v", "0.fn.to_out", "1.fn.fn.w1", "1.fn.fn.w2")
    assert layers == {f"{layer}.{end}.weight" for layer in (0, 1) for end in ends}


def test_lora_trains_the_rank_times_the_widths(build):
    model = build(train="lora", lora={"rank": 2, "alpha": 4.0})
    added = sum(w.numel() for w in model.encoder.parameters() if w.requires_grad)
    per_layer = 2 * (4 * (16 + 16) + 2 * (16 + 32))  # dim 16, 2 heads of 8, hidden 32
    assert added == 2 * per_layer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "last", "last_layers": 3}, "needs 3 layers, but the encoder has 2"),
        ({"train": "original"}, "needs 2 layers, but the encoder has 1"),
    ],
)
def test_too_few_layers_are_refused(build, config, toy, monkeypatch, settings, message):
    if settings["train"] == "original":
        network = toy.change(config.network, depth=1)
        config = config.model_copy(update={"network": network})
        encoder = Encoder(network, N_BINS, torch.zeros(N_GENES, network.dim), seed=0)
        options = toy.change(config.finetune, **settings)
        head = ConvHead(network.dim, N_GENES, options, N_TYPES)
        with pytest.raises(ValueError, match=message):
            choose_trained(CellTypeModel(encoder, head), options)
    else:
        with pytest.raises(ValueError, match=message):
            build(**settings)
