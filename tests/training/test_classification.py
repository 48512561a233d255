import numpy as np
import pytest
import torch
from torch.nn import functional

from scbert.training.classification import LabelledRows, TypeLoss

LABEL = np.array([0] * 6 + [1] * 2)  # training cells: 6 and 2
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
GIVEN = torch.tensor([0, 1, 1])
CELLS = ["c0", "c1", "c2", "c3", "c4", "c5"]
SPLIT = """cell\tcell_type\tpart
c5\tT cell\ttrain
c4\tB cell\tvalidation
c3\tMast cell\tvalidation
c2\tB cell\ttrain
c1\tT cell\ttest
c0\tT cell\ttrain
"""


@pytest.fixture
def loss(config, toy):
    """The loss of the three cells above, with these settings."""

    def of(**settings):
        plain = {"class_balance": "none", "logit_adjustment": 0.0}
        options = toy.change(config.finetune, **plain | settings)
        return TypeLoss(LABEL, options)(LOGITS, GIVEN)

    return of


def each():
    return functional.cross_entropy(LOGITS, GIVEN, reduction="none")


def test_plain_loss_is_the_sum_of_the_cross_entropy(loss):
    torch.testing.assert_close(loss(), each().sum())


def test_balanced_weights_make_types_count_the_same(loss):
    """8 / (2 x 6) and 8 / (2 x 2)."""
    expected = (each() * torch.tensor([2 / 3, 2.0, 2.0])).sum()
    torch.testing.assert_close(loss(class_balance="balanced"), expected)


def test_logit_adjustment_adds_the_log_of_the_shares(loss):
    shifted = LOGITS + torch.log(torch.tensor([0.75, 0.25]))
    expected = functional.cross_entropy(shifted, GIVEN, reduction="sum")
    torch.testing.assert_close(loss(logit_adjustment=1.0), expected)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "split.tsv"
        path.write_text(text)
        return path

    return write


def test_labelled_rows_are_in_the_order_of_the_cells(write):
    """No training cell is a mast cell, so c3 cannot choose an epoch."""
    labelled = LabelledRows(write(SPLIT), CELLS)
    assert labelled.types == ["B cell", "T cell"]
    rows, label = labelled.of("train")
    assert (rows.tolist(), label.tolist()) == ([0, 2, 5], [1, 0, 1])
    assert labelled.rows("validation").tolist() == [4]
    assert labelled.taught() == {"B cell": 1, "T cell": 2}


def test_experts_learn_the_types_of_validation_cells_too(write):
    """Where whole batches validate, a type may be in no training cell."""
    labelled = LabelledRows(write(SPLIT), CELLS, ("train", "validation"))
    assert labelled.types == ["B cell", "Mast cell", "T cell"]
    rows, label = labelled.reference()
    assert (rows.tolist(), label.tolist()) == ([0, 2, 3, 4, 5], [2, 0, 1, 0, 2])
    assert labelled.taught() == {"B cell": 2, "Mast cell": 1, "T cell": 2}


def test_labelled_rows_know_no_type_of_a_test_cell(write):
    labelled = LabelledRows(write(SPLIT), CELLS)
    relabelled = LabelledRows(write(SPLIT.replace("c1\tT cell", "c1\tB cell")), CELLS)
    assert len(labelled.rows("test")) == 0
    assert labelled.sha256() == relabelled.sha256()
    moved = LabelledRows(write(SPLIT.replace("c5\tT cell", "c5\tB cell")), CELLS)
    assert moved.sha256() != labelled.sha256()


def test_a_batch_that_is_the_type_is_what_the_error_is_about(write):
    text = "cell\tcell_type\tbatch\tpart\n"
    for cell in CELLS:
        kind = "ab"[int(cell[1]) % 2]
        text += f"{cell}\t{kind}\t{kind}\t{'train' if kind == 'a' else 'validation'}\n"
    with pytest.raises(ValueError, match=r"no cell of part 'validation' .*another column of batch"):
        LabelledRows(write(text), CELLS)


def test_labelled_rows_refuse_other_cells(write):
    with pytest.raises(ValueError, match="hold different cells"):
        LabelledRows(write(SPLIT), CELLS[:-1])


def test_labelled_rows_refuse_a_split_that_lacks_a_part(write):
    with pytest.raises(ValueError, match="no cell of part 'validation'"):
        LabelledRows(write(SPLIT.replace("c4\tB cell\tvalidation", "c4\tB cell\ttest")), CELLS)


def test_one_cell_of_each_type_needs_no_validation_but_for_a_head_of_the_network(write):
    one_each = write("cell\tcell_type\tpart\n" + "".join(f"{c}\ttype {c}\ttrain\n" for c in CELLS))
    assert len(LabelledRows(one_each, CELLS, ("train", "validation")).types) == 6
    with pytest.raises(ValueError, match="no cell of part 'validation'"):
        LabelledRows(one_each, CELLS)
    two = write(one_each.read_text().replace("type c1", "type c0"))
    with pytest.raises(ValueError, match="no cell of part 'validation'"):
        LabelledRows(two, CELLS, ("train", "validation"))
