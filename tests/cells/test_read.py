"""read_cells, require_unique, matrix_of, ...; the bad files themselves are in test_read.py."""

import importlib.util
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells.read import (
    UNIQUE_CELLS,
    library_sizes,
    read_cells,
    require_column,
    require_unique,
)
from tests.samples import select_matrix

PACKAGES = Path(importlib.util.find_spec("scanpy").origin).parents[1]
CELLTYPIST = PACKAGES / "celltypist/data/samples/sample_cell_by_gene.csv"


def cells(x=((1, 0), (2, 3))):
    x = sparse.csr_matrix(np.array(x, dtype=np.float32))
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(x.shape[0])])
    return ad.AnnData(x, obs, pd.DataFrame(index=["CD3D", "LYZ"]))


def test_read_cells_of_a_table_that_a_person_can_check(tmp_path):
    (tmp_path / "a.csv").write_text("cell,CD3D,HLA-A\n001,0,2\nc2,1.00000000001,0\n")
    found = read_cells(tmp_path / "a.csv")
    assert found.X.toarray().tolist() == [[0, 2], [1, 0]]
    assert found.obs_names.tolist() == ["001", "c2"]
    assert found.var_names.tolist() == ["CD3D", "HLA-A"]


def test_read_cells_keeps_cell_ids_that_look_like_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("cell,CD3D\n001,1\n1,2\n")
    assert read_cells(tmp_path / "a.csv").obs_names.tolist() == ["001", "1"]


def test_read_cells_takes_a_table_as_r_writes_it(tmp_path):
    """The first line has no name for the column of cells."""
    (tmp_path / "a.csv").write_text("CD3D,LYZ\nc1,0,2\nc2,1,0\n")
    found = read_cells(tmp_path / "a.csv")
    assert found.X.toarray().tolist() == [[0, 2], [1, 0]]
    assert found.obs_names.tolist() == ["c1", "c2"]
    assert found.var_names.tolist() == ["CD3D", "LYZ"]


def test_read_cells_keeps_fractions_for_the_scale_to_judge(tmp_path):
    (tmp_path / "a.csv").write_text("cell,CD3D\nc1,0.5\nc2,1\n")
    assert read_cells(tmp_path / "a.csv").X.toarray().tolist() == [[0.5], [1]]


@pytest.mark.slow
def test_read_cells_of_the_sample_that_celltypist_ships():
    found = read_cells(CELLTYPIST)
    assert found.shape == (559, 32_786)
    assert (found.X.data == np.round(found.X.data)).all()
    assert found.var_names.is_unique


def test_read_cells_says_nothing_about_the_age_of_a_file():
    """pytest turns warnings into errors; this file is of anndata 0.6."""
    found = read_cells(PACKAGES / "scanpy/datasets/10x_pbmc68k_reduced.h5ad")
    assert found.raw.shape == (700, 765)


def test_require_unique_accepts_what_is_unique_and_names_what_is_not():
    require_unique("cell ids", cells().obs_names, UNIQUE_CELLS, "q.h5ad")
    with pytest.warns(UserWarning, match="not unique"):
        twice = ad.AnnData(np.ones((3, 2)), obs=pd.DataFrame(index=["a", "b", "a"]))
    with pytest.raises(ValueError, match=r"q.h5ad has 1 cell ids .* \(a\).*obs_names_make_unique"):
        require_unique("cell ids", twice.obs_names, UNIQUE_CELLS, "q.h5ad")


def test_matrix_of_auto_prefers_counts_and_gives_a_copy():
    adata = cells()
    matrix, genes, found = select_matrix(adata, "auto", "q")
    assert (found, genes.index.tolist()) == ("X", ["CD3D", "LYZ"])
    matrix.data[:] = 9
    assert adata.X.toarray().tolist() == [[1, 0], [2, 3]]
    adata.raw = adata[:, :1].copy()
    assert select_matrix(adata, "auto", "q")[2] == "X"
    assert select_matrix(adata, "raw.X", "q")[1].index.tolist() == ["CD3D"]
    adata.raw = adata.copy()
    assert select_matrix(adata, "auto", "q")[2] == "raw.X"
    adata.layers["counts"] = adata.X * 2
    assert select_matrix(adata, "auto", "q")[0].toarray().tolist() == [[2, 0], [4, 6]]
    assert select_matrix(adata, "X", "q")[0].toarray().tolist() == [[1, 0], [2, 3]]


def test_matrix_of_adds_up_an_entry_stored_twice_and_drops_stored_zeros():
    adata = cells()
    adata.X = sparse.csr_matrix(([1.0, 1.0, 0.0, 3.0], [0, 0, 0, 1], [0, 2, 4]), shape=(2, 2))
    matrix, _, _ = select_matrix(adata, "X", "q")
    assert matrix.toarray().tolist() == [[2, 0], [0, 3]]
    assert matrix.nnz == 2
    assert adata.X.nnz == 4


def test_matrix_of_names_the_matrices_that_exist():
    adata = cells()
    adata.layers["spliced"] = adata.X
    with pytest.raises(ValueError, match=r"q has no matrix 'raw.X'; it has layers/spliced, X"):
        select_matrix(adata, "raw.X", "q")
    with pytest.raises(ValueError, match="no matrix 'X'; it has none"):
        select_matrix(ad.AnnData(obs=adata.obs, var=adata.var), "auto", "q")


@pytest.mark.parametrize("values", [[10, 20], ["10", "20"], pd.Categorical([10, 20])])
def test_library_sizes_are_numbers(values):
    sizes = library_sizes(pd.DataFrame({"n_counts": values}), "n_counts", "q")
    assert sizes.dtype == np.float64
    assert sizes.tolist() == [10, 20]


def test_library_sizes_of_no_key_are_unknown():
    assert library_sizes(pd.DataFrame({"n_counts": [1]}), "", "q") is None


@pytest.mark.parametrize("bad", [0, -1, None, "many", float("inf")])
def test_library_sizes_refuse_what_is_no_positive_number(bad):
    with pytest.raises(ValueError, match=r"obs\['n'\] of q is not a positive number in 1 cells"):
        library_sizes(pd.DataFrame({"n": [5, bad]}), "n", "q")


def test_require_column_lists_the_columns():
    with pytest.raises(ValueError, match=r"q has no column obs\['type'\]; it has none"):
        require_column(cells().obs, "type", "q")
