from dataclasses import asdict

import pytest
import torch

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.attention_sums import attention_sums, sums_of_attention
from scbert.network.diagnostics import diagnose_attention
from scbert.network.favor import FEATURES_ELSEWHERE
from scbert.network.inspection import genes_at_once
from tests.network.test_attention_sums import KINDS, attention_of, cells_of, draw, encoder_of

PAPER = PerformerAttention(64, 266, "head", seed=0)


def on(device, n_cells, n_genes, heads=10):
    """Queries of the paper's size; those of the device `meta` take no memory."""
    return torch.empty(n_cells, heads, n_genes, 64, device=device)


def test_on_a_cpu_a_chunk_stays_in_the_cache_whatever_the_cells():
    for n_cells, n_genes in ((1, 100), (70, 900)):
        assert genes_at_once(PAPER, on("cpu", n_cells, n_genes)) == 64
        assert genes_at_once(ExactAttention(), on("cpu", n_cells, n_genes)) == 6  # 64 / 10 heads
    assert genes_at_once(ExactAttention(), on("cpu", 1, 10, heads=100)) == 1


@pytest.mark.parametrize(("n_cells", "n_genes"), [(1, 16_907), (72, 900), (8, 3_000)])
def test_elsewhere_a_cell_takes_few_chunks_of_bounded_memory(n_cells, n_genes):
    """With 64 genes at a time a cell of all genes took 265 chunks, three times in each layer."""
    x = on("meta", n_cells, n_genes)
    for attention, numbers in ((PAPER, 266), (ExactAttention(), n_genes)):
        chunk = genes_at_once(attention, x)
        assert chunk * n_cells * 10 * numbers <= FEATURES_ELSEWHERE
        assert -(-n_genes // chunk) <= 45
    assert genes_at_once(PAPER, on("meta", 1, 16_907)) > 16_907  # one
    assert genes_at_once(ExactAttention(), on("meta", 10_000, 10_000)) == 1
    assert genes_at_once(PAPER, on("meta", 0, 0)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_the_same_in_one_chunk_and_in_many(kind):
    q, k, real = draw(n_genes=90)
    attention = attention_of(kind)
    found = [sums_of_attention(attention, q, k, real, chunk) for chunk in (None, 5, 64, 10_000)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("options", [{"attention": "exact"}, {}])
def test_what_is_told_of_a_network_does_not_depend_on_the_chunk(toy, config, monkeypatch, options):
    encoder = encoder_of(toy.change(config.network, **options))
    given = cells_of()
    sums, diagnosis = attention_sums(encoder, *given), diagnose_attention(encoder, *given, seed=0)
    for module in ("attention_sums", "diagnostics"):
        monkeypatch.setattr(f"scbert.network.{module}.genes_at_once", lambda *_: 7)
    torch.testing.assert_close(attention_sums(encoder, *given), sums, atol=1e-14, rtol=1e-12)
    for layer, other in zip(diagnosis, diagnose_attention(encoder, *given, seed=0), strict=True):
        assert asdict(other) == pytest.approx(asdict(layer), abs=1e-12)
