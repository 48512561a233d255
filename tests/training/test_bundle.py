import json
import pickle
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scbert.calibration.calibrate import NOT_CALIBRATED
from scbert.files import read_json, sha256_of, write_json
from scbert.genes.matching import read_vocabulary
from scbert.network.model import CellTypeModel, MaskedExpressionModel, new_encoder, new_head
from scbert.training.bundle import Contents, load_finetuned, load_model, load_pretrained, save_model
from scbert.training.saved_model import FinetunedModel, PretrainedModel

FILES = [
    "weights.safetensors",
    "config.json",
    "genes.tsv",
    "history.jsonl",
    "labels.json",
    "calibration.json",
    "experts.safetensors",
    "principal_components.safetensors",
    "training_cells.safetensors",
]


@pytest.fixture
def bundle(toy_run, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(toy_run.model, tmp_path / "model"))


def sign_again(folder):
    """Write the manifest anew, as somebody who wants to deceive would."""
    files = [path for path in sorted(folder.iterdir()) if path.name != "MANIFEST.sha256"]
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in files]
    (folder / "MANIFEST.sha256").write_text("".join(lines))


@contextmanager
def edited(file):
    """Yield the content of a JSON file of a bundle, and write and sign what became of it."""
    content = read_json(file)
    yield content
    write_json(file, content)
    sign_again(file.parent)


def cells(n_genes):
    genes = torch.arange(min(6, n_genes))[None]
    tokens = torch.tensor([[1, 2, 3, 4, 5, 1]])[:, : genes.shape[1]]
    return genes, tokens, torch.ones_like(tokens, dtype=torch.bool)


def test_a_bundle_holds_these_files_and_each_is_in_the_manifest(toy_run):
    assert {path.name for path in toy_run.model.iterdir()} == {*FILES, "MANIFEST.sha256"}
    manifest = (toy_run.model / "MANIFEST.sha256").read_text().splitlines()
    assert {line.split("  ")[1] for line in manifest} == set(FILES)
    assert sorted(path.name for path in toy_run.pretrained.iterdir()) == [
        "MANIFEST.sha256",
        "config.json",
        "genes.tsv",
        "history.jsonl",
        "validation.json",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("attention", ["performer", "exact"])
def test_a_round_trip_gives_the_same_logits(toy, config, toy_run, tmp_path, attention):
    genes = read_vocabulary(toy_run.vocabulary)
    network = toy.change(config.network, attention=attention)
    vectors = torch.randn(len(genes), network.dim, generator=torch.Generator().manual_seed(0))
    model = CellTypeModel(
        new_encoder(network, 5, vectors, seed=1),
        new_head(config.finetune, network.dim, len(genes), 2, seed=1),
    ).eval()
    given = {
        "sequence": "all_genes",
        "network": network.model_dump(),
        "n_bins": 5,
        "finetune": config.finetune.model_dump(),
    }
    labels = [{"name": name, "ontology_term_id": "unknown"} for name in ("B cell", "T cell")]
    calibration = NOT_CALIBRATED | {"temperature": 1.5}
    contents = Contents(labels=labels, calibration=calibration)
    history = [{"epoch": 1}]
    save_model(tmp_path / "model", model, given, genes, history=history, contents=contents)
    loaded = load_model(tmp_path / "model")
    for ours, theirs in zip(loaded.network(*cells(80)), model(*cells(80)), strict=True):
        assert torch.equal(ours, theirs)
    assert not loaded.network.training
    assert loaded.labels == labels
    assert loaded.calibration == calibration
    assert loaded.genes.equals(genes)
    assert loaded.config["format"] == 7
    assert loaded.sha256 == sha256_of(tmp_path / "model/MANIFEST.sha256")


def test_a_pretrained_bundle_has_no_labels(toy_run):
    loaded = load_pretrained(toy_run.pretrained)
    assert type(loaded.network) is MaskedExpressionModel
    assert isinstance(load_model(toy_run.pretrained), PretrainedModel)
    with pytest.raises(ValueError, match="is pretrained only and knows no cell types, but"):
        load_finetuned(toy_run.pretrained)


def test_a_fine_tuned_bundle_is_not_fine_tuned_again(toy_run):
    assert isinstance(load_model(toy_run.model), FinetunedModel)
    with pytest.raises(ValueError, match="is a fine-tuned model, but one that is pretrained only"):
        load_pretrained(toy_run.model)


def test_a_bundle_can_be_moved(toy_run, bundle):
    assert load_model(bundle).sha256 == load_finetuned(toy_run.model).sha256


def test_new_weights_follow_from_the_seed_and_leave_the_generator_alone(config):
    vectors = torch.zeros(4, config.network.dim)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (
        new_encoder(config.network, 5, vectors, seed).token.weight for seed in (1, 1, 2)
    )
    heads = [new_head(config.finetune, 16, 4, 2, seed).first.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(first, other)
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("name", FILES)
def test_each_altered_file_is_refused_by_name(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[-2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"'{re.escape(name)}' is missing or is not what was saved"
    ):
        load_model(bundle)


@pytest.mark.parametrize("name", FILES)
def test_each_missing_file_is_refused_by_name(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ValueError, match=rf"'{re.escape(name)}' is missing.*Copy the folder again"):
        load_model(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "genes.tsv"])
def test_a_manifest_must_list_what_is_needed(bundle, name):
    (bundle / name).unlink()
    sign_again(bundle)
    with pytest.raises(ValueError, match=rf"does not list {re.escape(name)}"):
        load_model(bundle)


@pytest.mark.parametrize("name", ["../outside.txt", "sub/inside.txt", "/etc/hostname", "..", ""])
def test_a_manifest_that_names_other_places_is_refused(bundle, name):
    (bundle.parent / "outside.txt").write_text("x")
    (bundle / "sub").mkdir()
    (bundle / "sub/inside.txt").write_text("x")
    target = bundle / name
    digest = sha256_of(target) if target.is_file() else "0" * 64
    manifest = bundle / "MANIFEST.sha256"
    manifest.write_text(manifest.read_text() + f"{digest}  {name}\n")
    with pytest.raises(ValueError, match=rf"'{re.escape(name)}' is missing or is not"):
        load_model(bundle)


def test_files_that_the_manifest_does_not_list_are_not_read(bundle, toy_run):
    """A model card is added later; labels that nobody signed must not name cell types."""
    (bundle / "README.md").write_text("# card")
    assert load_finetuned(bundle).types == load_finetuned(toy_run.model).types
    lines = (bundle / "MANIFEST.sha256").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "calibration.json" not in line]
    (bundle / "MANIFEST.sha256").write_text("".join(kept))
    with pytest.raises(ValueError, match=r"names cell types, but .* lists no calibration.json"):
        load_model(bundle)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "boom")


