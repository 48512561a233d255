"""The kinds of input, each with a whole one, ways to damage it, and what reads it."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import yaml
from anndata.io import read_elem
from scipy import sparse

from scbert.config import ReadSettings, load_config, settings_for
from scbert.config.benchmark import benchmark_sets, chosen_methods, require_programs
from scbert.config.load import load_datasets, load_methods, load_queries, load_samples
from scbert.defaults import load_defaults
from scbert.genes.cell_types import describe_types
from scbert.genes.matching import read_vocabulary
from scbert.steps.annotate_file import annotate_file
from scbert.steps.read_counts import read_counts
from scbert.steps.select_samples import select_samples
from scbert.tokens.store import open_store
from scbert.training.trainer import Trainer
from tests import conftest as toy
from tests.faults import formats
from tests.faults.damage import Rng
from tests.panglaodb_samples import matrix_of, rdata_of
from tests.samples import DATASET

ROOT = Path(__file__).parents[2]
NO_CHECKSUM = "no checksum in the format: a changed value is read as that value"
SIGNED = "other values only where the checksums were made anew"
TABLE = "a changed word that is valid is read as that word"
NOTES = {  # how a row of the page is explained
    "config": TABLE,
    **dict.fromkeys(
        ("datasets.tsv", "methods.tsv", "corpus.tsv", "queries.tsv", "ontology.tsv"), TABLE
    ),
    "exclusions.tsv": f"{TABLE}; a warning names accessions that no sample has",
    **dict.fromkeys(("h5ad", "zarr", "RData"), NO_CHECKSUM),
    **dict.fromkeys(("token store", "bundle", "checkpoint"), SIGNED),
}
QUERY = 12  # cells to annotate
OF_A_SAMPLE = ("Lung", "10x chromium", "Homo sapiens", "x", "1", "1", "1", *"010")


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    `hurt` damages a copy of `whole` in place and says how; `read` does what the product does with
    it and returns a digest of the result. `checked`: the input carries checksums, so that damage
    must be noticed or leave the result as it is.
    """

    name: str
    whole: Path
    hurt: Callable[[Path, Rng], str]
    read: Callable[[Path, Path], bytes]
    checked: bool = False


def digest(*parts: Any) -> bytes:
    """Return a digest of texts, tables and arrays."""
    found = hashlib.sha256()
    for part in parts:
        match part:
            case np.ndarray() if part.dtype != object:
                found.update(str((part.dtype, part.shape)).encode())
                found.update(np.ascontiguousarray(part).tobytes())
            case sparse.csr_matrix():
                found.update(digest(part.data, part.indices, part.indptr))
            case pd.DataFrame():
                found.update(part.to_csv(sep="\t").encode("utf-8", "surrogatepass"))
            case bytes():
                found.update(part)
            case _:
                found.update(repr(part).encode("utf-8", "surrogatepass"))
    return found.digest()


