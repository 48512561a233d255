"""Mixing of batches in vectors of cells; the metrics themselves are those of scib-metrics."""

import sys
from types import ModuleType, SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.benchmark.batch_mixing import COLUMNS
from scbert.genes.matching import read_vocabulary
from scbert.shipped import BENCHMARK_ENCODER, model_folder
from scbert.steps.embed_benchmark_cells import embed_benchmark_cells
from scbert.steps.measure_batch_mixing import measure_batch_mixing
from tests.benchmark.made_up import DEFAULTS

pytestmark = pytest.mark.slow


@pytest.fixture
def counts(tmp_path):
    """24 T and B cells of two donors, and a cell of a type that is too rare."""
    symbols = read_vocabulary(model_folder(BENCHMARK_ENCODER) / "genes.tsv").symbol[:12_000]
    rng = np.random.default_rng(0)
    matrix = sparse.csr_matrix(rng.poisson(0.2, (25, len(symbols))).astype(np.float32))
    obs = pd.DataFrame(index=[f"c{n}" for n in range(25)])
    obs["cell_type"] = [*(["T", "B"] * 12), "rare"]
    obs["batch"] = ["d1"] * 12 + ["d2"] * 13
    obs["library_size"] = matrix.sum(axis=1).A1
    ad.AnnData(matrix, obs, pd.DataFrame(index=symbols)).write_h5ad(tmp_path / "counts.h5ad")
    return tmp_path / "counts.h5ad"


@pytest.fixture
def embedded(tmp_path):
    """Twelve cells of two types and two donors: the first component is the donor."""
    obs = pd.DataFrame({"cell_type": ["T", "B"] * 6, "batch": ["d1"] * 6 + ["d2"] * 6})
    obs.index = [f"c{n}" for n in range(12)]
    points = np.random.default_rng(0).normal(size=(12, 3))
    made = ad.AnnData(obs=obs, obsm={"scbert": points, "pca": points})
    made.write_h5ad(tmp_path / "embedded.h5ad")
    return tmp_path / "embedded.h5ad"


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for scib-metrics and harmonypy, whose result is turned as in older versions."""
    harmony, scib = ModuleType("harmonypy"), ModuleType("scib_metrics.benchmark")
    harmony.run_harmony = lambda points, obs, key: SimpleNamespace(Z_corr=points.T)

    class Benchmarker:
        def __init__(self, cells, **options):
            assert {of.shape[0] for of in cells.obsm.values()} == {cells.n_obs}
            self.names = options["embedding_obsm_keys"]

        def benchmark(self):
            pass

        def get_results(self, min_max_scale):
            assert not min_max_scale
            rows = [*self.names, "Metric Type"]
            return pd.DataFrame({"iLISI": [0.25, 0.5, 1, "batch"], "Total": 0.5}, index=rows)

    scib.Benchmarker = Benchmarker
    monkeypatch.setitem(sys.modules, "harmonypy", harmony)
    monkeypatch.setitem(sys.modules, "scib_metrics", ModuleType("scib_metrics"))
    monkeypatch.setitem(sys.modules, "scib_metrics.benchmark", scib)


def test_cells_get_the_vectors_of_the_encoder_and_components_and_no_matrix(counts, tmp_path):
    embed_benchmark_cells(counts, tmp_path / "out.h5ad", DEFAULTS.benchmark.protocols, "cpu")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.X is None
    assert found.obs_names.tolist() == [f"c{n}" for n in range(24)]  # the rare type is left out
    assert list(found.obs) == ["cell_type", "batch"]
    assert set(found.obsm) == {"scbert", "pca"}
    assert found.obsm["pca"].shape == (24, 24)
    assert all(np.isfinite(of).all() for of in found.obsm.values())


@pytest.mark.usefixtures("libraries")
def test_each_embedding_and_metric_has_a_line(embedded, tmp_path):
    measure_batch_mixing(embedded, "toy", tmp_path / "mixing.tsv")
    table = pd.read_csv(tmp_path / "mixing.tsv", sep="\t")
    assert tuple(table) == COLUMNS
    assert set(table.embedding) == {"scbert", "pca", "harmony"}
    assert table[table.metric == "iLISI"].value.tolist() == [0.25, 0.5, 1]


def test_of_one_batch_nothing_is_measured(embedded, tmp_path):
    cells = ad.read_h5ad(embedded)
    cells[cells.obs.batch == "d1"].write_h5ad(tmp_path / "one.h5ad")
    measure_batch_mixing(tmp_path / "one.h5ad", "toy", tmp_path / "mixing.tsv")
    assert (tmp_path / "mixing.tsv").read_text() == "\t".join(COLUMNS) + "\n"


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["harmonypy", "scib_metrics.benchmark"])
def test_a_library_that_is_missing_is_named_with_what_to_do(embedded, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"envs/batch_mixing\.yaml .*batch_mixing to false"):
        measure_batch_mixing(embedded, "toy", tmp_path / "mixing.tsv")


def test_the_metrics_find_batches_that_do_not_mix(tmp_path):
    pytest.importorskip("scib_metrics")
    pytest.importorskip("harmonypy")
    rng = np.random.default_rng(0)
    batch, cell_type = np.arange(400) // 200, np.arange(400) % 2
    centres = 8.0 * np.stack([cell_type, np.zeros(400)], axis=1)
    mixed = rng.normal(size=(400, 2)) + centres
    obs = pd.DataFrame({"cell_type": cell_type.astype(str), "batch": batch.astype(str)})
    made = {"scbert": mixed, "pca": mixed + 8.0 * batch[:, None] * np.array([0, 1])}
    ad.AnnData(obs=obs.set_index(obs.index.astype(str)), obsm=made).write_h5ad(tmp_path / "x.h5ad")
    measure_batch_mixing(tmp_path / "x.h5ad", "toy", tmp_path / "mixing.tsv")
    found = pd.read_csv(tmp_path / "mixing.tsv", sep="\t").pivot(
        index="embedding", columns="metric", values="value"
    )
    assert found.loc["scbert", "iLISI"] > 0.8
    assert found.loc["pca", "iLISI"] < 0.1
    assert found.loc["scbert", "Total"] > found.loc["pca", "Total"]
