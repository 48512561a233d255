import hashlib
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scbert.cli import app
from scbert.files import read_json
from scbert.genes.matching import read_vocabulary
from scbert.network.original import read_sizes, rename_weights
from scbert.steps import convert_checkpoint as step
from scbert.steps.annotate_file import annotate
from scbert.steps.convert_checkpoint import convert_checkpoint
from scbert.tokens.store import open_store
from scbert.training.bundle import load_finetuned, load_model
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import outputs
from tests.original_network import COUNTER, GENE2VEC, LAYER, original_logits, original_state

pytestmark = pytest.mark.slow

N_GENES = 11
SYMBOLS = [f"GENE{number}" for number in range(1, N_GENES + 1)]


@pytest.fixture
def convert(tmp_path):
    """Save weights as the original does, and convert the file."""

    def run(state, symbols=SYMBOLS, name="model", labels=None, wrap=True, prefix=""):
        file, genes = tmp_path / f"{name}.pth", tmp_path / f"{name}.txt"
        state = {prefix + key: weight for key, weight in state.items()}
        content = {"epoch": 6, "model_state_dict": state, "losses": 0.5} if wrap else state
        torch.save(content, file)
        genes.write_text("\n".join(symbols) + "\n")
        convert_checkpoint(file, genes, tmp_path / name, labels)
        return load_model(tmp_path / name)

    return run


def draw_tokens(n_cells, n_genes, seed=0, n_bins=5):
    """Bins of a cell, and the appended token, as the original reads them."""
    tokens = torch.randint(
        0, n_bins + 1, (n_cells, n_genes + 1), generator=torch.Generator().manual_seed(seed)
    )
    tokens[:, -1] = 0
    return tokens


def ours(model, tokens):
    genes = torch.arange(tokens.shape[1]).expand_as(tokens)
    with torch.no_grad():
        logits = model(genes, tokens, torch.ones_like(tokens, dtype=torch.bool))
    return logits[0] if isinstance(logits, tuple) else logits


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def one_by_one(state, tokens):
    """The original's logits at batch size 1."""
    return torch.cat([original_logits(state, cell[None]) for cell in tokens])


def test_a_pretrained_checkpoint_gives_the_originals_logits(convert):
    """All of them but that of the mask, which is never a target."""
    state, tokens = original_state(), draw_tokens(4, N_GENES)
    tokens[0, 3] = 6  # a hidden gene
    found = ours(convert(state).network, tokens)
    expected = one_by_one(state, tokens)[..., :-1]
    assert found.shape == (4, N_GENES + 1, 6)
    assert relative_error(found, expected) < 1e-5


SHAPES = [
    {"depth": 1, "heads": 1, "n_types": 2},
    {"depth": 3, "heads": 5, "dim_head": 4, "n_types": 7, "seed": 1},
    {"n_genes": 40, "n_tokens": 9, "n_types": 3, "seed": 2},
    {"n_genes": 1, "dim": 40, "heads": 4, "n_types": 1, "seed": 3},
    {"scale": 3.0, "n_types": 4, "seed": 4},  # where the floor of the features decides
]


@pytest.mark.parametrize("sizes", SHAPES)
def test_a_finetuned_checkpoint_of_any_size_gives_the_originals_logits(convert, sizes):
    state = original_state(**sizes)
    n_genes = len(state[GENE2VEC]) - 1
    tokens = draw_tokens(3, n_genes, n_bins=sizes.get("n_tokens", 7) - 2)
    bundle = convert(state, [f"GENE{number}" for number in range(n_genes)])
    assert relative_error(ours(bundle.network, tokens), one_by_one(state, tokens)) < 1e-4


def test_the_logits_are_the_same_at_any_batch_size(convert):
    """The original's are not: its stabilizer is the maximum over the cells of a batch."""
    state, tokens = original_state(n_types=3, scale=3.0), draw_tokens(8, N_GENES)
    model = convert(state).network
    alone = torch.cat([ours(model, cell[None]) for cell in tokens])
    assert relative_error(ours(model, tokens), alone) < 1e-6
    expected = one_by_one(state, tokens)
    assert relative_error(alone, expected) < 1e-4
    assert relative_error(original_logits(state, tokens), expected) > 1e-3


