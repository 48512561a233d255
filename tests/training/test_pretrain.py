import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from scbert.files import read_json
from scbert.genes.matching import read_vocabulary
from scbert.network.masking import NOT_A_TARGET, mask_id
from scbert.tokens.store import open_store
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.training.bundle import load_pretrained
from scbert.training.cell_batches import CellBatches
from scbert.training.corpus import choose_validation_cells, hidden_genes, studies_of
from scbert.training.validation_loss import ValidationLoss
from tests.samples import sample_of
from tests.timing import TIMING

pytestmark = pytest.mark.slow

WEIGHTS = "weights.safetensors"


def history_of(bundle):
    records = [json.loads(line) for line in (bundle / "history.jsonl").read_text().splitlines()]
    return [{key: v for key, v in record.items() if key not in TIMING} for record in records]


def test_pretrain_writes_a_bundle_with_three_predictors_beside_it(toy_run, config):
    """54 training cells are the corpus; a tenth of them, 5, is held out."""
    bundle = load_pretrained(toy_run.pretrained)
    assert bundle.config["kind"] == "pretrained"
    assert bundle.config["pretrain"] == config.pretrain.model_dump(mode="json")
    assert bundle.genes.equals(read_vocabulary(toy_run.vocabulary))
    result = read_json(toy_run.pretrained / "validation.json")
    assert (result["cells"], result["held_out_by"]) == (5, "cell")
    predictors = result["predictors"]
    assert set(predictors) == {"cell_mode", "gene_mode", "additive"}
    assert [layer["layer"] for layer in result["attention"]] == [1, 2]
    for layer in result["attention"]:
        assert 0 <= layer["at_floor"] <= 1
        assert 0 < layer["from_uniform"] < 1
    for scores in (result, *predictors.values()):
        assert 0 <= scores["accuracy"] <= 1
        assert 0 < scores["loss"] < 5
    history = history_of(toy_run.pretrained)
    assert len(history) == config.pretrain.optimizer.epochs
    assert result["loss"] == history[-1]["validation_loss"]
    assert result["accuracy"] == history[-1]["validation_accuracy"]
    best = min(predictors, key=lambda name: predictors[name]["loss"])
    assert result["best_predictor"] == best
    skill = result["skill"]
    assert skill["mean"] == pytest.approx(1 - result["loss"] / predictors[best]["loss"])
    assert skill["mean"] == pytest.approx(history[-1]["validation_skill"])
    assert skill["low"] < skill["mean"] < skill["high"]


def test_hidden_and_kept_genes_are_fifteen_percent_of_the_held_out_tokens(toy_run, config):
    """A tenth of them is kept in sight: 0.9 and 0.1 within four standard errors of 40 draws."""
    store = open_store(toy_run.corpus)
    _, held_out = choose_validation_cells(store, config.pretrain)
    result = read_json(toy_run.pretrained / "validation.json")
    kept = result["kept_visible"]
    expected = np.ceil(store.lengths()[held_out] * 0.15).sum()
    assert result["masked_tokens"] + kept["tokens"] == expected
    assert 0 < kept["tokens"] < 0.3 * expected
    assert kept["loss"] > 0


def held_out_of(toy_run, options, n_cells=20):
    cells = CellBatches(open_store(toy_run.corpus), "expressed_genes", 5, 1024)
    return ValidationLoss(cells, np.arange(n_cells), np.arange(n_cells, 54), options)


def test_validation_asks_for_hidden_genes_only_and_always_the_same(toy_run, toy, config):
    """A target that stays visible, as in training, would be a gift."""
    options = toy.change(config.pretrain, replace_prob=0.5)
    first, again = (held_out_of(toy_run, options) for _ in range(2))
    for number in range(len(first.plan)):
        masked, same = first.masked(number), again.masked(number)
        assert torch.equal(masked.asked_BG, masked.batch.tokens_BG == mask_id(5))
        assert torch.equal(masked.asked_BG | masked.kept_BG, masked.targets_BG != NOT_A_TARGET)
        assert not (masked.asked_BG & masked.kept_BG).any()
        assert torch.equal(masked.batch.tokens_BG, same.batch.tokens_BG)
        visible = masked.batch.tokens_BG[masked.kept_BG]
        assert torch.equal(visible, masked.targets_BG[masked.kept_BG])


class Oracle(torch.nn.Module):
    """Knows the visible bins, and says bin 2 of all others, with all but certainty."""

    def forward(self, genes_BG, tokens_BG, real_BG):
        said = torch.where((tokens_BG >= 1) & (tokens_BG <= 5), tokens_BG, 2)
        return 50.0 * torch.nn.functional.one_hot(said, 6).float()


