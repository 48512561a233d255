import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from scbert.experts.linear import expression_of
from scbert.files import checksum_line, read_json
from scbert.tokens.store import open_store
from scbert.training.bundle import load_finetuned, load_pretrained
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import outputs
from tests.timing import TIMING

pytestmark = pytest.mark.slow

WEIGHTS, CALIBRATION = "weights.safetensors", "calibration.json"
EXPERTS = "experts.safetensors"
TRAINED = (WEIGHTS, CALIBRATION, "labels.json", "genes.tsv", EXPERTS)


def read_split(path):
    return pd.read_csv(path, sep="\t", keep_default_na=False)


def write_split(path, table):
    table.to_csv(path, sep="\t", index=False)
    return path


def same_bits(one, two, names=TRAINED):
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def history_of(bundle):
    records = [json.loads(line) for line in (bundle / "history.jsonl").read_text().splitlines()]
    return [{key: v for key, v in record.items() if key not in TIMING} for record in records]


@pytest.fixture
def short(toy, config):
    """Four epochs."""
    optimizer = toy.change(config.finetune.optimizer, epochs=4)
    finetuning = toy.change(config.finetune, optimizer=optimizer.model_dump())
    return config.model_copy(update={"finetune": finetuning})


@pytest.fixture
def train(toy, toy_run, short, tmp_path):
    """Fine-tune into a new folder."""

    def run(name, settings=short, **other):
        given = {"model": tmp_path / name, "checkpoint": tmp_path / f"{name}_state"}
        toy.finetune(toy_run, settings, **given | other)
        return tmp_path / name

    return run


def test_finetune_learns_the_planted_types(toy_run, config):
    """Test cells: a third are of each type, so a guess is right in 0.33 of them."""
    bundle, store = load_finetuned(toy_run.model), open_store(toy_run.tokens)
    split = read_split(toy_run.split).set_index("cell").loc[store.cell_names()]
    rows = np.flatnonzero(split.part == "test")
    cells = CellBatches(store, "expressed_genes", config.binning.n_bins, 4096)
    found = outputs(bundle.network, cells, rows, torch.device("cpu"))
    names = np.array([label["name"] for label in bundle.labels])
    assert (names[found.logits.argmax(axis=1)] == split.cell_type.iloc[rows]).mean() > 0.85
    assert found.vectors.shape == (18, 16)


def test_the_bundle_says_what_it_is(toy_run, config):
    bundle = load_finetuned(toy_run.model)
    assert bundle.config["kind"] == "finetuned"
    assert bundle.config["dataset"] == "toy"
    assert bundle.config["cells"] == {"train": 54, "validation": 18}
    assert bundle.config["seed"] == 2021
    assert bundle.config["finetune"] == config.finetune.model_dump(mode="json")
    assert bundle.config["pretrained"]["sha256"] == load_pretrained(toy_run.pretrained).sha256
    assert bundle.config["pretrained"]["kind"] == "pretrained"


def test_labels_carry_ontology_ids_where_the_table_has_them(toy_run):
    assert read_json(toy_run.model / "labels.json") == [
        {"name": "B cell", "ontology_term_id": "CL:0000236"},
        {"name": "NK cell", "ontology_term_id": "unknown"},
        {"name": "T cell", "ontology_term_id": "CL:0000084"},
    ]


def test_calibration_is_complete(toy_run, config):
    found = read_json(toy_run.model / CALIBRATION)
    assert set(found) == {
        "temperature",
        "novelty_score",
        "threshold_from",
        "type_positions",
        "position_cholesky",
        "novelty_threshold",
        "false_unknown_rate",
        "expected_novel_detection",
        "levels",
        "validation_cells",
        "held_out_ece_before",
        "held_out_ece",
        "experts",
        "out_of_fold",
    }
    assert found["temperature"] > 0
    assert found["novelty_score"] == config.annotate.novelty_score
    assert [entry["n"] for entry in found["expected_novel_detection"]] == [6, 6, 6]
    assert 0 <= found["held_out_ece"] <= 1
    assert found["validation_cells"] == 18
    assert found["false_unknown_rate"] == config.annotate.false_unknown_rate


def test_the_threshold_is_of_cells_that_were_left_out_where_each_batch_has_its_own_types(
    toy, toy_run, train, config, tmp_path
):
    """Validation cells are then learned from: by these nearly no cell would be called unknown."""
    finetuning = toy.change(config.finetune, head="mean", experts=["logistic_regression"])
    frozen = config.model_copy(update={"finetune": finetuning})
    split = read_split(toy_run.split)
    types = {"B cell": "train", "T cell": "train", "NK cell": "validation"}
    split["part"] = split.part.where(split.part == "test", split.cell_type.map(types))
    split["batch"] = split.part
    model = train("own", frozen, split=write_split(tmp_path / "own.tsv", split))
    assert read_json(model / CALIBRATION)["threshold_from"] == "cells left out"


