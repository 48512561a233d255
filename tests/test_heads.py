import numpy as np
import pytest
import torch

from scbert.network.heads import build_head

N_BINS, N_GENES, N_TYPES, DIM = 5, 6, 3, 8
MASK, PADDING = N_BINS + 1, N_BINS + 2


@pytest.fixture(params=["hybrid", "hybrid_conv"])
def head(config, toy, request):
    """Weight 1 of gene 1 for type 0, 10 of gene 4 for type 1; type 2 has bias 0.5 alone."""
    torch.manual_seed(0)
    settings = toy.change(config.finetune, head=request.param, hidden=(DIM,))
    made = build_head(settings, DIM, N_GENES, N_TYPES, N_BINS)
    weight = torch.zeros(N_TYPES, N_GENES)
    weight[0, 1], weight[1, 4] = 1.0, 10.0
    made.start_at(weight, torch.tensor([0.0, 0.0, 0.5]))
    return made.eval()


def cell():
    """Gene 1 in bin 5, gene 4 in bin 2, a masked gene 0, and padding."""
    genes = torch.tensor([[1, 4, 0, 0]])
    tokens = torch.tensor([[5, 2, MASK, PADDING]])
    x = torch.randn(1, 4, DIM, generator=torch.Generator().manual_seed(1))
    return x, genes, tokens, tokens != PADDING


def test_with_share_zero_a_hybrid_head_is_the_linear_model(head):
    """5/5 x 1, 2/5 x 10, and the bias, whatever x is."""
    head.share.zero_()
    logits, vectors = head(*cell())
    assert logits.tolist() == [[1.0, 4.0, 0.5]]
    assert vectors.shape == (1, DIM)
    assert vectors.abs().max() > 0


def test_hybrid_head_counts_masked_genes_and_padding_as_silent(head):
    with torch.no_grad():
        head.share.zero_()
        head.linear.weight[:, 0] = 1e6
    assert head(*cell())[0].tolist() == [[1.0, 4.0, 0.5]]


def test_logits_are_the_linear_half_and_a_share_of_the_encoders(head):
    head.share.fill_(0.3)
    logits, _ = head(*cell())
    halves, _ = head.halves(*cell())
    assert set(halves) == {"expression", "encoder"}
    assert halves["encoder"].abs().max() > 0.01
    torch.testing.assert_close(halves["expression"] + 0.3 * halves["encoder"], logits)


def test_the_share_is_kept_with_the_weights_and_is_not_trained(head):
    assert "share" in head.state_dict()
    assert "share" not in dict(head.named_parameters())


def test_both_halves_are_trained(head):
    logits, _ = head(*cell())
    logits[0, 0].backward()
    last = head.branch.classify[-1].weight.grad
    assert last[0].abs().max() > 0
    assert head.linear.weight.grad[0].tolist() == pytest.approx([0, 1, 0, 0, 0.4, 0])


def test_start_at_gives_a_token_that_is_no_gene_weight_zero(head):
    """Sequence `paper` has one more position than the vocabulary has genes."""
    head.start_at(torch.ones(N_TYPES, N_GENES - 1), torch.zeros(N_TYPES))
    assert head.linear.weight[:, -1].tolist() == [0.0] * N_TYPES
    assert np.array_equal(head.linear.weight[:, :-1].detach(), np.ones((N_TYPES, N_GENES - 1)))


def test_contributions_are_what_each_token_adds_to_the_linear_half(head):
    _, *given = cell()
    assert head.contributions(*given, cell_type=1).tolist() == [[0.0, 4.0, 0.0, 0.0]]