def test_scores_are_over_hidden_genes_and_kept_ones_apart(toy_run, config):
    """The accuracy is the share of bin 2 among hidden genes, and 1 for those in sight."""
    held_out = held_out_of(toy_run, config.pretrain)
    masked = [held_out.masked(number) for number in range(len(held_out.plan))]
    hidden = torch.cat([one.targets_BG[one.asked_BG] for one in masked])
    result = held_out.result(Oracle(), torch.device("cpu"))
    assert result.masked_tokens == len(hidden)
    assert result.accuracy == pytest.approx((hidden == 2).double().mean().item())
    assert result.loss == pytest.approx(50 * (hidden != 2).double().mean().item(), rel=1e-5)
    assert result.kept_visible.accuracy == 1.0
    assert result.kept_visible.loss < 1e-6


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
    toy, config, toy_run, stop_at_epoch, tmp_path
):
    """The second epoch is stopped; a redraw comes at every second step."""
    redrawn = config.model_copy(update={"pretrain": toy.change(config.pretrain, redraw_interval=2)})
    toy.pretrain(toy_run, redrawn, tmp_path / "whole", tmp_path / "whole_state")

    with stop_at_epoch(1):
        toy.pretrain(toy_run, redrawn, tmp_path / "parts", tmp_path / "state")
    assert not (tmp_path / "parts").exists()
    toy.pretrain(toy_run, redrawn, tmp_path / "parts", tmp_path / "state")
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (
        tmp_path / "whole" / WEIGHTS
    ).read_bytes()
    assert history_of(tmp_path / "parts") == history_of(tmp_path / "whole")
    folders = (toy_run.pretrained, tmp_path / "whole")
    kept, new = (load_pretrained(folder).network for folder in folders)
    attention = "encoder.performer.net.layers.0.0.fn.fast_attention.projection_ME"
    assert not torch.equal(kept.state_dict()[attention], new.state_dict()[attention])


def test_all_genes_runs_on_a_small_panel(toy, config, tmp_path):
    """60 genes, all of them tokens of each cell; silent ones are seen but never asked for."""
    full = config.model_copy(update={"sequence": "all_genes"})
    paths = toy.run_to_tokens(tmp_path / "panel", toy.draw_cells(30)[:, :60].copy(), full)
    toy.write_random_vectors(paths.gene2vec, paths.vocabulary, full.network.dim)
    toy.pretrain(paths, full)
    bundle = load_pretrained(paths.pretrained)
    assert bundle.config["sequence"] == "all_genes"
    assert len(bundle.genes) > 50
    store = open_store(paths.corpus)
    _, held_out = choose_validation_cells(store, config.pretrain)
    expected = np.ceil(store.lengths()[held_out] * 0.15).sum()  # of the expressed genes
    result = read_json(paths.pretrained / "validation.json")
    assert result["masked_tokens"] + result["kept_visible"]["tokens"] == expected


def test_a_collapse_of_attention_is_warned_of(toy, config, toy_run, tmp_path, caplog, monkeypatch):
    """The toy network has not collapsed, so here a layer counts as collapsed below its share."""
    toy.pretrain(toy_run, config, tmp_path / "calm", tmp_path / "calm_state")
    assert "collapsed to a mean" not in caplog.text
    monkeypatch.setattr("scbert.network.diagnostics.COLLAPSED", -1)
    toy.pretrain(toy_run, config, tmp_path / "out", tmp_path / "state")
    assert "collapsed to a mean over the genes of a cell in layer 1, 2:" in caplog.text
    result = read_json(tmp_path / "out/validation.json")
    assert [layer["collapsed"] for layer in result["attention"]] == [True, True]


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


def with_samples(store, sizes):
    """The first cells of a store, in samples of these names and sizes."""
    return replace(
        store,
        sample=np.repeat(np.arange(len(sizes)), list(sizes.values())),
        indptr=store.indptr[: sum(sizes.values()) + 1],
        meta={"sources": [{"sample": name} for name in sizes]},
    )


def test_hold_out_takes_a_share_of_each_sample(toy, toy_run, config):
    two = with_samples(open_store(toy_run.corpus), {"a": 44, "b": 10})
    options = toy.change(config.pretrain, validation_fraction=0.25)
    training, held_out = choose_validation_cells(two, options)
    assert np.array_equal(np.sort([*training, *held_out]), np.arange(54))
    assert (held_out < 44).sum() == 11
    assert (held_out >= 44).sum() == 2
    assert np.array_equal(held_out, choose_validation_cells(two, options)[1])
    assert not np.array_equal(
        held_out, choose_validation_cells(two, toy.change(options, seed=1))[1]
    )