def test_test_labels_are_never_read(toy_run, train, tmp_path):
    split = read_split(toy_run.split)
    split.loc[split.part == "test", "cell_type"] = "nobody knows"
    first = train("first")
    assert same_bits(first, train("blind", split=write_split(tmp_path / "blind.tsv", split)))
    seen = read_split(toy_run.split)
    other = seen.index[(seen.part == "train") & (seen.cell_type == "B cell")][:5]
    seen.loc[other, "cell_type"] = "T cell"
    other_labels = train("seen", split=write_split(tmp_path / "seen.tsv", seen))
    assert not same_bits(first, other_labels, [WEIGHTS])  # so the comparison can fail


def test_the_order_of_the_split_does_not_matter(toy_run, train, tmp_path):
    shuffled = read_split(toy_run.split).sample(frac=1, random_state=0)
    given = write_split(tmp_path / "shuffled.tsv", shuffled)
    assert same_bits(train("first"), train("shuffled", split=given))


def test_the_same_seed_gives_the_same_bits(train):
    first = train("first")
    assert same_bits(first, train("again"))
    assert not same_bits(first, train("other", seed=1), [WEIGHTS])


def test_a_stopped_run_ends_with_the_same_bits(train, stop_at_epoch, tmp_path):
    with stop_at_epoch(2):
        train("parts")
    assert not (tmp_path / "parts").exists()
    whole, parts = train("whole"), train("parts")
    assert same_bits(whole, parts)
    assert history_of(whole) == history_of(parts)


def test_a_complete_run_leaves_no_checkpoint(train, tmp_path):
    """It would be in the way of the next run with other settings."""
    train("first")
    assert not (tmp_path / "first_state").exists()


def test_another_split_does_not_continue_a_checkpoint(toy_run, train, stop_at_epoch, tmp_path):
    """It would publish a model that had learned from cells that are test cells now."""
    with stop_at_epoch(2):
        train("first")
    moved = read_split(toy_run.split)
    first, last = (moved.index[moved.part == part][0] for part in ("train", "test"))
    moved.loc[[first, last], "part"] = ["test", "train"]
    given = {"split": write_split(tmp_path / "moved.tsv", moved)}
    with pytest.raises(ValueError, match=r"these differ: split\. Restore"):
        train("second", checkpoint=tmp_path / "first_state", **given)


def test_other_settings_do_not_continue_a_checkpoint(toy, train, short, stop_at_epoch, tmp_path):
    with stop_at_epoch(2):
        train("first")
    changed = short.model_copy(update={"finetune": toy.change(short.finetune, dropout=0.2)})
    with pytest.raises(ValueError, match=r"these differ: finetune\.dropout, seed\. Restore"):
        train("second", changed, seed=1, checkpoint=tmp_path / "first_state")


def test_an_encoder_that_was_made_again_continues_a_checkpoint(
    toy, toy_run, config, train, stop_at_epoch, tmp_path
):
    """Its history tells other seconds, so its manifest differs, but its weights do not."""
    toy.pretrain(toy_run, config, tmp_path / "again", tmp_path / "pretrain_state")
    with stop_at_epoch(2):
        train("first")
    second = train("second", pretrained=tmp_path / "again", checkpoint=tmp_path / "first_state")
    assert same_bits(train("whole"), second)


def test_the_head_alone_leaves_the_encoder_as_it_was(toy, toy_run, short, train):
    head = short.model_copy(update={"finetune": toy.change(short.finetune, train="head")})
    before = load_pretrained(toy_run.pretrained).network.encoder.state_dict()
    frozen = load_finetuned(train("head", head)).network.encoder.state_dict()
    assert all(torch.equal(before[key], value) for key, value in frozen.items())
    trained = load_finetuned(train("all")).network.encoder.state_dict()
    changed = {key for key, value in trained.items() if not torch.equal(before[key], value)}
    assert "gene.weight" in changed
    assert not [key for key in changed if "projection" in key]  # frozen in fine-tuning


def changed(toy, settings, **values):
    return settings.model_copy(update={"finetune": toy.change(settings.finetune, **values)})