@pytest.mark.parametrize(("wrap", "prefix"), [(False, ""), (True, "module."), (False, "module.")])
def test_bare_and_prefixed_weights_are_read(convert, wrap, prefix):
    state, tokens = original_state(n_types=3), draw_tokens(2, N_GENES)
    found = ours(convert(state, wrap=wrap, prefix=prefix).network, tokens)
    assert relative_error(found, one_by_one(state, tokens)) < 1e-4


def test_a_checkpoint_of_the_papers_size_has_the_91_keys_of_the_original():
    """What the released file holds; the counts are those of scBERT@262fd4b."""
    state = original_state(n_genes=11, dim=200, depth=6, heads=10, dim_head=64)
    assert len(state) == 91
    sizes = read_sizes(state)
    assert (sizes.depth, sizes.heads, sizes.dim_head, sizes.ff_mult) == (6, 10, 64, 4)
    assert (sizes.n_bins, sizes.n_genes, sizes.n_types) == (5, 11, None)
    assert all(weight.dtype == torch.float32 for weight in rename_weights(state, sizes).values())


def test_the_bundle_says_what_it_is(convert, tmp_path):
    bundle = convert(original_state(n_types=3))
    config = bundle.config
    assert (config["kind"], config["sequence"], config["n_bins"]) == ("finetuned", "paper", 5)
    assert config["normalization"] == {"target_sum": 10_000, "denominator": "vocabulary"}
    assert (config["network"]["stabilizer"], config["network"]["depth"]) == ("cell", 2)
    assert config["network"]["qk_rms"] is None
    assert config["converted"] == {
        "file": "model.pth",
        "sha256": hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest(),
        "genes_sha256": hashlib.sha256("\n".join(SYMBOLS).encode()).hexdigest(),
        "epoch": 6,
    }
    assert [label["name"] for label in bundle.labels] == ["class0", "class1", "class2"]
    card = (tmp_path / "model/README.md").read_text()
    assert "11 genes, 5 bins, 3 cell types" in card
    assert "Not calibrated" in card
    assert load_model(tmp_path / "model").sha256 == bundle.sha256