@pytest.mark.parametrize("by", ["cell", "sample"])
def test_hold_out_draws_cells_to_score_and_trains_on_none_of_the_others(toy, toy_run, config, by):
    store = with_samples(open_store(toy_run.corpus), {"SRA1_SRS1": 34, "SRA2_SRS1": 20})
    options = toy.change(config.pretrain, validation_by=by, validation_fraction=0.4)
    training, held_out = choose_validation_cells(store, options)
    capped = toy.change(options, validation_cells=7)
    same, scored = choose_validation_cells(store, capped)
    assert np.array_equal(training, same)
    assert len(scored) == 7
    assert np.array_equal(scored, np.unique(scored))
    assert {*scored} < {*held_out}
    assert scored.tolist() != held_out[:7].tolist()
    assert np.array_equal(scored, choose_validation_cells(store, capped)[1])
    assert not np.array_equal(scored, choose_validation_cells(store, toy.change(capped, seed=1))[1])


def test_hold_out_by_sample_takes_whole_studies(toy, toy_run, config):
    """Of 54 cells at most 27: never the 30 of SRA1, whose two samples stay together."""
    sizes = {"SRA1_SRS1": 20, "SRA2_SRS3": 9, "SRA1_SRS2": 10, "SRA3_SRS4": 8, "other.train": 7}
    store = with_samples(open_store(toy_run.corpus), sizes)
    study = np.array(studies_of(store))[store.sample]
    assert sorted({*study}) == ["SRA1", "SRA2", "SRA3", "other.train"]
    chosen = set()
    for seed in range(20):
        options = toy.change(
            config.pretrain, validation_by="sample", validation_fraction=0.3, seed=seed
        )
        training, held_out = choose_validation_cells(store, options)
        assert not {*study[training]} & {*study[held_out]}
        assert np.array_equal(np.sort([*training, *held_out]), np.arange(54))
        assert 0 < len(held_out) <= 16.2
        chosen |= {*study[held_out]}
    assert chosen == {"SRA2", "SRA3", "other.train"}


def test_hold_out_by_sample_takes_the_smallest_study_if_all_are_too_large(toy, toy_run, config):
    store = with_samples(open_store(toy_run.corpus), {"SRA1_SRS1": 30, "SRA2_SRS1": 24})
    options = toy.change(config.pretrain, validation_by="sample", validation_fraction=0.05)
    assert choose_validation_cells(store, options)[1].tolist() == list(range(30, 54))


def test_hold_out_by_sample_needs_two_studies(toy, toy_run, config):
    store = with_samples(open_store(toy_run.corpus), {"SRA1_SRS1": 30, "SRA1_SRS2": 24})
    options = toy.change(config.pretrain, validation_by="sample")
    with pytest.raises(ValueError, match=r"has 1 study \(SRA1\).*validation_by to cell"):
        choose_validation_cells(store, options)


def test_hold_out_refuses_to_leave_nothing(toy_run, config):
    lone = with_samples(open_store(toy_run.corpus), {"a": 1})
    with pytest.raises(ValueError, match=r"all 1 cell\(s\) of the corpus are held out"):
        choose_validation_cells(lone, config.pretrain)


def test_held_out_cells_that_express_nothing_are_refused(toy, config, toy_run, tmp_path):
    """All bins 0: nothing could be hidden, and a loss per hidden gene would be 0 / 0."""
    cells = toy.draw_cells(30)
    paths = toy.run_to_tokens(tmp_path / "run", cells, config)
    store = open_store(paths.corpus)
    shape = (len(store), store.meta["vocabulary_size"])
    silent = sample_of(
        *("toy.train", store.cell_names()),
        *(sparse.csr_matrix(shape, dtype=np.uint8), store.measured_genes(0), 0),
    )
    write_store(paths.corpus, [SampleSource("toy.train", "", lambda: silent)], store.meta)
    toy.write_random_vectors(paths.gene2vec, paths.vocabulary, 16)
    with pytest.raises(ValueError, match="none of the 2 held-out cells expresses a gene"):
        toy.pretrain(paths, config)


def test_held_out_masks_are_the_same_however_cells_are_put_into_batches(toy_run, config):
    """Packed, filled up, padded, few or many at a time: what is asked of a cell is the same."""
    found = []
    for layout, constant, at_once in (
        ("padded", False, 1024),
        ("padded", False, 60),
        ("packed", False, 1024),
        ("packed", True, 300),
    ):
        store = open_store(toy_run.corpus)
        cells = CellBatches(store, "expressed_genes", 5, at_once, layout=layout, constant=constant)
        held_out = ValidationLoss(cells, np.arange(20), np.arange(20, 54), config.pretrain)
        asked = {}
        for number in range(len(held_out.plan)):
            masked = held_out.masked(number)
            hidden = hidden_genes(masked, 5)
            for cell, gene in zip(hidden.cell_N, hidden.gene_N, strict=True):
                asked.setdefault(int(masked.batch.rows[cell]), []).append(int(gene))
        found.append(asked)
    assert len(found[0]) == 20
    assert all(asked == found[0] for asked in found[1:])