def test_a_pickle_disguised_as_weights_does_not_run(bundle, tmp_path):
    trace = tmp_path / "boom.txt"
    pickle.loads(pickle.dumps(Bomb(trace)))  # it works
    assert trace.read_text() == "boom"
    trace.unlink()
    for disguise in (pickle.dumps(Bomb(trace)), None):
        if disguise is None:
            torch.save(Bomb(trace), bundle / "weights.safetensors")
        else:
            (bundle / "weights.safetensors").write_bytes(disguise)
        sign_again(bundle)
        with pytest.raises(ValueError, match=r"cannot be read or do not fit|not the network of"):
            load_model(bundle)
        assert not trace.exists()


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.sha256"])
def test_a_link_is_refused(bundle, name):
    """Even to the very file: what lies outside the folder is not the model's."""
    outside = bundle.parent / "outside"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is a link.*cp -rL"):
        load_model(bundle)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "MANIFEST.sha256"])
def test_a_file_too_large_to_be_read_is_refused(bundle, name):
    with (bundle / name).open("ab") as handle:
        handle.truncate(2**24 + 1)  # sparse: it takes no space
    if name != "MANIFEST.sha256":
        sign_again(bundle)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} has 16,777,217 bytes"):
        load_model(bundle)


def test_json_nested_without_end_is_refused(bundle):
    (bundle / "config.json").write_text("[" * 200_000)
    sign_again(bundle)
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_model(bundle)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("labels", lambda labels: labels[1].pop("name"), r"labels.json .*'1.name'.*Field required"),
        ("labels", lambda labels: labels[1].update(labels[0]), "a cell type is there twice"),
        ("labels", lambda labels: labels.clear(), "labels.json"),
        ("calibration", lambda one: one.pop("novelty_threshold"), "'novelty_threshold'"),
        ("calibration", lambda one: one.update(temperature=0), "'temperature' is 0"),
        ("calibration", lambda one: one.update(temperature=True), "'temperature' is True"),
        ("calibration", lambda one: one["experts"].pop("discriminant"), "it has weights of"),
        ("calibration", lambda one: one.update(type_positions=[[1.0]]), "type_positions is not of"),
        ("config", lambda one: one["normalization"].update(target_sum=-1), "target_sum"),
    ],
)
def test_what_the_manifest_lists_must_also_make_sense(bundle, file, change, message):
    content = read_json(bundle / f"{file}.json")
    change(content)
    write_json(bundle / f"{file}.json", content)
    sign_again(bundle)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_model(bundle)


