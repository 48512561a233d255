"""Variants: which cells there are, what they are called, what else the file holds, and labels."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from tests.cells.test_count_table import run_advice
from tests.inputs.formats import with_ids
from tests.inputs.variant import changed

CELLS, BESIDE, LABELS = "cells", "what else the file holds", "labels of a reference"
UNIQUE = "obs_names_make_unique"


def ids(function):
    def change(cells):
        names = [function(n, name) for n, name in enumerate(cells.obs_names)]
        cells.obs_names = pd.Index(names, dtype=object)

    return change


def only(chosen):
    return lambda cells: cells[chosen].copy()


def nullable_ids(cells):
    cells.obs_names = pd.Index(pd.array(cells.obs_names.astype(str), dtype="string"))


def emptied(*rows):
    def change(cells):
        counts = cells.X.tolil()
        counts[list(rows)] = 0
        cells.X = counts.tocsr()

    return change


def make_unique(path, _):
    """As the advice has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the repeated names
        adata = ad.read_h5ad(path)
    adata.obs_names_make_unique()
    adata.write_h5ad(path.with_name("q_unique.h5ad"))
    return path.with_name("q_unique.h5ad")


def column(name, values):
    def change(cells):
        cells.obs[name] = values(cells.n_obs)

    return change


def much_beside(cells):
    """What scanpy's usual analysis leaves."""
    n = cells.n_obs
    cells.obsm["X_pca"], cells.obsm["X_umap"] = np.zeros((n, 9)), np.ones((n, 2))
    cells.obsm["table"] = pd.DataFrame({"x": np.arange(n)}, index=cells.obs_names)
    cells.obsp["distances"] = sparse.eye_array(n, format="csr")
    cells.varm["PCs"] = np.zeros((cells.n_vars, 9))
    cells.var["highly_variable"] = np.arange(cells.n_vars) < 2000
    names = np.array([("CD3D", "LYZ")], dtype=[("a", "O"), ("b", "O")])
    cells.uns |= {"log1p": {"base": None}, "hvg": {"flavor": "seurat"}}
    cells.uns["rank_genes_groups"] = {"names": names, "params": {"use_raw": True}}
    cells.uns["neighbors"] = {"params": {"n_neighbors": np.int64(15)}}


def earlier_result(cells):
    cells.obs["scbert_label"] = pd.Categorical(["of an earlier run"] * cells.n_obs)
    cells.obs["scbert_confidence"] = 0.5
    cells.uns["scbert"] = {"labels": ["a"]}


def layer_with_slash(cells):
    cells.layers["a/b"], cells.layers["a/c"] = cells.X.copy(), cells.X.copy()


def by_command(path, error):
    here = error.replace("q.h5ad", str(path))  # the test took the folder away
    run_advice(here, "in the file: ")
    return path


def renamed(path, _):
    """As the advice has it."""
    adata = ad.read_h5ad(path)
    adata.obs = adata.obs.rename(columns={"scbert_label/x": "NEW"})
    adata.write_h5ad(path)
    return path


def labels(change):
    """Change the types of a reference."""

    def make(cells):
        cells.obs["cell_type"] = change(cells.obs.cell_type.astype(str))

    return make


def missing_in_ten(kind):
    def change(types):
        types = types.astype(object)
        types.iloc[:10] = kind
        return types

    return change


def trimmed_twice(types):
    return pd.Categorical(np.where(np.arange(len(types)) % 3, types, " " + types))


def reference(name, change, **more):
    return changed(LABELS, name, labels(change), labelled=True, **more)


def none(types):
    return pd.Categorical([None] * len(types), categories=["B"])


VARIANTS = [
    changed(CELLS, "in reverse", only(slice(None, None, -1))),
    changed(CELLS, "every second", only(slice(None, None, 2))),
    changed(CELLS, "two", only(slice(0, 2))),
    changed(CELLS, "one", only(slice(0, 1))),
    changed(CELLS, "none", only(slice(0, 0)), refused="no cells"),
    changed(CELLS, "one without counts", emptied(0)),
    changed(CELLS, "all without counts", emptied(*range(140)), refused="only zeros"),
    changed(CELLS, "ids repeat", ids(lambda n, _: f"c{n // 2}"), refused=UNIQUE, fix=make_unique),
    changed(CELLS, "ids are numbers", ids(lambda n, _: str(n))),
    changed(CELLS, "ids with / and spaces", ids(lambda n, name: f"donor 1/{name} #{n}")),
    changed(CELLS, "ids beyond ASCII", ids(lambda n, name: f"Zelle_ä_细胞_{n}")),
    changed(CELLS, "ids of 500 letters", ids(lambda n, name: f"{name}{'x' * 500}{n}")),
    changed(CELLS, "ids are nullable strings", nullable_ids),
    changed(BESIDE, "what scanpy leaves", much_beside),
    changed(BESIDE, "the result of an earlier run", earlier_result),
    changed(BESIDE, "layers a/b and a/c", layer_with_slash, refused="with a slash", fix=by_command),
    changed(BESIDE, "a column a/b", column("a/b", np.arange)),
    changed(
        BESIDE,
        "a column scbert_label/x",
        column("scbert_label/x", np.arange),
        refused="Rename it",
        fix=renamed,
    ),
    changed(
        BESIDE,
        "a column of nullable integers",
        column("n", lambda n: pd.array([1, None] * (n // 2), dtype="Int64")),
    ),
    changed(
        BESIDE,
        "a column of nullable booleans",
        column("b", lambda n: pd.array([True, None] * (n // 2), dtype="boolean")),
    ),
    changed(BESIDE, "a column of nothing but NaN", column("nan", lambda n: np.full(n, np.nan))),
    changed(
        BESIDE,
        "a column of ordered categories",
        column("o", lambda n: pd.Categorical(["a", "b"] * (n // 2), ordered=True)),
    ),
    changed(BESIDE, "a column with a name beyond ASCII", column("größe (µm)", np.arange)),
    changed(
        BESIDE,
        "raw beside X with other genes",
        lambda c: setattr(c, "raw", with_ids(c)[:, ::2].copy()),
    ),
    reference("categories", lambda types: types.astype("category")),
    reference("text", lambda types: types.astype(object)),
    reference("with / | and accents", lambda types: types),
    reference("10 of NaN", missing_in_ten(None)),
    reference("10 of 'nan' as text", missing_in_ten("nan")),
    reference("10 of ''", missing_in_ten("")),
    reference("a third with a space before", trimmed_twice),
    reference("nullable strings", lambda types: pd.array(types, dtype="string")),
    reference("none at all", none, refused="none of the 140 cells"),
    changed(
        LABELS,
        "no such column",
        lambda c: c.obs.drop(columns="cell_type", inplace=True),
        labelled=True,
        refused="no column",
    ),
]
