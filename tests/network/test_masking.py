import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scbert.network.masking import (
    NOT_A_TARGET,
    hide_tokens,
    mask_id,
    mask_tokens,
    padding_id,
)
from scbert.steps.pretrain import masked_loss
from scbert.training.mini_batch import MiniBatch

N_BINS = 5
MASK, PADDING = mask_id(N_BINS), padding_id(N_BINS)


def mask(tokens, mask_prob=0.15, replace_prob=1.0, seed=0, n_bins=N_BINS):
    generator = torch.Generator().manual_seed(seed)
    return mask_tokens(tokens, n_bins, mask_prob, replace_prob, generator)


def draw_tokens(n_cells, n_genes, seed=0, n_bins=N_BINS):
    """Bins from 0 up, and a different number of padded positions in each cell."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, n_bins + 1, (n_cells, n_genes), generator=generator)
    lengths = torch.randint(0, n_genes + 1, (n_cells, 1), generator=generator)
    return torch.where(torch.arange(n_genes) < lengths, tokens, padding_id(n_bins))


def test_mask_tokens_of_one_cell():
    """Seven expressed genes: 15 % is 1.05, so two are asked for; with 1.0 both are hidden."""
    tokens = torch.tensor([[1, 0, 2, 3, 4, 5, 5, 1, PADDING]])
    hidden, targets = mask(tokens)
    asked = (targets != NOT_A_TARGET)[0]
    assert asked.sum() == 2
    assert (hidden[0, asked] == MASK).all()
    assert torch.equal(targets[0, asked], tokens[0, asked])
    assert torch.equal(hidden[0, ~asked], tokens[0, ~asked])
    assert not asked[1]
    assert not asked[8]


def test_mask_padding_and_bins_are_all_different():
    """The original shares one id between mask and padding."""
    assert (MASK, PADDING) == (6, 7)
    assert len({*range(N_BINS + 1), MASK, PADDING}) == N_BINS + 3


def test_targets_are_fifteen_percent_rounded_up():
    """Against whole numbers: ceil(15 n / 100), for each n up to 400."""
    tokens = torch.where(torch.arange(400) < torch.arange(401)[:, None], 3, 0)
    _, targets = mask(tokens)
    expected = torch.tensor([-(-15 * n // 100) for n in range(401)])
    assert torch.equal((targets != NOT_A_TARGET).sum(dim=1), expected)


@settings(deadline=None, max_examples=60)  # the first example waits for torch to start
@given(
    n_cells=st.integers(1, 6),
    n_genes=st.integers(0, 40),
    n_bins=st.integers(1, 9),
    mask_prob=st.floats(0.01, 0.99),
    replace_prob=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_mask_tokens_holds_for_every_shape(n_cells, n_genes, n_bins, mask_prob, replace_prob, seed):
    tokens = draw_tokens(n_cells, n_genes, seed, n_bins)
    kept = tokens.clone()
    hidden, targets = mask(tokens, mask_prob, replace_prob, seed, n_bins)
    expressed = (tokens >= 1) & (tokens <= n_bins)
    asked = targets != NOT_A_TARGET
    n_expressed = expressed.sum(dim=1).double()
    assert torch.equal(asked.sum(dim=1), torch.ceil(n_expressed * mask_prob).long())
    assert not (asked & ~expressed).any()
    assert torch.equal(targets[asked], tokens[asked])
    changed = hidden != tokens
    assert not (changed & ~asked).any()
    assert (hidden[changed] == mask_id(n_bins)).all()
    assert torch.equal(tokens, kept)


def test_replace_prob_is_the_share_that_is_hidden():
    """30,000 targets: a share of 0.9 is known to 0.0017, so 0.01 is almost six times that."""
    tokens = torch.full((100, 2000), 2)
    hidden, targets = mask(tokens, replace_prob=0.9)
    asked = targets != NOT_A_TARGET
    assert asked.sum() == 30_000
    assert (hidden[asked] == MASK).double().mean().item() == pytest.approx(0.9, abs=0.01)


def test_every_expressed_gene_is_asked_for_equally_often():
    """20,000 cells of ten genes, two targets each: a share of 0.2 is known to 0.003."""
    _, targets = mask(torch.full((20_000, 10), 4))
    share = (targets != NOT_A_TARGET).double().mean(dim=0)
    assert (share - 0.2).abs().max() < 5 * 0.003


def test_the_same_seed_gives_the_same_masks():
    tokens = draw_tokens(20, 30)
    first, again, other = mask(tokens, seed=1), mask(tokens, seed=1), mask(tokens, seed=2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


class Guess(nn.Module):
    """Equal logits everywhere."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(N_BINS + 1))

    def forward(self, genes_BG, tokens_BG, real_BG):
        return self.logits.expand(*tokens_BG.shape, -1)


