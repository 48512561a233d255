import numpy as np
import pytest
import torch
from scipy import sparse

from benchmarks.objective_variants import (
    CellDecoder,
    Counts,
    ResidualModel,
    draw_silent,
    mean_over_genes,
    thin,
    thinned_batches,
    tokens_of,
)
from scbert.evidence.bin_predictors import gene_part
from scbert.network.masking import mask_tokens
from scbert.training.batches import CellBatches
from scbert.training.new_models import new_pretraining_model


@pytest.fixture
def counts():
    """Eight cells of 60 genes, about 42 counts each, and as many of genes that are not known."""
    matrix = sparse.csr_matrix(np.random.default_rng(0).poisson(0.7, (8, 60)).astype(np.float64))
    return Counts(matrix, 2 * np.asarray(matrix.sum(axis=1)).ravel())


@pytest.fixture
def batch(counts):
    store = tokens_of(counts, 10_000, 5)
    return CellBatches(store, "expressed_genes", 5, 1024).make(np.arange(8))


@pytest.fixture
def model(config):
    return new_pretraining_model(config.network, 5, torch.randn(60, config.network.dim), 0)


def test_thin_keeps_the_share_of_the_molecules(counts):
    """A hundred draws of about 670 molecules with share 0.25: 0.25 within five standard errors."""
    rng = np.random.default_rng(1)
    drawn = [thin(counts, np.full(8, 0.25), rng) for _ in range(100)]
    for thinned in drawn:
        assert (thinned.matrix.toarray() <= counts.matrix.toarray()).all()
    error = np.sqrt(0.25 * 0.75 / (100 * counts.library.sum()))
    kept = sum(thinned.library.sum() for thinned in drawn) / (100 * counts.library.sum())
    assert kept == pytest.approx(0.25, abs=5 * error)
    whole = thin(counts, np.ones(8), rng)
    assert (whole.matrix != counts.matrix).nnz == 0
    assert np.array_equal(whole.library, counts.library)


def test_thinned_batches_are_the_same_for_the_same_seed(counts):
    cells = CellBatches(tokens_of(counts, 10_000, 5), "expressed_genes", 5, 1024)
    rows = np.array([5, 2, 7])
    first, again, other = (thinned_batches(cells, counts, 0.3, 10_000, s)(rows) for s in (1, 1, 2))
    assert first.rows.tolist() == rows.tolist()
    assert torch.equal(first.tokens_BG, again.tokens_BG)
    assert first.real_BG.sum() < cells.make(rows).real_BG.sum()
    assert first.tokens_BG.shape != other.tokens_BG.shape or not torch.equal(
        first.tokens_BG, other.tokens_BG
    )


def test_residual_model_predicts_the_gene_where_the_network_is_silent(model, batch):
    gene_VT = gene_part(np.random.default_rng(2).integers(0, 9, (60, 5)))
    for weight in model.to_bins.parameters():
        weight.data.zero_()
    logits_BGT = ResidualModel(model, gene_VT)(batch.genes_BG, batch.tokens_BG, batch.real_BG)
    expected = torch.from_numpy(gene_VT).float()[batch.genes_BG]
    torch.testing.assert_close(logits_BGT[..., 1:], expected)
    assert (logits_BGT[..., 0] == -10).all()


def test_draw_silent_never_draws_a_token_of_the_cell(model, batch):
    generator = torch.Generator().manual_seed(0)
    drawn_BG = draw_silent(batch, model.encoder, batch.real_BG & (batch.genes_BG < 9), generator)
    for genes, real, drawn in zip(batch.genes_BG, batch.real_BG, drawn_BG, strict=True):
        own, asked = genes[real], drawn[: int((genes[real] < 9).sum())]
        assert not set(asked.tolist()) & set(own.tolist())
        assert len(set(asked.tolist())) == len(asked)


def test_cell_decoder_teaches_the_encoder_through_the_mean_vector(model, batch):
    decoder, generator = CellDecoder(model, 0), torch.Generator().manual_seed(0)
    hidden_BG, targets_BG = mask_tokens(batch.tokens_BG, 5, 0.15, 0.9, generator)
    for weight in decoder.to_bins.parameters():
        weight.data.zero_()
    decoder.loss(batch, hidden_BG, targets_BG, generator).backward()
    assert decoder.encoder.token.weight.grad.abs().sum() > 0


def test_mean_over_genes_leaves_out_padding():
    x_BGD = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert mean_over_genes(x_BGD, torch.tensor([[True, True, False]])).item() == 2.0
