"""Quality of samples: which can be used, and the table of reasons."""

import gzip
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.cells.quality import (
    UnusableSample,
    count_copies,
    fractional_levels,
    fractional_share,
    read_quality,
    require_usable,
    species_share,
)
from scbert.cells.r_files import read_rdata
from scbert.config import ReadSettings, load_config
from scbert.files import read_json, write_json
from scbert.steps.read_counts import read_counts
from scbert.steps.summarize_quality import summarize_quality
from tests.panglaodb_samples import matrix_of, rdata_of, write_sample

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb"
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
COUNTS = CONFIG.counts.model_copy(update={"min_genes": 5})
SETTINGS = ReadSettings(
    sample="SRA1_SRS2",
    source="PanglaoDB",
    counts=COUNTS,
    normalization=CONFIG.normalization,
    matrix="auto",
    scale="auto",
    dataset=None,
    leave_out=True,
)


def names(symbols, ids=None):
    return pd.DataFrame({"symbol": symbols, "gene_id": ids or [""] * len(symbols)}, dtype=object)


def human(n):
    return names([f"GENE{i}" for i in range(n)], [f"ENSG{i:011d}" for i in range(n)])


def draw(n_cells=20, n_genes=30, seed=0):
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(1.5, (n_cells, n_genes))).astype(
        np.float32
    )


def of_panglaodb(counts, seed=1):
    """Counts with PanglaoDB's fractions: in each cell, one value in place of the ones."""
    x = counts.toarray()
    value = np.random.default_rng(seed).uniform(0.1, 2.9, len(x))[:, None]
    return sparse.csr_matrix(np.where(x == 1, value, x).astype(np.float32))


def test_species_share_by_id_and_without_one_by_symbol():
    mixed = ["ENSG00000000001", "ENSMUSG00000000001", "", "", ""]
    found = names(["Cd3d", "CD3D", "C1orf112", "HLA-A", "Actb"], mixed)
    assert species_share(found, "ENSG") == 3 / 5
    assert species_share(found, "ENSMUSG") == 4 / 5  # symbols do not speak against a mouse
    assert species_share(names([]), "ENSG") == 0


def test_fractions_are_counted_by_value_and_by_level():
    matrix = sparse.csr_matrix(np.array([[0.5, 0.5, 0.5, 1, 2, 0], [1, 1, 2, 0, 0, 3]]))
    assert fractional_share(matrix) == pytest.approx(3 / 9)
    assert fractional_levels(matrix) == np.median([1 / 3, 0])
    assert fractional_share(sparse.csr_matrix((2, 2))) == 0
    assert fractional_levels(sparse.csr_matrix((2, 2))) == 0


def test_require_usable_accepts_panglaodbs_fractions_and_refuses_normalised_expression():
    """More than half of all values are fractions in both; the levels of a cell tell them apart."""
    counts = draw()
    fractions = of_panglaodb(counts)
    require_usable(fractions, human(30), COUNTS, "s")
    normalised = counts.copy()
    sums = np.asarray(counts.sum(axis=1)).ravel()
    normalised.data = counts.data * np.repeat(1e4 / sums, np.diff(counts.indptr)).astype(np.float32)
    logged = counts.copy()
    logged.data = np.log1p(counts.data)
    assert fractional_levels(fractions) < 0.5
    for matrix in (normalised, logged):
        with pytest.raises(UnusableSample, match=r"of the different values .* not counts"):
            require_usable(matrix, human(30), COUNTS, "s")


def test_require_usable_refuses_negative_values_other_species_and_nothing():
    scaled = draw()
    scaled.data[3] = -1.5
    with pytest.raises(UnusableSample, match=r"negative values \(lowest -1.5\)"):
        require_usable(scaled, human(30), COUNTS, "s")
    with pytest.raises(
        UnusableSample, match=r"only 0% of the 30 genes of s \(Gene0, .* of the species"
    ):
        require_usable(draw(), names([f"Gene{i}" for i in range(30)]), COUNTS, "s")
    with pytest.raises(UnusableSample, match="no counts: it has 20 cells and 30 genes"):
        require_usable(sparse.csr_matrix((20, 30)), human(30), COUNTS, "s")