def batch_of(hidden, targets):
    rows, real = torch.arange(len(hidden)).numpy(), hidden != PADDING
    return MiniBatch(rows, torch.zeros_like(hidden), hidden, real, targets=targets)


def test_masked_loss_is_a_sum_over_targets():
    """A guess among six bins costs ln 6 = 1.792 nats per target, whatever else is in the batch."""
    tokens = torch.tensor([[1, 2, 0, PADDING], [3, 3, 3, 5]])
    hidden, targets = mask(tokens)
    loss, n_targets = masked_loss(Guess(), batch_of(hidden, targets))
    assert n_targets == 2
    assert loss.item() == pytest.approx(2 * 1.791759, abs=1e-5)


def test_no_count_is_rounded_up_by_a_float():
    """The original gives 31 targets for 200 expressed genes, as float32(200 * 0.15) exceeds 30."""
    counts = torch.tensor([200, 2000, 16_900])
    tokens = torch.where(torch.arange(16_906) < counts[:, None], 1, 0)
    _, targets = mask(tokens)
    assert (targets != NOT_A_TARGET).sum(dim=1).tolist() == [30, 300, 2535]


def test_a_cell_without_targets_changes_no_loss():
    tokens = torch.tensor([[1, 2, 4, 3], [0, 0, 0, PADDING]])
    hidden, targets = mask(tokens)
    both = masked_loss(Guess(), batch_of(hidden, targets))
    alone = masked_loss(Guess(), batch_of(hidden[:1], targets[:1]))
    assert [one.item() for one in both] == [one.item() for one in alone]


@pytest.mark.parametrize("tokens", [[[0, 0, 0]], [[PADDING]], [[0, PADDING], [PADDING, PADDING]]])
def test_nothing_to_hide_is_no_target_and_no_loss(tokens):
    tokens = torch.tensor(tokens)
    hidden, targets = mask(tokens)
    assert torch.equal(hidden, tokens)
    assert (targets == NOT_A_TARGET).all()
    model = Guess()
    loss, n_targets = masked_loss(model, batch_of(hidden, targets))
    (loss / n_targets.clamp(min=1)).backward()  # as the loop does
    assert (loss.item(), n_targets.item()) == (0.0, 0)
    assert not model.logits.grad.any()


def test_what_fills_packed_cells_up_changes_no_mask():
    tokens = torch.tensor([[1, 2, 3, 4, 5, 5, 4, 3, 2, 1]])
    cell = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
    filled = torch.cat([tokens, torch.full((1, 7), PADDING)], dim=1)
    filled_cell = torch.cat([cell, torch.full((1, 7), 2)], dim=1)
    found = [
        mask_tokens(some, N_BINS, 0.4, 0.5, torch.Generator().manual_seed(3), numbers)
        for some, numbers in ((tokens, cell), (filled, filled_cell))
    ]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other[:, :10])


def test_masks_of_padded_cells_are_drawn_position_by_position():
    """As always: the same seed gives the weights of earlier versions."""
    tokens = torch.tensor([[1, 2, 3, 4, 5], [3, 2, 1, PADDING, PADDING]])
    noise = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(3))
    _, targets = mask_tokens(tokens, N_BINS, 0.2, 1.0, torch.Generator().manual_seed(3))
    real = noise.masked_fill(tokens == PADDING, 2.0)
    assert (targets != NOT_A_TARGET).int().argmax(dim=1).tolist() == real.argmin(dim=1).tolist()


def test_of_equal_numbers_the_first_is_hidden():
    """Or a seed would not give the same masks on every machine."""
    n = 4000
    noise = torch.full((1, n), 0.5)
    drawn = (noise, torch.ones(1, n, dtype=torch.bool))
    _, targets = hide_tokens(torch.ones(1, n, dtype=torch.int64), N_BINS, 0.25, drawn)
    assert (targets != NOT_A_TARGET).nonzero()[:, 1].tolist() == list(range(n // 4))
