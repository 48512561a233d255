"""A small dataset with planted cell types, and what the steps make of it: fixtures for all tests.

90 cells of three types and 80 genes; each type has ten marker genes. Everything is a factory or
lies in a folder of the session that no test writes to.
"""

import os

# The same seed gives the same bits for one number of threads; numba, once it runs in parallel, sets
# that number for torch as well.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import settings
from scipy import sparse

from scbert.config import (
    FinetuneSettings,
    PretrainSettings,
    ReadSettings,
    load_config,
    settings_for,
)
from scbert.files import write_json
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.steps.bin_expression import bin_expression
from scbert.steps.build_vocabulary import build_vocabulary
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.steps.select_training_cells import select_training_cells
from scbert.steps.split_cells import split_cells
from tests.samples import DATASET
from tests.workflow_run import Run, copy_repository

settings.register_profile("busy", deadline=None)  # a busy machine is no fault of an example
settings.load_profile("busy")

ROOT = Path(__file__).parents[1]
N_GENES = 80
TYPES = ("B cell", "NK cell", "T cell")
SYMBOLS = [f"GENE{number}" for number in range(1, N_GENES + 1)]
ENSEMBL = [f"ENSG{number:011d}" for number in range(1, N_GENES + 1)]


def change(section, **values):
    """Change single values of a section of the configuration: model_copy, but checked."""
    return type(section).model_validate(section.model_dump() | values)


def small_config():
    """The embedded configuration, cut down until a step takes less than a second."""
    config = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    pretraining = change(config.pretrain.optimizer, epochs=2, tokens_per_batch=1024)
    finetuning = change(
        config.finetune.optimizer, epochs=12, learning_rate=3e-3, tokens_per_batch=512
    )
    return config.model_copy(
        update={
            "counts": change(config.counts, min_genes=5),
            # One count of about 110 falls into bin 1, ten into bin 4; 317 is prime, so that no
            # expression lies on the edge of two bins, where float32 decides.
            "normalization": change(config.normalization, target_sum=317.0),
            "pairs": change(config.pairs, cells_per_metacell=1, min_cells=5, min_correlation=0.15),
            "gene2vec": change(config.gene2vec, dim=16, epochs=2),
            "network": change(
                config.network, dim=16, depth=2, heads=2, dim_head=8, n_features=16, ff_mult=2
            ),
            "pretrain": change(config.pretrain, optimizer=pretraining.model_dump()),
            "finetune": change(
                config.finetune,
                experts=("logistic_regression", "discriminant", "encoder"),
                head="conv",
                variable_genes=None,
                hidden=(16,),
                dropout=0.1,
                optimizer=finetuning.model_dump(),
            ),
            "annotate": change(config.annotate, tokens_per_batch=4096),
        }
    )


def draw_cells(n_cells=90, seed=0):
    """Counts of cells of three types in turn: 0.5 per gene, 8 in the ten markers of the type."""
    rng = np.random.default_rng(seed)
    code = np.arange(n_cells) % len(TYPES)
    rates = np.full((len(TYPES), N_GENES), 0.5)
    for number in range(len(TYPES)):
        rates[number, 10 * number : 10 * number + 10] = 8.0
    obs = pd.DataFrame(
        {"cell_type": np.array(TYPES)[code]}, index=[f"cell{n}" for n in range(n_cells)]
    )
    var = pd.DataFrame({"gene_ids": ENSEMBL}, index=SYMBOLS)
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(rates[code]), dtype=np.float32), obs=obs, var=var
    )


def write_gene_table(path, symbols, ids, previous="", aliases="", kind="gene with protein product"):
    """Write a table of genes with the columns of HGNC's complete set; text stands for all genes."""
    columns = {"symbol": symbols, "ensembl_gene_id": ids, "locus_type": kind}
    columns |= {"prev_symbol": previous, "alias_symbol": aliases}
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)