class Run:
    def __init__(self, folder):
        self.cells = folder / "SRA1_SRS2.sparse.RData"
        self.counts, self.quality = folder / "c.h5ad", folder / "c.json"
        self.clusters, self.types = folder / "clusters.txt", folder / "types.txt"
        self.clusters.write_text("C0 0\nC1 1\nC5 0\n")
        self.types.write_text('"SRA1","SRS2","0","T cells","0","0","1"\n')

    def __call__(self, matrix, prefix="ENSG", settings=SETTINGS):
        genes = [f"GENE{i}_{prefix}{i:011d}.1" for i in range(matrix.shape[1])]
        cells = [f"C{i}" for i in range(matrix.shape[0])]
        write_sample(self.cells, sparse.csc_matrix(matrix.T, dtype=float), genes, cells)
        files = [self.clusters], [self.types]
        read_counts(self.cells, self.counts, self.quality, settings, *files)
        return ad.read_h5ad(self.counts), read_json(self.quality)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_read_counts_of_a_panglaodb_sample(run):
    matrix = of_panglaodb(draw())
    found, quality = run(matrix)
    assert (matrix != found.X).nnz == 0
    assert found.X.indices.dtype == np.int32
    assert list(found.obs) == ["library_size", "n_genes", "cluster", "cell_type"]
    assert found.obs.cluster.tolist() == ["0", "1", "", "", "", "0"] + [""] * 14
    assert found.obs.cell_type.tolist() == ["T cells", "", "", "", "", "T cells"] + [""] * 14
    assert list(found.var) == ["symbol", "gene_id", "n_cells"]
    assert found.var.n_cells.tolist() == matrix.getnnz(axis=0).tolist()
    assert (quality["decision"], quality["reason"]) == ("used", "")
    assert quality["cell_types"] == {}  # PanglaoDB's types are no labels
    assert quality["fractional"] == fractional_share(matrix)
    assert quality["median_genes"] == np.median(matrix.getnnz(axis=1))


def test_read_counts_counts_the_cells_that_stay(run):
    matrix = draw().toarray()
    matrix[:4, 3:] = 0
    found, quality = run(sparse.csr_matrix(matrix))
    assert found.n_obs == quality["cells_kept"] == 16
    assert quality["dropped"] == {"fewer than 5 expressed genes": 4}
    assert found.var.n_cells.tolist() == (matrix[4:] > 0).sum(axis=0).tolist()


@pytest.mark.parametrize(
    ("change", "prefix", "reason"),
    [
        (lambda x: x, "ENSMUSG", "only 0% of the 30 genes"),
        (lambda x: x * (np.arange(30) < 3), "ENSG", "none of the 20 cells is left"),
        (np.log1p, "ENSG", "normalised expression"),
        (lambda x: x - 1, "ENSG", "negative values"),
        (lambda x: x * 0, "ENSG", "no counts"),
        (lambda x: x[:0], "ENSG", "no counts: it has 0 cells and 30 genes"),
        (lambda x: x[:, :0], "ENSG", "no counts: it has 20 cells and 0 genes"),
    ],
    ids=["mouse", "few genes", "logged", "scaled", "zeros", "no cells", "no genes"],
)
def test_read_counts_leaves_a_sample_out_with_the_reason(run, change, prefix, reason):
    """The run goes on with a file of no cells; a file that a user named is an error instead."""
    matrix = sparse.csr_matrix(change(draw().toarray()))
    found, quality = run(matrix, prefix)
    assert found.shape == (0, matrix.shape[1])
    assert {"library_size", "n_genes"} <= set(found.obs)
    assert list(found.var) == ["symbol", "gene_id", "n_cells"]
    assert quality["decision"] == "left out"
    assert reason in quality["reason"]
    assert (quality["cells_read"], quality["cells_kept"]) == (matrix.shape[0], 0)
    for path in (run.counts, run.quality):
        path.unlink()
    with pytest.raises(ValueError, match=reason):
        run(matrix, prefix, SETTINGS.model_copy(update={"leave_out": False}))
    assert not run.counts.exists()
    assert not run.quality.exists()


