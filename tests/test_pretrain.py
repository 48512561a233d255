import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from scbert.cells.genes import read_vocabulary
from scbert.cells.store import open_store
from scbert.cells.store_writer import Source, write_store
from scbert.cells.tokens import Sample
from scbert.files import read_json
from scbert.network.masking import NOT_A_TARGET, mask_id
from scbert.steps.pretrain import _Validation, hold_out
from scbert.training.batches import CellBatches
from scbert.training.bundle import load_bundle

WEIGHTS = "weights.safetensors"
TIMING = {"seconds", "cells_per_second", "tokens_per_second"}


def history_of(bundle):
    records = [json.loads(line) for line in (bundle / "history.jsonl").read_text().splitlines()]
    return [{key: v for key, v in record.items() if key not in TIMING} for record in records]


def test_pretrain_writes_a_bundle_with_two_predictors_beside_it(toy_run, config):
    """54 training cells are the corpus; a tenth of them, 5, is held out."""
    bundle = load_bundle(toy_run.pretrained)
    assert bundle.config["kind"] == "pretrained"
    assert bundle.config["pretrain"] == config.pretrain.model_dump(mode="json")
    assert bundle.genes.equals(read_vocabulary(toy_run.vocabulary))
    result = read_json(toy_run.pretrained / "validation.json")
    assert result["cells"] == 5
    assert set(result["predictors"]) == {"cell_mode", "gene_mode"}
    assert [layer["layer"] for layer in result["attention"]] == [1, 2]
    for layer in result["attention"]:
        assert 0 <= layer["at_floor"] <= 1
        assert 0 < layer["from_uniform"] < 1
    for scores in (result, *result["predictors"].values()):
        assert 0 <= scores["accuracy"] <= 1
        assert 0 < scores["loss"] < 5
    history = history_of(toy_run.pretrained)
    assert len(history) == config.pretrain.optimizer.epochs
    assert result["loss"] == history[-1]["validation_loss"]


def test_masked_genes_are_fifteen_percent_of_the_held_out_tokens(toy_run, config):
    store = open_store(toy_run.corpus)
    _, held_out = hold_out(store, config.pretrain.validation_fraction, config.pretrain.seed)
    expected = np.ceil(store.lengths()[held_out] * 0.15).sum()
    assert read_json(toy_run.pretrained / "validation.json")["masked_tokens"] == expected


def test_validation_asks_for_hidden_genes_only_and_always_the_same(toy_run, config):
    """A target that stays visible, as in training, would be a gift."""
    options = config.pretrain.model_copy(update={"replace_prob": 0.5})
    cells = CellBatches(open_store(toy_run.corpus), "expressed_genes", 5, 1024)
    first, again = (_Validation(cells, np.arange(20), options).batches for _ in range(2))
    for (_, hidden, targets), (_, hidden_again, _) in zip(first, again, strict=True):
        assert torch.equal(hidden == mask_id(5), targets != NOT_A_TARGET)
        assert torch.equal(hidden, hidden_again)


def test_the_loss_falls(toy, config, toy_run, tmp_path):
    """Three seeds: from 1.7 to 2.2 nats down to 1.0; held-out cells, by 0.3 or more."""
    optimizer = toy.change(config.pretrain.optimizer, epochs=20, learning_rate=1e-2)
    longer = config.model_copy(
        update={"pretrain": toy.change(config.pretrain, optimizer=optimizer.model_dump())}
    )
    toy.pretrain(toy_run, longer, tmp_path / "pretrained", tmp_path / "state")
    history = history_of(tmp_path / "pretrained")
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.4
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] - 0.1


def test_the_same_seed_gives_the_same_bits(toy, config, toy_run, tmp_path):
    toy.pretrain(toy_run, config, tmp_path / "again", tmp_path / "state")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (
        toy_run.pretrained / WEIGHTS
    ).read_bytes()
    assert history_of(tmp_path / "again") == history_of(toy_run.pretrained)
    other = config.model_copy(update={"pretrain": toy.change(config.pretrain, seed=1)})
    toy.pretrain(toy_run, other, tmp_path / "other", tmp_path / "other_state")
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (
        tmp_path / "again" / WEIGHTS
    ).read_bytes()