@pytest.mark.parametrize("file", ["weights", "experts", "principal_components"])
@pytest.mark.parametrize("value", [np.nan, 1e38])
def test_weights_that_are_no_useful_numbers_are_refused(bundle, file, value):
    path = bundle / f"{file}.safetensors"
    arrays = load_file(path)
    name = next(name for name in sorted(arrays) if arrays[name].dtype == torch.float32)
    arrays[name].view(-1)[0] = value
    save_file(arrays, path)
    sign_again(bundle)
    with pytest.raises(ValueError, match="NaN, infinite or implausible"):
        load_model(bundle)


def test_a_config_that_is_a_list_is_refused(bundle):
    write_json(bundle / "config.json", [1, 2])
    sign_again(bundle)
    with pytest.raises(ValueError, match="holds no keys and values"):
        load_model(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dim", 2**30), ("depth", 10**9), ("ff_mult", 10**9), ("n_features", 10**9)],
)
def test_a_config_cannot_claim_memory_that_the_weights_do_not_need(bundle, key, value):
    with edited(bundle / "config.json") as config:
        config["network"][key] = value
    with pytest.raises(ValueError, match="is not the network of these weights"):
        load_model(bundle)


def test_a_head_cannot_claim_memory_that_the_weights_do_not_need(bundle):
    with edited(bundle / "config.json") as config:
        config["finetune"]["hidden"] = [10**9]
    with pytest.raises(ValueError, match="whose hidden needs"):
        load_model(bundle)


def test_weights_that_do_not_fit_the_config_are_refused(bundle):
    with edited(bundle / "config.json") as config:
        config["network"]["depth"] = 1
    with pytest.raises(ValueError, match=r"do not fit its config\.json\. Copy the folder again"):
        load_model(bundle)


def test_another_format_is_refused(bundle):
    config = read_json(bundle / "config.json") | {"format": 99}
    write_json(bundle / "config.json", config)
    sign_again(bundle)
    with pytest.raises(ValueError, match="has bundle format 99, but this version reads 4, 5, 6"):
        load_model(bundle)


def test_a_model_with_an_unknown_head_is_refused(bundle):
    with edited(bundle / "config.json") as config:
        config["finetune"]["head"] = "pooled"
    with pytest.raises(ValueError, match="does not describe a model that this version knows"):
        load_model(bundle)


@pytest.mark.parametrize("key", ["network", "sequence"])
def test_a_config_of_another_version_is_refused(bundle, key):
    with edited(bundle / "config.json") as config:
        if key == "network":
            del config[key]["qk_rms"]
        else:
            del config[key]
    with pytest.raises(ValueError, match=r"(?s)does not describe a model .*(qk_rms|sequence)"):
        load_model(bundle)


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_without_manifest_is_no_model(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is not a model: it has no MANIFEST\.sha256"):
        load_model(tmp_path / folder)


def test_history_is_one_json_record_per_epoch(toy_run, config):
    lines = (toy_run.model / "history.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert epochs == list(range(1, len(lines) + 1))
    assert config.finetune.patience < len(lines) <= config.finetune.optimizer.epochs


def test_a_model_has_learned_from_the_tokens_measured_in_finetuning(toy_run):
    """The vocabulary is the corpus's: a narrow dataset must not refuse its own cells."""
    bundle = load_finetuned(toy_run.model)
    assert bundle.genes.measured.astype(str).eq("True").all()
    assert bundle.learned.all()
    bundle.genes["measured"] = ["True"] * 20 + ["False"] * 60
    bundle.genes["used"] = ["False"] * 5 + ["True"] * 75
    assert np.flatnonzero(bundle.learned).tolist() == list(range(20))  # an expert reads the rest
    for expert in bundle.experts.values():
        expert.weight_CV[:, :5] = 0
    assert np.flatnonzero(bundle.learned).tolist() == list(range(5, 20))
