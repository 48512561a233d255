"""Packed cells: the same as padded ones, whatever they are packed with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode

from scbert.network.masking import NOT_A_TARGET, padding_id
from scbert.network.packing import pack, packed_attention
from scbert.training.mini_batch import MiniBatch
from tests.packed_cells import batches, logits, model_of, network

LENGTHS = [0, 7, 1, 23, 0, 12, 60, 3]


@pytest.mark.parametrize("rms", [None, 0.5])
@pytest.mark.parametrize("constant", [False, True])
def test_packed_cells_have_the_logits_and_gradients_of_padded_ones(config, rms, constant):
    """In float64: what differs is the order of sums."""
    model = model_of(network(config, qk_rms=rms)).double()
    rows = np.arange(len(LENGTHS))
    found = {}
    for layout in ("padded", "packed_within", "packed"):
        batch = batches(layout, LENGTHS, constant=constant).make(rows)
        values = logits(model, batch)[batch.real_BG]
        model.zero_grad()
        (values * torch.arange(6)).square().sum().backward()
        grads = [w.grad.clone() for w in model.parameters() if w.grad is not None]
        found[layout] = [values.detach(), *grads]
    for layout in ("packed_within", "packed"):
        for one, other in zip(found["padded"], found[layout], strict=True):
            torch.testing.assert_close(other, one, atol=1e-9, rtol=1e-9)


def test_constant_batches_have_one_shape_and_room_for_all_cells():
    cells = batches("packed", LENGTHS, budget=64, constant=True)
    plan = cells.plan(np.arange(len(LENGTHS)), np.random.default_rng(0))
    assert sorted(np.concatenate(plan)) == list(range(len(LENGTHS)))
    made = [cells.make(rows) for rows in plan]
    assert {batch.genes_BG.shape for batch in made} == {(1, 64)}
    assert len({len(batch.packing.starts_N) for batch in made}) == 1
    assert len({batch.packing.longest for batch in made}) == 1
    for batch in made:
        assert batch.packing.starts_N[-1] == 64
        assert int(batch.real_BG.sum()) == sum(LENGTHS[row] for row in batch.rows)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_a_cell_does_not_depend_on_what_it_is_packed_with(config, lengths, seed):
    model = model_of(network(config)).double().eval()
    cells = batches("packed", lengths)
    order = np.random.default_rng(seed).permutation(len(lengths))
    together = cells.make(order)
    of_token, all_logits = together.cell_of_token(), logits(model, together)
    for number, row in enumerate(order):
        alone = cells.make(np.array([row]))
        own = logits(model, alone)[alone.real_BG]
        torch.testing.assert_close(
            all_logits[(of_token == number) & together.real_BG], own, atol=1e-9, rtol=1e-9
        )


def test_cell_of_token_counts_cells_without_tokens():
    batch = batches("packed", [0, 2, 0, 1], budget=5, constant=True).make(np.arange(4))
    assert batch.cell_of_token().tolist() == [[1, 1, 3, 4, 4]]
    padded = batches("padded", [0, 2]).make(np.arange(2))
    assert padded.cell_of_token().tolist() == [[0, 0], [1, 1]]


def test_packed_batches_hold_as_many_cells_as_fit():
    cells = batches("packed", [30, 30, 5, 40, 1, 1], budget=61)
    plan = cells.plan(np.arange(6), None)  # from short to long
    assert [rows.tolist() for rows in plan] == [[4, 5, 2, 0], [1], [3]]


def test_narrow_and_back_is_the_same_batch(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # needs a GPU
    genes = torch.tensor([[0, 40_000, 65_535]])
    tokens = torch.tensor([[1, 251, padding_id(250)]])
    targets = torch.tensor([[NOT_A_TARGET, 250, NOT_A_TARGET]])
    packing = pack(np.array([2, 1]), 2)
    batch = MiniBatch(np.arange(2), genes, tokens, tokens < 252, packing, targets)
    narrow = batch.narrow()
    kinds = [narrow.genes_BG.dtype, narrow.tokens_BG.dtype, narrow.targets.dtype]
    assert kinds == [torch.int16, torch.uint8, torch.uint8]
    again = narrow.to(torch.device("cpu"))
    for name in ("genes_BG", "tokens_BG", "real_BG", "targets"):
        assert torch.equal(getattr(again, name).long(), getattr(batch, name).long())
    types = MiniBatch(np.arange(2), genes, tokens, tokens < 252, None, torch.tensor([300, 1]))
    assert types.narrow().to(torch.device("cpu")).targets.tolist() == [300, 1]


class Count(TorchDispatchMode):
    """Counts operations as they reach the device."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def test_a_training_step_on_a_gpu_is_few_operations(config):
    """At the paper's size, forward and backward; 14,124 before, FAVOR+ in chunks of 1,024."""
    paper = network(
        config, dim=200, depth=6, heads=10, dim_head=64, n_features=266, gene_identity="frozen"
    )
    model = model_of(paper).to("meta", torch.bfloat16)
    batch = batches("packed", [60] * 1080, budget=64_800)
    made = batch.make(np.arange(1080)).to(torch.device("meta"))
    with Count() as counted:
        logits(model, made).float().square().sum().backward()
    assert counted.number <= 700, counted.number


def test_half_precision_on_a_device_is_one_kernel_for_all_cells(monkeypatch):
    given = []
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args: (given.append(args[3:]), args[0])[1])
    q = torch.zeros(6, 2, 8, device="meta", dtype=torch.bfloat16)
    found = packed_attention(q, q, q, pack(np.array([4, 0, 2]), 4).to(torch.device("meta")))
    assert found.shape == q.shape
    ((starts, same, longest, _),) = given
    assert starts is same
    assert (starts.dtype, tuple(starts.shape), longest) == (torch.int32, (4,), 4)


@pytest.mark.parametrize("layout", ["padded", "packed_within", "packed"])
def test_lengths_are_those_of_the_cells_without_what_fills_up(layout):
    batch = batches(layout, LENGTHS, constant=True).make(np.arange(len(LENGTHS)))
    assert batch.lengths().tolist() == LENGTHS


def test_what_fills_a_batch_up_is_never_longer_than_a_cell():
    """A compiled network sees one bound, also in the last batch of an epoch."""
    batch = batches("packed", [7, 3], budget=100, constant=True).make(np.array([1]))
    spans = [stop - start for start, stop in batch.packing.spans]
    assert (sum(spans), max(spans)) == (100, batch.packing.longest) == (100, 7)