def write_random_vectors(folder, vocabulary, dim, seed=0):
    """Write gene vectors as train_gene2vec does, without training them."""
    genes = read_vocabulary(vocabulary)
    folder.mkdir(parents=True)
    vectors = np.random.default_rng(seed).normal(0, 0.1, (len(genes), dim)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    write_json(folder / "meta.json", {"vocabulary_sha256": vocabulary_sha256(genes)})


def run_to_tokens(root, cells, config, split=None):
    """Run the steps from read_counts to bin_expression, as the workflow does; return the paths.

    The corpus is the training cells. `split` is used instead of a new one if it is given.
    """
    paths = SimpleNamespace(
        cells=root / "toy.h5ad",
        counts=root / "counts/toy.h5ad",
        quality=root / "counts/toy.json",
        split=root / "splits/toy.tsv",
        training=root / "counts/toy.train.h5ad",
        vocabulary=root / "vocabulary.tsv",
        corpus_expression=root / "expression/toy.train.h5ad",
        expression=root / "expression/toy.h5ad",
        corpus=root / "tokens/embedded",
        tokens=root / "tokens/toy",
        gene2vec=root / "gene2vec",
        pretrained=root / "pretrained",
        model=root / "models/toy/seed2021",
        checkpoints=root / "checkpoints",
    )
    gene_table = root / "gene_table.tsv"
    root.mkdir(parents=True, exist_ok=True)
    cells.write_h5ad(paths.cells)
    write_gene_table(gene_table, SYMBOLS, ENSEMBL, aliases=[f"OLD{name}" for name in SYMBOLS])
    said = {"file": str(paths.cells), "matrix": "X", "scale": "counts"}
    dataset = DATASET.model_copy(update=said)
    reading = step_settings(
        ReadSettings,
        config,
        sample="toy",
        source="planted",
        matrix="X",
        scale="counts",
        dataset=dataset,
        leave_out=False,
    )
    read_counts(paths.cells, paths.counts, paths.quality, reading)
    if split is None:
        split_cells(paths.counts, paths.split, config.split)
    else:
        paths.split.parent.mkdir()
        paths.split.write_text(split)
    select_training_cells(paths.counts, paths.split, paths.training)
    build_vocabulary([paths.training], gene_table, [], paths.vocabulary, config.vocabulary)
    for counts, expression in (
        (paths.training, paths.corpus_expression),
        (paths.counts, paths.expression),
    ):
        overlap = expression.with_suffix(".json")
        normalize_counts(counts, paths.vocabulary, expression, overlap, config.normalization)
    bin_expression([paths.corpus_expression], paths.vocabulary, paths.corpus, config.binning)
    bin_expression([paths.expression], paths.vocabulary, paths.tokens, config.binning)
    return paths


def step_settings(step, config, **more):
    """What the workflow hands to a step."""
    return settings_for(step, config, **more)


def run_pretrain(paths, config, pretrained=None, checkpoint=None):
    from scbert.steps.pretrain import pretrain  # noqa: PLC0415  most tests need no torch

    pretrain(
        paths.corpus,
        paths.vocabulary,
        paths.gene2vec,
        pretrained or paths.pretrained,
        checkpoint or paths.checkpoints / "pretrain",
        step_settings(PretrainSettings, config),
        "cpu",
    )


def run_finetune(paths, config, seed=2021, **other):
    from scbert.steps.finetune_training_cells import finetune_training_cells  # noqa: PLC0415  most tests need no torch

    given = {
        "tokens": paths.tokens,
        "split": paths.split,
        "pretrained": paths.pretrained,
        "ontology": [],
        "model": paths.model,
        "checkpoint": paths.checkpoints / "finetune",
        "device": "cpu",
    }
    finetune_training_cells(
        **given | other, settings=step_settings(FinetuneSettings, config, seed=seed)
    )


@pytest.fixture(scope="session")
def toy():
    """The functions of this file, for tests that need other data or settings."""
    return SimpleNamespace(
        change=change,
        config=small_config,
        draw_cells=draw_cells,
        run_to_tokens=run_to_tokens,
        write_random_vectors=write_random_vectors,
        write_gene_table=write_gene_table,
        pretrain=run_pretrain,
        finetune=run_finetune,
        symbols=SYMBOLS,
        ensembl=ENSEMBL,
        types=TYPES,
    )


@pytest.fixture(scope="session")
def config():
    return small_config()


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory, config):
    """Paths of a complete small run, made once; tests only read them.

    Its encoder has a weight, though the other experts know the planted types without it.
    """
    paths = run_to_tokens(tmp_path_factory.mktemp("toy"), draw_cells(), config)
    write_random_vectors(paths.gene2vec, paths.vocabulary, config.network.dim)
    run_pretrain(paths, config)
    ontology = paths.split.with_name("ontology.tsv")
    ontology.write_text("cell_type\tontology_term_id\nB cell\tCL:0000236\nT cell\tCL:0000084\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("scbert.training.learned.SURE", -1e6)
        run_finetune(paths, config, ontology=[ontology])
    return paths


@pytest.fixture(scope="session")
def model(toy_run):
    """The model of that run; tests only read it."""
    from scbert.training.bundle import load_finetuned  # noqa: PLC0415  most tests need no torch

    return load_finetuned(toy_run.model)


@pytest.fixture(scope="session")
def mean_config(config):
    """As `config`, but the encoder stays as it was pretrained, as by default."""
    return config.model_copy(update={"finetune": change(config.finetune, head="mean")})


@pytest.fixture(scope="session")
def mean_run(toy_run, tmp_path_factory, mean_config):
    """As `toy_run`, with a model whose encoder was not trained; tests only read it."""
    root = tmp_path_factory.mktemp("mean")
    paths = SimpleNamespace(**vars(toy_run) | {"model": root / "toy/seed2021"})
    ontology = toy_run.split.with_name("ontology.tsv")
    run_finetune(paths, mean_config, ontology=[ontology], checkpoint=root / "checkpoint")
    return paths


@pytest.fixture
def stop_at_epoch(monkeypatch):
    """Interrupt a training inside an epoch, counted from 0; its checkpoint stays."""
    from scbert.training.trainer import Trainer  # noqa: PLC0415  most tests need no torch

    original = Trainer._train

    @contextmanager
    def stop(number):
        def train(trainer, epoch, plan):
            if epoch == number:
                raise KeyboardInterrupt
            original(trainer, epoch, plan)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_train", train)
            with pytest.raises(KeyboardInterrupt):
                yield

    return stop


@pytest.fixture(scope="session")
def repository_copy(tmp_path_factory):
    """A copy of the repository; tests only read it."""
    return copy_repository(tmp_path_factory.mktemp("copy") / "repository")


@pytest.fixture
def fresh(tmp_path, repository_copy):
    """A folder in which the workflow has not run yet."""
    return Run(tmp_path, repository_copy)


def pytest_collection_modifyitems(items):
    """Let the longest files begin first: a worker that met one at the end would be waited for."""
    longest = {
        "test_workflow": 0,
        "test_workflow_sources": 1,
        "test_gpu_bench": 2,
        "test_inputs": 3,
        "test_workflow_storage": 4,
    }
    items.sort(key=lambda item: longest.get(item.path.stem, len(longest)))
