"""Steps read_counts, split_cells and select_training_cells."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.config import ReadSettings, load_config
from scbert.files import read_json, sha256_of
from scbert.steps.join_datasets import join_datasets
from scbert.steps.read_counts import read_counts
from scbert.steps.select_training_cells import select_training_cells
from scbert.steps.split_cells import split_cells
from tests.cells.test_stores import write
from tests.samples import DATASET

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def settings(min_genes=1, **dataset):
    return ReadSettings(
        sample="toy",
        source="toy.h5ad",
        counts=CONFIG.counts.model_copy(update={"min_genes": min_genes}),
        normalization=CONFIG.normalization,
        matrix=dataset.get("matrix", "auto"),
        scale=dataset.get("scale", "auto"),
        dataset=DATASET.model_copy(update=dataset),
        leave_out=False,
    )


def unlabelled():
    return settings().model_copy(update={"dataset": None})


def draw_cells(n_cells=30, n_genes=40):
    """Counts of cells of two types in turn, all different."""
    counts = np.random.default_rng(0).poisson(2.0, (n_cells, n_genes)) + np.eye(n_cells, n_genes)
    obs = pd.DataFrame(
        {"cell_type": ["B cell", "T cell"] * (n_cells // 2)},
        index=[f"cell{number}" for number in range(n_cells)],
    )
    var = pd.DataFrame(
        {"gene_ids": [f"ENSG{number:011d}.3" for number in range(n_genes)]},
        index=[f"GENE{number}" for number in range(n_genes)],
    )
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=obs, var=var)


def sums(adata):
    return np.asarray(adata.X.sum(axis=1)).ravel()


def divided_and_logged(adata, size_factors):
    """Return log1p of counts that were divided by a number of their cell."""
    logged = adata.copy()
    logged.X = sparse.csr_matrix(np.log1p(adata.X.toarray() / size_factors[:, None]))
    return logged


def log_normalise(adata, total=1e4):
    logged = adata.copy()
    cp10k = adata.X.toarray() / sums(adata)[:, None] * total
    logged.X = sparse.csr_matrix(np.log1p(cp10k), dtype=np.float32)
    return logged


class Run:
    """A folder with cells, where read_counts is run."""

    def __init__(self, folder):
        self.cells = folder / "toy.h5ad"
        self.counts = folder / "results/counts/toy.h5ad"
        self.quality = folder / "results/counts/toy.json"
        self.split = folder / "results/splits/toy.tsv"

    def __call__(self, adata, options=None):
        adata.write_h5ad(self.cells)
        read_counts(self.cells, self.counts, self.quality, options or settings())
        return ad.read_h5ad(self.counts), read_json(self.quality)

    def left(self):
        """All files beside the input, hidden ones too."""
        results = self.cells.parent / "results"
        return [path for path in results.rglob("*") if not path.is_dir() or path.name[0] == "."]

    def refuses(self, message, options=None, error=ValueError):
        """read_counts must say so and leave no file, finished or not."""
        with pytest.raises(error, match=message):
            read_counts(self.cells, self.counts, self.quality, options or settings())
        assert self.left() == []
        assert {path.name for path in self.cells.parent.iterdir()} <= {
            "results",
            self.cells.name,
        }


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_read_counts_writes_counts_and_what_was_done(run):
    cells = draw_cells()
    found, quality = run(cells)
    assert (found.X != cells.X).nnz == 0
    assert found.X.dtype == np.float32
    assert found.obs_names.tolist() == cells.obs_names.tolist()
    assert found.obs.cell_type.tolist() == cells.obs.cell_type.tolist()
    assert found.obs.library_size.tolist() == sums(cells).tolist()
    assert found.obs.n_genes.tolist() == cells.X.getnnz(axis=1).tolist()
    assert found.var.symbol.tolist() == found.var_names.tolist() == cells.var_names.tolist()
    assert found.var.gene_id.iloc[1] == "ENSG00000000001"
    assert found.var.n_cells.tolist() == cells.X.getnnz(axis=0).tolist()
    assert quality == {
        "sample": "toy",
        "source": "toy.h5ad",
        "sha256": sha256_of(run.cells),
        "decision": "used",
        "reason": "",
        "dropped": {},
        "matrix": "X",
        "scale": "raw counts",
        "cells_read": 30,
        "cells_kept": 30,
        "genes": 40,
        "ensembl_ids": 40,
        "species_share": 1.0,
        "subset": True,
        "fractional": 0.0,
        "median_genes": np.median(cells.X.getnnz(axis=1)),
        "median_counts": np.median(sums(cells)),
        "batches": 0,
        "cell_types": {"B cell": 15, "T cell": 15},
        "notes": [],
        "warnings": {},
    }


def test_read_counts_takes_log1p_back_to_the_same_counts(run):
    cells = draw_cells()
    found, quality = run(log_normalise(cells))
    assert (found.X != cells.X).nnz == 0
    assert found.obs.library_size.tolist() == pytest.approx(sums(cells).tolist(), rel=1e-4)
    assert quality["scale"] == "log1p to base e of 10,000 counts per cell, taken back to counts"
    assert quality["notes"] == []


def test_read_counts_warns_of_a_sum_that_it_had_to_assume(run):
    cells = draw_cells(n_genes=100)
    size_factors = sums(cells) / 200 * np.random.default_rng(1).uniform(0.8, 1.2, 30)
    subset = divided_and_logged(cells, size_factors)[:, :60].copy()
    subset.obs["depth"] = sums(cells)
    found, quality = run(subset)
    assert (found.X != cells[:, :60].X).nnz == 0
    assert "10,000 was taken" in quality["warnings"]["unknown_sum"]
    with_library, quality = run(subset, settings(library_size_key="depth"))
    assert (with_library.X != found.X).nnz == 0
    assert with_library.obs.library_size.tolist() == sums(cells).tolist()
    assert quality["warnings"] == {}


def test_read_counts_finds_the_sum_of_a_subset_of_the_genes(run):
    cells = draw_cells(n_genes=100)
    subset = log_normalise(cells)[:, :60].copy()
    subset.obs["n_counts"] = sums(cells)
    found, quality = run(subset)
    assert (found.X != cells[:, :60].X).nnz == 0
    assert "of 10,000 counts per cell" in quality["scale"]
    assert found.obs.library_size.tolist() == pytest.approx(sums(cells).tolist(), rel=1e-4)
    assert quality["warnings"] == {}
    with_library, quality = run(subset, settings(library_size_key="n_counts"))
    assert (with_library.X != found.X).nnz == 0
    assert with_library.obs.library_size.tolist() == subset.obs.n_counts.tolist()
    assert quality["notes"] == []


def test_read_counts_chooses_layers_counts_then_raw_then_x(run):
    cells = draw_cells()
    cells.raw = cells.copy()
    cells.X = cells.X.toarray() - 1  # scaled
    assert run(cells)[1]["matrix"] == "raw.X"
    cells.layers["counts"] = cells.raw.X * 2
    found, quality = run(cells)
    assert quality["matrix"] == "layers/counts"
    assert (found.X != cells.raw.X * 2).nnz == 0
    assert run(cells, settings(matrix="raw.X"))[1]["matrix"] == "raw.X"


def test_read_counts_of_dense_and_of_stored_zeros_equals_sparse(run):
    cells = draw_cells()
    expected, _ = run(cells)
    dense = cells.copy()
    dense.X = cells.X.toarray()
    assert (run(dense)[0].X != expected.X).nnz == 0
    stored = cells.copy()
    x = cells.X.toarray()
    everywhere = np.tile(np.arange(40), 30), np.arange(31) * 40
    stored.X = sparse.csr_matrix((x.ravel(), *everywhere))
    assert stored.X.nnz == 1200
    found, _ = run(stored)
    assert found.X.nnz == expected.X.nnz
    assert found.obs.n_genes.tolist() == expected.obs.n_genes.tolist()


def test_read_counts_reads_a_table_as_text(run, tmp_path):
    cells = draw_cells()
    run.cells = tmp_path / "toy.csv"
    table = pd.DataFrame(cells.X.toarray() + 1e-11, cells.obs_names, cells.var_names)
    table.to_csv(run.cells)
    read_counts(run.cells, run.counts, run.quality, unlabelled())
    found = ad.read_h5ad(run.counts)
    assert (found.X != cells.X).nnz == 0
    assert found.var_names.tolist() == cells.var_names.tolist()
    assert found.obs_names.tolist() == cells.obs_names.tolist()
    assert list(found.obs) == ["library_size", "n_genes"]


@pytest.mark.parametrize("form", ["zarr 2", "h5mu"])
def test_read_counts_reads_other_stores_as_h5ad(run, tmp_path, form):
    cells = draw_cells()
    expected, said = run(cells)
    run.cells = write(cells, tmp_path, form)
    read_counts(run.cells, run.counts, run.quality, settings())
    found = ad.read_h5ad(run.counts)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    assert (found.X != expected.X).nnz == 0
    assert read_json(run.quality)["sha256"] != said.pop("sha256")


def test_read_counts_drops_cells_without_type_and_with_few_genes(run):
    cells = draw_cells()
    cells.obs.loc[["cell0", "cell1", "cell2"], "cell_type"] = None
    x = cells.X.toarray()
    x[4] = 0
    cells.X = sparse.csr_matrix(x)
    found, quality = run(cells, settings(min_genes=5))
    assert found.n_obs == 26
    assert quality["dropped"] == {"fewer than 5 expressed genes": 1, "no cell type": 3}
    assert quality["cell_types"] == {"B cell": 12, "T cell": 14}


def test_read_counts_warns_of_labels_and_takes_words_for_none_as_none(run):
    cells = draw_cells()
    cells.obs["cell_type"] = [" B cell", "nan", "b cell ", "NA"] + ["B cell", "T cell"] * 13
    cells.obs["donor"] = ["a", " a"] * 15
    found, quality = run(cells, settings(batch_key="donor"))
    assert found.obs.cell_type.value_counts().to_dict() == {"B cell": 14, "T cell": 13, "b cell": 1}
    assert found.obs.batch.unique().tolist() == ["a"]
    assert quality["dropped"] == {"no cell type": 2}
    assert list(quality["warnings"]) == ["missing_labels", "trimmed_labels", "alike_labels"]
    assert "'nan' (1), 'NA' (1)" in quality["warnings"]["missing_labels"]


def test_read_counts_names_batches_that_differ_in_capitals_beside_such_labels(run):
    cells = draw_cells()
    cells.obs["cell_type"] = ["B cell", "b cell"] * 15
    cells.obs["donor"] = ["donor 1", "Donor  1", " donor 2"] * 10
    found, quality = run(cells, settings(batch_key="donor"))
    assert set(found.obs.batch) == {"donor 1", "Donor  1", "donor 2"}
    assert list(quality["warnings"]) == ["alike_labels", "alike_batches"]
    said = quality["warnings"]["alike_batches"]
    assert "obs['donor'] holds batches that differ only in capitals" in said
    assert "('Donor  1' and 'donor 1')" in said
    assert "donor 2" not in said


def test_read_counts_refuses_ids_of_cells_as_batches(run):
    cells = draw_cells()
    cells.obs["barcode"] = cells.obs_names
    cells.write_h5ad(run.cells)
    run.refuses(r"30 of the 30 cells .* leave batch_key empty", settings(batch_key="barcode"))


def test_read_counts_leaves_out_what_is_no_gene(run):
    cells = draw_cells()
    cells.var_names = [*cells.var_names[:-2], "ERCC-00002", "CD3"]
    cells.var["feature_types"] = ["Gene Expression"] * 39 + ["Antibody Capture"]
    found, quality = run(cells)
    assert found.shape == (30, 38)
    assert found.obs.library_size.tolist() == sums(cells[:, :38]).tolist()
    assert quality["notes"] == ["Left out: 1 of type spike-in, 1 of type Antibody Capture."]


def test_read_counts_gives_the_same_bytes_again(run):
    run(draw_cells())
    first = run.quality.read_bytes(), ad.read_h5ad(run.counts).X.toarray().tobytes()
    run(draw_cells())
    assert (run.quality.read_bytes(), ad.read_h5ad(run.counts).X.toarray().tobytes()) == first


def test_read_counts_leaves_the_last_good_result_when_it_fails(run):
    run(draw_cells())
    before = run.counts.read_bytes(), run.quality.read_bytes()
    run.cells.write_bytes(b"garbage")
    with pytest.raises(ValueError, match="cannot be read"):
        read_counts(run.cells, run.counts, run.quality, settings())
    assert (run.counts.read_bytes(), run.quality.read_bytes()) == before
    assert sorted(run.left()) == sorted([run.counts, run.quality])


def test_a_missing_file_is_refused(run):
    run.refuses(r"toy.h5ad does not exist. Check the path", error=FileNotFoundError)


def test_another_format_is_refused(run, tmp_path):
    run.cells = tmp_path / "toy.loom"
    run.cells.write_bytes(b"loom")
    run.refuses(r"is a loom file, but cells are read from .h5ad, .h5mu.*read_loom")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(run, kept):
    draw_cells().write_h5ad(run.cells)
    content = run.cells.read_bytes()
    run.cells.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    run.refuses(r"toy.h5ad cannot be read as an AnnData file \(.*write or download it again")


def test_garbage_is_refused(run):
    run.cells.write_bytes(np.random.default_rng(0).bytes(5000))
    run.refuses(r"toy.h5ad cannot be read as an AnnData file \(.*write or download it again")


def test_an_hdf5_file_of_something_else_is_refused(run):
    with h5py.File(run.cells, "w") as file:
        file["matrix"] = [1, 2, 3]
    run.refuses(r"toy.h5ad cannot be read as an AnnData file \(.*matrix")


def test_a_missing_label_column_is_refused(run):
    draw_cells().write_h5ad(run.cells)
    run.refuses(
        r"no column obs\['celltype'\]; it has cell_type. Name the right column",
        settings(label_key="celltype"),
    )


def test_a_missing_batch_column_and_an_empty_batch_are_refused(run):
    cells = draw_cells()
    cells.obs["donor"] = [None] + ["a", "b"] * 14 + ["a"]
    cells.write_h5ad(run.cells)
    run.refuses(r"no column obs\['batch'\]; it has cell_type, donor", settings(batch_key="batch"))
    run.refuses(
        r"obs\['donor'\] .* is empty, .* in 1 cells.*Fill it in", settings(batch_key="donor")
    )


def test_a_missing_matrix_is_refused(run):
    draw_cells().write_h5ad(run.cells)
    run.refuses(r"no matrix 'layers/raw'; it has X", settings(matrix="layers/raw"))


def test_scaled_values_are_refused(run):
    cells = draw_cells()
    x = cells.X.toarray()
    cells.X = (x - x.mean(axis=0)) / x.std(axis=0)
    cells.write_h5ad(run.cells)
    run.refuses(r"X of .*toy.h5ad holds negative values \(lowest -\d.*give one with raw counts")


def test_a_negative_value_is_refused(run):
    cells = draw_cells()
    cells.X.data[7] = -3
    cells.write_h5ad(run.cells)
    run.refuses(r"negative values \(lowest -3\).*give one with raw counts")


def test_nan_is_refused(run):
    cells = draw_cells()
    cells.X.data[7] = np.nan
    cells.write_h5ad(run.cells)
    run.refuses(r"holds 1 values that are NaN or infinite.*Remove those cells or genes")


def test_only_zeros_are_refused(run):
    cells = draw_cells()
    cells.X = sparse.csr_matrix(cells.shape, dtype=np.float32)
    cells.write_h5ad(run.cells)
    run.refuses("holds only zeros. .* give one with raw counts")


def test_counts_that_are_said_to_be_log_are_refused(run):
    draw_cells().write_h5ad(run.cells)
    run.refuses(
        r"is said to hold log1p, but it holds raw counts. Correct 'scale' \(to counts\)",
        settings(scale="log1p"),
    )


def test_log_values_that_are_said_to_be_counts_are_refused(run):
    log_normalise(draw_cells()).write_h5ad(run.cells)
    run.refuses(
        r"is said to hold counts, but it holds log1p to base e of 10,000.*\(to log1p\)",
        settings(scale="counts"),
    )


def test_normalised_values_that_are_not_logged_are_refused(run):
    cells = draw_cells()
    x = cells.X.toarray()
    cells.X = x / x.sum(axis=1, keepdims=True) * 1e4
    cells.write_h5ad(run.cells)
    run.refuses("normalised but not logged.*Give raw counts")


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_duplicate_cells_are_refused(run):
    cells = draw_cells()
    cells.obs_names = ["cell0", "cell0", *cells.obs_names[2:]]
    cells.write_h5ad(run.cells)
    run.refuses(r"1 cell ids that occur more than once \(cell0\).*obs_names_make_unique")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_genes_are_refused(run):
    cells = draw_cells()
    cells.var_names = ["GENE0", "GENE0", *cells.var_names[2:]]
    cells.write_h5ad(run.cells)
    run.refuses(r"1 gene names that occur more than once \(GENE0\).*use Ensembl ids as var_names")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_genes_of_raw_are_refused(run):
    cells = draw_cells()
    twice = cells.copy()
    twice.var_names = ["GENE0", "GENE0", *cells.var_names[2:]]
    cells.raw = twice
    cells.write_h5ad(run.cells)
    run.refuses(r"raw.X of .* has 1 gene names that occur more than once \(GENE0\)")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_genes_of_a_table_are_refused(run, tmp_path):
    """pandas would call the second one CD3D.1 without a word."""
    run.cells = tmp_path / "toy.csv"
    run.cells.write_text("cell,CD3D,CD3D\nc1,1,2\nc2,0,3\n")
    run.refuses(r"1 gene names that occur more than once \(CD3D\)", unlabelled())


@pytest.mark.parametrize(
    "text", ["", "cell\nc1\n", "cell,CD3D\n", "cell,CD3D\nc1,many\n"], ids=range(4)
)
def test_a_table_without_counts_is_refused(run, tmp_path, text):
    run.cells = tmp_path / "toy.csv"
    run.cells.write_text(text)
    run.refuses(r"toy.csv is not a table of counts \(.*Give cells x genes", unlabelled())


def test_a_table_with_a_gap_is_refused(run, tmp_path):
    run.cells = tmp_path / "toy.csv"
    run.cells.write_text("cell,CD3D,CD8A\nc1,1,\nc2,0,3\n")
    run.refuses("holds 1 values that are NaN", unlabelled())


def test_a_type_with_one_cell_is_kept_and_warned_of(run):
    cells = draw_cells()
    cells.obs.loc["cell3", "cell_type"] = "Mast cell"
    found, quality = run(cells)
    assert (found.obs.cell_type == "Mast cell").sum() == 1
    said = quality["warnings"]["rare_types"]
    assert "fewer than 3 cells of 'Mast cell' (1)" in said
    assert "merge them with others" in said


def test_a_type_with_one_cell_may_stand_in_a_dataset_with_batches(run):
    cells = draw_cells()
    cells.obs.loc["cell3", "cell_type"] = "Mast cell"
    cells.obs["donor"] = ["a", "b", "c"] * 10
    found, quality = run(cells, settings(batch_key="donor"))
    assert quality["cell_types"]["Mast cell"] == 1
    assert "rare_types" not in quality["warnings"]
    assert found.obs.batch.tolist() == ["a", "b", "c"] * 10


def test_a_single_type_is_refused(run):
    cells = draw_cells()
    cells.obs["cell_type"] = "B cell"
    cells.write_h5ad(run.cells)
    run.refuses(r"all cells of .* have the type 'B cell' in obs\['cell_type'\], but at least two")


def test_cells_with_too_few_genes_are_refused(run):
    draw_cells().write_h5ad(run.cells)
    run.refuses(
        r"none of the 30 cells is left \(.*fewer than 200 expressed genes: 30.*Lower counts.min_g",
        settings(min_genes=200),
    )


def test_cells_without_any_type_are_refused_by_the_name_of_the_column(run):
    cells = draw_cells()
    cells.obs["cell_type"] = np.nan
    cells.write_h5ad(run.cells)
    run.refuses(r"none of the 30 cells is left .*No cell has a type in obs\['cell_type'\]: name")


def test_a_library_that_is_no_number_is_refused(run):
    cells = draw_cells()
    cells.obs["n_counts"] = ["many", *map(str, range(29))]
    cells.write_h5ad(run.cells)
    run.refuses(
        r"obs\['n_counts'\] of .* is not a positive number in 2 cells",
        settings(library_size_key="n_counts"),
    )


def test_a_library_that_was_not_divided_by_is_refused(run):
    logged = log_normalise(draw_cells())
    logged.obs["n_genes"] = logged.X.getnnz(axis=1) * 1.0
    logged.write_h5ad(run.cells)
    run.refuses(
        r"n_genes'\] of .* that has .* counts, as its values show.*column of obs that holds",
        settings(library_size_key="n_genes"),
    )


def test_split_cells_writes_every_cell_once(run):
    cells, _ = run(draw_cells())
    split_cells(run.counts, run.split, CONFIG.split)
    table = pd.read_csv(run.split, sep="\t", keep_default_na=False)
    assert table.cell.tolist() == cells.obs_names.tolist()
    assert table.cell_type.tolist() == cells.obs.cell_type.tolist()
    assert set(table.batch) == {""}
    per_type = table.groupby(["cell_type", "part"]).size()
    for cell_type in ("B cell", "T cell"):  # 0.2 of 15 cells
        assert per_type[cell_type].to_dict() == {"test": 3, "train": 9, "validation": 3}


def test_split_cells_keeps_batches_whole(run):
    cells = draw_cells()
    cells.obs["donor"] = list("abcde") * 6
    run(cells, settings(batch_key="donor"))
    split_cells(run.counts, run.split, CONFIG.split)
    table = pd.read_csv(run.split, sep="\t")
    assert table.groupby("batch").part.nunique().tolist() == [1] * 5
    assert set(table.part) == {"train", "validation", "test"}


def test_split_cells_is_the_same_for_the_same_seed(run):
    run(draw_cells())
    written = []
    for seed in (1, 1, 2):
        split_cells(run.counts, run.split, CONFIG.split.model_copy(update={"seed": seed}))
        written.append(run.split.read_bytes())
    assert written[0] == written[1] != written[2]


def test_split_cells_refuses_two_batches(run):
    cells = draw_cells()
    cells.obs["donor"] = list("ab") * 15
    run(cells, settings(batch_key="donor"))
    with pytest.raises(ValueError, match=r"2 batch\(es\).*Leave batch_key empty"):
        split_cells(run.counts, run.split, CONFIG.split)
    assert sorted(run.left()) == sorted([run.counts, run.quality])


def test_select_training_cells_takes_no_label_and_no_test_cell(run, tmp_path):
    cells, _ = run(draw_cells())
    split_cells(run.counts, run.split, CONFIG.split)
    select_training_cells(run.counts, run.split, tmp_path / "train.h5ad")
    training = ad.read_h5ad(tmp_path / "train.h5ad")
    parts = pd.read_csv(run.split, sep="\t", index_col="cell").part
    assert training.obs_names.tolist() == parts.index[parts == "train"].tolist()
    assert list(training.obs) == ["library_size", "n_genes"]
    assert (training.X != cells[training.obs_names].X).nnz == 0
    assert training.var.n_cells.tolist() == training.X.getnnz(axis=0).tolist()  # of these cells


def beside(run, name, text):
    path = run.cells.parent / name
    path.write_text(text)
    return [path]


def test_read_counts_takes_labels_from_a_table_of_cells_by_common_names(run):
    """Cells that the table lacks, and types that the other does not list, are left out."""
    cells = draw_cells()
    types = [f"{cell}\t{name}" for cell, name in cells.obs.cell_type.iloc[:29].items()]
    table = beside(run, "cells.tsv", "barcodes\tkind\n" + "\n".join([*types[:28], "cell28\tMast"]))
    names = beside(run, "types.tsv", "cell_type\tcommon\nB cell\tB\nT cell\tT\n")
    cells.obs = cells.obs.drop(columns="cell_type")
    cells.write_h5ad(run.cells)
    how = settings(label_key="kind")
    read_counts(run.cells, run.counts, run.quality, how, cell_table=table, types=names)
    found, quality = ad.read_h5ad(run.counts), read_json(run.quality)
    assert found.obs.cell_type.tolist() == ["B", "T"] * 14
    assert quality["dropped"] == {"no cell type": 2}
    assert f"Types that {names[0]} does not list: Mast (1)." in quality["notes"]


def test_read_counts_needs_a_batch_only_of_cells_that_have_a_type(run):
    cells = draw_cells()
    cells.obs["donor"] = "1"
    cells.obs.iloc[0] = ["", ""]
    labels = cells.obs.copy()
    found, _ = run(cells, settings(batch_key="donor"))
    assert found.n_obs == 29
    cells.obs = labels
    cells.obs.loc["cell1", "donor"] = "nan"
    cells.write_h5ad(run.cells)
    with pytest.raises(ValueError, match=r"obs\['donor'\] of .* in 1 cells"):
        read_counts(run.cells, run.counts, run.quality, settings(batch_key="donor"))


def test_read_counts_refuses_another_file_than_its_table_means(run):
    cells = draw_cells()
    cells.write_h5ad(run.cells)
    known = sha256_of(run.cells)
    files = (run.cells, run.counts, run.quality, settings())
    read_counts(*files, sha256=known.upper())
    table = beside(run, "cells.tsv", "cell\tcell_type\ncell1\tB\n")
    with pytest.raises(ValueError, match=rf"SHA-256 of .*toy\.h5ad is {known}, but .* 0{{64}}"):
        read_counts(*files, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"cells\.tsv is .*, but its table requires f{64}"):
        read_counts(*files, cell_table=table, cell_table_sha256="F" * 64)


def test_join_datasets_keeps_the_genes_that_all_have_and_says_which_study(run, tmp_path):
    """One file names its genes by Ensembl ids, and has a symbol twice."""
    first, second = draw_cells(), draw_cells(20)[:, 1:].copy()
    second.obs["donor"] = ["a", "b"] * 10
    second.var["symbol"] = ["GENE1", *second.var_names[1:-1], "GENE2"]
    second.var_names = second.var.gene_ids
    files = []
    for name, cells, batch in (("one", first, ""), ("two", second, "donor")):
        cells.write_h5ad(run.cells)
        files.append(tmp_path / f"{name}.h5ad")
        read_counts(run.cells, files[-1], run.quality, settings(batch_key=batch))
    joined = tmp_path / "joined.h5ad"
    join_datasets(files, joined)
    found = ad.read_h5ad(joined)
    assert found.obs_names[[0, -1]].tolist() == ["one:cell0", "two:cell19"]
    assert found.obs.dataset.value_counts().to_dict() == {"one": 30, "two": 20}
    assert found.obs.batch.iloc[[0, -1]].tolist() == ["", "b"]
    assert found.var_names.tolist() == ["GENE1", *(f"GENE{n}" for n in range(3, 39))]
    assert found.X[0].toarray().tolist() == first[0, found.var_names].X.toarray().tolist()
    assert found.obs.library_size.iloc[0] == first.X[0].sum()
    how = settings(batch_key="dataset", library_size_key="library_size", scale="expected_counts")
    read_counts(joined, run.counts, run.quality, how)
    assert ad.read_h5ad(run.counts).obs.library_size.tolist() == found.obs.library_size.tolist()


def test_join_datasets_refuses_files_without_a_common_gene(run, tmp_path):
    files = []
    for name in ("one", "two"):
        cells = draw_cells()
        cells.var_names = [f"{name}{gene}" for gene in cells.var_names]
        cells.write_h5ad(run.cells)
        files.append(tmp_path / f"{name}.h5ad")
        read_counts(run.cells, files[-1], run.quality, settings())
    with pytest.raises(ValueError, match=r"no gene in common \(one: oneGENE0, .*; two: twoGENE0"):
        join_datasets(files, tmp_path / "joined.h5ad")