class Whole:
    """Whole inputs of every kind, from a small run with planted types."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, toy.small_config()
        self.cells = toy.draw_cells()
        self.run = toy.run_to_tokens(folder / "run", self.cells, self.config)
        vocabulary, dim = self.run.vocabulary, self.config.network.dim
        toy.write_random_vectors(self.run.gene2vec, vocabulary, dim)
        toy.run_pretrain(self.run, self.config)
        with patch("scbert.training.learned.SURE", -1e6):  # the encoder has a weight
            toy.run_finetune(self.run, self.config)

    def kinds(self) -> list[Kind]:
        """Return every kind."""
        return [
            *(self.config_kind(), *self.table_kinds(), self.h5ad(), self.zarr(), self.rdata()),
            *(self.store(), self.bundle(), self.checkpoint()),
        ]

    def config_kind(self) -> Kind:
        path = self.folder / "config.yaml"
        shutil.copy(ROOT / "config/config.yaml", path)
        return Kind("config", path, formats.hurt_yaml, read_config)

    def table_kinds(self) -> list[Kind]:
        """Tables that a user writes."""
        folder = self.folder / "tables"
        folder.mkdir()
        for name in ("datasets", "methods", "corpus", "queries", "exclusions"):
            shutil.copy(ROOT / f"config/{name}.tsv", folder)
        shutil.copy(ROOT / "config/ontology/pbmc68k_reduced.tsv", folder / "ontology.tsv")
        write_panglaodb(self.folder)
        hurt = formats.hurt_table
        reads: dict[str, Callable[[Path, Path], bytes]] = {
            "datasets": lambda path, _: digest(load_datasets(path)),
            "methods": self._read_methods,
            "corpus": lambda path, _: digest(load_samples(path)),
            "queries": lambda path, _: digest(load_queries(path)),
            "exclusions": self._read_exclusions,
            "ontology": lambda path, _: digest(describe_types(["CD19+ B", "x"], [path])),
        }
        return [Kind(f"{n}.tsv", folder / f"{n}.tsv", hurt, read) for n, read in reads.items()]

    def _read_methods(self, path: Path, _: Path) -> bytes:
        methods = load_methods(path)
        chosen = chosen_methods(methods, self.config.benchmark)
        require_programs({name: str(ROOT / one.folder) for name, one in chosen.items()})
        return digest(methods)

    def _read_exclusions(self, path: Path, folder: Path) -> bytes:
        settings = self.config.corpus.panglaodb
        out = folder / "samples.tsv"
        select_samples(self.folder / "metadata.txt", self.folder / "sizes.txt", path, out, settings)
        return digest(out.read_bytes())

    def h5ad(self) -> Kind:
        path = self.folder / "cells.h5ad"
        self._query().write_h5ad(path)
        return Kind("h5ad", path, formats.hurt_h5ad, self._read_cells)

    def zarr(self) -> Kind:
        path = self.folder / "cells.zarr"
        with ad.settings.override(zarr_write_format=3):
            self._query().write_zarr(path)
        return Kind("zarr", path, formats.hurt_zarr, self._read_cells)

    def _query(self) -> ad.AnnData:
        """Return cells in most of the forms that a file can hold."""
        cells = self.cells[:QUERY].copy()
        cells.obs["donor"] = pd.Categorical(["d1", "d2"] * (QUERY // 2))
        cells.obs["depth"] = np.arange(QUERY, dtype=np.int64)
        cells.obsm["X_umap"] = np.zeros((QUERY, 2), dtype=np.float32)
        cells.layers["counts"] = cells.X.tocsc()
        cells.uns["title"] = "toy"
        return cells

    def _read_cells(self, path: Path, folder: Path) -> bytes:
        """Annotate the cells, and read them as a dataset of the workflow."""
        out = folder / "annotated.h5ad"
        made = annotated(path, self.run.model, out)
        said = {"file": str(path), "matrix": "X", "scale": "counts"}
        dataset = DATASET.model_copy(update=said)
        counts = self._counts(path, folder, dataset, matrix="X", scale="counts")
        return digest(made, counts)

    def _counts(self, path: Path, folder: Path, dataset: Any, **how: str) -> bytes:
        settings = settings_for(
            ReadSettings,
            self.config,
            sample="toy",
            source="x",
            dataset=dataset,
            leave_out=False,
            **how,
        )
        counts = folder / "counts.h5ad"
        read_counts(path, counts, folder / "counts.json", settings)
        read = ad.read_h5ad(counts)
        assert np.isfinite(read.X.data).all(), "counts are not finite"
        return digest(read.X, read.obs, read.var)

    def rdata(self) -> Kind:
        path = self.folder / "SRA1_SRS1.sparse.RData"
        rng = np.random.default_rng(1)
        counts = sparse.csc_matrix(rng.poisson(2.0, (40, 10)).astype(float))
        names = [f"GENE{n}_ENSG{n % 35:011d}.1" for n in range(40)]
        barcodes = [f"CELL{n}" for n in range(10)]
        path.write_bytes(rdata_of({"sm": matrix_of(counts, names, barcodes)}))

        def read(path: Path, folder: Path) -> bytes:
            return self._counts(path, folder, None, matrix="auto", scale="auto")

        return Kind("RData", path, formats.hurt_rdata, read)

    def store(self) -> Kind:
        def read(path: Path, _: Path) -> bytes:
            store = open_store(path)
            names = store.cell_names()
            vocabulary = read_vocabulary(self.run.vocabulary)
            assert store.measured.shape[1] == len(vocabulary)
            return digest(
                store.gene, store.level, store.indptr, store.sample, store.measured, names
            )

        return Kind("token store", self.run.tokens, formats.hurt_store, read, checked=True)

    def bundle(self) -> Kind:
        query = self.folder / "cells.h5ad"

        def read(path: Path, folder: Path) -> bytes:
            out = folder / "annotated.h5ad"
            return annotated(query, path, out)

        return Kind("bundle", self.run.model, formats.hurt_bundle, read, checked=True)

    def checkpoint(self) -> Kind:
        """An interrupted pretraining of two epochs, with the checkpoints of some steps."""
        optimizer = toy.change(
            self.config.pretrain.optimizer, checkpoints={"steps": 1, "minutes": 0, "keep": 3}
        )
        config = self.config.model_copy(
            update={
                "pretrain": toy.change(self.config.pretrain, optimizer=optimizer.model_dump()),
                "network": toy.change(self.config.network, depth=1),
            }
        )
        folder = self.folder / "interrupted"

        def read(path: Path, folder: Path) -> bytes:
            model = folder / "pretrained"
            toy.run_pretrain(self.run, config, pretrained=model, checkpoint=path)
            return digest((model / "weights.safetensors").read_bytes())

        interrupt_after(4, lambda: read(folder, self.folder / "unfinished"))
        return Kind("checkpoint", folder, formats.hurt_checkpoint, read, checked=True)


def annotated(query: Path, model: Path, out: Path) -> bytes:
    """Annotate a file; what is new must be in the result, and be numbers."""
    found = annotate_file(query, model, out, device="cpu")
    values = found.obsm["scbert_probabilities"].to_numpy()
    for numbers in (values, found.obs.scbert_confidence, found.obs.scbert_novelty_score):
        assert np.isfinite(numbers).all(), "probabilities or scores are not finite"
    with h5py.File(out) as file:
        assert read_elem(file["obs/scbert_label"]).tolist() == found.obs.scbert_label.tolist()
    return digest(found.obs, values)


def interrupt_after(n: int, train: Callable[[], object]) -> None:
    """Train until n checkpoints were written."""
    written, save = [0], Trainer.save

    def save_and_stop(trainer: Trainer) -> None:
        save(trainer)
        written[0] += 1
        if written[0] == n:
            raise KeyboardInterrupt

    with patch.object(Trainer, "save", save_and_stop), suppress(KeyboardInterrupt):
        train()


def write_panglaodb(folder: Path) -> None:
    """Write PanglaoDB's tables of six samples, of which a benchmark's study is one."""
    sras = ["SRA716608", "SRA550660", "SRA000001", "SRA000002", "SRA000003", "SRA000003"]
    lines = [",".join((sra, f"SRS{n}", *OF_A_SAMPLE)) for n, sra in enumerate(sras)]
    (folder / "metadata.txt").write_text("\n".join(lines) + "\n")
    sizes = [f"{sra},SRS{n},0,100" for n, sra in enumerate(sras)]
    (folder / "sizes.txt").write_text("\n".join(sizes) + "\n")


def read_config(path: Path, _: Path) -> bytes:
    """Read a configuration as the commands do, and as the workflow does before any job."""
    load_defaults(path, {})
    config = load_config(yaml.safe_load(path.read_text()))  # Snakemake reads it itself
    text = config.model_dump_json()
    again = type(config).model_validate_json(text)
    assert again == config, "the values change on their way to a job"
    datasets = load_datasets(ROOT / "config/datasets.tsv")
    chosen_methods(load_methods(ROOT / "config/methods.tsv"), config.benchmark)
    benchmark_sets(config.benchmark, datasets)
    return digest(text)
