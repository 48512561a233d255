import io
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from scbert.evidence.bin_predictors import gene_part
from scbert.network.masking import mask_id
from scbert.tokens.store import open_store
from scbert.training import reference_predictors as module
from scbert.training.cell_batches import CellBatches
from scbert.training.corpus import hidden_genes
from scbert.training.reference_predictors import (
    PREDICTORS,
    HiddenGenes,
    PredictorAnswers,
    ask_predictors,
    bins_of_genes,
    guesses,
    kept_answers,
    key_of,
    numbers_of,
)
from scbert.training.validation_loss import ValidationLoss

KEY = key_of({"seed": 1}, [np.arange(3)])


def batch(n_cells=2, hidden=((0, 4, 2), (1, 3, 5)), visible=((0, 3, 1), (0, 2, 1), (1, 4, 4))):
    """Hidden genes from (cell, gene, bin)."""
    columns = (np.array(some, dtype=np.int64).reshape(-1, 3).T for some in (hidden, visible))
    return HiddenGenes(n_cells, *(column for three in columns for column in three))


COUNTS = np.array(
    [[0, 0, 0, 0, 0], [5, 1, 1, 1, 1], [9, 1, 0, 0, 0], [1, 2, 3, 4, 9], [0, 7, 1, 1, 1]]
)


def held_out_of(toy_run, options, n_cells=20, kept=None):
    cells = CellBatches(open_store(toy_run.corpus), "expressed_genes", 5, 1024)
    return ValidationLoss(cells, np.arange(n_cells), np.arange(n_cells, 54), options, kept)


def test_answers_are_sums_over_the_hidden_genes_of_each_cell():
    """Two batches, of which the second has a cell without hidden genes between two others."""
    three = batch(3, ((0, 4, 2), (2, 3, 5), (2, 4, 1)), ((1, 3, 1),))
    found = ask_predictors([batch(), three], COUNTS)
    assert found.asked_C.tolist() == [1, 1, 1, 0, 2]
    each = [guesses(some, COUNTS, gene_part(COUNTS)) for some in (batch(), three)]
    for number, name in enumerate(PREDICTORS):
        first, second = (guess[number] for guess in each)
        expected = [*first.loss_N, second.loss_N[0], 0, second.loss_N[1:].sum()]
        assert found.loss_C(name) == pytest.approx(expected)
        assert found.right_C(name).sum() == first.right_N.sum() + second.right_N.sum()
    assert found.right_C("gene_mode").tolist() == [
        1,
        1,
        1,
        0,
        1,
    ]  # the most frequent: 2, 5, 2, 5, 2
    assert found.best == min(PREDICTORS, key=lambda name: found.loss_C(name).sum())


def test_cells_without_hidden_genes_are_asked_nothing():
    found = ask_predictors([batch(3, (), ((0, 1, 1),))], COUNTS)
    assert found.numbers.shape == numbers_of(3)
    assert not found.numbers.any()


def by_hand(masked, counts_GT):
    """The predictors as they were written at first: padded, a sum added up gene by gene."""
    n_bins = counts_GT.shape[1]
    gene_GT, everywhere = gene_part(counts_GT), counts_GT.sum(axis=0)
    genes, seen, asked = (
        tensor.numpy()
        for tensor in (masked.batch.genes_BG, masked.batch.tokens_BG, masked.asked_BG)
    )
    for cell in range(len(genes)):
        visible = (seen[cell] >= 1) & (seen[cell] <= n_bins)
        bins = np.bincount(seen[cell][visible] - 1, minlength=n_bins)
        part = np.zeros(n_bins)
        for _ in range(50):
            p = np.exp(gene_GT[genes[cell][visible]] + part)
            p /= p.sum(axis=1, keepdims=True)
            curve = np.diag(p.sum(axis=0) + 1) - p.T @ p
            part += np.linalg.solve(curve, bins - p.sum(axis=0) - part)
        loss = np.zeros(3)
        targets = masked.targets_BG[cell][asked[cell]]
        for gene, target in zip(genes[cell][asked[cell]], targets, strict=True):
            rows = (bins if bins.any() else everywhere, counts_GT[gene])
            rows = [np.log((row if row.any() else everywhere) + 1.0) for row in rows]
            for number, row in enumerate((*rows, gene_GT[gene] + part)):
                loss[number] += np.log(np.exp(row).sum()) - row[target - 1]
        yield loss


def test_answers_about_held_out_cells_are_those_of_the_definition(toy_run, config):
    held_out = held_out_of(toy_run, config.pretrain)
    counts = bins_of_genes(held_out.cells.store, np.arange(20, 54), 5)
    masked = [held_out.masked(number) for number in range(len(held_out.plan))]
    expected = np.array([loss for one in masked for loss in by_hand(one, counts)])
    for number, name in enumerate(PREDICTORS):
        assert held_out.answers.loss_C(name) == pytest.approx(expected[:, number], rel=1e-9)
    hidden = np.concatenate([one.asked_BG.sum(dim=1).numpy() for one in masked])
    assert held_out.answers.asked_C.tolist() == hidden.tolist()


