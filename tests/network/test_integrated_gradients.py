import sys

import pytest
import torch

from scbert.network.integrated_gradients import integrated_gradients
from scbert.network.masking import mask_id
from scbert.network.model import CellTypeModel, new_encoder, new_head
from scbert.training.bundle import load_finetuned

pytest.importorskip("captum", reason="captum is not installed: extra [explain]")


@pytest.fixture(scope="module")
def model(config):
    vectors = torch.randn(30, config.network.dim, generator=torch.Generator().manual_seed(1))
    encoder = new_encoder(config.network, 5, vectors, seed=2)
    return CellTypeModel(
        encoder, new_head(config.finetune, config.network.dim, 30, 3, seed=3)
    ).eval()


@pytest.fixture
def cells():
    """The second cell is padded."""
    tokens = torch.randint(1, 6, (2, 30), generator=torch.Generator().manual_seed(3))
    real = torch.arange(30) < torch.tensor([[30], [22]])
    return torch.arange(30).expand(2, -1), torch.where(real, tokens, 7), real


def logits(model, genes, tokens, real):
    with torch.no_grad():
        return model(genes, tokens, real)[0]


@pytest.mark.parametrize(("baseline", "token"), [("mask", mask_id(5)), ("silent", 0)])
def test_values_add_up_to_the_difference_of_logits(model, cells, baseline, token):
    genes, tokens, real = cells
    found = integrated_gradients(model, *cells, 1, baseline=baseline, steps=200)
    nothing = torch.where(real, token, tokens)
    difference = (logits(model, *cells) - logits(model, genes, nothing, real))[:, 1]
    assert found.shape == (2, 30)
    assert (found.sum(dim=1) - difference).abs().max() < 0.01 * difference.abs().max()
    assert not found[~real].any()


def test_a_gene_at_its_baseline_gets_nothing(model, cells):
    genes, tokens, real = cells
    tokens[:, 4] = mask_id(5)
    found = integrated_gradients(model, genes, tokens, real, 0, baseline="mask", steps=8)
    assert not found[:, 4].any()
    assert found[:, :4].all()


def test_marker_genes_speak_for_their_type(toy, toy_run):
    """The ten planted markers of B cells are GENE1 to GENE10; a gene at random is one in eight."""
    bundle = load_finetuned(toy_run.model)
    symbols = bundle.genes.symbol.tolist()
    genes = torch.arange(len(symbols))[None]
    markers = [symbols.index(f"GENE{number}") for number in range(1, 11)]
    tokens = torch.ones_like(genes)
    tokens[0, markers] = 4
    real = torch.ones_like(genes, dtype=torch.bool)
    found = integrated_gradients(bundle.network, genes, tokens, real, 0, baseline="mask", steps=32)
    best = found[0].topk(10).indices.tolist()
    assert len(set(best) & set(markers)) >= 6


def test_an_unknown_type_is_refused(model, cells):
    with pytest.raises(ValueError, match=r"cell type 3 was asked for, but the model knows 0 to 2"):
        integrated_gradients(model, *cells, 3, baseline="mask", steps=2)


def test_without_captum_the_error_says_what_to_install(model, cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ValueError, match=r"need captum.*\[explain\]"):
        integrated_gradients(model, *cells, 0, baseline="mask", steps=2)