def test_read_counts_leaves_rpkm_out(run):
    """Nothing is known of such a file but that it has no counts."""
    sm2 = matrix_of(sparse.csc_matrix(draw().T, dtype=float), ["A_ENSG1"] * 30, ["C"] * 20)
    run.cells.write_bytes(gzip.compress(rdata_of({"sm2": sm2})))
    read_counts(run.cells, run.counts, run.quality, SETTINGS)
    found, quality = ad.read_h5ad(run.counts), read_json(run.quality)
    assert found.shape == (0, 0)
    assert list(found.obs) == ["library_size", "n_genes"]
    assert "RPKM only" in quality["reason"]
    assert (quality["cells_read"], quality["median_genes"]) == (0, None)


def test_read_counts_does_not_leave_out_but_refuse_a_damaged_file(run):
    run(draw())
    run.counts.unlink()
    run.cells.write_bytes(run.cells.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read as an R file"):
        read_counts(run.cells, run.counts, run.quality, SETTINGS)
    assert not run.counts.exists()


def test_summarize_quality_is_read_as_it_was_written(run, tmp_path):
    run(of_panglaodb(draw()))
    used = read_json(run.quality)
    run(draw(), "ENSMUSG")
    mouse = read_json(run.quality) | {"sample": "SRA3_SRS4"}
    nothing = mouse | {"sample": "SRA5_SRS6", "median_genes": None, "notes": ["a", "b"]}
    qualities = []
    for row in (used | {"dropped": {"too few": 3, "none": 0, "no type": 1}}, mouse, nothing):
        qualities.append(tmp_path / f"{row['sample']}.json")
        write_json(qualities[-1], row)
    summarize_quality(qualities, tmp_path / "quality.tsv")
    table = read_quality(tmp_path / "quality.tsv")
    assert [row.decision for row in table] == ["used", "left out", "left out"]
    assert [row.dropped for row in table] == ["3: too few; 1: no type", "", ""]
    assert [row.notes for row in table] == ["", "", "a b"]
    for name in ("sha256", "cells_kept", "fractional", "median_counts", "reason", "subset"):
        assert getattr(table[0], name) == used[name]
        assert getattr(table[1], name) == mouse[name]
    assert np.isnan(table[2].median_genes)


@needs_shared_data
def test_read_counts_takes_fractions_of_panglaodb_as_counts(tmp_path):
    """Each cell has one fraction, in about half of its genes; 47 of the 50 are nearly empty."""
    counts = CONFIG.counts.model_copy(update={"min_genes": 200})
    settings = SETTINGS.model_copy(update={"counts": counts})
    cells = SHARED / "rdata/SRA782908_SRS3815594.sparse.RData"
    read_counts(cells, tmp_path / "s.h5ad", tmp_path / "s.json", settings)
    counts, quality = ad.read_h5ad(tmp_path / "s.h5ad"), read_json(tmp_path / "s.json")
    assert quality["scale"] == "raw counts"
    assert quality["cells_read"] == 50
    assert 0 < counts.n_obs == quality["cells_kept"] < 50
    assert counts.obs.n_genes.min() >= 200
    assert (counts.X.data != np.round(counts.X.data)).any()
    assert list(counts.obs) == ["library_size", "n_genes"]
    assert quality["fractional"] > 0.5
    assert quality["subset"]


@needs_shared_data
def test_real_samples_have_at_most_two_fractions_per_cell():
    """The second is a sum of two rows of a gene that X and Y share."""
    for path in sorted((SHARED / "rdata").iterdir()):
        x = read_rdata(path, max_gb=1).X
        for row in range(x.shape[0]):
            levels = np.unique(x.data[x.indptr[row] : x.indptr[row + 1]])
            assert np.count_nonzero(levels != np.rint(levels)) <= 2
        assert fractional_levels(x) < 0.2
        assert fractional_share(x) > 0.3


def test_cells_with_the_very_counts_of_another_are_counted():
    drawn = np.random.default_rng(0).poisson(1, (5, 60)).astype(np.float32)
    few = np.zeros((2, 60), dtype=np.float32)
    few[:, :3] = 1  # alike by chance
    cells = sparse.csr_matrix(np.concatenate([drawn, drawn[:2], few]))
    assert count_copies(cells) == 2