def test_a_stopped_run_ends_with_the_same_bits_although_projections_are_redrawn(
    toy, config, toy_run, tmp_path, monkeypatch
):
    """The second epoch is stopped after its first batch; a redraw comes at every second step."""
    redrawn = config.model_copy(update={"pretrain": toy.change(config.pretrain, redraw_interval=2)})
    toy.pretrain(toy_run, redrawn, tmp_path / "whole", tmp_path / "whole_state")

    from scbert.training.loop import _Trainer  # noqa: PLC0415  only to be stopped here

    original = _Trainer.epoch

    def stopped(trainer, epoch, step):
        if epoch == 1:
            raise KeyboardInterrupt
        return original(trainer, epoch, step)

    with monkeypatch.context() as patched:
        patched.setattr(_Trainer, "epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy.pretrain(toy_run, redrawn, tmp_path / "parts", tmp_path / "state")
    assert not (tmp_path / "parts").exists()
    toy.pretrain(toy_run, redrawn, tmp_path / "parts", tmp_path / "state")
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (
        tmp_path / "whole" / WEIGHTS
    ).read_bytes()
    assert history_of(tmp_path / "parts") == history_of(tmp_path / "whole")
    kept, new = (load_bundle(folder).model for folder in (toy_run.pretrained, tmp_path / "whole"))
    attention = "encoder.performer.net.layers.0.0.fn.fast_attention.projection_ME"
    assert not torch.equal(kept.state_dict()[attention], new.state_dict()[attention])


def test_all_genes_runs_on_a_small_panel(toy, config, tmp_path):
    """60 genes, all of them tokens of each cell; silent ones are seen but never asked for."""
    full = config.model_copy(update={"sequence": "all_genes"})
    paths = toy.run_to_tokens(tmp_path / "panel", toy.draw_cells(30)[:, :60].copy(), full)
    toy.write_random_vectors(paths.gene2vec, paths.vocabulary, full.network.dim)
    toy.pretrain(paths, full)
    bundle = load_bundle(paths.pretrained)
    assert bundle.config["sequence"] == "all_genes"
    assert len(bundle.genes) > 50
    store = open_store(paths.corpus)
    _, held_out = hold_out(store, 0.1, config.pretrain.seed)
    expected = np.ceil(store.lengths()[held_out] * 0.15).sum()  # of the expressed genes
    assert read_json(paths.pretrained / "validation.json")["masked_tokens"] == expected


def test_another_vocabulary_is_refused(toy, config, toy_run, tmp_path):
    genes = read_vocabulary(toy_run.vocabulary).iloc[:-1]
    genes.to_csv(tmp_path / "vocabulary.tsv", sep="\t", index=False)
    changed = SimpleNamespace(**vars(toy_run) | {"vocabulary": tmp_path / "vocabulary.tsv"})
    with pytest.raises(ValueError, match=r"written for another vocabulary\. Bin the expression"):
        toy.pretrain(changed, config, tmp_path / "out", tmp_path / "state")
    toy.write_random_vectors(tmp_path / "gene2vec", changed.vocabulary, 16)
    changed = SimpleNamespace(**vars(toy_run) | {"gene2vec": tmp_path / "gene2vec"})
    with pytest.raises(ValueError, match=r"holds vectors for another vocabulary\. Train gene2vec"):
        toy.pretrain(changed, config, tmp_path / "out", tmp_path / "state")
    assert not (tmp_path / "out").exists()


def test_other_settings_or_gene_vectors_do_not_continue_a_checkpoint(
    toy, config, toy_run, stop_at_epoch, tmp_path
):
    """Gene vectors are weights of the checkpoint: new ones would be ignored without a word."""
    state = tmp_path / "state"
    with stop_at_epoch(1):
        toy.pretrain(toy_run, config, tmp_path / "out", state)
    toy.write_random_vectors(tmp_path / "gene2vec", toy_run.vocabulary, 16, seed=1)
    changed = SimpleNamespace(**vars(toy_run) | {"gene2vec": tmp_path / "gene2vec"})
    with pytest.raises(ValueError, match=r"these differ: gene2vec\. Restore"):
        toy.pretrain(changed, config, tmp_path / "out", state)
    other = config.model_copy(update={"pretrain": toy.change(config.pretrain, mask_prob=0.3)})
    with pytest.raises(ValueError, match=r"these differ: pretrain\.mask_prob\. Restore"):
        toy.pretrain(toy_run, other, tmp_path / "out", state)


def test_hold_out_takes_a_share_of_each_sample(toy_run):
    store = open_store(toy_run.corpus)
    two = type(store)(**vars(store) | {"sample": np.repeat([0, 1], [44, 10])})
    training, held_out = hold_out(two, 0.25, seed=0)
    assert np.array_equal(np.sort([*training, *held_out]), np.arange(54))
    assert (held_out < 44).sum() == 11
    assert (held_out >= 44).sum() == 2
    assert np.array_equal(held_out, hold_out(two, 0.25, seed=0)[1])
    assert not np.array_equal(held_out, hold_out(two, 0.25, seed=1)[1])


def test_hold_out_refuses_to_leave_nothing(toy_run):
    store = open_store(toy_run.corpus)
    lone = type(store)(**vars(store) | {"sample": np.array([0]), "indptr": store.indptr[:2]})
    with pytest.raises(ValueError, match=r"all 1 cell\(s\) of the corpus are held out"):
        hold_out(lone, 0.1, seed=0)


def test_held_out_cells_that_express_nothing_are_refused(toy, config, toy_run, tmp_path):
    """All bins 0: nothing could be hidden, and a loss per hidden gene would be 0 / 0."""
    cells = toy.draw_cells(30)
    paths = toy.run_to_tokens(tmp_path / "run", cells, config)
    store = open_store(paths.corpus)
    shape = (len(store), store.meta["vocabulary_size"])
    silent = Sample(
        *("toy.train", store.cell_names()),
        *(sparse.csr_matrix(shape, dtype=np.uint8), store.measured_genes(0), 0),
    )
    write_store(paths.corpus, [Source("toy.train", "", lambda: silent)], store.meta)
    toy.write_random_vectors(paths.gene2vec, paths.vocabulary, 16)
    with pytest.raises(ValueError, match="none of the 2 held-out cells expresses a gene"):
        toy.pretrain(paths, config)
