"""Nothing of a test cell reaches what a model learns: neither its counts nor its label."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.steps.find_pairs import find_pairs
from scbert.steps.train_gene2vec import train_gene2vec

# umap says so when it is imported; the steps use none of it
pytestmark = pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")

MUST_NOT_CHANGE = (
    "vocabulary.tsv",
    "gene2vec/vectors.npy",
    "pretrained/weights.safetensors",
    "models/toy/seed2021/weights.safetensors",
    "models/toy/seed2021/labels.json",
    "models/toy/seed2021/calibration.json",
)


@pytest.fixture(scope="module")
def settings(toy):
    """The small settings, with a vocabulary that a few cells can change."""
    config = toy.config()
    return config.model_copy(
        update={"vocabulary": toy.change(config.vocabulary, min_cells=15, max_genes=70)}
    )


@pytest.fixture(scope="module")
def run(toy, settings, tmp_path_factory):
    """Run all steps up to the calibrated model; return the bytes of what they learned."""

    def learn(name, cells, split=None):
        root = tmp_path_factory.mktemp(name)
        paths = toy.run_to_tokens(root, cells, settings, split)
        pairs = root / "pairs.npy"
        find_pairs(paths.corpus_expression, paths.vocabulary, pairs, settings.pairs)
        train_gene2vec([pairs], paths.vocabulary, [], paths.gene2vec, settings.gene2vec)
        toy.pretrain(paths, settings)
        toy.finetune(paths, settings)
        learned = {file: (root / file).read_bytes() for file in MUST_NOT_CHANGE}
        return learned, paths

    return learn


@pytest.fixture(scope="module")
def original(toy, run):
    return run("original", toy.draw_cells())


def scramble(cells, names, seed=0):
    """Give these cells other counts, in every gene, and the labels of one another."""
    scrambled = cells.copy()
    rows = scrambled.obs_names.get_indexer(names)
    rng = np.random.default_rng(seed)
    counts = scrambled.X.toarray()
    counts[rows] = rng.poisson(3.0, size=(len(rows), cells.n_vars))
    scrambled.X = sparse.csr_matrix(counts)
    labels = scrambled.obs.cell_type.to_numpy(dtype=object)
    labels[rows] = rng.permutation(labels[rows])
    scrambled.obs["cell_type"] = labels
    return scrambled


def split_for(split, cells):
    """The same parts, with the cell types that the cells have now."""
    table = split.assign(cell_type=cells.obs.cell_type[split.cell].to_numpy())
    return table.to_csv(sep="\t", index=False)


def test_scrambled_test_cells_change_no_bit_of_what_is_learned(toy, run, original):
    learned, paths = original
    cells, split = toy.draw_cells(), pd.read_csv(paths.split, sep="\t", keep_default_na=False)
    test = split.cell[split.part == "test"]
    scrambled = scramble(cells, test)
    assert (scrambled.obs.cell_type != cells.obs.cell_type).sum() > len(test) / 4
    other, other_paths = run("scrambled", scrambled, split_for(split, scrambled))
    assert paths.tokens.joinpath("level.u8").read_bytes() != (
        other_paths.tokens.joinpath("level.u8").read_bytes()
    )  # the scrambled cells did arrive
    for file in MUST_NOT_CHANGE:
        assert other[file] == learned[file], f"{file} depends on test cells"


def test_a_scrambled_training_cell_changes_everything_that_is_learned(toy, run, original):
    """So that the test above can fail. Labels stay: they are the same three types."""
    learned, paths = original
    cells, split = toy.draw_cells(), pd.read_csv(paths.split, sep="\t", keep_default_na=False)
    scrambled = scramble(cells, split.cell[split.part == "train"][:1])
    other, _ = run("training", scrambled, split_for(split, scrambled))
    changed = {file for file in MUST_NOT_CHANGE if other[file] != learned[file]}
    assert changed == set(MUST_NOT_CHANGE) - {"models/toy/seed2021/labels.json"}