def test_labels_are_read_from_a_file(convert, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("B cell\nNK cell\nT cell\n")
    bundle = convert(original_state(n_types=3), labels=labels)
    assert [label["name"] for label in bundle.labels] == ["B cell", "NK cell", "T cell"]
    labels.write_text("B cell\nT cell\nT cell\n")
    with pytest.raises(
        ValueError, match=r"lists 3 cell types, 2 of them different, but .* tells 3"
    ):
        convert(original_state(n_types=3), name="again", labels=labels)
    with pytest.raises(ValueError, match="is pretrained only and names no cell types"):
        convert(original_state(), name="pretrained", labels=labels)


def test_genes_are_read_from_an_h5ad_or_a_vocabulary(convert, toy, toy_run, tmp_path):
    """The original's list is var_names of its corpus; ids are used where there are any."""
    torch.save(original_state(n_genes=80), tmp_path / "toy.pth")
    toy.draw_cells(3).write_h5ad(tmp_path / "corpus.h5ad")
    read_vocabulary(toy_run.vocabulary).to_csv(tmp_path / "genes.tsv", sep="\t", index=False)
    for name in ("corpus.h5ad", "genes.tsv"):
        convert_checkpoint(tmp_path / "toy.pth", tmp_path / name, tmp_path / f"of_{name}")
    genes = load_model(tmp_path / "of_corpus.h5ad").genes
    assert genes.symbol.tolist() == toy.symbols
    assert genes.gene_id.tolist() == toy.ensembl
    genes = load_model(tmp_path / "of_genes.tsv").genes
    assert genes.symbol.tolist() == read_vocabulary(toy_run.vocabulary).symbol.tolist()


def test_other_genes_than_the_authors_are_told(convert, monkeypatch, caplog):
    """Shown with a list of any length: 16,906 genes would make a file of 14 MB."""
    digest = hashlib.sha256("\n".join(SYMBOLS).encode()).hexdigest()
    monkeypatch.setattr(step, "AUTHORS_GENES", digest)
    monkeypatch.setattr(step, "N_AUTHORS_GENES", N_GENES)
    with caplog.at_level(logging.WARNING, "scbert"):
        convert(original_state(), name="right")
        assert not caplog.records
        convert(original_state(), SYMBOLS[::-1], name="reversed")
    assert "in another order" in caplog.text


def change(state, how):  # noqa: C901  one line for each way
    key = f"{LAYER}.1.0.fn.to_k.weight"
    if how == "missing":
        del state[key]
    elif how == "no gene2vec":
        del state[GENE2VEC]
    elif how == "unexpected":
        state["performer.net.layers.0.0.fn.to_q.bias"] = torch.zeros(16)
    elif how == "shape":
        state[key] = torch.zeros(16, 21)
    elif how == "vectors":
        state[GENE2VEC] = state[GENE2VEC][:, :-1]
    elif how == "nan":
        state[key][0, 0] = torch.nan
    elif how == "vector":
        state["token_emb.weight"] = torch.zeros(7)
    elif how == "layer":
        state = {name: weight for name, weight in state.items() if f"{LAYER}.0." not in name}
    return state


FAULTS = [
    ("missing", r"1 of 40 weights do not fit.*'performer\.net\.layers\.1\.0\.fn\.to_k.*is missing"),
    ("no gene2vec", r"'pos_emb\.emb\.weight' is missing.*made with gene2vec"),
    ("unexpected", r"'performer\.net\.layers\.0\.0\.fn\.to_q\.bias' \(16,\) is not known"),
    ("shape", r"to_k\.weight' has shape \(16, 21\) instead of \(16, 20\)"),
    ("vectors", r"'pos_emb\.emb\.weight' has shape \(12, 19\) instead of \(12, 20\)"),
    ("nan", r"to_k\.weight' holds torch\.float32 with values that are not finite"),
    ("vector", r"'token_emb\.weight' has shape \(7,\), but a matrix is needed"),
    ("layer", r"3 of .* 'performer\.net\.layers\.0\.0\.fn\.to_q\.weight' is missing"),
]


@pytest.mark.parametrize(("how", "message"), FAULTS)
def test_weights_that_do_not_fit_are_told(convert, tmp_path, how, message):
    with pytest.raises(ValueError, match=rf"(?s)model\.pth: .*{message}"):
        convert(change(original_state(n_types=3), how))
    assert not (tmp_path / "model").exists()


def test_the_counter_of_redraws_may_be_absent(convert):
    state = original_state()
    del state[COUNTER]
    assert convert(state).config["kind"] == "pretrained"


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (SYMBOLS[:-1], r"lists 10 genes, but the checkpoint has vectors for 11 and one appended"),
        ([*SYMBOLS[:-1], "GENE1"], r"lists 1 genes more than once, such as 'GENE1'"),
    ],
)
def test_genes_that_do_not_fit_are_refused(convert, symbols, message):
    with pytest.raises(ValueError, match=message):
        convert(original_state(), symbols)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "boom")


@pytest.mark.parametrize("content", ["bomb", "text", "list", "numbers"])
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_nothing(tmp_path, content):
    file, trace = tmp_path / "model.pth", tmp_path / "boom.txt"
    if content == "bomb":
        pickle.loads(pickle.dumps(Bomb(trace)))  # it works
        trace.unlink()
        torch.save({"model_state_dict": original_state(), "losses": Bomb(trace)}, file)
    elif content == "text":
        file.write_text("no checkpoint")
    else:
        torch.save([1.0] if content == "list" else {"losses": 0.5}, file)
    with pytest.raises(ValueError, match=r"model\.pth (cannot be read without running|holds )"):
        convert_checkpoint(file, tmp_path / "genes.txt", tmp_path / "model")
    assert not trace.exists()