@pytest.mark.parametrize("name", ["logistic_regression", "discriminant"])
def test_every_model_keeps_experts_that_learned_the_planted_types(toy_run, name):
    bundle, store = load_finetuned(toy_run.model), open_store(toy_run.tokens)
    split = read_split(toy_run.split).set_index("cell").loc[store.cell_names()]
    rows = np.flatnonzero(split.part == "test")
    names = np.array([label["name"] for label in bundle.labels])
    logits = bundle.experts[name].logits(expression_of(store, rows), np.zeros((len(rows), 0)))
    predicted = names[logits.argmax(axis=1)]
    assert (predicted == split.cell_type.iloc[rows]).mean() > 0.85


def test_variable_genes_are_the_only_tokens_and_the_bundle_knows_them(
    toy, toy_run, short, train, tmp_path
):
    """The planted markers are the first thirty genes; test cells have no say in the choice."""
    settings = changed(toy, short, variable_genes=25)
    bundle = load_finetuned(train("few", settings))
    assert bundle.used.sum() == 25
    markers = bundle.genes.symbol.isin(toy.symbols[:30]).to_numpy()
    assert (bundle.used & markers).sum() >= 24
    assert all(expert.weight_CV[:, ~bundle.used].any() for expert in bundle.experts.values())
    assert load_finetuned(toy_run.model).used is None
    split = read_split(toy_run.split)
    split.loc[split.part == "test", "cell_type"] = "nobody knows"
    given = write_split(tmp_path / "blind.tsv", split)
    assert same_bits(train("blind", settings, split=given), tmp_path / "few")


def test_validation_cells_of_a_type_that_training_lacks_are_left_out(toy_run, train, tmp_path):
    split = read_split(toy_run.split)
    split.loc[split.index[split.part == "validation"][:3], "cell_type"] = "Mast cell"
    bundle = load_finetuned(train("new", split=write_split(tmp_path / "new.tsv", split)))
    assert bundle.config["cells"] == {"train": 54, "validation": 15}
    assert [label["name"] for label in bundle.labels] == ["B cell", "NK cell", "T cell"]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_split_without_a_part_is_refused(toy_run, train, tmp_path, part):
    split = read_split(toy_run.split)
    split.loc[split.part == part, "part"] = "test"
    given = write_split(tmp_path / "odd.tsv", split)
    with pytest.raises(ValueError, match=r"odd\.tsv has no cell of part.*Give more cells"):
        train("odd", split=given)


def test_a_split_of_other_cells_is_refused(toy_run, train, tmp_path):
    split = read_split(toy_run.split).iloc[1:]
    given = write_split(tmp_path / "odd.tsv", split)
    with pytest.raises(ValueError, match=r"odd\.tsv and the tokens hold different cells"):
        train("odd", split=given)


def test_tokens_of_another_vocabulary_are_refused(toy_run, train, tmp_path):
    shutil.copytree(toy_run.tokens, tmp_path / "toy")
    meta = read_json(tmp_path / "toy/meta.json") | {"vocabulary_sha256": "0"}
    (tmp_path / "toy/meta.json").write_text(json.dumps(meta))
    (tmp_path / "toy/meta.sha256").write_bytes(checksum_line(tmp_path / "toy/meta.json"))
    with pytest.raises(ValueError, match="was written for another vocabulary"):
        train("odd", tokens=tmp_path / "toy")
    assert not (tmp_path / "odd").exists()


def test_all_genes_can_be_fine_tuned(toy, config, tmp_path):
    full = config.model_copy(update={"sequence": "all_genes"})
    paths = toy.run_to_tokens(tmp_path / "run", toy.draw_cells(30), full)
    toy.write_random_vectors(paths.gene2vec, paths.vocabulary, full.network.dim)
    toy.pretrain(SimpleNamespace(**vars(paths)), full)
    toy.finetune(paths, full)
    assert load_finetuned(paths.model).config["sequence"] == "all_genes"


def test_outputs_keep_the_order_of_rows_whatever_the_batches(toy_run, config):
    bundle, store = load_finetuned(toy_run.model), open_store(toy_run.tokens)
    rows = np.random.default_rng(0).permutation(len(store))[:40]
    done = []
    one_by_one = CellBatches(store, "expressed_genes", config.binning.n_bins, 1)
    together = CellBatches(store, "expressed_genes", config.binning.n_bins, 10_000)
    expected = outputs(bundle.network, one_by_one, rows, torch.device("cpu")).logits
    found = outputs(bundle.network, together, rows, torch.device("cpu"), done.append).logits
    assert sum(done) == 40
    assert np.abs(found - expected).max() < 1e-5
    for position in (0, 17, 39):
        alone = outputs(bundle.network, together, rows[[position]], torch.device("cpu"))
        assert np.abs(alone.logits[0] - found[position]).max() < 1e-5