def test_predictors_never_see_what_they_are_asked(toy_run, config):
    """Other bins under the masks and in other held-out cells: the same predictions."""
    held_out = held_out_of(toy_run, config.pretrain)
    masked = held_out.masked(0)
    hidden = hidden_genes(masked, 5)
    assert (masked.batch.tokens_BG.numpy()[hidden.cell_N] == mask_id(5)).any(axis=1).all()
    counts = bins_of_genes(held_out.cells.store, np.arange(20, 54), 5)
    of_first, seen_of_first = hidden.cell_N == 0, hidden.visible_cell_V == 0
    alone = HiddenGenes(
        1,
        *(array[of_first] for array in hidden.arrays()[:3]),
        *(array[seen_of_first] for array in hidden.arrays()[3:]),
    )
    changed = replace(hidden, bin_N=hidden.bin_N % 5 + 1)
    answers = [guesses(some, counts, gene_part(counts)) for some in (hidden, changed, alone)]
    for guess, scrambled, first in zip(*answers, strict=True):
        assert not np.allclose(guess.loss_N, scrambled.loss_N)  # other answers, but the same
        np.testing.assert_allclose(guess.probability_NT, scrambled.probability_NT)
        np.testing.assert_allclose(guess.loss_N[of_first], first.loss_N)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_bins_of_genes_counts_each_token_of_the_rows(toy_run, monkeypatch, at_once):
    monkeypatch.setattr(module, "CELLS_AT_ONCE", at_once)
    store = open_store(toy_run.corpus)
    rows = np.array([0, 1, 2, 3, 5, 20, 53])
    expected = np.zeros((store.measured.shape[1], 5), dtype=np.int64)
    for row in rows:
        genes, bins = store.tokens(row)
        expected[genes, bins - 1] += 1
    assert np.array_equal(bins_of_genes(store, rows, 5), expected)
    everything = bins_of_genes(store, np.arange(54), 5)
    assert everything.sum() == len(store.gene)


def test_answers_are_kept_and_read_by_the_next_start(toy_run, config, tmp_path, monkeypatch):
    path = tmp_path / "state" / module.FILE
    first = held_out_of(toy_run, config.pretrain, kept=path)
    assert path.is_file()

    def fail(*_):
        raise AssertionError("the predictors were asked again")

    monkeypatch.setattr("scbert.training.validation_loss.bins_of_genes", fail)
    again = held_out_of(toy_run, config.pretrain, kept=path)
    assert again.answers.numbers.tobytes() == first.answers.numbers.tobytes()


@pytest.mark.parametrize("what", ["seed", "mask_prob", "cells", "training", "used", "draws"])
def test_answers_about_other_cells_or_masks_are_not_used(
    toy, toy_run, config, tmp_path, monkeypatch, what
):
    path = tmp_path / module.FILE
    held_out_of(toy_run, config.pretrain, kept=path)
    options, n_cells = config.pretrain, 20
    cells = CellBatches(open_store(toy_run.corpus), "expressed_genes", 5, 1024)
    training = np.arange(20, 54)
    match what:
        case "seed":
            options = toy.change(options, seed=1)
        case "mask_prob":
            options = toy.change(options, mask_prob=0.2)
        case "cells":
            n_cells = 19
        case "training":
            training = training[1:]
        case "used":
            cells = replace(cells, genes=np.arange(cells.store.measured.shape[1]) % 2 == 0)
        case "draws":  # as another version of torch might draw
            original = torch.rand
            monkeypatch.setattr(torch, "rand", lambda *a, **k: 1 - original(*a, **k))
    given = (cells, np.arange(n_cells), training, options)
    found, expected = (ValidationLoss(*given, kept).answers.numbers for kept in (path, None))
    assert found.tobytes() == expected.tobytes()


def answers():
    return PredictorAnswers(np.random.default_rng(0).random(numbers_of(4)))


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_damage_anywhere_in_the_file_is_noticed(tmp_path, caplog):
    """Each byte another one, and each shorter file: never an error, never other numbers."""
    path = tmp_path / module.FILE
    expected = kept_answers(path, KEY, 4, answers).numbers
    whole = path.read_bytes()

    def none():
        raise LookupError

    for damaged in (
        *(whole[:at] + bytes([whole[at] ^ 0x21]) + whole[at + 1 :] for at in range(len(whole))),
        *(whole[:size] for size in range(0, len(whole), 7)),
        b"\x80\x04]\x94.",  # a pickle
        npy(expected),
    ):
        path.write_bytes(damaged)
        try:
            found = kept_answers(path, KEY, 4, none)
        except LookupError:
            continue
        assert found.numbers.tobytes() == expected.tobytes()
    assert "is damaged" in caplog.text
    assert kept_answers(path, KEY, 4, answers).numbers.tobytes() == expected.tobytes()
    assert path.read_bytes() == whole


def test_answers_under_another_key_or_for_other_cells_are_asked_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / module.FILE
    kept_answers(path, KEY, 4, answers)
    for key, n_cells in (("another", 4), (KEY, 5)):
        other = PredictorAnswers(np.ones(numbers_of(n_cells)))
        assert kept_answers(path, key, n_cells, lambda other=other: other) is other
        assert "of other cells, masks or settings" in caplog.text
        caplog.clear()


def test_keys_tell_arrays_apart_that_have_the_same_bytes():
    arrays = np.zeros(4, np.int64), np.zeros(8, np.int32), np.zeros((2, 2), np.int64)
    keys = {key_of({}, [array]) for array in arrays}
    keys |= {key_of({}, []), key_of({}, [arrays[0][:2], arrays[0][2:]]), key_of({"a": 1}, [])}
    assert len(keys) == 6
    assert key_of({}, [np.arange(8)[::2]]) == key_of({}, [np.arange(0, 8, 2)])