def test_a_folder_that_exists_is_not_replaced(convert, tmp_path):
    convert(original_state())
    before = load_model(tmp_path / "model").sha256
    with pytest.raises(ValueError, match="model exists already and would be replaced"):
        convert(original_state(seed=1))
    assert load_model(tmp_path / "model").sha256 == before


@pytest.fixture
def converted(toy, toy_run, tmp_path):
    """Write a converted model of the toy genes, pretrained or fine-tuned."""

    def run(n_types=None):
        torch.save(original_state(n_genes=80, n_types=n_types), tmp_path / "toy.pth")
        out = tmp_path / f"converted_{n_types}"
        convert_checkpoint(tmp_path / "toy.pth", toy_run.vocabulary, out)
        return out

    return run


def test_a_converted_model_annotates(toy, toy_run, converted, caplog):
    """From counts to logits: those of the original for the same cells, missing genes as silent."""
    folder, cells = converted(n_types=3), toy.draw_cells(12, seed=3)[:, :70].copy()
    with caplog.at_level(logging.WARNING, "scbert"):
        result = annotate(cells, folder)
    assert "not calibrated" in caplog.text
    assert not result.uns["scbert"]["calibrated"]
    assert not result.obs.scbert_is_unknown.any()
    order = read_vocabulary(toy_run.vocabulary).symbol.tolist()
    counts = cells.to_df().reindex(columns=order, fill_value=0).to_numpy(dtype=np.float64)
    expression = np.log2(1 + counts / counts.sum(axis=1, keepdims=True) * 1e4)
    tokens = np.pad(np.minimum(expression, 5).astype(np.int64), ((0, 0), (0, 1)))
    state = torch.load(folder.with_name("toy.pth"), weights_only=True)
    expected = one_by_one(state, torch.from_numpy(tokens)).softmax(dim=-1).numpy()
    assert np.abs(result.obsm["scbert_probabilities"].to_numpy() - expected).max() < 1e-5


def test_a_converted_model_is_fine_tuned_and_the_result_annotates(
    toy, toy_run, config, converted, tmp_path
):
    pretrained = converted()
    model = tmp_path / "model"
    given = {"pretrained": pretrained, "model": model, "checkpoint": tmp_path / "state"}
    toy.finetune(toy_run, config, **given)
    bundle = load_finetuned(model)
    assert bundle.config["sequence"] == "paper"
    assert bundle.config["pretrained"]["converted"]["file"] == "toy.pth"
    result = annotate(toy.draw_cells(30, seed=5), bundle)
    assert (result.obs.scbert_label.astype(str) == result.obs.cell_type).mean() > 0.6
    store = open_store(toy_run.tokens)
    cells = CellBatches(store, "paper", 5, 4096)
    found = outputs(bundle.network, cells, np.arange(4), torch.device("cpu"))
    assert np.isfinite(found.logits).all()


def test_the_command_converts(toy_run, tmp_path):
    torch.save(original_state(n_genes=80, n_types=3), tmp_path / "toy.pth")
    out = tmp_path / "model"
    given = ["convert-checkpoint", tmp_path / "toy.pth", "--genes", toy_run.vocabulary]
    level = logging.getLogger("scbert").level
    result = CliRunner().invoke(app, [*map(str, given), "--out", str(out)])
    again = CliRunner().invoke(app, [*map(str, given), "--out", str(out)])
    logging.getLogger("scbert").setLevel(level)
    logging.captureWarnings(capture=False)
    assert result.exit_code == 0, result.stderr
    assert "model: finetuned, genes sha256 " in result.stdout.replace("\n", "")
    assert read_json(out / "config.json")["kind"] == "finetuned"
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert "Traceback" not in again.output
